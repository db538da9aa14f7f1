"""Images that see the same points of a model that is there already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import InputError
from ..poses import read_shared_points, registered_names
from ..types import Pair
from .collection import Collection
from .options import PairOptions
from .ranking import partner_pairs
from .sequence import natural_key

__all__ = ["check_model", "covisible_pairs"]


def covisible_pairs(collection: Collection, options: PairOptions) -> set[Pair]:
    """Each image with those that share most 3D points with it in the model of ``--covisibility-model``.

    Raises:
        InputError: there is no model, or none of its images is in the collection.
    """
    folder = _folder(options)
    shared = read_shared_points(folder)
    ours = _common_names(shared.names, collection.names, folder)
    missing = len(collection.names) - len(ours)
    if missing:
        collection.notes.append(f"{missing} of {len(collection.names)} photos are not in the model.")
    names = sorted(ours, key=natural_key)
    place = {name: i for i, name in enumerate(shared.names)}
    places = [place[ours[name]] for name in names]

    def scores(start: int, stop: int) -> np.ndarray:
        counts = shared.counts(places[start:stop])[:, places].astype(np.float32)
        counts[counts == 0] = -np.inf
        return counts

    return partner_pairs(names, scores, options.neighbors)


def check_model(names: Sequence[str], options: PairOptions) -> None:
    """Raises `InputError` if there is no model, or none of its images is among the names."""
    folder = _folder(options)
    _common_names(registered_names(folder), sorted(names), folder)


def _folder(options: PairOptions) -> Path:
    if not options.covisibility_model:
        raise InputError("--pairs covisibility needs a COLMAP model: name its folder with --covisibility-model.")
    return Path(options.covisibility_model)


def _common_names(in_model: Sequence[str], names: Sequence[str], folder: Path) -> dict[str, str]:
    """As `names_in_collection`; none is an error."""
    found = names_in_collection(in_model, names)
    if not found:
        raise InputError(
            f"None of the {len(in_model)} images of the model in '{folder}' is among the photos: "
            f"it has {in_model[0]!r}, the folder {names[0]!r}."
        )
    return found


def names_in_collection(in_model: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Image of the collection -> its name in the model: the same, else the only one with the same file name."""
    known = set(in_model)
    by_file: dict[str, str] = {PurePosixPath(name).name: name for name in known}
    unique = Counter(PurePosixPath(name).name for name in known)
    wanted = Counter(PurePosixPath(name).name for name in names)
    found = {name: name for name in names if name in known}
    for name in names:
        file = PurePosixPath(name).name
        if name not in found and unique[file] == wanted[file] == 1:
            found[name] = by_file[file]
    return found
