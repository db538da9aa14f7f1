"""What the stores ask of HDF5 itself: opening, looking up without h5py's objects, and what the disk must hold.

Why the care before a write: HDF5 keeps the tables of a file in memory and writes them when it likes. If one such write
fails (a full disk, a quota), the file is lost, and the next flush kills the process (a null pointer in HDF5 2.0). So
the space is there before HDF5 is asked to write.

What a power loss leaves: `File.flush` hands everything to the system, which is enough for whatever ends the process.
On the disk it is after `sync`.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import mmap
import os
import re
import shlex
import struct
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .disk import NO_LOCKS, check_free, remedy
from .errors import CacheError, DamageError, InUseError

__all__ = [
    "COMPLETE",
    "READING_ERRORS",
    "Parts",
    "Room",
    "advice",
    "array_length",
    "content_hash",
    "has_attribute",
    "has_own",
    "heap_names",
    "one_line",
    "open_file",
    "quoted",
    "read_array",
    "read_attribute",
    "renamed_aside",
    "set_aside",
    "sync",
    "text_attribute",
    "unlink",
    "unquoted",
    "walk",
    "write_attribute",
    "write_parts",
]

MARGIN_BYTES = 1 << 18  # for the tables of a file, beside the data of an entry
FREE_BYTES = 1 << 24  # that a disk keeps free
TABLE_CACHE_BYTES = 1 << 21  # of tables of a file in memory, as HDF5 counts; it takes about ten times as much
TABLES = 32  # at most this share of a file are tables, any of which may be doubled at once
HEAP, HEAP_HEADER = b"HEAP", struct.Struct("<8xQ8xQ")  # of the names in a group: size and address of the texts
HASH_DIGITS = 32
WAIT_S, SAY_AFTER_S, TRY_EACH_S = 10.0, 1.0, 0.05  # for another process to close a file
MAX_DEPTH = 100  # of folders of photos; deeper ones are a circle
COMPLETE = "complete"  # attribute of a finished entry: the hash of all that is in it
NO_RESERVING = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.ESPIPE)
READING_ERRORS = (  # h5py raises all of these for damage, and of what it returns, numpy
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)
REPORT = r"(?:Unable to|Can't) [^(]*\("  # as HDF5 begins
IN_WORDS = {  # what HDF5 reports -> what people can do something with
    REPORT + r"truncated file: eof = (\d+), .*stored_eof = (\d+)\)": "it is cut off, {} of {} bytes are there",
    REPORT + r"file signature not found\)": "it is no file of HDF5, or its beginning is damaged",
    REPORT + r".*error message = '([^']*)'.*": "{}",
    REPORT + r"(.*)\)": "HDF5 says: {}",
}
logger = logging.getLogger(__name__)
Parts = tuple[Any, ...]  # of an entry: arrays, texts and numbers


# ------------------------------------------------------------------------------------------------- opening


def open_file(path: Path, mode: str) -> h5py.File:
    """Opens a store; for writing ("a"), one that is damaged is set aside, since all it holds can be computed again.

    HDF5 lets one process write, or several read. Readers seldom stay for long: one that has the file is waited for.

    Raises:
        DamageError: it is to be read, and damaged.
        InUseError: another process has it open, one of the two writes, and `WAIT_S` seconds did not change that.
        CacheError: it cannot be opened for another reason.
    """
    try:
        return _with_small_cache(_open_when_free(path, mode))
    except (FileNotFoundError, PermissionError) as exc:
        raise CacheError(f"{path} cannot be opened: {one_line(exc)}. {remedy(exc)}") from exc
    except (OSError, RuntimeError, ValueError) as exc:
        if isinstance(exc, OSError) and exc.errno is not None:  # the system's trouble (no locks), not the file's
            has_no_locks = exc.errno in NO_LOCKS
            hint = "Set HDF5_USE_FILE_LOCKING=FALSE." if has_no_locks else remedy(exc)
            raise CacheError(f"{path} cannot be opened: {one_line(exc)}. {hint}") from exc
        if mode == "r":
            raise DamageError(f"{path} is damaged: {one_line(exc)}. {advice(path)}", path) from exc
        if _is_readable(path):
            raise CacheError(f"{path} is open for reading in this process. Close that store first.") from exc
        if path.stat().st_size:
            set_aside(path, one_line(exc))
        else:  # whoever made it was stopped, or met a reader, before it was a file of HDF5
            path.unlink()
        return _with_small_cache(h5py.File(path, mode))


def _with_small_cache(file: h5py.File) -> h5py.File:
    """A file of which HDF5 keeps few tables in memory: it would let them grow to 500 MB over 30,000 entries.

    They are read again where they are needed again, which costs no measurable time.
    """
    config = file.id.get_mdc_config()
    config.set_initial_size, config.initial_size, config.max_size = True, TABLE_CACHE_BYTES, TABLE_CACHE_BYTES
    file.id.set_mdc_config(config)
    return file


def _open_when_free(path: Path, mode: str) -> h5py.File:
    """Opens a file, once no other process has it in a way that forbids that. Raises as h5py, and `InUseError`."""
    begin, has_said = time.monotonic(), False
    while True:
        try:
            return h5py.File(path, mode)
        except BlockingIOError as exc:
            waited_s = time.monotonic() - begin
            if waited_s >= WAIT_S:
                raise InUseError(
                    f"{path} is in use by another process. Wait for it to end, or use another output."
                ) from exc
        if waited_s >= SAY_AFTER_S and not has_said:
            logger.info("%s is in use by another process: waiting up to %.0f seconds for it.", path, WAIT_S)
            has_said = True
        time.sleep(TRY_EACH_S)


def advice(path: Path) -> str:
    """What to do about a store that is damaged: the same wherever that is noticed."""
    folder = shlex.quote(str(path.parent))
    return f"`lgsfm cache repair {folder}` removes what is damaged and keeps the rest; the next run makes it again."


def set_aside(path: Path, why: str) -> Path:
    """`renamed_aside` for a damaged file; says so."""
    aside = renamed_aside(path)
    logger.warning("%s is damaged (%s): set aside as %s, starting it anew.", path, why, aside.name)
    return aside


def renamed_aside(path: Path) -> Path:
    """Renames a file to ``.damaged``; gives its new name. Raises `CacheError` if that fails."""
    aside = _free_name(path.with_suffix(".damaged"))
    try:
        path.rename(aside)
    except OSError as exc:
        raise CacheError(f"{path} cannot be renamed: {exc.strerror}. Check the permissions of its folder.") from exc
    return aside


def _is_readable(path: Path) -> bool:
    try:
        h5py.File(path, "r").close()
    except (OSError, RuntimeError, ValueError):
        return False
    return True


def _free_name(path: Path) -> Path:
    number = 0
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def one_line(exc: BaseException) -> str:
    """What an error says, without the line breaks, the length and the inner words of HDF5's reports."""
    said = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    text = " ".join(said.strip("'\"").split()) or type(exc).__name__
    for pattern, words in IN_WORDS.items():
        if found := re.fullmatch(pattern, text):
            text = words.format(*found.groups())
            break
    return text if len(text) <= 160 else f"{text[:160]}..."


