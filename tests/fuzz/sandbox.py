"""Cases run in child processes: a crash, a hang or a flood of memory ends the child and is the outcome of its case.

A case is a number, from which a child makes what it needs; so only numbers and words go between the processes, and
whoever wants to see a case again makes it from its number.
"""

import argparse
import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

__all__ = ["fuzz", "outcomes", "unexpected"]

MEMORY_BYTES = 1 << 30  # beyond what the libraries take when they are loaded
LIMIT_S = 30.0  # of one case, on a busy machine
BATCH = 500  # cases per child
WRONG = "WRONG: "  # begins the outcome of a case that went as it must not


def unexpected(exc: BaseException) -> str:
    """The outcome of a case that raised what nobody may see."""
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    place = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
    return f"{WRONG}{type(exc).__name__} at {place}: {str(exc)[:80]}"


def fuzz(
    description: str,
    kinds: Sequence[str],
    make: Callable[[str, int, int], bytes | Mapping[str, bytes]],
    case: Callable[[str, int, Path, int], str],
    *,
    count: int,
    legend: str = "",
    memory_bytes: int = MEMORY_BYTES,
    limit_s: float = LIMIT_S,
) -> int:
    """The program of a fuzzer: runs the cases that its arguments ask for, and prints how often each outcome came.

    Args:
        description: for ``--help``.
        kinds: of what is damaged.
        make: ``make(kind, seed, number)`` gives the damaged file of a case, or its files by their names.
        case: ``case(kind, seed, folder, number)`` gives the outcome of it; the folder is for its files.
        count: of cases of each kind, by default.
        legend: what the words of an outcome stand for.
        memory_bytes: see `outcomes`.
        limit_s: see `outcomes`.

    Returns:
        The exit status: 1 if a case went wrong. What it was made of is kept.
    """
    program = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=count, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=kinds, action="append")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / f"lgsfm-fuzz-{program}")
    wanted = parser.parse_args()
    numbers = range(wanted.first, wanted.first + wanted.count)
    if legend:
        print(f"{legend}:")
    is_wrong = False
    for kind in wanted.kind or kinds:
        make(kind, wanted.seed, wanted.first)  # so that the intact ones are made here, once for all children
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:

            def numbered(number: int, kind: str = kind, folder: str = folder) -> str:
                return case(kind, wanted.seed, Path(folder), number)

            for number, outcome in outcomes(numbered, numbers, memory_bytes=memory_bytes, limit_s=limit_s):
                counts[outcome] += 1
                if outcome.startswith(WRONG):
                    is_wrong = True
                    _keep(make(kind, wanted.seed, number), wanted.keep / f"{kind}-{wanted.seed}-{number}")
                    print(f"  {kind} {number}: {outcome}", flush=True)
        print(f"{kind}: {counts.total()} mutations", flush=True)
        for outcome, times in counts.most_common():
            print(f"  {times:6} {outcome}")
    return int(is_wrong)


def _keep(made: bytes | Mapping[str, bytes], path: Path) -> None:
    """Writes a damaged file, or a folder of them."""
    files = {path: made} if isinstance(made, bytes) else {path / name: data for name, data in made.items()}
    for each, data in files.items():
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_bytes(data)


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
        child = context.Process(target=_in_new_thread, args=(_run, case, left[:BATCH], theirs, memory_bytes))
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


def _in_new_thread(run: Callable[..., None], *arguments: object) -> None:
    """OpenMP's threads belong to the thread that used them first: a fork's first thread would wait for its parent's."""
    thread = threading.Thread(target=run, args=arguments)
    thread.start()
    thread.join()


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
