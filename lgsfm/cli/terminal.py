"""What people see while something runs: lines and progress bars on stderr."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from ..observer import Observer
from ..types import Progress

__all__ = ["Terminal"]

UNITS = {
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


class Terminal(Observer):
    """Lines and progress bars on stderr."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.bars: dict[str, tqdm[Any]] = {}

    def say(self, text: str) -> None:
        """One line, above the bars."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def progress(self, stage: str) -> Progress | None:
        """A bar with rate and remaining time, which appears with the first report; each call begins a new one."""
        if self.quiet:
            return None
        if stage in self.bars:  # of the round before
            self.bars.pop(stage).close()

        def report(done: int, total: int) -> None:
            bar = self.bars.get(stage)
            if bar is None:
                self.close()  # stages follow each other
                unit = UNITS.get(stage, "it")
                bar = tqdm(
                    desc=f"{stage:8}",
                    total=total,
                    initial=0 if stage == "weights" else done,
                    unit=unit,
                    unit_scale=unit == "B",
                    mininterval=0.5,
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
        for bar in self.bars.values():
            bar.close()