# ------------------------------------------------------------------------------------------------- the disk


class Room:
    """The room that the disk has for a file that grows, looked at often enough."""

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self.left = 0  # bytes known to be there

    def take(self, num_bytes: int = 0) -> None:
        """Makes sure of so many bytes of data, and of the tables. Raises OSError where there is no room."""
        tables = self.file.id.get_filesize() // TABLES
        check_free(Path(self.file.filename).parent, num_bytes + max(FREE_BYTES, tables))
        least = num_bytes + min(max(MARGIN_BYTES, tables), FREE_BYTES)
        if self.left < least:
            try:
                self.left = self._try(least + FREE_BYTES)
            except OSError:
                self.left = self._try(least)
        self.left -= num_bytes

    def _try(self, num_bytes: int) -> int:
        """Has the system find room, and gives it back at once: a quota does not show in the free space."""
        handle = self.file.id.get_vfd_handle()
        size = os.fstat(handle).st_size
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle, max(size, self.file.id.get_filesize()), num_bytes)
        except OSError as exc:
            if exc.errno not in NO_RESERVING:
                raise
        finally:
            os.ftruncate(handle, size)
        return num_bytes


def sync(file: h5py.File) -> None:
    """Has the system put on the disk what was flushed, where it can; that takes milliseconds."""
    with suppress(OSError, ValueError):
        os.fsync(file.id.get_vfd_handle())


