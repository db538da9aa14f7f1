"""Every command on every page, and in the README, is one that the parser takes."""

from __future__ import annotations

import contextlib
import io
import shlex

import pytest
from docs_pages import PAGES, commands

from lgsfm.cli import _parser

PLUGIN_FLAGS = ("--fast-threshold",)  # of the example package, which is not installed here


def arguments(line: str) -> list[str]:
    """The words behind `lgsfm`, without comment, redirection and what only the example package knows."""
    words = shlex.split(line.split(" > ")[0].split(" | ")[0], comments=True)[1:]
    for flag in PLUGIN_FLAGS:
        if flag in words:
            del words[words.index(flag) : words.index(flag) + 2]
    return words


def problem(words: list[str]) -> str:
    """What the parser has against a command line, "" if nothing."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            _parser().parse_args(words)
        except SystemExit as exc:
            return said.getvalue() if exc.code else ""
    return ""


def is_mention(words: list[str]) -> bool:
    """Whether a text only names a command, as in `lgsfm cache prune`."""
    return len(words) <= 2 and not any(word.startswith("-") for word in words)


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_commands_of_a_page_exist(page: str) -> None:
    wrong = {}
    for line in commands(page):
        words = arguments(line)
        said = problem([*words, "--help"] if is_mention(words) else words)
        if said:
            wrong[line] = said.splitlines()[-1]
    assert not wrong


def test_pages_have_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 50


@pytest.mark.parametrize(
    "line", ["lgsfm reconstrukt images/", "lgsfm reconstruct images/ --max-edge 800", "lgsfm cache mend out"]
)
def test_a_wrong_command_would_be_noticed(line: str) -> None:
    words = arguments(line)
    assert problem([*words, "--help"] if is_mention(words) else words)
