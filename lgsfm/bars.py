"""Lines and progress bars on stderr, for a terminal, a log file or pipe, and a notebook.

In a terminal a bar is drawn over itself. In a file or a pipe that would be one endless line, so there each report is a
line of its own, at most one each ten seconds. In a notebook bars are widgets, where ipywidgets is installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import IO, Any

from tqdm import tqdm

from .observer import Observer
from .printable import printable
from .types import Progress

__all__ = ["STYLES", "Bars", "style_here"]

STYLES = ("terminal", "lines", "notebook")
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
BAR_S, LINE_S = 0.5, 10.0  # between two reports
LINE = "{desc}: {n_fmt} of {total_fmt}, {rate_fmt}, {elapsed} so far, {remaining} left"


class Bars(Observer):
    """Shows what happens: ``lgsfm.reconstruct("images", "out", observer=lgsfm.Bars())``.

    Args:
        quiet: shows nothing.
        style: one of `STYLES`; None takes the one for where stderr goes.
    """

    def __init__(self, quiet: bool = False, style: str | None = None) -> None:
        self.quiet = quiet
        self.style = style or style_here()
        self.bars: dict[str, Any] = {}

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Around all that is shown: where nobody can see it any more, nothing is shown from then on."""
        try:
            yield
        except OSError:
            self.quiet = True

    def say(self, text: str) -> None:
        """One line, above the bars."""
        if not self.quiet:
            with self.heard():
                tqdm.write(printable(text), file=sys.stderr)

    def progress(self, stage: str) -> Progress | None:
        """A bar with rate and remaining time, which appears with the first report; each call begins a new one."""
        if self.quiet:
            return None
        if stage in self.bars:  # of the round before
            self.bars.pop(stage).close()

        def report(done: int, total: int) -> None:
            if not self.quiet:
                with self.heard():
                    show(done, total)

        def show(done: int, total: int) -> None:
            bar = self.bars.get(stage)
            if bar is None:
                self.close()  # stages follow each other
                bar = self.bars[stage] = self._bar(stage, 0 if stage == "weights" else done, total)
            bar.total = total
            bar.update(done - bar.n)
            if done >= total:
                bar.close()  # and keep it: the mapper may report its last photo again
                if stage == "weights":
                    del self.bars[stage]  # the next file has a bar of its own

        return report

    def close(self) -> None:
        """Ends a bar that did not reach its total."""
        with self.heard():
            for bar in self.bars.values():
                bar.close()

    def _bar(self, stage: str, initial: int, total: int) -> Any:
        unit = UNITS.get(stage, "it")
        more: dict[str, Any] = {
            "file": sys.stderr,
            "mininterval": BAR_S,
            **(_unsaid_size() if self.style == "terminal" else {}),
        }
        if self.style == "lines":
            more = {"file": _Lines(sys.stderr), "mininterval": LINE_S, "bar_format": LINE}
        return _class_of(self.style)(
            desc=stage if self.style == "lines" else f"{stage:8}",
            total=total,
            initial=initial,
            unit=unit,
            unit_scale=unit == "B",
            miniters=1,  # each report is looked at, for there is nobody else
            **more,
        )


class _Bar(tqdm):  # type: ignore[type-arg]
    """Without a thread that looks after bars that stand still: starting one may hang where memory is short."""

    monitor_interval = 0


class _Lines:
    """A stream on which what is written over itself comes line by line."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Writes a line, if there is anything in it."""
        if line := text.strip(" \r\n"):
            self.stream.write(f"{line}\n")

    def flush(self) -> None:
        """As of any stream."""
        self.stream.flush()


def _unsaid_size() -> dict[str, int]:
    """The size to take for a terminal that tells none (of a container, say), where tqdm would draw nothing."""
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # no terminal
        return {}
    return {} if min(size) > 0 else {"ncols": size.columns or 80, "nrows": size.lines or 24}


def style_here() -> str:
    """The style for where stderr goes."""
    if _is_notebook() and find_spec("ipywidgets"):
        return "notebook"
    return "terminal" if sys.stderr is not None and sys.stderr.isatty() else "lines"


def _is_notebook() -> bool:
    """Whether a notebook runs this process: its kernel has loaded IPython then."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _class_of(style: str) -> Any:
    if style != "notebook":
        return _Bar
    from tqdm.notebook import tqdm as widget

    return widget
