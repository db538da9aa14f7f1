"""Whether a run has room: what is an error, what a warning, and what is counted as free."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from cli_helpers import SIFT, copy_photos, run, views

from lgsfm import disk, machine
from lgsfm.disk import check_free, free_bytes
from lgsfm.errors import CacheError
from lgsfm.machine import Machine, available_bytes, gpu_bytes
from lgsfm.room import SPARE_BYTES, bytes_in, check_disk, memory_warning

Usage = namedtuple("Usage", "total used free")
GB = 1_000_000_000


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch):
    """Sets what is free on every disk."""

    def set_free(count: int, total: int = 100 * GB) -> None:
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: Usage(total, total - count, count))

    return set_free


# --------------------------------------------------------------------------------- disk
def test_what_fits_needs_no_word(free, tmp_path):
    free(GB + SPARE_BYTES)
    assert check_disk(tmp_path, GB) == ""
    free(0)
    assert check_disk(tmp_path, 0) == check_disk(tmp_path, -GB) == ""  # all of it is there


def test_what_may_not_fit_is_a_warning(free, tmp_path):
    free(GB)
    words = check_disk(tmp_path, GB + 1)
    assert words.startswith("Warning")
    assert "1.0 GB more, and 1.0 GB are free" in words
    assert check_disk(tmp_path, 2 * GB).startswith("Warning")


def test_what_surely_does_not_fit_is_an_error(free, tmp_path):
    free(GB)
    with pytest.raises(CacheError, match=r"needs about 3.0 GB more, and 1.0 GB are free.*-o, .*--quality low"):
        check_disk(tmp_path, 3 * GB)


def test_a_full_disk_is_an_error(free, tmp_path):
    free(GB)
    check_free(tmp_path)
    check_free(tmp_path, GB)
    with pytest.raises(OSError, match="No space left"):
        check_free(tmp_path, GB + 1)
    free(4096)
    with pytest.raises(OSError, match="No space left"):
        check_free(tmp_path)


def test_a_disk_that_says_nothing_is_not_checked(free, tmp_path, monkeypatch):
    free(0, total=0)
    assert free_bytes(tmp_path) is None
    assert check_disk(tmp_path, GB) == ""
    check_free(tmp_path, GB)
    monkeypatch.undo()
    assert free_bytes(tmp_path / "nowhere") is None
    assert free_bytes(tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


def test_files_of_all_folders_count_once(tmp_path):
    (tmp_path / "sparse" / "0").mkdir(parents=True)
    for name, count in (("a.h5", 1000), ("sparse/0/points3D.bin", 20)):
        (tmp_path / name).write_bytes(bytes(count))
    (tmp_path / "sparse" / "again").symlink_to(tmp_path / "a.h5")
    assert 1020 <= bytes_in(tmp_path) < 2000


def test_a_run_without_room_ends_before_it_begins(free, courtyard, tmp_path):
    images = copy_photos(courtyard / "images", tmp_path / "images", views(5, 6))
    free(100_000)
    ran = run("reconstruct", images, "-o", tmp_path / "out", *SIFT)
    assert ran.code == 1
    assert "has not enough room" in ran.err
    assert list((tmp_path / "out").glob("features*")) == []


# --------------------------------------------------------------------------------- memory
def test_the_stage_that_needs_most_is_named_with_what_helps():
    needed = {"extract": 2 * GB, "match": 3 * GB, "map": GB}
    assert memory_warning(needed, 3 * GB) == memory_warning(needed, None) == ""
    assert "match needs about 3.0 GB" in memory_warning(needed, 2 * GB)
    assert "--max-keypoints" in memory_warning(needed, 2 * GB)
    assert "--max-edge-px" in memory_warning({**needed, "extract": 9 * GB}, 2 * GB)
    on_gpu = memory_warning({"gpu": 9 * GB}, 8 * GB, "RTX")
    assert "8.0 GB are free on RTX" in on_gpu
    assert "--batch-size" in on_gpu


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Sets what the system's files say; "" is no file."""

    def set_files(info: str, limit: str = "", used: str = "", state: str = "") -> None:
        for name, text in (("MEMORY_INFO", info), ("LIMITS", limit), ("USED", used), ("STATES", state)):
            path = tmp_path / name
            path.unlink(missing_ok=True)
            if text:
                path.write_text(text)
        monkeypatch.setattr(machine, "MEMORY_INFO", tmp_path / "MEMORY_INFO")
        for name in ("LIMITS", "USED", "STATES"):
            monkeypatch.setattr(machine, f"MEMORY_{name}", (tmp_path / name,))

    return set_files


INFO = "MemTotal:       24000000 kB\nMemFree:  1000 kB\nMemAvailable:   20000000 kB\n"


def test_available_is_what_the_system_and_the_container_have_left(system):
    system(INFO)
    assert available_bytes() == 20_000_000 * 1024
    system(INFO, limit="max\n", used="5")
    assert available_bytes() == 20_000_000 * 1024
    system(INFO, limit="4000000000\n", used="3500000000\n", state="anon 1\nfile 9\ninactive_file 500000000\n")
    assert available_bytes() == GB  # files that were read are given back on demand
    system(INFO, limit="4000000000\n", used="5000000000\n")
    assert available_bytes() == 0
    system("")
    assert available_bytes() == machine.memory_bytes()
    system("MemAvailable: many kB\n")
    assert available_bytes() == machine.memory_bytes()


def test_a_cpu_has_no_memory_of_a_gpu():
    assert gpu_bytes(Machine("a CPU", "cpu", 1)) is None
    assert gpu_bytes(Machine("M4 GPU", "mps", 1)) is None
