"""Small files and folders that are either the old or the new ones, never half."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from .disk import remedy
from .errors import CacheError, InputError
from .options import digest

__all__ = [
    "clear_partial_files",
    "exchange",
    "fits",
    "make_folder_of",
    "misfits",
    "read_json",
    "read_json_strictly",
    "replace_folder",
    "sync_file",
    "sync_folder",
    "write_bytes",
    "write_json",
    "write_text",
]

CHECKSUM = "checksum"  # in files that nobody but lgsfm writes
MOST_LEVELS = 32  # of lists and objects in each other; ours have six
SWAP = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
AT_FDCWD = -100
NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def write_text(path: Path, text: str) -> None:
    """Writes a file as a whole, whoever else does so at the same time; a link in its place is replaced, not followed.

    Raises `CacheError` if that fails.
    """
    _write_whole(path, path.name, text.encode())
    sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a picture as a whole; until then it is hidden, and no photo of the folder. Raises `CacheError`."""
    _write_whole(path, f".{path.name}", data)


def _write_whole(path: Path, name: str, data: bytes) -> None:
    """Writes a file under a name of this process alone, which begins as given, and then gives it its own."""
    temporary = path.with_name(f"{name}.{os.getpid()}.partial")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:  # "x": never through a link that lies there
            file.write(data)
        sync_file(temporary)  # or a power loss may leave an empty file under the name
        os.replace(temporary, path)
    except OSError as exc:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise CacheError(f"{path} cannot be written: {exc.strerror}. {remedy(exc)}") from exc


def make_folder_of(path: Path) -> None:
    """Makes the folder that a file will be written to: before the work, not after it. Raises `InputError`."""
    if path.is_dir():
        raise InputError(f"{path} is a folder. Name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"The folder {path.parent} cannot be made: {exc.strerror}. Choose another.") from exc


def sync_file(path: Path) -> None:
    """Has the system put a file on the disk. Raises OSError if the disk fails."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Has the system put the names in a folder on the disk, where it can."""
    with suppress(OSError):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def clear_partial_files(folder: Path) -> None:
    """Removes texts that killed processes left half written (see `write_text`); nobody else may be writing there."""
    for path in folder.glob("*.partial"):
        if {".html", ".json", ".txt"} & set(path.suffixes) and path.is_file():
            with suppress(OSError):
                path.unlink()


def exchange(first: Path, second: Path) -> bool:
    """Two files or folders get each other's names, in one step; False where the system knows no such step.

    Raises:
        OSError: one is not there, or may not be renamed.
    """
    system: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    names = os.fsencode(first), os.fsencode(second)
    if hasattr(system, "renameat2"):  # Linux
        result = system.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], ctypes.c_uint(SWAP))
    elif hasattr(system, "renamex_np"):  # macOS
        result = system.renamex_np(*names, ctypes.c_uint(SWAP))
    else:
        return False
    number = ctypes.get_errno() if result else 0
    if number and number not in NO_EXCHANGE:
        raise OSError(number, os.strerror(number), str(first), None, str(second))
    return not number


def replace_folder(new: Path, old: Path, aside: Path) -> None:
    """Gives a folder the name of another one, which is ``aside`` afterwards.

    One of the two is there, and whole, at any moment; where the file system cannot exchange folders, there is a moment
    without either, with the old one ``aside``. Who is killed on the way leaves there the new one or the old one.

    Args:
        new: the folder.
        old: where it goes; there may be nothing.
        aside: a name beside ``old`` that nothing has.

    Raises:
        OSError: a folder cannot be renamed; both have their names again.
    """
    if not old.exists():
        new.rename(old)
        return
    new.rename(aside)
    try:
        is_exchanged = exchange(aside, old)
    except OSError:
        aside.rename(new)
        raise
    if is_exchanged:
        return
    aside.rename(new)
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise


def write_json(path: Path, content: Any, *, is_checked: bool = False) -> None:
    """Writes JSON as a whole; with a hash of it, if it is checked. Raises `CacheError` if that fails."""
    if is_checked:
        content = {**content, CHECKSUM: digest(content)}
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} if it does not exist or is damaged, since all of ours can be made again."""
    try:
        return read_json_strictly(path)
    except (OSError, ValueError):
        return {}


def read_json_strictly(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises OSError if it cannot be read, ValueError if it is damaged."""
    text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
    except RecursionError as exc:
        raise ValueError("lists are nested in it without end") from exc
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    if not _is_flat(content, MOST_LEVELS):
        raise ValueError("lists are nested in it without end")
    if "\\u" in text:
        json.dumps(content, ensure_ascii=False).encode()  # half of a character, as \\ud800, can be written nowhere
    known = content.pop(CHECKSUM, None)
    if known is not None and known != digest(content):
        raise ValueError("its content is not what was written")
    return content


def _is_flat(value: Any, levels: int) -> bool:
    """Whether lists and dictionaries lie in each other in at most so many levels."""
    if not isinstance(value, (dict, list)):
        return True
    return levels > 0 and all(
        _is_flat(each, levels - 1) for each in (value.values() if isinstance(value, dict) else value)
    )


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of a type: of JSON's own, of their lists, tuples, dictionaries and unions.

    Numbers are finite. A `TypedDict` or a dataclass stands for a dictionary that has its keys, and perhaps others.

    >>> fits({"a": [1, 2]}, dict[str, list[int]]), fits(["a"], list[int]), fits(["a", "b"], tuple[str, str])
    (True, False, True)
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is list:
        return isinstance(value, list) and all(fits(each, arguments[0]) for each in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(arguments) and all(map(fits, value, arguments))
    if origin is dict:
        return isinstance(value, dict) and all(fits(each, arguments[1]) for each in value.values())
    if is_typeddict(hint) or dataclasses.is_dataclass(hint):
        return isinstance(value, dict) and _needed(hint) <= set(value) and not misfits(value, get_type_hints(hint))
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, type(None) if hint is None else hint)


def _needed(kind: Any) -> frozenset[str]:
    """The keys that a `TypedDict` or dataclass must have."""
    if is_typeddict(kind):
        return frozenset(kind.__required_keys__)
    missing = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    return frozenset(each.name for each in fields if each.default is missing and each.default_factory is missing)


def misfits(values: Mapping[str, Any], hints: Mapping[str, Any]) -> list[str]:
    """The names of those values that are of other types than the hints of the same names say."""
    return [name for name, value in values.items() if name in hints and not fits(value, hints[name])]
