"""What signals do: crashes end the process at once, SIGTERM and the first Ctrl-C end the work and keep what is done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

__all__ = ["TerminatedError", "first_interrupt_only", "on_termination", "plain_crashes", "termination"]

NAMES = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV")
CRASHES = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]  # Windows has not all of them


@contextmanager
def plain_crashes() -> Iterator[None]:
    """Around the import of pycolmap: crashes and SIGTERM do afterwards what they did before.

    pycolmap brings handlers (of glog) that print a stack trace. They take memory for it, and where the signal comes
    within ``malloc`` or ``free`` they wait for a lock that their own thread holds. A failed CHECK of COLMAP's prints
    its message and stack before it aborts, and still does.

    Outside of the main thread, which alone may set handlers, nothing happens.
    """
    before = _block()  # what comes meanwhile waits, and finds the handlers gone; a fault ends the process
    try:
        yield
    finally:
        with suppress(ValueError):  # not the main thread
            for number in (*CRASHES, signal.SIGTERM):
                signal.signal(number, signal.getsignal(number) or signal.SIG_DFL)  # of which Python still knows
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _block() -> set[int] | None:
    """Lets these signals wait in this thread. Those that did so before; None where there is no such thing."""
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, [*CRASHES, signal.SIGTERM]))


# --------------------------------------------------------------------------------- Ctrl-C
@contextmanager
def first_interrupt_only() -> Iterator[None]:
    """Around all that a process does: the first Ctrl-C raises KeyboardInterrupt, a second one ends the process.

    After the block, while Python ends, there is nothing to interrupt: what it was is said, and the exit code known.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as behind nohup or `&`
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Python notes a KeyboardInterrupt that leaves code that was compiled from a text (a dataclass, a named tuple),
        # and in the end kills itself by SIGINT, though it was caught. With the next such code it forgets that.
        exec("")


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


# --------------------------------------------------------------------------------- SIGTERM
class TerminatedError(KeyboardInterrupt):
    """SIGTERM came. Ends what Ctrl-C ends."""


@contextmanager
def termination() -> Iterator[None]:
    """SIGTERM raises `TerminatedError` inside."""
    before = on_termination()
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def on_termination() -> Any:
    """From now on SIGTERM raises `TerminatedError`. What it did before; None outside of the main thread."""

    def stop(number: int, frame: object) -> None:
        raise TerminatedError

    try:
        return signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread, which alone hears signals
        return None
