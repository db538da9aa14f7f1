"""The files of hloc (cvg/Hierarchical-Localization): features and matches in HDF5, in its own layout, and the model.

features.h5   image name -> keypoints (N, 2), descriptors (D, N), scores (N,), image_size (2,)
matches.h5    name0/name1 with - for / in the names -> matches0 (N0,), -1 for none, matching_scores0 (N0,)
pairs.txt     the pairs, one per line
sfm/          the model, whose images list these keypoints in this order

As in hloc, the centre of the first pixel is (0, 0) in features.h5, and (0.5, 0.5) in the model.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from ..cameras import PIXEL_CENTRE
from ..errors import InputError
from ..finished import FinishedRun
from ..matching import current_pairs
from ..observer import Observer
from ..options import Options
from ..types import Matches, Pair
from .scene import Scene

__all__ = ["dense_matches", "pair_key", "write_hloc"]


def write_hloc(scene: Scene, folder: Path, options: Options, observer: Observer) -> list[str]:
    """Writes features of the photos of the folder and of the model, all matches of them, and the model."""
    run = FinishedRun(scene.workspace.root, scene.image_dir)
    with run.features as features, run.matches as matches:
        there = {*run.names, *(image.name for image in scene.images if image.name in features)}
        names = sorted(there)
        pairs = sorted(pair for pair in current_pairs(features, list(matches), matches) if there.issuperset(pair))
        keys = _checked_keys(pairs)
        counts = {}
        progress = observer.progress("export")
        with h5py.File(folder / "features.h5", "w") as file:
            for done, name in enumerate(names):
                found = features[name]
                _check_of_model(scene, name, found.keypoints)
                counts[name] = len(found)
                group = file.create_group(name)
                group.create_dataset("keypoints", data=found.keypoints).attrs["uncertainty"] = 1.0
                group["descriptors"] = found.descriptors.T.astype(np.float16)
                group["scores"] = found.scores
                group["image_size"] = np.array(found.image_size)
                if progress:
                    progress(done + 1, len(names) + len(pairs))
        with h5py.File(folder / "matches.h5", "w") as file:
            for done, pair in enumerate(pairs):
                dense, scores = dense_matches(matches[pair], counts[pair[0]])
                group = file.create_group(keys[pair])
                group["matches0"], group["matching_scores0"] = dense, scores
                if progress:
                    progress(len(names) + done + 1, len(names) + len(pairs))
    text = "".join(f"{first} {second}\n" for first, second in pairs)
    (folder / "pairs.txt").write_text(text, encoding="utf-8")
    (folder / "sfm").mkdir()
    for path in (scene.workspace.sparse / str(scene.number)).glob("*.bin"):
        shutil.copyfile(path, folder / "sfm" / path.name)
    return _notes(scene, counts, names)


def _check_of_model(scene: Scene, name: str, keypoints: np.ndarray) -> None:
    """Raises `InputError` if the model has other keypoints in a photo than the features that would go with it."""
    image = scene.model.find_image_with_name(name)
    if image is None:
        return
    there = np.array([point.xy for point in image.points2D]).reshape(-1, 2)[: len(keypoints)]  # then of a finer look
    if there.shape != keypoints.shape or not np.allclose(there - PIXEL_CENTRE, keypoints, atol=0.01):
        raise InputError(
            f"The model in {scene.workspace.sparse} is not of the features that belong to the database now ({name}): a "
            "later run with other options is at work, or was interrupted. Complete it, and export then."
        )


def _notes(scene: Scene, counts: dict[str, int], names: list[str]) -> list[str]:
    notes = []
    if spaces := sum(" " in name for name in names):
        notes.append(f"Warning: {spaces} names have spaces; hloc cannot read their lines in pairs.txt.")
    more = [image.name for image in scene.images if len(image.points2D) > counts.get(image.name, 0)]
    if more:
        notes.append(
            f"{len(more)} photos of the model had a finer look; the keypoints of that come last there, and not here."
        )
    return notes


def pair_key(name0: str, name1: str) -> str:
    """The group of a pair in hloc's matches."""
    return "/".join((name0.replace("/", "-"), name1.replace("/", "-")))


def _checked_keys(pairs: Iterable[Pair]) -> dict[Pair, str]:
    """Pair -> group. Raises `InputError` if two pairs share one, as those of a-b.jpg and a/b.jpg do."""
    keys = {pair: pair_key(*pair) for pair in pairs}
    owners: dict[str, Pair] = {}
    for pair, key in keys.items():
        other = owners.setdefault(key, pair)
        if other != pair:
            raise InputError(
                f"hloc keeps the matches of {' and '.join(pair)} in the same place as those of {' and '.join(other)}. "
                "Rename a photo: to hloc, - and / in a name are the same."
            )
    return keys


def dense_matches(matches: Matches, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count,) int32 keypoint of image 1 of each one of image 0, -1 for none; (count,) float16 scores, 0 for none.

    Not int16, as hloc itself writes: an image may have more than 32,767 keypoints.
    """
    dense, scores = np.full(count, -1, np.int32), np.zeros(count, np.float16)
    dense[matches.indices[:, 0]] = matches.indices[:, 1]
    scores[matches.indices[:, 0]] = matches.scores
    return dense, scores
