"""The lock of an output folder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lgsfm import workspace
from lgsfm.errors import CacheError
from lgsfm.workspace import Workspace

HOLD = """
import sys
from pathlib import Path
from lgsfm.workspace import Workspace
lock = Workspace(Path(sys.argv[1])).lock()
print("locked", flush=True)
sys.stdin.read()
"""


def test_the_owner_of_the_lock_is_named(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(CacheError, match=rf"in use by another process \(number {holder.pid}\)"):
            Workspace(tmp_path).lock()
    finally:
        holder.communicate()
    Workspace(tmp_path).lock().close()  # free again


def test_a_lock_file_that_cannot_be_opened_is_explained(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(CacheError, match=r"\.lock cannot be opened: Is a directory"):
        Workspace(tmp_path).lock()


@pytest.mark.skipif(sys.platform == "win32", reason="fcntl")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_a_second_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    import fcntl

    def flock(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    Workspace(tmp_path).lock().close()
    assert "this file system has no locks" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="fcntl")
def test_a_disk_that_fails_is_not_a_second_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: object) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(workspace, "_lock", fail)
    with pytest.raises(CacheError, match=r"\.lock cannot be written: Input/output error"):
        Workspace(tmp_path).lock()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_the_lock_of_a_killed_process_is_free_though_its_number_lives_on(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    holder.kill()
    holder.communicate()
    (tmp_path / ".lock").write_text(str(os.getpid()))  # as if the system had given the number to another process
    Workspace(tmp_path).lock().close()
