"""Room for threads: Python waits for ever for a new thread that finds no memory for its first step."""

from __future__ import annotations

import mmap

__all__ = ["check_thread_room"]

THREAD_BYTES = 24 * 2**20  # of address space: the stack that the system gives, and what C and Python take at the start


def check_thread_room(count: int = 1) -> None:
    """Call it just before threads are started. Raises MemoryError if there is no address space for them.

    ``Thread.start`` returns once the new thread has said that it runs (seen in CPython 3.11). One that cannot even make
    the objects for that ends without a word.
    """
    try:
        mmap.mmap(-1, max(count, 1) * THREAD_BYTES).close()  # of which no byte is touched
    except OSError as exc:
        raise MemoryError("no room for a thread") from exc