# ------------------------------------------------------------------------------------------------- looking up

# What follows asks HDF5 itself, not through h5py's objects, which cost five times as much: there may be millions of
# entries, and a run over finished ones does nothing else.


def has_own(parent: h5py.Group, path: str) -> bool:
    """Whether there is a group or dataset ``path`` in this very file.

    Raises ValueError where a name on the way is a soft link, or an external one, which would lead into another file:
    stores have none, so it is damaged, or a stranger made it. Nothing may be looked up that this was not asked of.
    """
    place = b""
    for name in path.encode().split(b"/"):
        if name in (b"", b"."):
            continue
        place = place + b"/" + name if place else name
        if not parent.id.links.exists(place):
            return False
        if parent.id.links.get_info(place).type != h5py.h5l.TYPE_HARD:
            raise ValueError("it is a link to elsewhere, as no store has any")
    return True


def has_attribute(parent: h5py.Group, path: str, name: str) -> bool:
    """Whether there is a group or dataset ``path`` with an attribute of this name. Raises ValueError as `has_own`."""
    return has_own(parent, path) and h5py.h5a.exists(parent.id, name.encode(), obj_name=path.encode())


def unlink(parent: h5py.Group, path: str) -> None:
    """Removes what has a path, if anything has; of a link itself, not what it leads to. Raises as `has_own`."""
    folder = path.rpartition("/")[0]
    if (not folder or has_own(parent, folder)) and parent.id.links.exists(path.encode()):
        parent.id.unlink(path.encode())


def read_attribute(parent: h5py.Group, path: str, name: str) -> Any:
    """The value of an attribute that is one text, number or bytes."""
    attribute = h5py.h5a.open(parent.id, name.encode(), obj_name=path.encode())
    if attribute.shape != ():
        raise ValueError(f"{name} is no single value")
    value = np.empty((), attribute.dtype)
    attribute.read(value)
    return value[()]


def text_attribute(parent: h5py.Group, path: str, name: str) -> str:
    """The value of an attribute as text."""
    found = read_attribute(parent, path, name)
    return found.decode() if isinstance(found, bytes) else str(found)


def read_array(group: h5py.Group, name: str) -> np.ndarray:
    """An array of numbers. Raises ValueError if less of it is stored than it says: a damaged shape is not believed."""
    dataset = _dataset(group, name)
    shape, dtype = dataset.shape, dataset.dtype
    if dtype.kind not in "iuf" or None in shape:
        raise ValueError(f"{name} is no array of numbers")
    if math.prod(shape) * dtype.itemsize != dataset.get_storage_size() or (0 not in shape and not dataset.get_offset()):
        raise ValueError(f"{name} is not as large as what is stored of it")
    array = np.empty(shape, dtype)
    if array.size:
        dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return array


def array_length(group: h5py.Group, name: str) -> int:
    """How many rows an array has, without reading it. Raises ValueError or KeyError if it is none of this file."""
    return int(_dataset(group, name).shape[0])


def _dataset(group: h5py.Group, name: str) -> h5py.h5d.DatasetID:
    if not has_own(group, name):
        raise KeyError(f"it has no {name}")
    return h5py.h5d.open(group.id, name.encode())


def write_attribute(group: h5py.Group, name: str, value: Any) -> None:
    """Writes a text, bytes or number into the header of a group.

    Texts have a fixed length. Those of any length lie in a heap of their own, and HDF5 never comes back from one that
    is zeros.
    """
    if isinstance(value, str):
        value = value.encode()
    group.attrs[name] = np.array(value, f"S{len(value) or 1}") if isinstance(value, bytes) else value


