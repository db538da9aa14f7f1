"""What an output folder was made of and by (``manifest.json``): all that makes a run another one, and what it gave.

It holds no time and no path of the output, so two runs that did the same have the same manifest. Features and matches
are in it as hashes of the hashes that lie beside each entry: nothing of them is read again.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import __version__
from .database_reading import fingerprint, geometry_digest
from .errors import InputError
from .files import read_json, write_json
from .machine import cpu
from .mapping import pycolmap_version
from .mapping.folder import model_files
from .options import digest
from .store import FeatureStore, MatchStore, digest_of, num_keypoints, orientation_of, source_of
from .types import Matches, Pair
from .workspace import Workspace

__all__ = ["FORMAT", "Contents", "make_manifest", "pair_digests", "read_manifest", "write_manifest"]

FORMAT = 1
LIBRARIES = {  # name -> how it may be installed
    "torch": ("torch",),
    "numpy": ("numpy",),
    "h5py": ("h5py",),
    "opencv": ("opencv-python-headless", "opencv-python", "opencv-contrib-python"),
    "pillow": ("pillow",),
}
NO_STAGES = ("flags", "extractor", "matcher")  # of options.json, what is not the options of a stage


@dataclass(frozen=True)
class Contents:
    """What of an output folder counts, since stores may hold entries of other runs as well.

    names: the images
    features: name of the file in the folder, "" if there is none
    pairs: that were selected, and those of second looks
    matches: name of the file in the folder, "" if there is none
    finer_matches, finer_pairs: likewise of a finer look
    """

    names: Iterable[str]
    features: str = ""
    pairs: Iterable[Pair] = ()
    matches: str = ""
    finer_matches: str = ""
    finer_pairs: Iterable[Pair] = ()


def write_manifest(workspace: Workspace, contents: Contents) -> None:
    """Writes ``manifest.json``. Raises `CacheError` if a file cannot be read or written."""
    write_json(workspace.manifest, make_manifest(workspace, contents))


def read_manifest(output: Path) -> dict[str, Any]:
    """The manifest of an output folder.

    Raises:
        InputError: there is none that this version can read.
    """
    path = Workspace(Path(output)).manifest
    found = read_json(path)
    if not found:
        raise InputError(
            f"'{output}' has no {path.name}: it is no output folder of lgsfm, of an older version, or the last run in "
            "it was interrupted. The same command again writes it; what is finished is kept."
        )
    if found.get("format") != FORMAT:
        raise InputError(
            f"{path} is of format {found.get('format')}, this lgsfm reads {FORMAT}: take the lgsfm that wrote it."
        )
    return found


def make_manifest(workspace: Workspace, contents: Contents) -> dict[str, Any]:
    """The manifest of an output folder as it is now, as plain JSON-able values.

    Raises:
        CacheError: a file in it cannot be read.
    """
    options = read_json(workspace.options)
    summary = read_json(workspace.summary)
    images = _images(workspace, contents)
    return {
        "format": FORMAT,
        "lgsfm": {"version": __version__, "code": code_digest()},
        "machine": _machine(),
        "libraries": _libraries(),
        "options": {name: value for name, value in options.items() if name not in NO_STAGES},
        "components": {name: options[name] for name in ("extractor", "matcher") if name in options},
        "weights": summary.get("weights", []),
        "images": images,
        "pairs": _pairs(contents.pairs),
        "matches": _matches(workspace, contents.matches, contents.pairs),
        "finer matches": _matches(workspace, contents.finer_matches, contents.finer_pairs),
        "database": _database(workspace.database),
        "models": model_files(workspace.sparse),
    }


@cache
def code_digest() -> str:
    """Hash of the source files of lgsfm: of a checkout the version alone says little."""
    root, found = Path(__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def _machine() -> dict[str, Any]:
    return {"processor": cpu().name, "platform": platform.platform(), "python": platform.python_version()}


def _libraries() -> dict[str, str]:
    found = {name: _version_of(packages) for name, packages in LIBRARIES.items()}
    return {**found, "pycolmap": pycolmap_version()}


def _version_of(packages: Iterable[str]) -> str:
    """The version of the first of the packages that is installed, else ""."""
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return ""


def _images(workspace: Workspace, contents: Contents) -> dict[str, dict[str, Any]]:
    """Image name -> hash of the photo and of its features, their number, the view; nothing of one without features."""
    if not contents.features or not (workspace.root / contents.features).is_file():
        return {}
    with FeatureStore(workspace.root / contents.features) as store:
        return {
            name: {
                "source": source_of(store, name),
                "orientation": orientation_of(store, name),
                "keypoints": num_keypoints(store, name),
                "features": features,
            }
            for name in contents.names
            if (features := digest_of(store, name))
        }


def _pairs(pairs: Iterable[Pair]) -> dict[str, Any]:
    listed = sorted(pairs)
    return {"count": len(listed), "digest": digest(listed, 64)}


def _matches(workspace: Workspace, file: str, pairs: Iterable[Pair]) -> dict[str, Any]:
    """Where they lie, how many pairs have them, and the hash of all."""
    if not file or not (workspace.root / file).is_file():
        return {"file": "", "count": 0, "digest": digest({}, 64)}
    found = pair_digests(workspace.root / file, pairs)
    return {"file": file, "count": len(found), "digest": digest(sorted(found.items()), 64)}


def match_digest_of(store: Mapping[Pair, Matches], pair: Pair) -> str | None:
    """The `Matches.digest` of an entry, as far as it is known without reading its data; None if there is none."""
    if isinstance(store, MatchStore) and (known := store.attribute(pair, "digest")):  # older versions kept none
        return known
    return store[pair].digest if pair in store else None


def pair_digests(path: Path, pairs: Iterable[Pair] | None = None) -> dict[Pair, str]:
    """Pair -> hash of its matches, of those of the pairs (None: of all) that the store in a file has."""
    with MatchStore(path) as store:
        wanted = store if pairs is None else pairs
        return {pair: known for pair in wanted if (known := match_digest_of(store, pair))}


def _database(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    return {"fingerprint": fingerprint(path), "geometries": geometry_digest(path)}
