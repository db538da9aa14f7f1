"""What people see while a command runs: lines and progress bars on stderr."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from ..bars import Bars
from ..printable import printable
from ..workspace import Workspace
from .answer import Answer

__all__ = ["AboveBars", "PrintableFormatter", "PrintableStream", "Terminal", "printable"]


class PrintableFormatter(logging.Formatter):
    """Log lines that control no terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return printable(super().format(record))


class AboveBars(logging.Handler):
    """Writes log lines to stderr, above the bars that are there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the line."""
        with while_anybody_listens():
            tqdm.write(self.format(record), file=sys.stderr)


class PrintableStream:
    """A stream to a terminal, over which `printable` text goes."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes what is printable."""
        return self.stream.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Terminal(Bars):
    """Lines and progress bars on stderr, the result on stdout, and what commands say alike."""

    def __init__(self, quiet: bool = False, style: str | None = None, answer: Answer | None = None) -> None:
        super().__init__(quiet, style)
        self._answer = answer or Answer()

    def answer(self, values: Any, text: str = "") -> None:
        """The result: a mapping or a dataclass for programs (--json), and the text of it for people."""
        self._answer.give(values, text)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """As `while_anybody_listens`: the process is ours, and what libraries print must not end it either."""
        with while_anybody_listens():
            yield

    def say_photos(self, output: Path, given: Path | None) -> None:
        """Where photos of a run are read from, unless the user has said so: the output folder may be of a stranger."""
        folder = Workspace.of_run(output).recorded_image_dir()
        if given is None and folder.is_dir():
            self.say(f"Photos: {folder}, as the output folder says; --images DIR names another.")


@contextmanager
def while_anybody_listens() -> Iterator[None]:
    """Hours of work must not end because the terminal was closed, or whoever read the lines has gone.

    From then on what is written there goes nowhere.
    """
    try:
        yield
    except OSError:
        gone, nowhere = os.fstat(sys.stderr.fileno()), os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):  # the result goes the same way, if it was to appear there
            if os.path.samestat(os.fstat(number), gone):
                os.dup2(nowhere, number)
        os.close(nowhere)
