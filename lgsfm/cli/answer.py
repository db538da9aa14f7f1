"""What a command prints on stdout: text for people or, with --json, one JSON object for programs."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from .. import errors
from ..printable import UNPRINTABLE

__all__ = ["Answer", "add_json", "plain"]


def add_json(command: argparse.ArgumentParser) -> None:
    """Adds the flag, by which `main` and the command know who reads."""
    command.add_argument("--json", action="store_true", help="print one JSON object")


class Answer:
    """The result of one command: text is printed at once; JSON at the end, so that an error can be told in it.

    as_json: whether a program reads it
    """

    def __init__(self) -> None:
        self.as_json = False
        self._values: dict[str, Any] = {}

    def give(self, values: Any, text: str = "") -> None:
        """Takes the result: a mapping or a dataclass for programs, and the text of it for people."""
        if self.as_json:
            self._values = plain(values)
        elif text:
            print(text, flush=True)

    def end(self, error: BaseException | None = None, message: str = "") -> None:
        """Prints the JSON object, if one was asked for; of an error with its class in `lgsfm.errors` and its words."""
        if not self.as_json:
            return
        told = {"error": {"type": _type_of(error), "message": message or str(error)}} if error else {}
        is_utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
        text = json.dumps({**self._values, **told}, indent=2, ensure_ascii=not is_utf8, allow_nan=False)
        print(UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text), flush=True)


def plain(value: Any) -> Any:
    """A value as JSON has it: paths as text, dataclasses as objects, and None for numbers that are none.

    >>> plain({"path": Path("a"), "error_px": float("nan"), "names": ("b",)})
    {'path': 'a', 'error_px': None, 'names': ['b']}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | Set):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _type_of(error: BaseException) -> str:
    """The name of the nearest class that callers can know; of errors of other libraries only want of memory is told."""
    known = (each.__name__ for each in type(error).__mro__ if each.__module__ == errors.__name__)
    return next(known, errors.MemoryShortageError.__name__)
