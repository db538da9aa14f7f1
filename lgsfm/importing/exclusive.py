"""A database of somebody else is changed as a copy, which takes its place when it is whole."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ..disk import check_free, remedy
from ..errors import CacheError, InputError, InUseError
from ..files import sync_file, sync_folder

__all__ = ["exclusive_copy"]

COPIES = 3  # of the database that there may be at once, beside it


@contextmanager
def exclusive_copy(path: Path) -> Iterator[Path]:
    """A copy of an SQLite database to be changed, which takes its place if the block ends without error.

    No other process can open the database meanwhile, as long as it goes through SQLite; not a byte of it is changed
    before the copy takes its place. Files beside the copy whose names begin like its name are cleared up with it.

    Raises:
        InputError: it is no SQLite database, or damaged.
        InUseError: another process has it open.
        CacheError: the copy cannot be written.
    """
    if not path.is_file():
        raise InputError(
            f"There is no database {path}. Make it with COLMAP (`colmap database_creator`), or name another."
        )
    path = path.resolve()  # a link stays one
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with closing(_locked(path)) as original:
        try:
            _clear(path)  # of processes that were killed; nobody else is at work here
            try:
                check_free(path.parent, COPIES * path.stat().st_size)
                _copy(original, partial)
                yield partial
                _settle(partial)
                shutil.copymode(path, partial)
                sync_file(partial)
                original.close()  # which clears up beside the file; its name is free for the copy from here on
                os.replace(partial, path)
                for suffix in ("-wal", "-shm"):
                    Path(f"{path}{suffix}").unlink(missing_ok=True)
                sync_folder(path.parent)
            except OSError as exc:
                raise CacheError(f"{path} cannot be written: {exc.strerror or exc}. {remedy(exc)}") from exc
            except sqlite3.Error as exc:
                raise CacheError(f"A copy of {path} cannot be written: {exc}. Check the disk space.") from exc
        finally:
            _clear(path)


def _locked(path: Path) -> sqlite3.Connection:
    """A connection that has the database for itself until it is closed.

    COLMAP keeps its databases in SQLite's WAL mode, where whoever has one open holds a lock, busy or idle. In another
    mode, that other programs may have chosen, only those who read or write at the moment do.
    """
    database = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")
    except sqlite3.DatabaseError as exc:
        database.close()
        if "locked" in str(exc) or "busy" in str(exc):
            raise InUseError(
                f"The database {path} is open in another process, COLMAP's window perhaps. Close it there first."
            ) from exc
        if "readonly" in str(exc) or "unable to open" in str(exc):
            raise CacheError(
                f"{path} cannot be written: {exc}. Check its permissions and those of its folder."
            ) from exc
        raise InputError(f"{path} is no SQLite database, or damaged: {exc}.") from exc
    return database


def _copy(original: sqlite3.Connection, partial: Path) -> None:
    with closing(sqlite3.connect(partial)) as copy:
        original.backup(copy)
        problem = copy.execute("PRAGMA quick_check(1)").fetchone()
    if problem != ("ok",):
        raise InputError(f"The database is damaged: {problem[0]}. Recover it first (sqlite3 DATABASE .recover).")


def _settle(partial: Path) -> None:
    """Everything that was written is in the one file."""
    with closing(sqlite3.connect(partial)) as copy:
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _clear(path: Path) -> None:
    for left in path.parent.glob(f".{_escaped(path.name)}.*.partial*"):
        with suppress(OSError):
            left.unlink()


def _escaped(name: str) -> str:
    """A name as a pattern that fits it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
