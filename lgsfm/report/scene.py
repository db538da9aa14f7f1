"""A COLMAP model as plain arrays: its points, its cameras, which way is up; and the figures of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..exif import upright_to_stored
from ..poses import read_reconstruction

__all__ = ["Frame", "Scene", "SceneCamera", "read_scene", "upright_frame"]

AGREEING = 0.6  # length of the mean of unit vectors from which on they are said to point one way
MARGIN = 4.0  # points farther out than so many times the radius of most of them are strays


@dataclass(frozen=True, eq=False)
class SceneCamera:
    """A registered image.

    name: of the image
    rotation: (3, 3) float64, cam_from_world
    centre: (3,) float64 [world units]
    size: (width, height) [px] of the stored image
    model, focal_px, params: of the refined camera; the parameters in COLMAP's order
    seen: (K, 2) float64 [px], where it sees 3D points; the centre of the top-left pixel is (0, 0)
    error_px: mean reprojection error of the points that it sees, NaN if it sees none
    """

    name: str
    rotation: np.ndarray
    centre: np.ndarray
    size: tuple[int, int]
    model: str
    focal_px: float
    params: tuple[float, ...]
    seen: np.ndarray
    error_px: float


@dataclass(frozen=True, eq=False)
class Scene:
    """A COLMAP model.

    positions: (N, 3) float64 [world units]
    colours: (N, 3) uint8 RGB
    errors_px: (N,) float64, mean reprojection error of each point
    track_lengths: (N,) int64, images that see each point
    cameras: image name -> camera
    """

    positions: np.ndarray
    colours: np.ndarray
    errors_px: np.ndarray
    track_lengths: np.ndarray
    cameras: dict[str, SceneCamera]


@dataclass(frozen=True, eq=False)
class Frame:
    """How a scene is shown: shown = rotation @ (world - origin) / radius, with y up and most of it within 1.

    rotation: (3, 3) float64
    origin: (3,) float64 [world units]
    radius: [world units]
    """

    rotation: np.ndarray
    origin: np.ndarray
    radius: float

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """World points (N, 3) as they are shown."""
        return (points - self.origin) @ self.rotation.T / self.radius


def read_scene(folder: Path) -> Scene:
    """The COLMAP model in a folder. Raises `InputError` if there is none or it is damaged."""
    model = read_reconstruction(folder)
    points = list(model.points3D.values())
    errors = {number: point.error for number, point in model.points3D.items()}
    images = [model.image(number) for number in model.reg_image_ids()]
    cameras = {image.name: _camera(image, errors) for image in images}
    return Scene(
        positions=np.array([point.xyz for point in points], float).reshape(-1, 3),
        colours=np.array([point.color for point in points], np.uint8).reshape(-1, 3),
        errors_px=np.array([point.error for point in points], float),
        track_lengths=np.array([point.track.length() for point in points], np.int64),
        cameras=cameras,
    )


def _camera(image: Any, errors: Mapping[int, float]) -> SceneCamera:
    pose = np.asarray(image.cam_from_world().matrix(), float)
    seen = image.get_observation_points2D()
    camera = image.camera
    return SceneCamera(
        name=image.name,
        rotation=pose[:, :3],
        centre=-pose[:, :3].T @ pose[:, 3],
        size=(camera.width, camera.height),
        model=camera.model_name,
        focal_px=float(camera.mean_focal_length()),
        params=tuple(map(float, camera.params)),
        seen=np.array([point.xy for point in seen], float).reshape(-1, 2) - 0.5,  # COLMAP's first pixel is at 0.5
        error_px=float(np.mean([errors[point.point3D_id] for point in seen])) if seen else float("nan"),
    )


def upright_frame(scene: Scene, orientations: Mapping[str, int]) -> Frame:
    """Where a scene stands upright, in the middle and of unit size.

    Up is what the photos take for up, on average; where they disagree, as from the air, it is across the plane of the
    cameras, on the side from which they look.

    Args:
        scene: with at least one camera.
        orientations: image name -> EXIF code of its upright view; 1 where none is named.
    """
    cameras = list(scene.cameras.values())
    centres = np.array([camera.centre for camera in cameras])
    up = np.mean([_up(camera, orientations.get(camera.name, 1)) for camera in cameras], axis=0)
    if np.linalg.norm(up) < AGREEING:
        up = _across(centres, np.mean([camera.rotation[2] for camera in cameras], axis=0))
    points = scene.positions if len(scene.positions) else centres
    origin = np.median(points, axis=0)
    reach = np.linalg.norm(points - origin, axis=1)
    most = max(float(np.percentile(reach, 90)), float(np.median(np.linalg.norm(centres - origin, axis=1))))
    return Frame(_rotation_to_y(up), origin, most or 1.0)


def _up(camera: SceneCamera, orientation: int) -> np.ndarray:
    """(3,) unit vector in the world that the upright view of an image shows as up."""
    start, end = upright_to_stored(np.array([[0.0, 0.0], [0.0, -1.0]]), camera.size, orientation)
    return np.asarray(camera.rotation.T @ np.array([*(end - start), 0.0]))


def _across(centres: np.ndarray, looking: np.ndarray) -> np.ndarray:
    """The normal of the plane in which points (N, 3) lie, on the side away from where cameras are looking."""
    normal = np.linalg.svd(centres - centres.mean(axis=0), full_matrices=True)[2][2]
    return normal if normal @ looking <= 0 else -normal


def _rotation_to_y(up: np.ndarray) -> np.ndarray:
    """(3, 3) rotation that makes a direction the y axis."""
    y = up / np.linalg.norm(up)
    helper = np.eye(3)[np.argmin(np.abs(y))]
    x = np.cross(y, helper)
    x /= np.linalg.norm(x)
    return np.array([x, y, np.cross(x, y)])
