"""The help: that of the program fits a screen, that of each command begins with an example that the parser takes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

import pytest
from cli_helpers import run

from lgsfm.cli import _parser


def commands(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                yield (*words, name), each
                yield from commands(each, *words, name)


ALL = dict(commands(_parser()))


def test_help_of_the_program_fits_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("--help").out.splitlines()
    assert len(lines) <= 23  # and the prompt
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_of_a_command_fits_a_terminal(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, run(*words, "--help").out.splitlines())) <= 80


def test_help_of_the_program_tells_the_exit_codes() -> None:
    assert run("--help").out.splitlines()[-1].startswith("Exit codes: 0 done, 1 ")


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_of_a_command_begins_with_an_example(words: tuple[str, ...]) -> None:
    description = ALL[words].description or ""
    assert description.startswith("Example: ")
    example = description.removeprefix("Example: ").split(". ", 1)[0].removeprefix('eval "$(').removesuffix(')"')
    argv = shlex.split(example.split(" > ")[0])
    assert argv[: 1 + len(words)] in (["lgsfm", *words], ["lgsfm", *words, "verify"])  # `cache` has actions
    _parser().parse_args(argv[1:])


def test_the_example_of_a_command_stands_right_below_its_usage() -> None:
    after_usage = run("doctor", "--help").out.split("\n\n")[1]
    assert after_usage.startswith("Example: lgsfm doctor out")
