"""Which way is up in a model: as the photos have it, which people mostly hold upright."""

from __future__ import annotations

import numpy as np
import pycolmap

from ..exif import upright_to_stored
from .scene import Scene

__all__ = ["frusta_size", "mean_up", "mean_view", "up_of_camera"]


def up_of_camera(orientation: int) -> np.ndarray:
    """(3,) unit vector in the frame of the camera, x right and y down in stored pixels: up in the upright view."""
    below, above = upright_to_stored(np.array([[0.0, 1.0], [0.0, 0.0]]), (1, 1), orientation)
    return np.array([*(above - below), 0.0])


def mean_up(scene: Scene) -> np.ndarray:
    """(3,) unit vector in the world: up, on average over the photos; (0, -1, 0), COLMAP's habit, if they disagree."""
    ups = [_rotation(image).T @ up_of_camera(scene.orientations[image.name]) for image in scene.images]
    return _unit(np.mean(ups, axis=0), (0.0, -1.0, 0.0))


def mean_view(images: list[pycolmap.Image]) -> np.ndarray:
    """(3,) unit vector in the world: where the cameras look, on average."""
    return _unit(np.mean([_rotation(image)[2] for image in images], axis=0), (0.0, 0.0, 1.0))


def frusta_size(scene: Scene) -> float:
    """How deep a camera is to be drawn [world units]: a third of the way to the next one, as is usual in the model."""
    centres = np.array([image.projection_center() for image in scene.images])
    if len(centres) < 2:
        return 0.1
    nearest = [np.partition(np.linalg.norm(centres - centre, axis=1), 1)[1] for centre in centres]
    return float(np.median(nearest)) / 3 or 0.1


def _rotation(image: pycolmap.Image) -> np.ndarray:
    return image.cam_from_world().rotation.matrix()


def _unit(vector: np.ndarray, otherwise: tuple[float, float, float]) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length > 1e-3 else np.array(otherwise)
