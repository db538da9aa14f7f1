"""Snapshots of a model that grows, so that a killed run over thousands of images can go on.

COLMAP writes them in the thread that then calls back, so a snapshot that is there when it calls is whole, and is
marked as such, with the hash of its files; one without the mark was cut off, one of another hash was damaged. Those of
another database or other options are not used.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

from ..files import read_json, write_json, write_text
from ..model_files import check_lengths

__all__ = ["SNAPSHOT_IMAGES", "Snapshots", "newest_snapshot", "suspect"]

SNAPSHOT_IMAGES = 100  # after so many more images; smaller models are made again, and exactly as they were
MARK = "whole"
SUSPECTED = "suspected"


class Snapshots:
    """The snapshots in a folder, which is made; what is there of another identity is deleted.

    Args:
        folder: of nothing else.
        identity: hash of all that decides the model.

    Raises:
        OSError: the folder cannot be made.
        CacheError: it cannot be written.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder
        record = folder / "identity.json"
        if read_json(record).get("identity") != identity:
            self.remove()
        if not folder.is_dir():
            folder.mkdir(parents=True)
            write_json(record, {"identity": identity})

    def newest(self) -> Path | None:
        """The newest that is whole."""
        return newest_snapshot(self.folder)

    def settle(self) -> None:
        """Marks what is there as whole, and deletes all but the newest. To be called when nobody writes one."""
        found = _snapshots(self.folder)
        if not found or (found[-1] / MARK).exists():
            return
        try:
            check_lengths(found[-1])
        except ValueError:  # COLMAP says nothing of what a full disk did not take
            return
        write_text(found[-1] / MARK, _hash(found[-1]))
        for path in found[:-1]:
            shutil.rmtree(path, ignore_errors=True)

    def remove(self) -> None:
        """Deletes all."""
        shutil.rmtree(self.folder, ignore_errors=True)


def newest_snapshot(folder: Path) -> Path | None:
    """The newest snapshot in a folder that is whole."""
    return next((path for path in reversed(_snapshots(folder)) if _is_whole(path)), None)


def suspect(snapshot: Path) -> None:
    """A mapper that began with this snapshot has crashed: once that may have been for want of memory, twice it is not
    used any more."""
    if (snapshot / SUSPECTED).exists():
        shutil.rmtree(snapshot, ignore_errors=True)
    else:
        with suppress(OSError):
            (snapshot / SUSPECTED).touch()


def _is_whole(snapshot: Path) -> bool:
    try:
        return (snapshot / MARK).read_text(encoding="utf-8") == _hash(snapshot)
    except (OSError, UnicodeDecodeError):
        return False


def _hash(snapshot: Path) -> str:
    """Of COLMAP's files."""
    found = hashlib.sha256()
    for path in sorted(snapshot.glob("*.bin")):
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _snapshots(folder: Path) -> list[Path]:
    """The oldest first: COLMAP names them by the time in milliseconds."""
    return sorted((path for path in folder.glob("*") if path.name.isdecimal()), key=lambda path: int(path.name))
