"""hloc's files of a small world with exact keypoints, written from the description of the format."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent / "exporting"))
from cli_helpers import run
from export_scenes import NAMES, SIZE, World, make_world

__all__ = [
    "NAMES",
    "SIZE",
    "World",
    "keypoints_of",
    "make_world",
    "matches_of",
    "names_of",
    "run",
    "write_features",
    "write_matches",
]

Pair = tuple[str, str]


def keypoints_of(world: World, name: str) -> np.ndarray:
    """(N, 2) float32 [px], the centre of the first pixel at (0, 0)."""
    return np.array([point.xy for point in world.image(name).points2D], np.float32) - np.float32(0.5)


def matches_of(world: World, name0: str, name1: str) -> np.ndarray:
    """(N0,) the keypoint of image 1 that sees the same point, -1 for none."""
    points = {p.point3D_id: i for i, p in enumerate(world.image(name1).points2D) if p.has_point3D()}
    return np.array([points.get(p.point3D_id, -1) for p in world.image(name0).points2D], np.int16)


def names_of(world: World) -> list[str]:
    return sorted(image.name for image in world.model.images.values())


def write_features(
    world: World, path: Path, names: Iterable[str] = (), dtype: type = np.float32, **more: object
) -> Path:
    """hloc's features of some images, by default of all; ``more``: arrays in the place of those due, None for none."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name in names or names_of(world):
            keypoints = keypoints_of(world, name)
            descriptors = rng.normal(size=(128, len(keypoints)))
            arrays = {
                "keypoints": keypoints.astype(dtype),
                "descriptors": (descriptors / np.linalg.norm(descriptors, axis=0)).astype(np.float16),
                "scores": np.linspace(1, 0, len(keypoints)).astype(np.float16),
                "image_size": np.array(SIZE),
                **more,
            }
            group = file.create_group(name)
            for key, array in arrays.items():
                if array is not None:
                    group.create_dataset(key, data=array)
    return path


def write_matches(world: World, path: Path, pairs: Iterable[Pair] = (), separator: str = "/") -> Path:
    """hloc's matches of some pairs, in the order of their names, by default of all pairs."""
    with h5py.File(path, "w") as file:
        for name0, name1 in pairs or combinations(names_of(world), 2):
            group = file.create_group(separator.join(name.replace("/", "-") for name in (name0, name1)))
            dense = matches_of(world, name0, name1)
            group.create_dataset("matches0", data=dense)
            group.create_dataset("matching_scores0", data=np.where(dense >= 0, 0.75, 0).astype(np.float16))
    return path
