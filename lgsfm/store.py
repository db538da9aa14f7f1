"""The stores: HDF5 files that behave as dictionaries.

`FeatureStore` maps an image name to `Features`, `MatchStore` a pair of names to `Matches`; a plain ``dict`` does as
well wherever a store is asked for. An entry is written as data, flush, ``complete`` mark, flush: one without the mark
(the writer was killed) is absent, and is written again by the next run. There is one writer per file.

The feature file has hloc's layout, so that tools made for hloc read it as it is: one group per image name with
``keypoints`` (N, 2), ``descriptors`` (D, N), ``scores`` (N,), ``image_size`` (2,).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import h5py
import numpy as np

from .errors import CacheError, InputError
from .types import Features, Matches, Pair

__all__ = [
    "FORMAT",
    "FeatureStore",
    "MatchStore",
    "digest_of",
    "is_intact",
    "match_digest_of",
    "num_keypoints",
    "orientation_of",
    "source_of",
    "sources_of",
    "write_all",
]

FORMAT = 1  # of the entries below; part of every cache identity
COMPLETE = "complete"
MEMBERS = frozenset(("keypoints", "descriptors", "scores", "image_size"))  # of an entry of features
logger = logging.getLogger(__name__)

Key = TypeVar("Key")
Value = TypeVar("Value")


def source_of(store: Mapping[str, Features], name: str) -> str | None:
    """The `Features.source` of an entry, without reading its data; None if there is none."""
    if isinstance(store, FeatureStore):
        return store.attribute(name, "source")
    return store[name].source if name in store else None


def digest_of(store: Mapping[str, Features], name: str) -> str | None:
    """The `Features.digest` of an entry, without reading its data; None if there is none."""
    if isinstance(store, FeatureStore):
        return store.attribute(name, "digest")
    return store[name].digest if name in store else None


def num_keypoints(store: Mapping[str, Features], name: str) -> int | None:
    """How many keypoints an entry has, without reading its data; None if there is none."""
    if isinstance(store, FeatureStore):
        return store.count(name)
    return len(store[name]) if name in store else None


def orientation_of(store: Mapping[str, Features], name: str) -> int | None:
    """The `Features.orientation` of an entry, without reading its data; None if there is none."""
    if isinstance(store, FeatureStore):
        code = store.attribute(name, "orientation")
        return None if code is None else int(code)
    return store[name].orientation if name in store else None


def is_intact(store: Mapping[str, Features], name: str) -> bool:
    """Whether an entry can be read and is what was written."""
    try:
        return store[name].digest == digest_of(store, name)
    except (KeyError, CacheError):
        return False


def sources_of(store: Mapping[Pair, Matches], pair: Pair) -> tuple[str, str] | None:
    """The `Matches.sources` of an entry, without reading its data; None if there is none."""
    if not isinstance(store, MatchStore):
        return store[pair].sources if pair in store else None
    source0, source1 = (store.attribute(pair, name) for name in ("source0", "source1"))
    return None if source0 is None or source1 is None else (source0, source1)


def match_digest_of(store: Mapping[Pair, Matches], pair: Pair) -> str | None:
    """The `Matches.digest` of an entry, as far as it is known without reading its data; None if there is none."""
    if isinstance(store, MatchStore) and (known := store.attribute(pair, "digest")):  # older versions kept none
        return known
    return store[pair].digest if pair in store else None


def write_all(store: MutableMapping[Key, Value], entries: Mapping[Key, Value]) -> None:
    """Puts entries that were made together into any store; into one of ours at once, which is faster."""
    if isinstance(store, _Store):
        store.write_all(entries)
    else:
        store.update(entries)


class _Store(MutableMapping[Key, Value], Generic[Key, Value]):
    """What both stores have in common.

    Args:
        path: the file; made if it does not exist and ``identity`` is given.
        identity: what made the entries (component, options, weights), kept as JSON for people. None opens the file
            for reading only.

    Raises:
        CacheError: the file is in use by another process, of the other kind of store or of a newer version.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.file = _open(self.path, "r" if identity is None else "a")
        try:
            with self._mapped_errors():
                self._check_header()
                if identity is not None and "identity" not in self.file.attrs:
                    self.file.attrs["lgsfm_format"] = FORMAT
                    self.file.attrs["lgsfm_store"] = type(self).__name__
                    self.file.attrs["identity"] = json.dumps(identity, ensure_ascii=False)
                    self.file.flush()
        except CacheError:
            self.file.close()
            raise

    def _check_header(self) -> None:
        version = int(self.file.attrs.get("lgsfm_format", FORMAT))
        if version > FORMAT:
            raise CacheError(f"{self.path} was written by a newer lgsfm (format {version}, this one reads {FORMAT}).")
        own, kind = type(self).__name__, str(self.file.attrs.get("lgsfm_store", type(self).__name__))
        if kind != own:
            raise CacheError(f"{self.path} is a {kind}, not a {own}. Name the other file.")

    @property
    def identity(self) -> dict[str, Any]:
        """What made the entries: component, options, weights."""
        return json.loads(self.file.attrs.get("identity", "{}"))

    def close(self) -> None:
        """Closes the file; the store cannot be used any more."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Key]:
        with self._mapped_errors():
            keys = self._keys()
        return iter(keys)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        with self._mapped_errors(key):  # type: ignore[arg-type]
            return _has_attribute(self.file, self._path(key), COMPLETE)  # type: ignore[arg-type]

    def __getitem__(self, key: Key) -> Value:
        group = self._group(key)
        if group is None:
            raise KeyError(key)
        with self._mapped_errors(key):
            return self._read(group)

    def __setitem__(self, key: Key, value: Value) -> None:
        self.write_all({key: value})

    def write_all(self, entries: Mapping[Key, Value]) -> None:
        """Writes several entries: none is there before all are, and the two flushes are paid once for them."""
        groups = []
        for key, value in entries.items():
            with self._mapped_errors(key):
                path = self._path(key)
                if path in self.file:
                    del self.file[path]
                groups.append(self.file.create_group(path))
                self._write(groups[-1], value)
        with self._mapped_errors(next(iter(entries), None)):
            self.file.flush()
            for group in groups:
                group.attrs[COMPLETE] = True
            self.file.flush()

    def __delitem__(self, key: Key) -> None:
        if key not in self:
            raise KeyError(key)
        with self._mapped_errors(key):
            del self.file[self._path(key)]
            self.file.flush()

    def _group(self, key: Key) -> h5py.Group | None:
        """The group of a complete entry, else None."""
        with self._mapped_errors(key):
            group = self.file.get(self._path(key))
            return group if isinstance(group, h5py.Group) and COMPLETE in group.attrs else None

    @contextmanager
    def _mapped_errors(self, key: Key | None = None) -> Iterator[None]:
        try:
            yield
        except CacheError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError, InputError) as exc:
            # h5py raises all of these for damage, and arrays of other shapes are refused as features or matches
            entry = f"{self.path}: entry {key!r}" if key else self.path
            raise CacheError(
                f"{entry} cannot be read or written: {one_line(exc)}. Free some disk space, "
                "or delete the file if it is damaged; the next run makes it again."
            ) from exc

    def _path(self, key: Key) -> str:
        raise NotImplementedError

    def _keys(self) -> list[Key]:
        """The keys of the complete entries."""
        raise NotImplementedError

    def attribute(self, key: Key, name: str) -> str | None:
        """A text that is kept with an entry, without reading its data; None if the entry is absent or lacks it."""
        with self._mapped_errors(key):
            link = self._path(key).encode()
            if link not in self.file.id:
                return None
            entry = h5py.h5o.open(self.file.id, link)  # once: to find it takes longer than to read from it
            is_there = all(h5py.h5a.exists(entry, each.encode()) for each in (COMPLETE, name))
            return _text_attribute(entry, name) if is_there else None

    def _read(self, group: h5py.Group) -> Value:
        raise NotImplementedError

    def _write(self, group: h5py.Group, value: Value) -> None:
        raise NotImplementedError


class FeatureStore(_Store[str, Features]):
    """Image name -> `Features`; descriptors are float16 in the file, everything else as in memory."""

    def count(self, key: str) -> int | None:
        """How many keypoints an entry has, without reading them; None if it is absent."""
        group = self._group(key)
        with self._mapped_errors(key):
            return None if group is None else len(group["scores"])

    def _keys(self) -> list[str]:
        return list(_complete_below(self.file))

    def _path(self, key: str) -> str:
        return key

    def _read(self, group: h5py.Group) -> Features:
        width, height = group["image_size"][()]
        return Features(
            keypoints=group["keypoints"][()],
            descriptors=np.ascontiguousarray(group["descriptors"][()].T, dtype=np.float32),
            scores=group["scores"][()],
            image_size=(int(width), int(height)),
            extractor=str(group.attrs["extractor"]),
            orientation=int(group.attrs["orientation"]),
            source=str(group.attrs["source"]),
        )

    def _write(self, group: h5py.Group, value: Features) -> None:
        group["keypoints"] = value.keypoints
        group["descriptors"] = value.descriptors.T.astype(np.float16)
        group["scores"] = value.scores
        group["image_size"] = np.array(value.image_size, np.int32)
        group.attrs["extractor"] = value.extractor
        group.attrs["orientation"] = value.orientation
        group.attrs["source"] = value.source
        group.attrs["digest"] = value.digest


class MatchStore(_Store[Pair, Matches]):
    """(name0, name1) -> `Matches`; the order of the names is part of the key."""

    def _keys(self) -> list[Pair]:
        return [
            (_unquoted(first), _unquoted(second))
            for first, group in self.file.items()
            for second in group
            if _has_attribute(group, second, COMPLETE)
        ]

    def _path(self, key: Pair) -> str:
        return f"{_quoted(key[0])}/{_quoted(key[1])}"

    def _read(self, group: h5py.Group) -> Matches:
        sources = (str(group.attrs["source0"]), str(group.attrs["source1"]))
        return Matches(group["indices"][()], group["scores"][()], sources)

    def _write(self, group: h5py.Group, value: Matches) -> None:
        group["indices"] = value.indices
        group["scores"] = value.scores.astype(np.float32)
        group.attrs["source0"], group.attrs["source1"] = value.sources
        group.attrs["digest"] = value.digest


# What follows asks HDF5 itself, not through h5py's objects, which cost five times as much: there may be millions of
# entries, and a run over finished ones does nothing else.


def _has_attribute(parent: h5py.Group, path: str, name: str) -> bool:
    """Whether there is a group or dataset ``path`` with an attribute of this name."""
    link = path.encode()
    return link in parent.id and h5py.h5a.exists(parent.id, name.encode(), obj_name=link)


def _text_attribute(entry: Any, name: str) -> str:
    """The value of an attribute of an open object as text."""
    attribute = h5py.h5a.open(entry, name.encode())
    value = np.empty((), attribute.dtype)
    attribute.read(value)
    found = value[()]
    return found.decode() if isinstance(found, bytes) else str(found)


def _complete_below(parent: h5py.Group, prefix: str = "", *, is_entry: bool = False) -> Iterator[str]:
    """The paths of the complete entries below a group, those of each folder in the order of their names."""
    for link in parent:
        if is_entry and link in MEMBERS:  # not below a folder: one of photos may have such a name
            continue
        is_complete = _has_attribute(parent, link, COMPLETE)
        if is_complete:
            yield f"{prefix}{link}"
        item = parent[link]
        if isinstance(item, h5py.Group):
            yield from _complete_below(item, f"{prefix}{link}/", is_entry=is_complete)


def one_line(exc: Exception) -> str:
    """What an error says, without the line breaks and the length of HDF5's reports."""
    text = " ".join(str(exc).strip("'\"").split())
    return text if len(text) <= 160 else f"{text[:160]}..."


