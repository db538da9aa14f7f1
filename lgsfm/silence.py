"""Tells people that nothing was heard of a process for a while; whether it hangs they know better than we."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .threads import check_thread_room

__all__ = ["told_of_silence"]

SILENCE_S = 60.0  # after which it is said; again after twice as long, and so on
LISTEN_S = 1.0  # how often the log is looked at
logger = logging.getLogger(__name__)


@contextmanager
def told_of_silence(what: str, log_path: Path) -> Iterator[Callable[[], None]]:
    """Inside, a line is logged whenever ``what`` has been silent for a minute, two, four ...

    Args:
        what: in the words of the line.
        log_path: what it prints there counts as heard.

    Returns:
        A function to call whenever it is heard of otherwise.
    """
    watcher = _Watcher(what, log_path)
    thread = threading.Thread(target=watcher.listen, name="told-of-silence", daemon=True)
    try:
        check_thread_room()
        thread.start()
    except (MemoryError, RuntimeError):  # then nobody is told
        yield watcher.heard
        return
    try:
        yield watcher.heard
    finally:
        watcher.is_over.set()
        thread.join()


class _Watcher:
    def __init__(self, what: str, log_path: Path) -> None:
        self.what, self.log_path = what, log_path
        self.is_over = threading.Event()
        self.heard()

    def heard(self) -> None:
        self.last, self.next_s = time.monotonic(), SILENCE_S

    def listen(self) -> None:
        size = _size(self.log_path)
        while not self.is_over.wait(LISTEN_S):
            if (now := _size(self.log_path)) != size:
                size = now
                self.heard()
            elif time.monotonic() - self.last >= self.next_s:
                logger.info(
                    "Nothing was heard of %s for %s. Large scenes can take that long between two lines of %s; if it "
                    "hangs, Ctrl-C ends it, and the same command goes on from there.",
                    self.what,
                    in_words(self.next_s),
                    self.log_path,
                )
                self.next_s *= 2


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def in_words(seconds: float) -> str:
    """A while, for people.

    >>> in_words(60), in_words(240), in_words(7.4)
    ('1 minute', '4 minutes', '7 seconds')
    """
    count, unit = (seconds / 60, "minute") if seconds >= 60 else (seconds, "second")
    return f"{count:.0f} {unit}{'' if round(count) == 1 else 's'}"
