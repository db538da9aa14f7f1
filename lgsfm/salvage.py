"""What to do about damaged stores: look through them, remove what is damaged, and take over what can still be read.

Damage can make HDF5 crash, or never come back: what may be damaged is opened in a child process of limited time. The
functions that end in ``_in_child`` are what runs there.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .child import run_in_child
from .errors import CacheError, DamageError, LgsfmError, NewerVersionError, in_short
from .hdf5 import heap_names, one_line, renamed_aside, walk
from .store import KINDS, FeatureStore, MatchStore
from .types import Pair, Progress

__all__ = ["StoreState", "is_newer", "is_openable", "kind_of_name", "mend", "rewrite", "survey"]

LOOK_S, LOOK_BYTES_S = 120.0, 2e6  # the time that looking through a file may take: so much, and by its size
MEMORY_BYTES = 4 << 30  # that a child may use for it, beside the size of the file
SIGNATURE = b"\x89HDF\r\n\x1a\n"
LONGEST = 8  # times as long as what is there of it a file may say that it is
ENTRY_BYTES = 4096  # of an entry, beside its arrays, at most
BATCH = 256  # entries that are copied at once
END_OF_FILE = struct.Struct("<40xQ")  # in the first 48 bytes of a file of version 0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreState:
    """What is in a store.

    num_entries: finished and whole
    num_uncheckable: of them without a hash of their content, by an older version
    damaged: path of an entry in the file -> what is wrong with it
    unfinished: paths of entries that a killed writer left
    problem: what is wrong with the file as a whole, "" if nothing is
    names: the images that have entries
    num_bytes: that the entries take, about; the rest of the file is free space
    """

    num_entries: int = 0
    num_uncheckable: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    problem: str = ""
    names: list[str] = field(default_factory=list)
    num_bytes: int = 0


def kind_of_name(path: Path) -> type[FeatureStore] | type[MatchStore]:
    """The class of a store, by the name of its file."""
    return FeatureStore if path.name.startswith("features-") else MatchStore


def is_openable(path: Path) -> bool:
    """Whether a file can be opened, as far as that tells: the rest of it is not looked at."""
    try:
        kind_of_name(path)(path).close()
    except DamageError:
        return False
    except CacheError:
        pass  # in use, or of a newer version: nothing to mend
    return True


def is_newer(path: Path) -> bool:
    """Whether a newer lgsfm wrote a file, so that nobody here can say what is in it."""
    try:
        kind_of_name(path)(path).close()
    except NewerVersionError:
        return True
    except CacheError:
        pass
    return False


# ------------------------------------------------------------------------------------------------- looking


def survey(path: Path, log_path: Path, *, progress: Progress | None = None) -> StoreState:
    """Reads a whole store in a child process, which damage may crash or hang.

    Args:
        path: of the store.
        log_path: what the child prints goes there.
        progress: called with (done, total) entries.

    Raises:
        InUseError: another process writes to it.
        NewerVersionError: a newer lgsfm wrote it.
        CacheError: it cannot be opened for another reason that is not damage.
    """
    try:
        found = _run("survey_in_child", {"path": str(path)}, path, log_path, progress)
    except DamageError as exc:
        return StoreState(problem=str(exc))
    except CacheError:
        raise
    except LgsfmError as exc:
        return StoreState(problem=str(exc).partition(" Its last lines")[0])
    return StoreState(**found)


def _run(function: str, arguments: dict[str, Any], path: Path, log_path: Path, progress: Progress | None = None) -> Any:
    """Calls a function of this module in a child, for as long as a file of that size may take."""
    limit_s = LOOK_S + path.stat().st_size / LOOK_BYTES_S
    return run_in_child(
        f"{__name__}:{function}", arguments, log_path, progress=progress, limit_s=limit_s, program="Reading a store"
    )


def _limit_memory(path: Path) -> None:
    """Ends a child that damage makes ask for all memory."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        most = MEMORY_BYTES + 2 * path.stat().st_size
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def survey_in_child(*, path: str, report: Progress) -> dict[str, Any]:
    """`survey` inside the child process."""
    _limit_memory(Path(path))
    with kind_of_name(Path(path))(Path(path)) as store:
        return asdict(surveyed(store, report))


def surveyed(store: FeatureStore | MatchStore, report: Progress | None = None) -> StoreState:
    """What is in a store that is open for reading, all of it read."""
    damaged: dict[str, str] = {}
    unfinished: list[str] = []
    names: set[str] = set()
    num_entries = num_uncheckable = num_bytes = 0
    with store._reading():
        _ = store.identity
        entries = list(walk(store.file, store.members, leaf=store.leaf))
    for number, (path, state) in enumerate(entries, start=1):
        if isinstance(state, Exception):
            damaged[path] = one_line(state)
        elif not state:
            unfinished.append(path)
        else:
            problem, is_checkable = _look_at(store, path)
            if problem:
                damaged[path] = problem
            else:
                num_entries += 1
                num_uncheckable += not is_checkable
                num_bytes += ENTRY_BYTES + store.stored_bytes(path)
                key = store._key(path)
                names.update(_images(key))
        if report and (number % 200 == 0 or number == len(entries)):
            report(number, len(entries))
    return StoreState(num_entries, num_uncheckable, damaged, unfinished, "", sorted(names), num_bytes)


