"""Reading ahead and writing behind in a thread, while the networks work: in order, within bounds, no error lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from .errors import MemoryShortageError
from .threads import check_thread_room

__all__ = ["read_ahead", "write_behind"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def read_ahead(
    items: Iterable[Item], read: Callable[[Item], Result], *, count: int = 2
) -> Iterator[Iterator[tuple[Item, Callable[[], Result]]]]:
    """Gives each item with a function that gives (or raises) what ``read`` gave for it in a background thread.

    The thread ends with the context, not when Python collects what was left of a loop: that may happen in the middle
    of starting another thread, which then waits for itself forever.

    Args:
        items: what to read, in this order.
        read: called in a thread.
        count: how many items may be read before their turn.
    """
    with _thread("read-ahead") as pool:
        waiting: deque[tuple[Item, Future[Result]]] = deque()

        def each() -> Iterator[tuple[Item, Callable[[], Result]]]:
            for item in items:
                waiting.append((item, pool.submit(read, item)))
                if len(waiting) > count:
                    first, future = waiting.popleft()
                    yield first, future.result
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result

        try:
            yield each()
        finally:
            for _, future in waiting:
                future.cancel()


@contextmanager
def write_behind(count: int = 64) -> Iterator[Callable[..., None]]:
    """A function that calls ``function(*arguments)`` in a background thread, one call after the other.

    At most ``count`` calls wait. An error of one of them is raised by a later call, or at the end; what was handed over
    behind it is not called any more. What was handed over before an exception (of Ctrl-C, say) is done before that goes
    on; an error then is added to the exception as a note.
    """
    failed: list[BaseException] = []

    def call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if failed:
            return
        try:
            function(*arguments)
        except BaseException as exc:
            failed.append(exc)

    with _thread("write-behind") as pool:
        waiting: deque[Future[None]] = deque()

        def write(function: Callable[..., Any], *arguments: Any) -> None:
            waiting.append(pool.submit(call, function, arguments))
            while waiting and (waiting[0].done() or len(waiting) > count):
                waiting.popleft().result()
            if failed:
                raise failed[0]

        try:
            yield write
        except BaseException as exc:
            pool.shutdown()
            if failed and failed[0] is not exc:
                exc.add_note(f"Moreover, something could not be written: {failed[0]}")
            raise
    if failed:
        raise failed[0]


@contextmanager
def _thread(name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool of one thread, which has begun. Raises `MemoryShortageError` where the system has no room for it."""
    with ThreadPoolExecutor(1, thread_name_prefix=name) as pool:
        try:
            check_thread_room()
            pool.submit(int)  # begins it, while there is room
        except (MemoryError, RuntimeError) as exc:
            raise MemoryShortageError(
                f"No thread can be started ({exc}): memory is short, or this user has too many processes. What was "
                "finished is kept; end other programs, and the same command goes on from there."
            ) from exc
        yield pool
