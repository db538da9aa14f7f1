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
from .errors import InputError, in_short
from .files import fits, read_json, write_json
from .healing import SecondLooks
from .images import file_digest
from .machine import cpu
from .mapping import pycolmap_version
from .mapping.folder import model_files
from .options import digest
from .pairing import read_pairs
from .records import MANIFEST
from .store import FeatureStore, MatchStore, digest_of, num_keypoints, orientation_of, source_of
from .types import Matches, Pair
from .workspace import Workspace

__all__ = ["FORMAT", "Contents", "changed_since", "make_manifest", "pair_digests", "read_manifest", "write_manifest"]

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
    write_json(workspace.manifest, make_manifest(workspace, contents), is_checked=True)


def read_manifest(output: Path) -> dict[str, Any]:
    """The manifest of an output folder.

    Raises:
        InputError: there is none that this version can read.
    """
    path = Workspace.of_run(output).manifest
    if not path.exists():
        raise InputError(
            f"'{output}' has no {path.name}: it is no output folder of lgsfm, of an older version, the last run in it "
            "is not over or was interrupted, or `lgsfm cache` removed something. The same command again writes it, and "
            "keeps what is finished."
        )
    found = read_json(path)
    if found.get("format", FORMAT) != FORMAT:
        raise InputError(
            f"{path} is of format {found.get('format')}, this lgsfm reads {FORMAT}: take the lgsfm that wrote it."
        )
    if damaged := [name for name in MANIFEST if name not in found or not fits(found[name], MANIFEST[name])]:
        raise InputError(f"{path} is damaged: {in_short(damaged)}. `lgsfm reconstruct` with the same choices mends it.")
    if not all(_is_name(found[part]["file"]) for part in ("matches", "finer matches")):
        raise InputError(f"{path} is damaged: it names files of other folders.")
    return found


def _is_name(file: str) -> bool:
    """Whether something is the name of a file in the folder, or ""."""
    return Path(file).name == file


def make_manifest(workspace: Workspace, contents: Contents) -> dict[str, Any]:
    """The manifest of an output folder as it is now, as plain JSON-able values.

    Raises:
        CacheError: a file in it cannot be read.
    """
    options = read_json(workspace.options)
    summary = read_json(workspace.summary)
    images = _images(workspace, contents)
    pairs = _with_features(contents.pairs, images)
    finer = _with_features(contents.finer_pairs, images)
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
        "pairs file": _file(workspace.pairs),
        "matches": _matches(workspace, contents.matches, pairs),
        "finer matches": _matches(workspace, contents.finer_matches, finer),
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


def changed_since(workspace: Workspace) -> list[str]:
    """What of an output folder is not as its manifest says, in words; nothing if there is no manifest.

    Pairs and options are compared, the hashes that lie beside features and matches, the rows of the database,
    and the bytes of the models. Whether features and matches are what their hashes say is for `lgsfm.integrity`.

    Raises:
        InputError: the manifest is of another format.
        CacheError: a file cannot be read.
    """
    if not workspace.manifest.is_file():
        return []
    known = read_manifest(workspace.root)
    now = make_manifest(workspace, _contents_of(workspace, known))
    others = {
        "options.json": any(now[part] != known[part] for part in ("options", "components")),
        workspace.pairs.name: now["pairs file"] != known.get("pairs file", now["pairs file"]),
        known["matches"]["file"]: now["matches"] != known["matches"],
        known["finer matches"]["file"]: now["finer matches"] != known["finer matches"],
        workspace.database.name: now["database"] != known["database"],
    }
    names = sorted(known["images"].keys() | now["images"].keys())
    features = [name for name in names if now["images"].get(name) != known["images"].get(name)]
    files = sorted(known["models"].keys() | now["models"].keys())
    models = [f"sparse/{name}" for name in files if now["models"].get(name) != known["models"].get(name)]
    parts = [f"features of {in_short(features)}"] * bool(features)
    return [*parts, *(name for name, is_other in others.items() if is_other), *models]


def _contents_of(workspace: Workspace, known: Mapping[str, Any]) -> Contents:
    """What of an output folder a manifest is of."""
    images, identity = known["images"], known["components"].get("extractor")
    looks = SecondLooks(workspace.second_looks)
    pairs = [*read_pairs(workspace.pairs, images, skip_unknown=True)] if workspace.pairs.is_file() else []
    return Contents(
        images,
        workspace.features(identity).name if identity else "",
        {*pairs, *looks.pairs},
        known["matches"]["file"],
        known["finer matches"]["file"],
        looks.finer,
    )


def _with_features(pairs: Iterable[Pair], images: Mapping[str, Any]) -> list[Pair]:
    """Those of which both photos have features: others may have matches of features that are gone."""
    return [pair for pair in pairs if pair[0] in images and pair[1] in images]


def _file(path: Path) -> str:
    """The sha256 of a file, "" if it is not there."""
    return file_digest(path) if path.is_file() else ""


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
