"""The stores: HDF5 files that behave as dictionaries.

`FeatureStore` maps an image name to `Features`, `MatchStore` a pair of names to `Matches`; a plain ``dict`` does as
well wherever a store is asked for. An entry is written as data, flush, ``complete`` mark, flush: one without the mark
(the writer was killed) is absent, and is written again by the next run. There is one writer per file.

The mark is the hash of all that is in the entry and of its name, and is compared whenever the entry is read. One that
is damaged raises `DamageError`; for who has the store open for writing it is absent until then, so that it is made
again. Entries of older versions, whose mark is no hash, are taken as they are.

The feature file has hloc's layout, so that tools made for hloc read it as it is: one group per image name with
``keypoints`` (N, 2), ``descriptors`` (D, N), ``scores`` (N,), ``image_size`` (2,).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import h5py
import numpy as np

from .errors import CacheError, DamageError, InputError, NewerVersionError
from .hdf5 import (
    COMPLETE,
    READING_ERRORS,
    Parts,
    Room,
    advice,
    array_length,
    content_hash,
    has_attribute,
    one_line,
    open_file,
    quoted,
    read_array,
    read_attribute,
    set_aside,
    sync,
    text_attribute,
    unlink,
    unquoted,
    walk,
    write_attribute,
    write_parts,
)
from .types import Features, Matches, Pair

__all__ = [
    "FORMAT",
    "FeatureStore",
    "MatchStore",
    "damaged_in",
    "digest_of",
    "is_intact",
    "num_keypoints",
    "orientation_of",
    "source_of",
    "sources_of",
    "write_all",
]

FORMAT = 1  # of the entries below; part of every cache identity
SYNC_S = 10.0  # at least every so many seconds of writing, what was written is put on the disk

Key = TypeVar("Key")
Value = TypeVar("Value")
Answer = TypeVar("Answer")


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
        found = store[name]
        if isinstance(store, FeatureStore) and store.is_checkable(name):
            return True  # reading has compared it
        return found.digest == digest_of(store, name)
    except (KeyError, DamageError):
        return False


def sources_of(store: Mapping[Pair, Matches], pair: Pair) -> tuple[str, str] | None:
    """The `Matches.sources` of an entry, without reading its data; None if there is none."""
    if not isinstance(store, MatchStore):
        return store[pair].sources if pair in store else None
    source0, source1 = (store.attribute(pair, name) for name in ("source0", "source1"))
    return None if source0 is None or source1 is None else (source0, source1)


def damaged_in(store: Mapping[Key, Value]) -> list[Key]:
    """The entries that are known to be damaged, and count as absent until they are written again."""
    return [store._key(path) for path in store.damaged] if isinstance(store, _Store) else []


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
        CacheError: another process writes to the file (`InUseError`), a newer version wrote it (`NewerVersionError`),
            or it is of the other kind.
        DamageError: it is damaged, and to be read.
    """

    members: frozenset[str]  # names of the arrays of an entry
    leaf: int  # how many folders deep entries lie that have none below them

    def __init__(self, path: Path, identity: Mapping[str, Any] | None = None) -> None:
        self.path, self.is_writing = Path(path), identity is not None
        self.damaged: dict[str, str] = {}  # path of an entry in the file -> why it counts as absent
        self.file = self._open(identity)
        self._room = Room(self.file)
        self._synced_s = time.monotonic()

    def _open(self, identity: Mapping[str, Any] | None) -> h5py.File:
        file = open_file(self.path, "r" if identity is None else "a")
        try:
            with self._reading():
                self._check_header(file)
        except DamageError as exc:
            file.close()
            if identity is None:
                raise
            set_aside(self.path, one_line(exc.__cause__ or exc))
            return self._open(identity)
        except CacheError:
            file.close()
            raise
        if identity is not None and "identity" not in file.attrs:
            with self._writing():
                Room(file).take()
                write_attribute(file, "lgsfm_format", FORMAT)
                write_attribute(file, "lgsfm_store", type(self).__name__)
                write_attribute(file, "identity", json.dumps(identity, ensure_ascii=False))
                file.flush()
        return file

    def _check_header(self, file: h5py.File) -> None:
        if "lgsfm_store" not in file.attrs:
            if len(file) or len(file.attrs) > ("lgsfm_format" in file.attrs):
                raise ValueError("it is no store of lgsfm, or its beginning is damaged")
            return  # whoever made it was killed
        version = int(file.attrs["lgsfm_format"])
        if version > FORMAT:
            versions = f"format {version}, this one reads {FORMAT}"
            raise NewerVersionError(f"{self.path} was written by a newer lgsfm ({versions}). Update this one.")
        own, kind = type(self).__name__, text_attribute(file, ".", "lgsfm_store")
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of store")
        if kind != own:
            raise CacheError(f"{self.path} is a {kind}, not a {own}. Name the other file.")

    @property
    def identity(self) -> dict[str, Any]:
        """What made the entries: component, options, weights."""
        with self._reading():
            return dict(json.loads(text_attribute(self.file, ".", "identity"))) if "identity" in self.file.attrs else {}

    def close(self) -> None:
        """Closes the file, whose entries are on the disk then; the store cannot be used any more."""
        if self.file and self.is_writing:
            sync(self.file)
        with self._writing():
            self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Key]:
        return iter([self._key(path) for path, state in self.survey() if state is True])

    def survey(self) -> Iterator[tuple[str, bool | Exception]]:
        """All entries by their paths in the file: whether each is finished, or why that cannot be told.

        Raises:
            DamageError: the file cannot be looked through; or an entry cannot be looked at, and the store is open for
                reading.
        """
        with self._reading():
            found = list(walk(self.file, self.members, leaf=self.leaf))
        for path, state in found:
            if isinstance(state, Exception):
                self._note(path, state)
        return iter(found)

    def _note(self, path: str, exc: Exception) -> None:
        """What becomes of an entry that is damaged: absent for who can make it again, else an error."""
        if not self.is_writing:
            raise self._damage(path, exc) from exc
        self.damaged[path] = one_line(exc)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return self._look(key, lambda path: has_attribute(self.file, path, COMPLETE)) or False  # type: ignore[arg-type]

    def _look(self, key: Key, ask: Callable[[str], Answer]) -> Answer | None:
        """What ``ask`` says of the path of an entry; None if it is damaged and the store open for writing."""
        path = self._path(key)
        try:
            return ask(path)
        except READING_ERRORS as exc:
            self._note(path, exc)
            return None

    def __getitem__(self, key: Key) -> Value:
        path = self._path(key)
        try:
            with self._reading(path):
                is_there = has_attribute(self.file, path, COMPLETE)
            if not is_there:
                raise KeyError(key)
            with self._reading(path):
                group = self.file[path]
                value, parts = self._read(group)
                mark = read_attribute(group, ".", COMPLETE)
                if isinstance(mark, bytes) and mark != content_hash(path, parts):
                    raise ValueError("its content is not what was written")
        except DamageError as exc:
            self.damaged[path] = one_line(exc.__cause__ or exc)
            raise
        return value

    def is_checkable(self, key: Key) -> bool:
        """Whether an entry carries a hash of its content, which reading compares; those of older versions do not."""
        path = self._path(key)
        with self._reading(path):
            return isinstance(read_attribute(self.file, path, COMPLETE), bytes)

    def __setitem__(self, key: Key, value: Value) -> None:
        self.write_all({key: value})

    def write_all(self, entries: Mapping[Key, Value]) -> None:
        """Writes several entries: none is there before all are, and the two flushes are paid once for them.

        Raises:
            CacheError: the disk is full, say. What was there before stays.
            DamageError: the place of an entry in the file is damaged.
        """
        marks = []
        for key, value in entries.items():
            path = self._path(key)
            self._remove(path)
            with self._writing(path):
                self._room.take(value.nbytes)  # type: ignore[attr-defined]
                group = self.file.create_group(path)
                marks.append((group, content_hash(path, self._write(group, value))))
        self._finish(marks)
        self.damaged = {path: why for path, why in self.damaged.items() if path not in map(self._path, entries)}

    def stored_bytes(self, path: str) -> int:
        """The size in the file of the arrays of an entry."""
        return sum(self.file[path][name].nbytes for name in self.members)

    def copy_from(self, other: Self, paths: Sequence[str]) -> None:
        """Copies finished entries of another store as they are, by their paths in the file."""
        groups = []
        for path in paths:
            with self._writing(path):
                source = other.file[path]
                self._room.take(other.stored_bytes(path))
                target = self.file.create_group(path)
                for name in self.members:
                    source.copy(name, target)
                for name in {*source.attrs} - {COMPLETE}:
                    write_attribute(target, name, read_attribute(source, ".", name))
                groups.append((target, read_attribute(source, ".", COMPLETE)))
        self._finish(groups)

    def _finish(self, groups: Iterable[tuple[h5py.Group, Any]]) -> None:
        """Makes entries whose data is written be there, by their marks."""
        with self._writing():
            self.file.flush()
            self._room.take()
            for group, mark in groups:
                write_attribute(group, COMPLETE, mark)
            self.file.flush()
        if time.monotonic() - self._synced_s > SYNC_S:
            sync(self.file)
            self._synced_s = time.monotonic()

    def __delitem__(self, key: Key) -> None:
        if key not in self:
            raise KeyError(key)
        self.remove([self._path(key)])

    def remove(self, paths: Iterable[str]) -> None:
        """Removes entries by their paths in the file, finished or not.

        Raises:
            DamageError: that cannot be done without losing more.
        """
        for path in paths:
            self._remove(path)
        with self._writing():
            self.file.flush()

    def _remove(self, path: str) -> None:
        with self._reading():  # what cannot be removed is in the way of everything else: the file is damaged
            unlink(self.file, path)

    @contextmanager
    def _reading(self, path: str = "") -> Iterator[None]:
        """Raises `DamageError` of an entry, or of the file, for what reading it raises."""
        try:
            yield
        except CacheError:
            raise
        except (*READING_ERRORS, InputError) as exc:  # arrays of other shapes are refused as features or matches
            raise self._damage(path, exc) from exc

    def _damage(self, path: str, exc: Exception) -> DamageError:
        what = f"{self.path}: entry {self._key(path)!r} is damaged" if path else f"{self.path} is damaged"
        return DamageError(f"{what}: {one_line(exc)}. {advice(self.path)}", self.path, [path] if path else [])

    @contextmanager
    def _writing(self, path: str = "") -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, ValueError, KeyError) as exc:
            entry = f"{self.path}: entry {self._key(path)!r}" if path else self.path
            raise CacheError(
                f"{entry} cannot be written: {one_line(exc)}. Free some disk space; what was finished is kept."
            ) from exc

    @staticmethod
    def _path(key: Any) -> str:
        """Where an entry is in the file."""
        raise NotImplementedError

    @staticmethod
    def _key(path: str) -> Any:
        """The key of an entry, by where it is."""
        raise NotImplementedError

    def attribute(self, key: Key, name: str) -> str | None:
        """A text that is kept with an entry, without reading its data; None if the entry is absent or lacks it."""

        def ask(path: str) -> str | None:
            if not has_attribute(self.file, path, COMPLETE) or not has_attribute(self.file, path, name):
                return None
            return text_attribute(self.file, path, name)

        return self._look(key, ask)

    def _read(self, group: h5py.Group) -> tuple[Value, Parts]:
        """An entry, and what it is made of, for its hash."""
        raise NotImplementedError

    def _write(self, group: h5py.Group, value: Value) -> Parts:
        """Writes an entry; gives the same as `_read` will."""
        raise NotImplementedError