def write_parts(group: h5py.Group, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> Parts:
    """Writes arrays and attributes; gives all of them."""
    for name, array in arrays.items():
        group[name] = array
    for name, value in attributes.items():
        write_attribute(group, name, value)
    return (*arrays.values(), *attributes.values())


def content_hash(path: str, parts: Parts) -> bytes:
    """Hash of all that is in an entry and of its place, in hexadecimal digits."""
    summed = hashlib.sha256(path.encode())
    for part in parts:
        if isinstance(part, np.ndarray):
            summed.update(f"\0{part.dtype.str}{part.shape}".encode())
            summed.update(np.ascontiguousarray(part).data.cast("B") if part.size else b"")
        else:
            summed.update(f"\0{part}".encode())
    return summed.hexdigest()[:HASH_DIGITS].encode()


def walk(
    parent: h5py.Group,
    members: frozenset[str],
    *,
    prefix: str = "",
    leaf: int = MAX_DEPTH,
    is_entry: bool = False,
    known: Collection[str] = (),
    seen: set[int] | None = None,
) -> Iterator[tuple[str, bool | Exception]]:
    """The entries below a group, those of each folder in the order of their names: path -> whether it is finished.

    What cannot be looked at comes with the error. A group without the mark is an entry if it holds arrays, or nothing.

    Args:
        parent: the file, or a folder of it.
        members: the names of the arrays of an entry.
        prefix: the path of the parent, with a slash.
        leaf: how many folders deep the entries lie that have no others below them.
        is_entry: the parent is an entry: what is named like its arrays is no folder.
        known: names that are tried in a folder that does not tell its own any more.
        seen: addresses of the groups that the walk has come to; a group in itself, or in many places, has no end.
    """
    depth, seen = prefix.count("/"), {h5py.h5o.get_info(parent.id).addr} if seen is None else seen
    if depth > MAX_DEPTH:
        raise ValueError("folders within folders without end")
    for link in _links(parent, known):
        if is_entry and link in members:  # not below a folder: one of photos may have such a name
            continue
        path = f"{prefix}{link}"
        try:
            is_complete = has_attribute(parent, link, COMPLETE)
            if is_complete and depth == leaf:
                yield path, True
                continue
            item = parent[link]
            if not isinstance(item, h5py.Group):
                raise ValueError("it is no entry of a store")
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                raise ValueError("it is in the store twice")
            seen.add(address)
            is_data = is_complete or _holds_data(item, members)
            if is_data:
                yield path, is_complete
            yield from walk(item, members, prefix=f"{path}/", leaf=leaf, is_entry=is_data, known=known, seen=seen)
        except READING_ERRORS as exc:
            yield path, exc


def _links(group: h5py.Group, known: Collection[str]) -> list[str]:
    """The names in a group, in their order; of one that does not tell, those of the known ones that it finds."""
    try:
        return list(group)
    except READING_ERRORS:
        if not known:
            raise
    found = []
    for name in known:
        with suppress(*READING_ERRORS):
            if name.encode() in group.id:
                found.append(name)
    return found


def heap_names(path: Path) -> list[str]:
    """All names of groups that stand in the heaps of a file, each once: also of a file whose tables are torn."""
    names: dict[str, None] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = data.find(HEAP)
        while place >= 0:
            header = data[place : place + HEAP_HEADER.size].ljust(HEAP_HEADER.size, b"\0")
            size, address = HEAP_HEADER.unpack(header)
            for text in data[address : address + size].split(b"\0") if size < len(data) else ():
                with suppress(UnicodeDecodeError):
                    names[text.decode()] = None
            place = data.find(HEAP, place + 1)
    return [name for name in names if name and "/" not in name and name.isprintable()]


def _holds_data(group: h5py.Group, members: frozenset[str]) -> bool:
    """Whether a group without the mark is an entry that was not finished, and no folder."""
    if not len(group):
        return True
    return any(has_own(group, name) and group.get(name, getclass=True) is h5py.Dataset for name in members)


def quoted(name: str) -> str:
    """An image name as one HDF5 link name; injective, so that a-b/c and a/b-c never meet."""
    return name.replace("%", "%25").replace("/", "%2F")


def unquoted(link: str) -> str:
    """The image name of a link name."""
    return link.replace("%2F", "/").replace("%25", "%")