def _quoted(name: str) -> str:
    """An image name as one HDF5 link name; injective, so that a-b/c and a/b-c never meet."""
    return name.replace("%", "%25").replace("/", "%2F")


def _unquoted(link: str) -> str:
    return link.replace("%2F", "/").replace("%25", "%")


def _open(path: Path, mode: str) -> h5py.File:
    """Opens a store; one that a crash has damaged is set aside, since all it holds can be computed again."""
    try:
        return h5py.File(path, mode)
    except BlockingIOError as exc:
        raise CacheError(f"{path} is in use by another process. Wait for it to end, or use another output.") from exc
    except (FileNotFoundError, PermissionError) as exc:
        raise CacheError(f"{path} cannot be opened: {exc.strerror}. Check the folder and its permissions.") from exc
    except OSError as exc:
        if exc.errno is not None:  # the system's trouble (no locks, too many files), not the file's
            raise CacheError(f"{path} cannot be opened: {one_line(exc)}.") from exc
        if mode == "r":
            raise CacheError(
                f"{path} cannot be opened: {one_line(exc)}. Delete it; the next run makes it again."
            ) from exc
        if _is_readable(path):
            raise CacheError(f"{path} is open for reading in this process. Close that store first.") from exc
        aside = _free_name(path.with_suffix(".damaged"))
        path.rename(aside)
        logger.warning("%s is damaged (%s): set aside as %s, starting it anew.", path, one_line(exc), aside.name)
        return h5py.File(path, mode)


def _is_readable(path: Path) -> bool:
    try:
        h5py.File(path, "r").close()
    except OSError:
        return False
    return True


def _free_name(path: Path) -> Path:
    number = 0
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