class FeatureStore(_Store[str, Features]):
    """Image name -> `Features`; descriptors are float16 in the file, everything else as in memory."""

    members = frozenset(("keypoints", "descriptors", "scores", "image_size"))
    leaf = 1 << 30  # a photo may lie in a folder that is named like another photo

    def count(self, key: str) -> int | None:
        """How many keypoints an entry has, without reading them; None if it is absent."""

        def ask(path: str) -> int | None:
            return array_length(self.file[path], "scores") if has_attribute(self.file, path, COMPLETE) else None

        return self._look(key, ask)

    @staticmethod
    def _path(key: str) -> str:
        return key

    @staticmethod
    def _key(path: str) -> str:
        return path

    def _read(self, group: h5py.Group) -> tuple[Features, Parts]:
        arrays = [read_array(group, name) for name in ("keypoints", "descriptors", "scores", "image_size")]
        texts = [text_attribute(group, ".", name) for name in FEATURE_TEXTS]
        keypoints, descriptors, scores, (width, height) = arrays
        value = Features(
            keypoints=keypoints,
            descriptors=np.ascontiguousarray(descriptors.T, dtype=np.float32),
            scores=scores,
            image_size=(int(width), int(height)),
            extractor=texts[0],
            orientation=int(texts[1]),
            source=texts[2],
        )
        return value, (*arrays, *texts)

    def _write(self, group: h5py.Group, value: Features) -> Parts:
        arrays = {
            "keypoints": value.keypoints,
            "descriptors": value.descriptors.T.astype(np.float16),
            "scores": value.scores,
            "image_size": np.array(value.image_size, np.int32),
        }
        return write_parts(group, arrays, {name: getattr(value, name) for name in FEATURE_TEXTS})


