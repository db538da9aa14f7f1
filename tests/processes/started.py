"""Processes that tests start beside their own, and what they say on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cli_helpers import Ran, command

LIMIT_S = 120  # after which something that was to come will not come any more
SMALL = ("--features", "sift", "--max-edge-px", "640", "--max-keypoints", "800", "--threads", "1")


class Started:
    """A process whose lines are read as they come."""

    def __init__(self, words: list[str], **environment: str) -> None:
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **environment},
            start_new_session=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=_collect, args=heard, daemon=True)
            for heard in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def wait_for(self, text: str) -> None:
        """Returns once the process has said this."""
        wait_until(lambda: text in self.said or self.process.poll() is not None)
        for reader in self._readers if self.process.poll() is not None else ():
            reader.join(LIMIT_S)
        assert text in self.said, self.said

    @property
    def said(self) -> str:
        """All that came so far."""
        return "".join([*self.out, *self.err])

    def end(self) -> Ran:
        """What the process was, after its own end."""
        code = self.process.wait(LIMIT_S)
        for reader in self._readers:
            reader.join(LIMIT_S)
        return Ran(code, "".join(self.out), "".join(self.err))


def _collect(stream: IO[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line)


@contextmanager
def started(*argv: str | Path, **environment: str) -> Iterator[Started]:
    """A command line of lgsfm that runs beside the test."""
    with _killed_at_last(Started(command(*argv), **environment)) as process:
        yield process


@contextmanager
def python(code: str, *argv: str | Path) -> Iterator[Started]:
    """A Python program that runs beside the test."""
    with _killed_at_last(Started([sys.executable, "-u", "-c", code, *map(str, argv)])) as process:
        yield process


@contextmanager
def _killed_at_last(started: Started) -> Iterator[Started]:
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def wait_until(condition: Callable[[], object]) -> None:
    """Returns once something is so."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
