"""In what two output folders differ, from their manifests: first what they hold, then what they were made with.

Which pairs have other matches or geometries is read from the stores and databases, and only if these differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .database_reading import VerifiedPair, read_verified_pairs
from .manifest import pair_digests, read_manifest
from .types import Pair
from .workspace import Workspace

__all__ = ["Comparison", "Difference", "compare_outputs"]

Value = TypeVar("Value")
Two = tuple[Value, Value]
Manifest = Mapping[str, Any]
CAUSES = ("options", "components", "weights", "lgsfm", "libraries", "machine")


@dataclass(frozen=True)
class Difference:
    """One part in which two outputs differ.

    part: "photos", "features", "pairs", "matches", "finer matches", "database", "models"; or one of `CAUSES`
    summary: in words
    details: each thing that differs, in words; empty where that cannot be told any more
    """

    part: str
    summary: str
    details: list[str]


@dataclass(frozen=True)
class Comparison:
    """In what two outputs differ.

    results: what they hold, in the order of the stages: the first one is where they part
    causes: what they were made with; it may differ though they hold the same
    """

    results: list[Difference]
    causes: list[Difference]

    @property
    def is_equal(self) -> bool:
        """Whether they hold the same, bit by bit (of the database: the same rows)."""
        return not self.results


def compare_outputs(output0: Path, output1: Path) -> Comparison:
    """In what two output folders differ.

    Raises:
        InputError: one has no manifest, or one of another version.
        CacheError: a store or database that differs cannot be read.
    """
    folders = Workspace.of_run(output0), Workspace.of_run(output1)
    manifests = read_manifest(output0), read_manifest(output1)
    found = (
        _photos(*manifests),
        _features(*manifests),
        _pairs(*manifests),
        _matches("matches", folders, manifests),
        _matches("finer matches", folders, manifests),
        _database(folders, manifests),
        _models(*manifests),
    )
    causes = (_cause(part, *manifests) for part in CAUSES)
    return Comparison([each for each in found if each], [each for each in causes if each])


# --------------------------------------------------------------------------------- what they hold
def _photos(first: Manifest, second: Manifest) -> Difference | None:
    sources0, sources1 = (_column(manifest["images"], "source") for manifest in (first, second))
    return _of_each("photos", sources0, sources1, lambda name, *_: f"{name}: other bytes, or other masks", str)


def _features(first: Manifest, second: Manifest) -> Difference | None:
    """Of the photos that are in both and the same; the others are told of already."""
    same = {name for name, row in first["images"].items() if _get(second["images"], name, "source") == row["source"]}
    rows0, rows1 = ({name: manifest["images"][name] for name in same} for manifest in (first, second))

    def in_words(name: str, row0: Any, row1: Any) -> str:
        if row0["orientation"] != row1["orientation"]:
            return f"{name}: seen with orientation {row0['orientation']} and {row1['orientation']}"
        return f"{name}: {row0['keypoints']} and {row1['keypoints']} keypoints"

    return _of_each("features", rows0, rows1, in_words, str)


def _pairs(first: Manifest, second: Manifest) -> Difference | None:
    if first["pairs"] == second["pairs"]:
        return None
    return Difference("pairs", f"{first['pairs']['count']} and {second['pairs']['count']} pairs, not the same", [])


def _matches(
    part: str, folders: tuple[Workspace, Workspace], manifests: tuple[Manifest, Manifest]
) -> Difference | None:
    first, second = (manifest[part] for manifest in manifests)
    if first["digest"] == second["digest"]:
        return None
    paths = [folder.root / known["file"] for folder, known in zip(folders, (first, second), strict=True)]
    summary = f"{first['count']} and {second['count']} pairs with matches, not the same"
    if not all(path.is_file() for path in paths):
        return Difference(part, f"{summary}; which pairs differ cannot be told: a store of matches is gone", [])
    digests0, digests1 = (pair_digests(path) for path in paths)
    found = _of_each(part, digests0, digests1, lambda pair, *_: f"{_named(pair)}: other matches", _named)
    return found or Difference(part, summary, [])


def _database(folders: Two[Workspace], manifests: Two[Manifest]) -> Difference | None:
    first, second = (manifest["database"] for manifest in manifests)
    if first == second:
        return None
    unknown = Difference("database", "not the same; which pairs differ cannot be told", [])
    if not all(folder.database.is_file() for folder in folders):
        return unknown
    found = [read_verified_pairs(folder.database) for folder in folders]
    rows0, rows1 = ({pair: _row(seen) for pair, seen in pairs.items()} for pairs in found)

    def in_words(pair: Pair, row0: Any, row1: Any) -> str:
        return f"{_named(pair)}: {row0[1]} and {row1[1]} inliers of {row0[0]} and {row1[0]} matches"

    return _of_each("database", rows0, rows1, in_words, _named) or unknown


def _row(seen: VerifiedPair) -> tuple[Any, ...]:
    pose = [None if part is None else part.tolist() for part in (seen.cam1_from_cam0, seen.direction)]
    return (seen.num_matches, seen.num_inliers, seen.kind, *pose)


def _models(first: Manifest, second: Manifest) -> Difference | None:
    return _of_each("models", first["models"], second["models"], lambda name, *_: f"sparse/{name}: other bytes", str)


# --------------------------------------------------------------------------------- what they were made with
def _cause(part: str, first: Manifest, second: Manifest) -> Difference | None:
    rows = dict(_flat(first.get(part, {}))), dict(_flat(second.get(part, {})))
    names = [name for name in sorted({*rows[0], *rows[1]}) if rows[0].get(name) != rows[1].get(name)]
    details = [f"{name}: {rows[0].get(name, 'none')} and {rows[1].get(name, 'none')}" for name in names]
    return Difference(part, f"{len(names)} differ", details) if names else None


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values within dictionaries and lists, each with a name of all keys that lead to it."""
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in items:
            yield from _flat(each, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


# --------------------------------------------------------------------------------- helpers
def _of_each(
    part: str,
    first: Mapping[Value, Any],
    second: Mapping[Value, Any],
    in_words: Callable[[Value, Any, Any], str],
    name_of: Callable[[Value], str],
) -> Difference | None:
    """What differs between two mappings, key by key; None if nothing does."""
    keys = sorted({*first, *second}, key=name_of)
    details = []
    for key in keys:
        if key not in second or key not in first:
            details.append(f"{name_of(key)}: only in the {'first' if key in first else 'second'}")
        elif first[key] != second[key]:
            details.append(in_words(key, first[key], second[key]))
    return Difference(part, f"{len(details)} of {len(keys)} differ", details) if details else None


def _column(rows: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, Any]:
    return {name: row[key] for name, row in rows.items()}


def _get(rows: Mapping[str, Mapping[str, Any]], name: str, key: str) -> Any:
    return rows[name][key] if name in rows else None


def _named(pair: Iterable[str]) -> str:
    return " ".join(pair)