class MatchStore(_Store[Pair, Matches]):
    """(name0, name1) -> `Matches`; the order of the names is part of the key."""

    members = frozenset(("indices", "scores"))
    leaf = 1

    @staticmethod
    def _path(key: Pair) -> str:
        return f"{quoted(key[0])}/{quoted(key[1])}"

    @staticmethod
    def _key(path: str) -> Pair:
        first, _, second = path.partition("/")
        return unquoted(first), unquoted(second)

    def _read(self, group: h5py.Group) -> tuple[Matches, Parts]:
        indices, scores = read_array(group, "indices"), read_array(group, "scores")
        sources = (text_attribute(group, ".", "source0"), text_attribute(group, ".", "source1"))
        return Matches(indices, scores, sources), (indices, scores, *sources)

    def _write(self, group: h5py.Group, value: Matches) -> Parts:
        arrays = {"indices": value.indices, "scores": value.scores.astype(np.float32)}
        parts = write_parts(group, arrays, dict(zip(("source0", "source1"), value.sources, strict=True)))
        group.attrs["digest"] = value.digest
        return parts


KINDS: dict[str, type[FeatureStore] | type[MatchStore]] = {"FeatureStore": FeatureStore, "MatchStore": MatchStore}
FEATURE_TEXTS = ("extractor", "orientation", "source", "digest")
