"""Small files and folders that are either the old or the new ones, never half."""

from __future__ import annotations

import ctypes
import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import CacheError, InputError

__all__ = ["clear_partial_files", "exchange", "make_folder_of", "read_json", "write_json", "write_text"]
SWAP = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
AT_FDCWD = -100
NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def write_text(path: Path, text: str) -> None:
    """Writes a file as a whole, whoever else does so at the same time; a link in its place is replaced, not followed.

    Raises `CacheError` if that fails.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "x", encoding="utf-8") as file:  # "x": never through a link that lies there
            file.write(text)
        os.replace(temporary, path)
    except OSError as exc:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise CacheError(f"{path} cannot be written: {exc.strerror}. Check the folder and the disk space.") from exc


def make_folder_of(path: Path) -> None:
    """Makes the folder that a file will be written to: before the work, not after it. Raises `InputError`."""
    if path.is_dir():
        raise InputError(f"{path} is a folder. Name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"The folder {path.parent} cannot be made: {exc.strerror}. Choose another.") from exc


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


def write_json(path: Path, content: Any) -> None:
    """Writes JSON as a whole. Raises `CacheError` if that fails."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} if it does not exist or is damaged, since all of ours can be made again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
