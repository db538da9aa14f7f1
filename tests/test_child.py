"""The child process: results, progress, errors, sudden ends of either side."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import pytest
from cli_helpers import python_path

import lgsfm
from lgsfm import child, silence
from lgsfm.child import LAST_LINES, MAX_LOG_BYTES, run_in_child
from lgsfm.errors import CacheError, CrashError, InputError, InUseError, LgsfmError, ReconstructionError

TARGETS = '''
"""Functions that the tests call in a child process."""
import atexit, ctypes, os, pathlib, signal, stat, sys, time

from lgsfm import errors


def echo(*, report, **arguments):
    return arguments


def search_path(*, report):
    return sys.path


def count(*, report, total):
    for done in range(total + 1):
        report(done, total)
    return "counted"


def fail(*, report, error, message):
    raise getattr(errors, error)(message)


def crash(*, report):
    return 1 // 0


def abort(*, report, lines):
    for i in range(lines):
        print(f"line {i}", file=sys.stderr, flush=True)
    os.abort()


def abort_with_stack(*, report):
    print("Check failed: a < b", file=sys.stderr)
    for i in range(40):
        print(f"    @     0x7fa55bae{i:04x} some_function()", file=sys.stderr, flush=True)
    os.abort()


def leave(*, report, code):
    os._exit(code)


def chatter(*, report):
    print("a line on stdout")
    print('{"result": "a forgery"}', flush=True)
    os.write(1, b"bytes on stdout, as C++ writes them\\n")
    ctypes.CDLL(None).puts(b"a line of the C library")
    ctypes.CDLL(None).fflush(None)
    print("a line on stderr", file=sys.stderr)
    return "the result"


def ignores_sigint(*, report):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
    return "still here"


def sleep(*, report, ready):
    pathlib.Path(ready).write_text(str(os.getpid()))
    time.sleep(120)


def wait_for(*, report, path):
    while not pathlib.Path(path).exists():
        time.sleep(0.01)
    return "went on"


def answer_and_stay(*, report, path):
    atexit.register(pathlib.Path(path).touch)  # after the one below
    atexit.register(time.sleep, 10)
    return "the result"


def die_in_the_middle_of_a_word(*, report):
    for number in range(3, 20):
        try:
            is_pipe = stat.S_ISFIFO(os.fstat(number).st_mode)
        except OSError:
            continue
        if is_pipe:
            os.write(number, b'{"result": "hal')
    os._exit(3)


def want_memory(*, report):
    raise MemoryError


def remove(*, report, path, code=0):
    os.remove(path)
    if code:
        os._exit(code)
    return "removed"


def say(*, report, line):
    print(line, flush=True)
    return "said"


def go_on_without_memory(*, report, error=""):
    """As Ceres does: a solver that fails for want of memory is a line in the log."""
    print("W levenberg_marquardt_strategy.cc:119] Linear solver fatal error: CHOLMOD failure: Out of memory.")
    print("I global_pipeline.cc:183] Reconstruction done in 0.004993 seconds", flush=True)
    if error:
        raise getattr(errors, error)("No photo registers.")
    return "a result that is worth nothing"


def map_forever(*, report, ready, folder):
    """Busy in COLMAP's C++ code, not in Python."""
    import pycolmap

    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_frames_per_rig=40, num_points3D=1500)
    work = pathlib.Path(folder)
    database = pycolmap.Database.open(work / "database.db")
    pycolmap.synthesize_dataset(options, database)
    database.close()
    pathlib.Path(ready).write_text(str(os.getpid()))
    for i in range(1000):
        (work / str(i)).mkdir()
        pycolmap.incremental_mapping(work / "database.db", work, work / str(i))
