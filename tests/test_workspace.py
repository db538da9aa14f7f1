"""The lock of an output folder, and links in it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lgsfm import workspace
from lgsfm.errors import CacheError, InputError, InUseError
from lgsfm.files import write_text
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
        with pytest.raises(InUseError, match=rf"in use by another process \(number {holder.pid}\)"):
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


WRITTEN = (
    "pairs.txt",
    "features-sift-0.h5",
    "database.db",
    "colmap.log",
    ".lock",
    "sparse",
    "sparse.before",
    "x.partial",
)


@pytest.mark.parametrize(
    "name", [*WRITTEN, "manifest.json", "report.html", "sparse.partial/snapshots", "sparse.partial/a/b"]
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str, exists: bool) -> None:
    out, photos, elsewhere = tmp_path / "out", tmp_path / "photos", tmp_path / "elsewhere"
    (out / name).parent.mkdir(parents=True)
    photos.mkdir()
    if exists and name.startswith("sparse"):
        elsewhere.mkdir()
        (elsewhere / "mine.txt").write_text("mine")
    elif exists:
        elsewhere.write_text("mine")
    (out / name).symlink_to(elsewhere)
    with pytest.raises(InputError, match="leads out of the output folder"):
        Workspace.open(out, photos)
    (out / name).unlink()
    Workspace.open(out, photos)


def test_links_that_do_no_harm_stay(tmp_path: Path) -> None:
    out, photos = tmp_path / "disk" / "out", tmp_path / "photos"
    out.mkdir(parents=True)
    photos.mkdir()
    (out / "images").symlink_to(photos)  # as other programs want it
    (out / "old.txt").touch()
    (out / "pairs.txt").symlink_to(out / "old.txt")
    (tmp_path / "link").symlink_to(out)
    assert Workspace.open(tmp_path / "link", photos).root == tmp_path / "link"
    assert Workspace.open(out, photos).root == out


def test_a_text_takes_the_place_of_a_link_and_does_not_follow_it(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    path = tmp_path / "pairs.txt"
    path.symlink_to(precious)
    (tmp_path / f"pairs.txt.{os.getpid()}.partial").symlink_to(precious)
    write_text(path, "ours")
    assert (path.read_text(), path.is_symlink(), precious.read_text()) == ("ours", False, "mine")


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
