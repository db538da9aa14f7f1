"""Where an export goes: as a whole or not at all, and over nothing that is not an export itself."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..destination import check_file, refuse_link
from ..disk import check_free, remedy
from ..errors import CacheError, InputError, in_short
from ..files import read_json, replace_folder
from ..workspace import EXPORTS, Workspace

__all__ = ["RECORD", "check_destination", "is_export", "written_folder", "written_whole"]

RECORD = "lgsfm-export.json"  # in each folder that was exported: what it is, and that it may be replaced
MARKS = {".ply": b"\ncomment lgsfm\n", ".glb": b'"generator":"lgsfm"'}  # at the beginning of a file that was exported
BEGINNING = 256  # bytes


def check_destination(
    workspace: Workspace, image_dir: Path, path: Path, *, suffix: str, own_place: Path, kind: str
) -> None:
    """Raises `InputError` if an export may not be written to a path: something else is or belongs there.

    Args:
        workspace: the run.
        image_dir: of its photos.
        path: where the export goes.
        suffix: of a format of one file; "" is for folders.
        own_place: where it goes by default; a file there is one that was exported.
        kind: name of the format.
    """
    refuse_link(path)
    own, exports, target = workspace.root.resolve(), (workspace.root / EXPORTS).resolve(), path.resolve()
    if target == own or target in own.parents:
        raise InputError(f"{path} holds the run itself. Choose another place with -o.")
    if own in target.parents and exports not in target.parents:
        raise InputError(f"{path} is among the files of the run. Choose a place in {exports}, or outside, with -o.")
    photos = image_dir.resolve()
    if photos.is_dir() and (target == photos or photos in target.parents or target in photos.parents):
        raise InputError(f"{path} is the folder of the photos, or in it, or around it. Choose another place with -o.")
    if not suffix and path.exists():
        if not path.is_dir():
            raise InputError(f"{path} is a file, and this format is a folder. Choose another place with -o.")
        if any(path.iterdir()):
            _check_former(path, read_json(path / RECORD), kind)
    if suffix and (path.is_dir() or path.suffix.lower() != suffix):
        raise InputError(f"{path}: this format is one file, whose name ends in {suffix}. Name one with -o.")
    if suffix:
        check_file(path, f"{suffix} file", is_export, own_place=own_place)


def _check_former(path: Path, record: Mapping[str, Any], kind: str) -> None:
    """Raises `InputError` if a folder that is not empty is no export of a kind, or holds what others put there."""
    if not record:
        raise InputError(f"{path} is not empty, and what is there is no export. Choose a new folder with -o.")
    if record.get("format", kind) != kind:
        raise InputError(f"{path} is an export of the format {record['format']}. Choose another folder with -o.")
    written = record.get("files")
    others = [] if not isinstance(written, list) else sorted({*_files(path), RECORD} - {*written, RECORD})
    if others:
        raise InputError(
            f"{path} holds what no export wrote: {in_short(others)}. Choose another folder with -o, or move that away."
        )


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def is_export(path: Path) -> bool:
    """Whether a file is one that lgsfm exported, as far as its format lets it tell. Raises OSError."""
    with path.open("rb") as file:
        return MARKS.get(path.suffix.lower(), b"\0" * BEGINNING) in file.read(BEGINNING)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write a file or a folder to, which takes its place when the block ends without error.

    Raises:
        CacheError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        yield partial
        check_free(path.parent)
        _put(partial, path)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise CacheError(f"{path} cannot be written: {reason}. {remedy(exc)}") from exc
    finally:
        _remove(partial)


@contextmanager
def written_folder(path: Path, record: Mapping[str, Any]) -> Iterator[Path]:
    """`written_whole` for a folder, which is there for the block, with a record of what it is."""
    with written_whole(path) as partial:
        partial.mkdir()
        yield partial
        record = {**record, "files": _files(partial)}
        (partial / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _put(partial: Path, path: Path) -> None:
    if not path.is_dir():
        os.replace(partial, path)
        return
    before = path.with_name(f".{path.name}.{os.getpid()}.before")  # a folder that is not empty cannot be replaced
    replace_folder(partial, path, before)
    _remove(before)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
