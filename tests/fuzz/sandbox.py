"""Cases run in child processes: a crash, a hang or a flood of memory ends the child and is the outcome of its case.

A case is a number, from which a child makes what it needs; so only numbers and words go between the processes, and
whoever wants to see a case again makes it from its number.
"""

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection

__all__ = ["outcomes", "unexpected"]

MEMORY_BYTES = 1 << 30  # beyond what the libraries take when they are loaded
LIMIT_S = 30.0  # of one case, on a busy machine
BATCH = 500  # cases per child
WRONG = "WRONG: "  # begins the outcome of a case that went as it must not


def unexpected(exc: BaseException) -> str:
    """The outcome of a case that raised what nobody may see."""
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    place = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
    return f"{WRONG}{type(exc).__name__} at {place}: {str(exc)[:80]}"


def outcomes(
    case: Callable[[int], str],
    numbers: Iterable[int],
    *,
    memory_bytes: int = MEMORY_BYTES,
    limit_s: float = LIMIT_S,
) -> Iterator[tuple[int, str]]:
    """(number, outcome) of each case, in order.

    ``case(number)`` gives the outcome in words; what it raises is WRONG, so is a child that dies or takes too long.
    """
    left = list(numbers)
    context = multiprocessing.get_context("fork")  # the children need not load the libraries again
    while left:
        ours, theirs = context.Pipe()
        child = context.Process(target=_run, args=(case, left[:BATCH], theirs, memory_bytes))
        child.start()
        theirs.close()
        for _ in range(len(left[:BATCH])):
            outcome = _answer(ours, child, limit_s)
            yield left.pop(0), outcome
            if not child.is_alive() and outcome.startswith(WRONG):
                break
        ours.close()
        child.join()


def _answer(pipe: Connection, child: multiprocessing.Process, limit_s: float) -> str:
    if not pipe.poll(limit_s):
        child.kill()
        child.join()
        return f"{WRONG}no end after {limit_s:.0f} s"
    with contextlib.suppress(EOFError, OSError):
        return pipe.recv()
    child.join()
    code = child.exitcode or 0
    return f"{WRONG}died of {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"


def _run(case: Callable[[int], str], numbers: list[int], pipe: Connection, memory_bytes: int) -> None:
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries complain about damaged files
    for number in numbers:
        try:
            outcome = case(number)
        except BaseException as exc:
            outcome = unexpected(exc)
        pipe.send(outcome)
    pipe.close()
    sys.stdout.flush()
    os._exit(0)
