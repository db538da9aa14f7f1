"""`lgsfm completion`: the script by which a shell completes commands and flags."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import InputError
from .terminal import Terminal

__all__ = ["SHELLS", "add_commands"]

SHELLS = ("bash", "zsh", "fish")
INSTALL = "pip install 'lgsfm[completion]'"


def add_commands(commands: Any, whole: Callable[[], argparse.ArgumentParser]) -> None:
    """Adds the command.

    Args:
        commands: the sub-commands that it joins.
        whole: makes the parser of all of them, which the script is made of.
    """
    text = "completion of commands and flags in bash, zsh or fish"
    command = commands.add_parser(
        "completion",
        help=text,
        description=f'Example: eval "$(lgsfm completion bash)". Prints the script for {text}. After an '
        "update, and after installing other packages with features, make it again. "
        "To keep it, bash: lgsfm completion bash > ~/.local/share/bash-completion/completions/lgsfm; "
        "zsh: lgsfm completion zsh > _lgsfm, in a folder of $fpath; "
        "fish: lgsfm completion fish > ~/.config/fish/completions/lgsfm.fish.",
    )
    command.set_defaults(command=lambda arguments, terminal: _completion(arguments, terminal, whole()))
    command.add_argument("shell", choices=SHELLS, help="the shell it is for")


def _completion(arguments: argparse.Namespace, terminal: Terminal, parser: argparse.ArgumentParser) -> None:
    try:
        import shtab
    except ImportError as exc:
        raise InputError(f"The completion of shells needs the package shtab: {INSTALL}") from exc
    _complete_files(parser, shtab.FILE)
    print(shtab.complete(parser, shell=arguments.shell))


def _complete_files(parser: argparse.ArgumentParser, files: Mapping[str, object]) -> None:
    """Arguments that are no flags are mostly files; so are values of flags that have no list of choices."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                _complete_files(each, files)
        elif action.nargs != 0 and not action.choices and action.type not in (int, float):
            action.complete = files  # type: ignore[attr-defined]
