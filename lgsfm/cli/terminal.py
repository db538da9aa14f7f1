"""What people see while something runs: lines and progress bars on stderr."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from ..observer import Observer
from ..printable import printable
from ..types import Progress
from ..workspace import Workspace

__all__ = ["AboveBars", "PrintableFormatter", "PrintableStream", "Terminal", "printable"]

UNITS = {
    "look": "frame",
    "frames": "frame",
    "panoramas": "photo",
    "extract": "photo",
    "pairs": "pair",
    "match": "pair",
    "map": "photo",
    "localize": "photo",
    "export": "photo",
    "show": "pair",
    "weights": "B",
    "bench": "%",
}


class PrintableFormatter(logging.Formatter):
    """Log lines that control no terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return printable(super().format(record))


class AboveBars(logging.Handler):
    """Writes log lines to stderr, above the bars that are there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the line."""
        with _while_anybody_listens():
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


class _Bar(tqdm):  # type: ignore[type-arg]
    """Without a thread that looks after bars that stand still: starting one may hang where memory is short."""

    monitor_interval = 0


class Terminal(Observer):
    """Lines and progress bars on stderr."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.bars: dict[str, _Bar] = {}

    def say_photos(self, output: Path, given: Path | None) -> None:
        """Where photos of a run are read from, unless the user has said so: the output folder may be of a stranger."""
        folder = Workspace.of_run(output).recorded_image_dir()
        if given is None and folder.is_dir():
            self.say(f"Photos: {folder}, as the output folder says; --images DIR names another.")

    def say(self, text: str) -> None:
        """One line, above the bars."""
        if not self.quiet:
            with _while_anybody_listens():
                tqdm.write(printable(text), file=sys.stderr)

    def progress(self, stage: str) -> Progress | None:
        """A bar with rate and remaining time, which appears with the first report; each call begins a new one."""
        if self.quiet:
            return None
        if stage in self.bars:  # of the round before
            self.bars.pop(stage).close()

        def report(done: int, total: int) -> None:
            with _while_anybody_listens():
                show(done, total)

        def show(done: int, total: int) -> None:
            bar = self.bars.get(stage)
            if bar is None:
                self.close()  # stages follow each other
                unit = UNITS.get(stage, "it")
                bar = _Bar(
                    desc=f"{stage:8}",
                    total=total,
                    initial=0 if stage == "weights" else done,
                    unit=unit,
                    unit_scale=unit == "B",
                    mininterval=0.5,
                    miniters=1,  # each report is looked at, for there is nobody else
                    file=sys.stderr,
                )
                self.bars[stage] = bar
            bar.total = total
            bar.update(done - bar.n)
            if done >= total:
                bar.close()  # and keep it: the mapper may report its last photo again
                if stage == "weights":
                    del self.bars[stage]  # the next file has a bar of its own

        return report

    def close(self) -> None:
        """Ends a bar that did not reach its total."""
        with _while_anybody_listens():
            for bar in self.bars.values():
                bar.close()


@contextmanager
def _while_anybody_listens() -> Iterator[None]:
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
