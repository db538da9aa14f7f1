"""The model as the viewer of the page takes it: points and cameras, packed."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..exif import stored_to_upright, upright_size
from .collect import PhotoRow
from .scene import Frame, Scene, SceneCamera

__all__ = ["MOST_POINTS", "pack_keypoints", "pack_scene"]

MOST_POINTS = 60_000  # of one model
REACH = 12.0  # radii of the scene; what lies farther out is not shown
STEPS = 32767  # of a coordinate, from 0 to REACH
MOST_SEEN = 200_000  # places of 3D points in photos, all together
FRUSTUM = 0.09  # depth of a drawn camera in radii, of a scene with few of them


def pack_scene(scene: Scene, frame: Frame, photos: Sequence[PhotoRow]) -> dict[str, Any]:
    """A model as JSON-able values.

    points: base64 of (N, 3) int16, in steps of 12 / 32767 radii
    colours: base64 of (N, 3) uint8
    cameras: of each [number of the photo, centre (3), rotation (9, cam_from_shown), width / 2 focal, height / 2 focal]
    yaw: [rad] from where the cameras look on the scene
    """
    points = frame(scene.positions)
    near = np.flatnonzero((np.abs(points) < REACH).all(axis=1))
    if len(near) > MOST_POINTS:
        near = np.sort(np.random.default_rng(0).choice(near, MOST_POINTS, replace=False))
    numbers = {photo.name: number for number, photo in enumerate(photos)}
    cameras = [
        _camera(camera, frame, numbers[name]) for name, camera in sorted(scene.cameras.items()) if name in numbers
    ]
    return {
        "points": _base64(np.round(points[near] * (STEPS / REACH)).astype("<i2")),
        "colours": _base64(scene.colours[near]),
        "shown": len(near),
        "total": len(points),
        "unit": REACH / STEPS,
        "cameras": cameras,
        "frustum": FRUSTUM / max(1.0, math.sqrt(len(cameras) / 30)),
        "yaw": _yaw(scene, frame),
    }


def _camera(camera: SceneCamera, frame: Frame, number: int) -> list[float]:
    centre = frame(camera.centre[None])[0]
    rotation = camera.rotation @ frame.rotation.T
    width, height = (edge / 2 / camera.focal_px for edge in camera.size)
    return [number, *(round(float(value), 4) for value in (*centre, *rotation.ravel(), width, height))]


def _yaw(scene: Scene, frame: Frame) -> float:
    """The angle about y at which a viewer stands where most cameras stand, looking as they look; z is 0."""
    looking = np.sum([frame.rotation @ camera.rotation[2] for camera in scene.cameras.values()], axis=0)
    return round(math.atan2(-looking[0], -looking[2]), 4)


def pack_keypoints(scenes: Sequence[Scene], photos: Sequence[PhotoRow]) -> Mapping[str, str]:
    """Image name -> base64 of (K, 2) uint16: where it sees 3D points, in 65535ths of the width and height upright."""
    most = max(16, MOST_SEEN // max(1, len(photos)))
    packed = {}
    for photo in photos:
        if photo.model is None:
            continue
        camera = scenes[photo.model].cameras[photo.name]
        step = max(1, math.ceil(len(camera.seen) / most))
        points = stored_to_upright(camera.seen[::step], camera.size, photo.orientation)
        size = np.array(upright_size(camera.size, photo.orientation))
        packed[photo.name] = _base64(np.clip(np.round((points + 0.5) / size * 65535), 0, 65535).astype("<u2"))
    return packed


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
