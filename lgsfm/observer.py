"""Who watches a run: the command line, or a program of yours."""

from __future__ import annotations

from .types import Progress

__all__ = ["Observer"]


class Observer:
    """Told what happens during a run; this one listens to nothing. Override what you want to hear."""

    def say(self, text: str) -> None:
        """One line for people."""

    def progress(self, stage: str) -> Progress | None:
        """The callback (done, total) for the items of a stage, or None."""
        return None
