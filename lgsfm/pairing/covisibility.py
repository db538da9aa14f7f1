"""Images that see the same points of a model that is there already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..poses import count_shared_points
from ..types import Pair
from .collection import Collection
from .ranking import partner_pairs

if TYPE_CHECKING:
    from . import PairOptions

__all__ = ["covisible_pairs"]


def covisible_pairs(collection: Collection, options: PairOptions) -> set[Pair]:
    """Each image with those that share most 3D points with it in the model of ``--covisibility-model``.

    Raises:
        InputError: there is no model, or none of its images is in the collection.
    """
    if not options.covisibility_model:
        raise InputError("--pairs covisibility needs a COLMAP model: name its folder with --covisibility-model.")
    in_model, shared = count_shared_points(Path(options.covisibility_model))
    ours = names_in_collection(in_model, collection.names)
    if not ours:
        raise InputError(
            f"None of the {len(in_model)} images of the model in '{options.covisibility_model}' is among the photos: "
            f"it has {in_model[0]!r}, the folder {collection.names[0]!r}."
        )
    missing = len(collection.names) - len(ours)
    if missing:
        collection.notes.append(f"{missing} of {len(collection.names)} photos are not in the model.")
    names = sorted(ours)
    places = [in_model.index(ours[name]) for name in names]
    counts = shared[np.ix_(places, places)]
    scores = np.where(counts > 0, counts, -np.inf)
    return partner_pairs(names, lambda start, stop: scores[start:stop], options.neighbors)


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
