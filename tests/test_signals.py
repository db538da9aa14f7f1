"""Signals: the first Ctrl-C ends the work and a second one the process; crashes do what they did before pycolmap."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import Ran, python_path

from lgsfm import errors
from lgsfm.errors import is_memory_shortage, lacks_memory, no_memory_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals")

BEGIN = """
import atexit, os, signal, sys
from lgsfm.signals import first_interrupt_only, plain_crashes, termination, TerminatedError

def strike():
    os.kill(os.getpid(), signal.SIGINT)
"""


def run_program(folder: Path, code: str, *, is_heard: bool = True) -> Ran:
    """A program that is started as ``python -m``; ``is_heard``: Ctrl-C is not ignored from its start."""
    (folder / "the_program.py").write_text(BEGIN + code)
    action = signal.SIG_DFL if is_heard else signal.SIG_IGN
    ended = subprocess.run(
        [sys.executable, "-m", "the_program"],
        cwd=folder,
        env={"PYTHONPATH": python_path()},
        preexec_fn=lambda: signal.signal(signal.SIGINT, action),
        capture_output=True,
        text=True,
        check=False,
    )
    return Ran(ended.returncode, ended.stdout, ended.stderr)


IN_TEXT = """
with first_interrupt_only():
    try:
        exec("strike()")  # as in the making of a dataclass
    except KeyboardInterrupt:
        print("interrupted")
sys.exit(130)
"""
TWICE = """
with first_interrupt_only():
    try:
        strike()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        strike()
        print("went on", flush=True)
"""
AT_THE_END = """
atexit.register(print, "ended")
atexit.register(strike)
with first_interrupt_only():
    print("done")
"""
IGNORED = """
with first_interrupt_only():
    strike()
    print("done")
"""


@pytest.mark.parametrize(
    ("code", "is_heard", "exit_code", "said"),
    [
        pytest.param(IN_TEXT, True, 130, ["interrupted"], id="in code that was compiled from a text"),
        pytest.param(TWICE, True, -signal.SIGINT, ["interrupted"], id="twice"),
        pytest.param(AT_THE_END, True, 0, ["done", "ended"], id="while Python ends"),
        pytest.param(IGNORED, False, 0, ["done"], id="ignored, as behind nohup"),
    ],
)
def test_ctrl_c_ends_a_program_without_a_traceback(
    tmp_path: Path, code: str, is_heard: bool, exit_code: int, said: list[str]
) -> None:
    ended = run_program(tmp_path, code, is_heard=is_heard)
    assert (ended.code, ended.out.split("\n")[:-1], ended.err) == (exit_code, said, "")


CRASH = """
with plain_crashes():
    import pycolmap
os.kill(os.getpid(), signal.{name})
"""


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTERM"])
def test_a_crash_is_not_left_to_the_handlers_of_pycolmap(tmp_path: Path, name: str) -> None:
    ended = run_program(tmp_path, CRASH.replace("{name}", name))
    assert (ended.code, ended.out, ended.err) == (-getattr(signal, name), "", "")


HANDLED = """
signal.signal(signal.SIGABRT, lambda *_: print("handled"))
with termination():
    try:
        with plain_crashes():
            import pycolmap
            signal.raise_signal(signal.SIGABRT)  # waits
            print("imported")
        os.kill(os.getpid(), signal.SIGTERM)
    except TerminatedError:
        print("terminated")
"""


def test_handlers_that_were_there_stay(tmp_path: Path) -> None:
    ended = run_program(tmp_path, HANDLED)
    assert (ended.code, ended.out.split(), ended.err) == (0, ["imported", "handled", "terminated"], "")


# --------------------------------------------------------------------------------- want of memory
@pytest.mark.parametrize(
    ("error", "is_short"),
    [
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (ImportError("libtorch.so: failed to map segment from shared object"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("No module named 'x'"), False),
        (SystemError("error return without exception set"), False),  # there is memory
        (OSError(28, "No space left on device"), False),
        (ValueError("std::bad_cast"), False),
    ],
)
def test_want_of_memory_is_told_from_other_errors(error: Exception, is_short: bool) -> None:
    assert is_memory_shortage(error) is is_short


def test_an_error_that_python_could_not_even_make_is_one_where_there_is_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(errors, "PROBE_BYTES", 1 << 62)
    assert is_memory_shortage(SystemError("error return without exception set"))
    assert not is_memory_shortage(ValueError("error return without exception set"))


def test_what_lacked_memory_is_named() -> None:
    error = ImportError("/lib/libx.so: failed to map segment\nmore", name="torch._C")
    assert no_memory_for("the mapper", error).startswith(
        "Not enough memory for loading torch._C (/lib/libx.so: failed to map segment). Nothing finished before is lost"
    )
    assert lacks_memory(no_memory_for("the mapper", MemoryError()))  # also when it comes out of a child