def _look_at(store: FeatureStore | MatchStore, path: str) -> tuple[str, bool]:
    """What is wrong with an entry, "" if nothing is; and whether it carries a hash of its content."""
    key: Any = store._key(path)
    if path != store._path(key):
        return "its name is no key of the store", True
    try:
        value: Any = store[key]
        if store.is_checkable(key):
            return "", True
        if isinstance(store, FeatureStore):
            return "" if value.digest == store.attribute(key, "digest") else "its content is not what was written", True
    except DamageError as exc:
        return one_line(exc.__cause__ or exc), True
    except KeyError:
        return "it cannot be found by its name", True
    return "", False


# ------------------------------------------------------------------------------------------------- mending


def mend(damage: DamageError, log_path: Path) -> str:
    """Removes from a store what is damaged, so that it is made again; says what was done.

    Args:
        damage: what reading the store has raised.
        log_path: what child processes print goes there.

    Raises:
        CacheError: nothing can be done.
    """
    path = damage.path
    if path is None:
        raise damage
    if damage.entries:
        names = in_short(str(kind_of_name(path)._key(entry)) for entry in damage.entries)
        with suppress(LgsfmError):
            remove(path, damage.entries, log_path)
            return f"Damaged in {path.name}, made again: {names}."
    kept, aside = rewrite(path, log_path)
    return (
        f"{path.name} was damaged: {kept} entries could be read and are kept, the others are made again. "
        f"It is set aside as {aside.name}."
    )


def remove(path: Path, entries: Iterable[str], log_path: Path) -> None:
    """Removes entries of a store by their paths in the file. Raises `LgsfmError` if that fails."""
    _run("remove_in_child", {"path": str(path), "entries": list(entries)}, path, log_path)


def remove_in_child(*, path: str, entries: list[str], report: Progress) -> None:
    """Removes entries of a store."""
    _limit_memory(Path(path))
    with kind_of_name(Path(path))(Path(path), {}) as store:
        store.remove(entries)


def rewrite(path: Path, log_path: Path, *, names: Iterable[str] | None = None) -> tuple[int, Path]:
    """Puts a new file in the place of a store, with all of its finished entries that can be read.

    Args:
        path: of the store.
        log_path: what the child process prints goes there.
        names: only entries whose images are among these; None means all.

    Returns:
        How many entries were taken over, and the new name of the old file: ``.damaged``.

    Raises:
        CacheError: the disk is full, say.
    """
    aside, partial = renamed_aside(path), path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    arguments = {
        "path": str(aside),
        "target": str(partial),
        "kind": kind_of_name(path).__name__,
        "names": None if names is None else sorted(names),
    }
    try:
        kept = _run("rewrite_in_child", arguments, aside, log_path)
    except DamageError:
        return 0, aside
    except CacheError:
        partial.unlink(missing_ok=True)
        aside.rename(path)
        raise
    except LgsfmError:  # killed on the way: what it had copied is whole
        kept = _count(partial)
    if kept:
        os.replace(partial, path)
    else:
        partial.unlink(missing_ok=True)
    return kept, aside


def rewrite_in_child(*, path: str, target: str, kind: str, names: list[str] | None, report: Progress) -> int:
    """Copies the entries of a store that can be read; gives how many."""
    _limit_memory(Path(path))
    _complete_length(Path(path))
    wanted = None if names is None else set(names)
    with KINDS[kind](Path(path)) as source, KINDS[kind](Path(target), source.identity) as store:
        with source._reading():
            entries = walk(source.file, source.members, leaf=source.leaf, known=heap_names(Path(path)))
            whole = [entry for entry, state in entries if state is True and not _look_at(source, entry)[0]]
        chosen = [entry for entry in whole if wanted is None or wanted.issuperset(_images(source._key(entry)))]
        for start in range(0, len(chosen), BATCH):
            store.copy_from(source, chosen[start : start + BATCH])  # type: ignore[arg-type] # both are of this kind
            report(start, len(chosen))
    return len(chosen)


def _images(key: str | Pair) -> tuple[str, ...]:
    """The images of a key of a store."""
    return (key,) if isinstance(key, str) else key


def _count(path: Path) -> int:
    """How many entries a store has; 0 if it cannot be read."""
    try:
        with kind_of_name(path)(path) as store:
            return len(store)
    except CacheError:
        return 0


def _complete_length(path: Path) -> None:
    """Lengthens a file that was cut off to what it says, by zeros: else HDF5 refuses all of it."""
    with path.open("r+b") as file:
        beginning = file.read(END_OF_FILE.size)
        if beginning[:9] == SIGNATURE + b"\0" and len(beginning) == END_OF_FILE.size:
            (end,) = END_OF_FILE.unpack(beginning)
            size = path.stat().st_size
            if size < end < LONGEST * size:
                file.truncate(end)
