"""The lock of an output folder, and links in it."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import run
from outputs import files_of

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
    "name",
    [
        *WRITTEN,
        *("manifest.json", "report.html", "export", "replaced", "sparse/0", "sparse/0/images.bin"),
        *("sparse.partial/snapshots", "sparse.partial/a/b"),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str, exists: bool) -> None:
    out, photos, elsewhere = tmp_path / "out", tmp_path / "photos", tmp_path / "elsewhere"
    (out / name).parent.mkdir(parents=True)
    photos.mkdir()
    if exists and name.startswith(("sparse", "export", "replaced")) and not name.endswith(".bin"):
        elsewhere.mkdir()
        (elsewhere / "mine.txt").write_text("mine")
    elif exists:
        elsewhere.write_text("mine")
    (out / name).symlink_to(elsewhere)
    for opened in (lambda: Workspace.open(out, photos), lambda: Workspace.of_run(out)):
        with pytest.raises(InputError, match="leads out of the output folder"):
            opened()
    (out / name).unlink()
    assert Workspace.of_run(out).root == out


def test_links_that_do_no_harm_stay(tmp_path: Path) -> None:
    out, photos = tmp_path / "disk" / "out", tmp_path / "photos"
    out.mkdir(parents=True)
    photos.mkdir()
    (out / "images").symlink_to(photos)  # as other programs want it
    (out / "old.txt").touch()
    (out / "pairs.txt").symlink_to(out / "old.txt")
    (out / "sparse" / "mine").mkdir(parents=True)
    (out / "sparse" / "mine" / "images").symlink_to(photos)
    (out / "sparse" / "thesis").symlink_to(photos)
    (out / "options.json").touch()
    (tmp_path / "link").symlink_to(out)
    assert Workspace.open(tmp_path / "link", photos).root == tmp_path / "link"
    assert Workspace.open(out, photos).root == out
    assert Workspace.of_run(tmp_path / "link").root == tmp_path / "link"


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes")
@pytest.mark.parametrize("name", ["summary.json", "features-sift-0.h5", "sparse/0/images.bin"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=f"{name} is a pipe or a device in the place of a file"):
        Workspace.of_run(tmp_path)


ON_A_RUN = (
    *(("doctor", "OUT"), ("report", "OUT"), ("manifest", "OUT"), ("manifest", "other", "OUT"), ("cite", "OUT")),
    *(("cache", "verify", "OUT"), ("cache", "repair", "OUT"), ("cache", "prune", "OUT", "--yes")),
    *(("pose", "--run", "OUT", "a.jpg", "b.jpg"), ("show", "--run", "OUT", "a.jpg", "b.jpg")),
    *(("localize", "OUT", "a.jpg"), ("export", "OUT", "ply"), ("map", "photos", "-o", "OUT")),
)


@pytest.mark.parametrize("words", ON_A_RUN, ids=" ".join)
def test_no_command_reads_or_writes_through_a_link_of_a_strangers_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("OUT", "other", "photos", "elsewhere"):
        (tmp_path / folder).mkdir()
    precious = tmp_path / "elsewhere" / "features.h5"
    precious.write_bytes(b"some bytes" * 1000)
    link = tmp_path / "OUT" / "features-sift-0123456789ab.h5"
    link.symlink_to(precious)
    (tmp_path / "OUT" / "options.json").write_text('{"flags": {}, "extractor": {"extractor": "sift"}}')
    (tmp_path / "other" / "manifest.json").write_text("{}")
    ended = run(*words)
    assert (ended.code, ended.out) == (1, "")
    assert f"{link.relative_to(tmp_path)} is a link that leads out of the output folder" in ended.err
    assert link.is_symlink()
    assert files_of(tmp_path / "elsewhere") == {"features.h5": hashlib.sha256(b"some bytes" * 1000).hexdigest()}


def test_the_command_that_goes_on_with_a_run_is_told_in_full(tmp_path: Path) -> None:
    out = Workspace(tmp_path / "my out")
    out.root.mkdir()
    out.options.write_text('{"flags": {"features": "sift", "max_keypoints": 1500, "deterministic": true}}')
    assert out.command() == (
        f"lgsfm reconstruct IMAGES -o '{out.root}' --features sift --max-keypoints 1500 --deterministic"
    )
    out.summary.write_text(f'{{"image_dir": "{tmp_path}"}}')
    ended = run("localize", out.root, tmp_path / "a.jpg")
    assert ended.code == 1
    assert f"There is no model in {out.root} to locate photos in. Run `{out.command()}`." in ended.err
    assert f"lgsfm reconstruct {tmp_path} -o" in ended.err


def test_what_runs_write_is_known_as_theirs(tmp_path: Path) -> None:
    own = Workspace(tmp_path / "out")
    for name in ("database.db", "sparse/0/images.bin", "features-sift-0.h5", ".lock", "../out/summary.json"):
        assert own.owns(own.root / name)
    for name in ("with-reference.html", "export/points.ply", "../report.html", ".", "images/sparse"):
        assert not own.owns(own.root / name)


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


@pytest.mark.parametrize("name", ["options.json", "database.json", "features-sift-0.h5"])
def test_a_folder_is_known_as_ours_by_any_file_of_ours(tmp_path: Path, name: str) -> None:
    """Of a run whose options were damaged and removed, say."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "database.db").touch()
    with pytest.raises(InputError, match=r"holds database\.db of another program"):
        Workspace.open(tmp_path / "out", tmp_path)
    (tmp_path / "out" / name).touch()
    assert Workspace.open(tmp_path / "out", tmp_path).root == tmp_path / "out"
