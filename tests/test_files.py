"""Small files and folders are the old or the new ones, never half; values from JSON are of their types."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lgsfm import files
from lgsfm.errors import CacheError
from lgsfm.files import (
    exchange,
    fits,
    misfits,
    read_json,
    read_json_strictly,
    replace_folder,
    write_json,
    write_text,
)


# --------------------------------------------------------------------------------- texts
def test_a_text_is_on_the_disk_before_its_name_is_and_the_name_before_we_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power loss leaves an empty file, or the old one that the run has already gone on from."""
    done = []
    replace = os.replace
    monkeypatch.setattr(files, "sync_file", lambda path: done.append(("file", path.read_text())))
    monkeypatch.setattr(files, "sync_folder", lambda path: done.append(("folder", (path / "a.txt").read_text())))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append(("replace", "")), replace(*names)))
    write_text(tmp_path / "a.txt", "new")
    assert done == [("file", "new"), ("replace", ""), ("folder", "new")]


def test_what_cannot_be_written_leaves_the_old_text_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "a.txt", "old")

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync_file", full)
    with pytest.raises(CacheError, match=r"a\.txt cannot be written: No space left on device"):
        write_text(tmp_path / "a.txt", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


# --------------------------------------------------------------------------------- exchanging names
CAN_EXCHANGE = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "renameat2")


@pytest.mark.skipif(not CAN_EXCHANGE, reason="no system call that exchanges names")
def test_two_folders_get_each_others_names(tmp_path: Path) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model").write_text(name)
    assert exchange(tmp_path / "new", tmp_path / "old") is True
    assert {path.name: (path / "model").read_text() for path in tmp_path.iterdir()} == {"new": "old", "old": "new"}


@pytest.mark.skipif(not CAN_EXCHANGE, reason="no system call that exchanges names")
def test_exchanging_with_what_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        exchange(tmp_path / "new", tmp_path / "missing")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "new"), str(tmp_path / "missing"))
    assert (tmp_path / "new").is_dir()


@pytest.mark.skipif(os.name != "posix", reason="Windows is asked for nothing")
@pytest.mark.parametrize(("number", "answer"), [(errno.EINVAL, False), (errno.ENOSYS, False), (0, True)])
def test_a_disk_that_cannot_exchange_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, answer: bool
) -> None:
    """As NFS, or an old kernel; the caller then moves one after the other."""

    def rename(*arguments: Any) -> int:
        return -1 if number else 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: SimpleNamespace(renameat2=rename))
    monkeypatch.setattr(ctypes, "get_errno", lambda: number or errno.EPERM)  # of an earlier call, where it went well
    assert exchange(tmp_path / "a", tmp_path / "b") is answer


@pytest.mark.skipif(os.name != "posix", reason="Windows is asked for nothing")
def test_a_system_without_the_step_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: SimpleNamespace())
    assert exchange(tmp_path / "a", tmp_path / "b") is False


# --------------------------------------------------------------------------------- replacing folders
CANNOT = OSError(errno.EACCES, "Permission denied")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The new folder, the old one, and a name for it; both hold a file that says which they are."""
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path / "new", tmp_path / "old", tmp_path / "old.before"


def contents(folders: tuple[Path, Path, Path]) -> dict[str, str]:
    return {path.name: (path / "file").read_text() for path in folders if path.exists()}


def cannot_exchange(first: Path, second: Path) -> bool:
    return False


@pytest.mark.parametrize("way", [exchange, cannot_exchange])
def test_the_old_folder_is_aside_afterwards(folders, monkeypatch, way):
    monkeypatch.setattr("lgsfm.files.exchange", way)
    replace_folder(*folders)
    assert contents(folders) == {"old": "new", "old.before": "old"}


def test_where_there_was_nothing_nothing_is_aside(folders):
    new, old, aside = folders
    (old / "file").unlink()
    old.rmdir()
    replace_folder(new, old, aside)
    assert contents(folders) == {"old": "new"}


def test_an_exchange_that_fails_leaves_both_as_they_were(folders, monkeypatch):
    def failing(first, second):
        raise CANNOT

    monkeypatch.setattr("lgsfm.files.exchange", failing)
    with pytest.raises(PermissionError):
        replace_folder(*folders)
    assert contents(folders) == {"new": "new", "old": "old"}


def test_a_last_step_that_fails_leaves_both_as_they_were(folders, monkeypatch):
    new, old, _ = folders
    rename = Path.rename

    def failing(self, target):
        if (self, target) == (new, old):
            raise CANNOT
        return rename(self, target)

    monkeypatch.setattr("lgsfm.files.exchange", cannot_exchange)
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(PermissionError):
        replace_folder(*folders)
    assert contents(folders) == {"new": "new", "old": "old"}


# --------------------------------------------------------------------------------- JSON
@pytest.mark.parametrize("text", ["", "{", "[]", "[1]", "null", '"text"', "\x00\xff"])
def test_what_is_no_json_object_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    assert read_json(tmp_path / "a.json") == {}
    with pytest.raises(ValueError, match=r"."):
        read_json_strictly(tmp_path / "a.json")


def test_checked_json_that_was_changed_is_damaged_and_unchecked_is_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for is_checked in (True, False):
        write_json(path, {"photos": 7, "é": [1.5, None]}, is_checked=is_checked)
        assert read_json_strictly(path) == {"photos": 7, "é": [1.5, None]}
        path.write_text(path.read_text(encoding="utf-8").replace("7", "8"), encoding="utf-8")
        assert read_json(path) == ({} if is_checked else {"photos": 8, "é": [1.5, None]})
    path.write_text(json.dumps({"checksum": "of something else"}))
    assert read_json(path) == {}


@pytest.mark.parametrize(
    ("value", "hint", "answer"),
    [
        (1, int, True),
        (1, float, True),  # JSON writes 1.0 as 1 where other programs do
        (1.5, float, True),
        (1.5, int, False),
        (True, int, False),
        (False, float, False),
        (True, bool, True),
        ("1", int, False),
        (None, None, True),
        (0, None, False),
        (None, int, False),
        (None, int | None, True),
        ("a", int | None, False),
        ([], list[int], True),
        ([1, 2], list[int], True),
        ([1, "a"], list[int], False),
        (["a", 1], list[int], False),
        ("", list[str], False),
        ("ab", list[str], False),
        ({}, list[str], False),
        ({"a": [1]}, dict[str, list[int]], True),
        ({"a": [1], "b": ["c"]}, dict[str, list[int]], False),
        ([], dict[str, int], False),
        (object(), Any, True),
    ],
)
def test_values_fit_their_types(value: Any, hint: Any, answer: bool) -> None:
    assert fits(value, hint) is answer


def test_those_that_do_not_fit_are_named() -> None:
    assert misfits({"a": 1, "b": "x", "of another version": 3}, {"a": int, "b": int, "c": int}) == ["b"]