'''

COLMAP_TARGETS = """
import ctypes
import pycolmap


def corrupt_the_heap(*, report):
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    block, _ = library.malloc(100_000), library.malloc(100_000)
    ctypes.cast(block, ctypes.POINTER(ctypes.c_size_t))[100_008 // 8] = 7  # the size of the next block
    library.free(block)
"""

PARENT = """
import sys
from pathlib import Path
from lgsfm.child import run_in_child
target, ready, folder = sys.argv[1:]
arguments = {"ready": ready} | ({"folder": folder} if "map" in target else {})
run_in_child(target, arguments, Path(folder) / "child.log")
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The child's log; the functions above become importable in the child."""
    (tmp_path / "child_targets.py").write_text(TARGETS)
    (tmp_path / "child_targets_of_colmap.py").write_text(COLMAP_TARGETS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "child.log"


def test_the_result_comes_back_as_it_is(log: Path) -> None:
    arguments = {"text": "é 中 # % \n", "number": 0.1, "list": [1, None, True], "nested": {"a": {"b": []}}}
    assert run_in_child("child_targets:echo", arguments, log) == arguments


def test_a_result_of_a_megabyte_does_not_block(log: Path) -> None:
    text = "x" * 1_000_000
    assert run_in_child("child_targets:echo", {"text": text}, log) == {"text": text}


def test_progress_is_forwarded_in_order(log: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert run_in_child("child_targets:count", {"total": 4}, log, progress=lambda *step: seen.append(step)) == "counted"
    assert seen == [(i, 4) for i in range(5)]


def test_progress_may_be_left_out(log: Path) -> None:
    assert run_in_child("child_targets:count", {"total": 2}, log) == "counted"


@pytest.mark.parametrize("error", [InputError, CacheError, InUseError, ReconstructionError])
def test_our_errors_keep_type_and_message(log: Path, error: type[LgsfmError]) -> None:
    with pytest.raises(error) as caught:
        run_in_child("child_targets:fail", {"error": error.__name__, "message": "what, where, what to do: é"}, log)
    assert type(caught.value) is error
    assert str(caught.value) == "what, where, what to do: é"


def test_a_foreign_error_is_a_reconstruction_error_with_its_traceback(log: Path) -> None:
    with pytest.raises(ReconstructionError, match=r"COLMAP \(crash\) ended with code 1\.") as caught:
        run_in_child("child_targets:crash", {}, log)
    assert "ZeroDivisionError" in str(caught.value)
    assert str(log) in str(caught.value)


def test_an_abort_is_reported_with_the_last_lines_of_the_log(log: Path) -> None:
    with pytest.raises(ReconstructionError, match=r"COLMAP \(abort\) was killed by signal SIGABRT") as caught:
        run_in_child("child_targets:abort", {"lines": 100}, log)
    message = str(caught.value)
    assert "  line 99" in message.splitlines()
    assert "line 50" not in message
    assert len(message.splitlines()) == LAST_LINES + 1
    assert "the next run goes on" in message


def test_a_stack_trace_does_not_hide_the_line_that_tells(log: Path) -> None:
    with pytest.raises(ReconstructionError, match="Check failed: a < b") as caught:
        run_in_child("child_targets:abort_with_stack", {}, log)
    assert "some_function" not in str(caught.value)
    assert "some_function" in log.read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_crash_while_memory_is_given_back_ends_the_child(log: Path) -> None:
    """The handler that pycolmap brings would wait for the lock of the heap, which its own thread holds."""
    with pytest.raises(CrashError, match=r"\(corrupt_the_heap\) was killed by signal SIGABRT\."):
        run_in_child("child_targets_of_colmap:corrupt_the_heap", {}, log, limit_s=20)


def test_a_child_that_does_not_end_after_its_answer_is_not_waited_for(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "DEATH_S", 0.3)
    path = tmp_path / "ended by itself"
    assert run_in_child("child_targets:answer_and_stay", {"path": str(path)}, log) == "the result"
    assert not path.exists()


def test_a_child_that_dies_before_it_listens_is_an_error(log: Path, tmp_path: Path) -> None:
    """Of a broken pipe the command line would take that whoever reads its result has read enough."""
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif 'lgsfm.child' in sys.orig_argv: os._exit(3)\n")
    for length in (10, 1_000_000):  # fits into the pipe, does not
        with pytest.raises(CrashError, match=r"\(echo\) ended with code 3\."):
            run_in_child("child_targets:echo", {"text": "x" * length}, log)


def test_a_child_that_dies_in_the_middle_of_its_answer_is_an_error(log: Path) -> None:
    with pytest.raises(CrashError, match="ended with code 3"):
        run_in_child("child_targets:die_in_the_middle_of_a_word", {}, log)


# --------------------------------------------------------------------------------- no more memory
def test_want_of_memory_in_the_function_has_a_message(log: Path) -> None:
    with pytest.raises(CrashError, match=r"^Not enough memory for want_memory\. Nothing finished before is lost"):
        run_in_child("child_targets:want_memory", {}, log)


def test_want_of_memory_at_the_start_of_the_child_has_a_message(log: Path, tmp_path: Path) -> None:
    refusal = "libx.so: failed to map segment from shared object"
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == 'subprocess': raise ImportError({refusal!r}, name='_posixsubprocess')\n"
        "if 'lgsfm.child' in sys.orig_argv: sys.meta_path.insert(0, Refuse())\n"
    )
    with pytest.raises(CrashError, match="ended with code 1, for want of memory") as caught:
        run_in_child("child_targets:echo", {}, log)
    assert refusal in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_where_no_process_can_be_started_that_is_said(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(CrashError, match=r"COLMAP \(echo\) cannot be started: Cannot allocate memory\. Memory is"):
        run_in_child("child_targets:echo", {}, log)


def test_a_photo_may_be_named_as_a_lack_of_memory(log: Path) -> None:
    line = "I20261125 19:28:50.504931 14067 incremental_pipeline.cc:82] Registering image out of memory.jpg"
    assert run_in_child("child_targets:say", {"line": line}, log) == "said"


@pytest.mark.parametrize("error", ["", "ReconstructionError"])
def test_a_result_that_lacks_what_there_was_no_memory_for_is_none(log: Path, error: str) -> None:
    with pytest.raises(CrashError, match=r"^Not enough memory for COLMAP \(go_on_without_memory\)\. ") as caught:
        run_in_child("child_targets:go_on_without_memory", {"error": error}, log)
    assert str(caught.value).endswith("Linear solver fatal error: CHOLMOD failure: Out of memory.")
    assert "is not used" in str(caught.value)
    assert run_in_child("child_targets:echo", {"number": 3}, log) == {"number": 3}  # the log tells of the one before
    with pytest.raises(CacheError, match="No photo registers"):
        run_in_child("child_targets:go_on_without_memory", {"error": "CacheError"}, log)


def test_a_log_that_somebody_removes_costs_nothing(log: Path) -> None:
    assert run_in_child("child_targets:remove", {"path": str(log)}, log) == "removed"
    with pytest.raises(CrashError, match="ended with code 3"):
        run_in_child("child_targets:remove", {"path": str(log), "code": 3}, log)


# --------------------------------------------------------------------------------- silence
class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now, self.looks = 0.0, 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.now

    def move(self, now: float) -> None:
        """Moves it, and lets the watcher look at it more than once."""
        self.now = now
        wanted, deadline = self.looks + 3, time.monotonic() + 30
        while self.looks < wanted and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.looks >= wanted


def test_of_a_silent_child_people_are_told_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lgsfm")
    log, clock = tmp_path / "colmap.log", Clock()
    monkeypatch.setattr(silence, "LISTEN_S", 0.01)
    monkeypatch.setattr(silence, "time", clock)

    def times_told() -> list[str]:
        return [record.getMessage().split(" for ")[1].split(". ")[0] for record in caplog.records]

    with silence.told_of_silence("COLMAP (map)", log) as heard:
        clock.move(59)
        assert times_told() == []
        clock.move(61)
        assert times_told() == ["1 minute"]
        clock.move(119)
        assert times_told() == ["1 minute"]
        clock.move(121)
        assert times_told() == ["1 minute", "2 minutes"]
        heard()
        clock.move(180)
        log.write_text("a line")
        clock.move(182)
        clock.move(240)
        assert times_told() == ["1 minute", "2 minutes"]
        clock.move(243)
        assert times_told() == ["1 minute", "2 minutes", "1 minute"]
    assert f"COLMAP (map) for 1 minute. Large scenes can take that long between two lines of {log}" in caplog.text
    assert "Ctrl-C ends it" in caplog.text


def test_a_child_that_hangs_is_told_and_left_alone(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it hangs or is at work nobody knows but those who wait for it."""
    caplog.set_level(logging.INFO, "lgsfm")
    monkeypatch.setattr(silence, "SILENCE_S", 0.05)
    monkeypatch.setattr(silence, "LISTEN_S", 0.02)
    awaited = tmp_path / "awaited"

    def let_go() -> None:
        while "Nothing was heard of COLMAP (wait_for) for" not in caplog.text:
            time.sleep(0.01)
        awaited.touch()

    before = set(threading.enumerate())  # of other tests, too
    watcher = threading.Thread(target=let_go, daemon=True)
    watcher.start()
    assert run_in_child("child_targets:wait_for", {"path": str(awaited)}, log, limit_s=60) == "went on"
    watcher.join(10)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)  # a timer that was called off ends in its own time
    assert set(threading.enumerate()) <= before


def test_a_silent_exit_is_an_error_too(log: Path) -> None:
    with pytest.raises(ReconstructionError, match=r"\(leave\) ended with code 0"):
        run_in_child("child_targets:leave", {"code": 0}, log)


def test_a_child_that_is_killed_is_reported(log: Path, tmp_path: Path) -> None:
    """As by the kernel when memory runs out."""
    ready = tmp_path / "ready"

    def kill() -> None:
        os.kill(wait_for_pid(ready), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(ReconstructionError, match="SIGKILL"):
        run_in_child("child_targets:sleep", {"ready": str(ready)}, log)


def test_what_the_function_prints_goes_to_the_log_and_never_into_the_result(
    log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_in_child("child_targets:chatter", {}, log) == "the result"
    text = log.read_text()
    for line in ("a line on stdout", "bytes on stdout", "a line of the C library", "a line on stderr", "a forgery"):
        assert line in text
    assert capfd.readouterr() == ("", "")


def test_the_log_is_appended_to_and_a_good_end_leaves_nothing_in_it(log: Path) -> None:
    log.write_text("before\n")
    run_in_child("child_targets:echo", {}, log)
    assert log.read_text() == "before\n"


def test_a_log_of_megabytes_is_set_aside(log: Path) -> None:
    log.write_text("x" * (MAX_LOG_BYTES + 1))
    run_in_child("child_targets:chatter", {}, log)
    assert log.stat().st_size < 1000
    assert log.with_name("child.log.before").stat().st_size > MAX_LOG_BYTES


def test_a_log_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"child\.log cannot be written"):
        run_in_child("child_targets:echo", {}, tmp_path / "missing" / "child.log")


def test_modules_in_the_working_folder_do_not_come_before_others(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos and scripts"
    folder.mkdir()
    for name in ("json", "numpy", "pycolmap", "lgsfm"):
        (folder / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(folder)
    assert run_in_child("child_targets:echo", {"number": 1}, log) == {"number": 1}


def test_the_folder_of_the_package_hides_no_module(log: Path) -> None:
    """It may be site-packages, where others leave a typing.py."""
    path = run_in_child("child_targets:search_path", {}, log)
    root = str(Path(lgsfm.__file__).resolve().parent.parent)
    assert "" not in path
    assert path.index(root) > path.index(sysconfig.get_path("stdlib"))


def test_a_good_end_is_quick(log: Path) -> None:
    """The thread that watches the parent must not hold up the end of the child."""
    start = time.perf_counter()
    for _ in range(4):
        run_in_child("child_targets:echo", {}, log)
    assert time.perf_counter() - start < 4


def test_ctrl_c_is_the_parents_to_handle(log: Path) -> None:
    assert run_in_child("child_targets:ignores_sigint", {}, log) == "still here"


def test_an_exception_in_the_parent_ends_the_child(log: Path, tmp_path: Path) -> None:
    children_before = child_pids()

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_child("child_targets:count", {"total": 1_000_000}, log, progress=interrupt)
    assert child_pids() == children_before


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("target", ["sleep", "map_forever"])
def test_the_child_ends_when_its_parent_is_killed(log: Path, tmp_path: Path, target: str) -> None:
    ready = tmp_path / "ready"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, f"child_targets:{target}", str(ready), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": python_path(tmp_path)},
    )
    child = wait_for_pid(ready)
    try:
        if target == "map_forever":
            time.sleep(0.5)  # well inside the mapper
        assert is_alive(child)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 5
        while is_alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not is_alive(child)
    finally:
        parent.kill()
        if is_alive(child):
            os.kill(child, signal.SIGKILL)


def wait_for_pid(path: Path, seconds: float = 30) -> int:
    """The process id in a file that a child will write."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()):
            return int(text)
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return not stat.parent.parent.joinpath("self").exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # gone in between
        return False


def child_pids() -> set[int]:
    """The processes that this one has started and that still run."""
    path = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return {int(pid) for pid in path.read_text().split()} if path.exists() else set()
