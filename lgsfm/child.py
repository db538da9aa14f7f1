"""Runs COLMAP in a child process, so that a failed CHECK there cannot take the caller's work along.

`run_in_child` calls a function ``module:name`` with JSON-able arguments and returns its JSON-able result. What
COLMAP prints goes to a log file. The child ends when its parent does, however the parent ended.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from . import errors
from .errors import (
    CacheError,
    CrashError,
    LgsfmError,
    ReconstructionError,
    is_memory_shortage,
    lacks_memory,
    no_memory_for,
)
from .signals import plain_crashes
from .silence import told_of_silence
from .threads import check_thread_room

__all__ = ["run_in_child"]

LAST_LINES = 12  # of the log that an error quotes
STACK_FRAME = re.compile(r"\s*@\s+0x[0-9a-f]+")  # COLMAP's; they would push the line that tells out of the quote
TOLD_OF = re.compile(r"I\d{8} ")  # glog's lines of what is done, in which names of photos are

MAX_LOG_BYTES = 4_000_000  # a longer log is put aside, and a new one begun

DEATH_S = 10.0  # the longest that a child may take to be gone after its last word, or once it was killed

# What the child runs. -P keeps the working folder, whose files may be called numpy.py or json.py, off sys.path; the
# folder of this package comes last, where it hides no module of Python's own nor of any other package.
START = """
import sys
sys.path.append(sys.argv.pop(1))
try:
    from lgsfm.child import _main
except Exception as exc:
    sys.exit(f"Its modules cannot be loaded: {exc!r}")
_main(sys.argv[2])
"""

Report = Callable[[int, int], None]


def run_in_child(
    target: str,
    arguments: dict[str, Any],
    log_path: Path,
    *,
    progress: Report | None = None,
    limit_s: float = 0.0,
    program: str = "COLMAP",
) -> Any:
    """Calls ``target`` ("module:function") in a process of its own.

    Args:
        target: a function that takes a callback ``report(done, total)`` and the arguments by keyword.
        arguments: JSON-able.
        log_path: what the child prints is appended here; one of several megabytes is first set aside as ``.before``.
        progress: called with what the function reports.
        limit_s: the process is killed after so many seconds; 0 is no limit.
        program: what works there, in the words of an error.

    Returns:
        The function's JSON-able result.

    Raises:
        LgsfmError: as raised by the function.
        CrashError: the process ended otherwise; the message quotes its last lines. Or it gave a result, but its log
            tells of a lack of memory: libraries go on without what they had no memory for.
        CacheError: the log cannot be written.
    """
    process, log_start = _start(target, log_path, program)
    assert process.stdin is not None
    assert process.stdout is not None
    answer: dict[str, Any] | None = None
    timer = threading.Timer(limit_s, process.kill) if limit_s else None
    try:
        if timer:
            check_thread_room()
            timer.start()
        with told_of_silence(f"{program} ({_name(target)})", log_path) as heard:
            with suppress(BrokenPipeError):  # it ended before it listened
                process.stdin.write(json.dumps(arguments).encode() + b"\n")
                process.stdin.flush()
            for line in process.stdout:
                heard()
                if not line.endswith(b"\n"):  # it ended in the middle of a word
                    break
                message = json.loads(line)
                if "progress" not in message:
                    answer = message
                elif progress:
                    progress(*message["progress"])
        with suppress(subprocess.TimeoutExpired):  # it has said all that it had to say
            process.wait(DEATH_S)
    finally:
        is_late = timer is not None and not timer.is_alive()
        if timer:
            timer.cancel()
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(DEATH_S)
        process.stdout.close()
        with suppress(BrokenPipeError):  # of what it has not read
            process.stdin.close()
    if answer is None:
        late = f" after {limit_s:.0f} seconds, since it did not come to an end" if is_late else ""
        code = -signal.SIGKILL if process.returncode is None else process.returncode
        raise CrashError(_obituary(program, target, code, log_path, late))
    is_of_photos = answer.get("error", ReconstructionError.__name__) == ReconstructionError.__name__
    if is_of_photos and (said := _shortage(log_path, log_start)):
        # So does Ceres: its solver fails, and COLMAP takes the photos for some that do not register
        raise CrashError(
            f"{no_memory_for(f'{program} ({_name(target)})')} What it gave is not used, since it went on without what "
            f"it had no memory for; {log_path} says: {said}"
        )
    if "error" in answer:
        raise getattr(errors, answer["error"], ReconstructionError)(answer["message"])
    return answer["result"]


def _start(target: str, log_path: Path, program: str) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and where in the log its output begins."""
    with _open_log(log_path) as log:
        start = log.tell()
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, str(Path(__file__).resolve().parent.parent), "lgsfm.child", target],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            return process, start
        except (MemoryError, OSError) as exc:
            reason = getattr(exc, "strerror", None) or "not enough memory"
            raise CrashError(
                f"{program} ({_name(target)}) cannot be started: {reason}. Memory is short, or this user has too many "
                "processes or open files. Nothing finished before is lost: the next run goes on from there."
            ) from exc


def _name(target: str) -> str:
    return target.partition(":")[2].removesuffix("_in_child")


def _open_log(path: Path) -> IO[bytes]:
    try:
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            os.replace(path, path.with_name(f"{path.name}.before"))
        return open(path, "ab")
    except OSError as exc:
        raise CacheError(f"{path} cannot be written: {exc.strerror}. Check the folder and the disk space.") from exc


def _shortage(log_path: Path, start: int) -> str:
    """The first line of a log, from a place on, that tells of a lack of memory; "" if there is none."""
    said = (line for line in _lines(log_path, start) if not TOLD_OF.match(line))
    return next((line for line in said if lacks_memory(line)), "")


def _lines(log_path: Path, start: int = 0) -> Iterator[str]:
    """The lines of a log from a place on; none where somebody has removed it."""
    with suppress(OSError), open(log_path, "rb") as log:
        log.seek(start)
        for line in log:
            yield line.decode(errors="replace").rstrip()


def _obituary(program: str, target: str, code: int, log_path: Path, late: str) -> str:
    cause = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    last = list(deque((line for line in _lines(log_path) if not STACK_FRAME.match(line)), LAST_LINES))
    if os.name != "nt" and code == -signal.SIGKILL:
        cause += ", as the system does where memory runs out"
    elif lacks_memory("\n".join(last[-3:])):
        cause += ", for want of memory"
    return (
        f"{program} ({_name(target)}) {cause}{late}. Nothing finished before is lost: the next run goes on from "
        f"there. Its last lines, of {log_path}:\n  " + "\n  ".join(last)
    )


def _main(target: str) -> None:
    """The child: one line of JSON in, lines of JSON out, everything that others print to the log."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    arguments = json.loads(sys.stdin.buffer.readline())
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    def report(done: int, total: int) -> None:
        send({"progress": [done, total]})

    module, _, name = target.partition(":")
    try:
        check_thread_room()
        threading.Thread(target=_end_with_parent, daemon=True).start()
        with plain_crashes():
            function = getattr(import_module(module), name)
        send({"result": function(report=report, **arguments)})
    except LgsfmError as exc:
        send({"error": type(exc).__name__, "message": str(exc)})
    except Exception as exc:
        if not is_memory_shortage(exc):
            raise
        send({"error": CrashError.__name__, "message": no_memory_for(_name(target), exc)})


def _end_with_parent() -> None:
    # Blocks until the parent closes the pipe or dies. Not sys.stdin.buffer.read(), which would hold the lock of the
    # buffer: the interpreter, when it ends, waits a second for that lock and then aborts.
    while os.read(0, 1):
        pass
    os._exit(1)
