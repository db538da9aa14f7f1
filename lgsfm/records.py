"""What the small JSON files of an output folder hold, as types: a value that does not fit its type is not used.

Anybody may have written these files: an older version, a newer one, an editor, a disk that was full.
"""

# without `from __future__ import annotations`: with it, a TypedDict does not know which of its keys may be missing
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from .errors import InputError
from .files import fits, misfits, read_json

__all__ = [
    "MANIFEST",
    "OPTIONS",
    "SUMMARY_ROWS",
    "Flags",
    "Made",
    "known_options",
    "known_parts",
    "misfits_of_options",
    "names_a_path",
    "usable_options",
]

Flags = dict[str, str | int | float | bool | None]
MOST_BYTES, MOST_BYTES_IN_PART = 4000, 255  # of a path, and of a name in it, on most systems
MOST_LETTERS = 64  # of the name of a component: it is in the names of files


class Component(TypedDict):
    """The identity of an extractor or a matcher."""

    options: NotRequired[dict[str, Any]]
    weights: NotRequired[str]


class Extractor(Component):
    """The identity of an extractor."""

    extractor: str


class Matcher(Component):
    """The identity of a matcher."""

    matcher: str


class Made(TypedDict):
    """What a database or the models were made with."""

    extractor: NotRequired[Extractor]
    matcher: NotRequired[Matcher]
    run: NotRequired[dict[str, Any]]
    pairs: NotRequired[dict[str, Any]]


class Verification(TypedDict):
    """The options of geometric verification, as far as others than itself read them."""

    min_inliers: NotRequired[int]


class WeightRow(TypedDict):
    """A file of weights that was used."""

    name: str
    sha256: str
    licence: str


class ModelRow(TypedDict):
    """A model in figures, as far as they are read."""

    path: NotRequired[str]
    num_reg_images: NotRequired[int]
    num_points3D: NotRequired[int]
    principal_points_refined: NotRequired[int]
    mapper: NotRequired[str]


class CameraRow(TypedDict):
    """A camera and its photos."""

    model: str
    width: int
    height: int
    focal_px: float | None
    label: str
    num_images: int
    images: list[str]
    is_given: NotRequired[bool]
    is_trusted: NotRequired[bool]


class ImageRow(TypedDict):
    """A photo in a manifest."""

    source: str | None
    orientation: int | None
    keypoints: int | None
    features: str


class PairsPart(TypedDict):
    """The pairs in a manifest."""

    count: int
    digest: str


class MatchesPart(PairsPart):
    """The matches in a manifest."""

    file: str


class DatabasePart(TypedDict):
    """The database in a manifest."""

    fingerprint: str
    geometries: str


class SourcePart(TypedDict):
    """The lgsfm that wrote a manifest."""

    version: str
    code: str


OPTIONS: dict[str, Any] = {
    "flags": Flags,
    "extractor": Extractor,
    "matcher": Matcher,
    "verification": Verification,
    **dict.fromkeys(
        ("run", "upright", "masks", "pairs", "cameras", "doppelgangers", "healing", "mapping"), dict[str, Any]
    ),
}
SUMMARY_ROWS: dict[str, Any] = {
    "models": list[ModelRow],
    "cameras": list[CameraRow],
    "weights": list[WeightRow],
}
MANIFEST: dict[str, Any] = {
    "lgsfm": SourcePart,
    "machine": dict[str, str],
    "libraries": dict[str, str],
    "options": dict[str, dict[str, Any]],
    "components": dict[str, dict[str, Any]],
    "weights": list[WeightRow],
    "images": dict[str, ImageRow],
    "pairs": PairsPart,
    "matches": MatchesPart,
    "finer matches": MatchesPart,
    "database": DatabasePart | dict[str, None],  # {} without one
    "models": dict[str, str],
}


def known_options(path: Path) -> dict[str, Any]:
    """What an ``options.json`` says; {} if it is not there. What is damaged of it is left out.

    Raises:
        InputError: there is a file, and all of it is damaged.
    """
    found = read_json(path)
    if not found and os.path.lexists(path):
        raise InputError(
            f"{path} cannot be read: it is damaged. `lgsfm cache repair {shlex.quote(str(path.parent))}` removes it; "
            "the next run makes it again."
        )
    return usable_options(found)


def usable_options(found: Mapping[str, Any]) -> dict[str, Any]:
    """The content of an ``options.json`` without what nobody can use."""
    wrong = misfits_of_options(found)
    return {name: value for name, value in found.items() if name in OPTIONS and name not in wrong}


def misfits_of_options(found: Mapping[str, Any]) -> list[str]:
    """The names of those options that nobody can use."""
    unsafe = [kind for kind in ("extractor", "matcher") if kind in found and not _is_component(found[kind], kind)]
    return list(dict.fromkeys([*misfits(found, OPTIONS), *unsafe]))


def known_parts(made: Any) -> bool:
    """Whether what a database says that it was made with can be used."""
    return fits(made, Made) and all(
        _is_component(made[kind], kind) for kind in ("extractor", "matcher") if kind in made
    )


def _is_component(identity: Any, kind: str) -> bool:
    """Whether an identity has a name that may be part of the name of a file."""
    name = identity.get(kind) if isinstance(identity, dict) else None
    return isinstance(name, str) and 0 < len(name) <= MOST_LETTERS and name.isprintable() and not set(name) & set("/\\")


def names_a_path(text: str) -> bool:
    """Whether there can be a file or folder of such a name; asking the system for another one is an error."""
    parts = [os.fsencode(part) for part in text.replace("\\", "/").split("/")]
    return "\0" not in text and sum(map(len, parts)) <= MOST_BYTES and max(map(len, parts)) <= MOST_BYTES_IN_PART
