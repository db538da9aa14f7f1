"""nerfstudio's transforms.json, with the photos and the points.

As its own converter of COLMAP models has it (nerfstudio/process_data/colmap_utils.py, 1.1.5): cameras look along -z
with x right and y up, as in OpenGL, and the world is turned by ``applied_transform``, which makes COLMAP's usual y
down into z up. The principal point is COLMAP's: nerfstudio, too, has the centre of the first pixel at (0.5, 0.5).
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from ..observer import Observer
from ..options import Options, option
from .photos import copy_photos
from .scene import Scene, flat_names
from .undistortion import undistort

__all__ = ["APPLIED", "NerfstudioOptions", "intrinsics", "write_nerfstudio"]

APPLIED = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # nerfstudio's world from COLMAP's
OPENGL_FROM_OPENCV = np.diag([1.0, -1, -1])
PERSPECTIVE, FISHEYE = "OPENCV", "OPENCV_FISHEYE"
# COLMAP's model -> nerfstudio's, and the names of the parameters in COLMAP's order
MODELS = {
    "SIMPLE_PINHOLE": (PERSPECTIVE, ("f", "cx", "cy")),
    "PINHOLE": (PERSPECTIVE, ("fl_x", "fl_y", "cx", "cy")),
    "SIMPLE_RADIAL": (PERSPECTIVE, ("f", "cx", "cy", "k1")),
    "RADIAL": (PERSPECTIVE, ("f", "cx", "cy", "k1", "k2")),
    "OPENCV": (PERSPECTIVE, ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2")),
    "SIMPLE_RADIAL_FISHEYE": (FISHEYE, ("f", "cx", "cy", "k1")),
    "RADIAL_FISHEYE": (FISHEYE, ("f", "cx", "cy", "k1", "k2")),
    "OPENCV_FISHEYE": (FISHEYE, ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4")),
}
DISTORTION = {PERSPECTIVE: ("k1", "k2", "p1", "p2"), FISHEYE: ("k1", "k2", "k3", "k4")}


@dataclass(frozen=True, kw_only=True)
class NerfstudioOptions(Options):
    """Options of the format."""

    undistort: bool = option(
        False, "nerfstudio: pictures without distortion; done unasked if nerfstudio lacks the camera model"
    )


def write_nerfstudio(scene: Scene, folder: Path, options: NerfstudioOptions, observer: Observer) -> list[str]:
    """Writes photos, points and transforms.json."""
    kinds = {MODELS.get(scene.model.camera(image.camera_id).model.name, ("",))[0] for image in scene.images}
    notes = []
    if options.undistort or len(kinds) > 1 or "" in kinds:
        if not options.undistort:
            notes.append("The pictures are undistorted: nerfstudio has no camera model for all of the photos.")
        model = undistort(scene, folder)
        images = [model.image(image.image_id) for image in scene.images]
    else:
        model, images = scene.model, scene.images
    flat = flat_names([image.name for image in images])
    if model is scene.model:
        photos = {flat[name]: scene.photo(name) for name in scene.names}
        copy_photos(photos, folder / "images", observer.progress("export"))
    turned = copy.deepcopy(model)
    turned.transform(pycolmap.Sim3d(1, pycolmap.Rotation3d(APPLIED), np.zeros(3)))
    turned.export_PLY(folder / "sparse_pc.ply")
    content = json.dumps(transforms(model, images, flat), indent=4, ensure_ascii=False)
    (folder / "transforms.json").write_text(content, encoding="utf-8")
    return notes


def transforms(model: pycolmap.Reconstruction, images: list[pycolmap.Image], names: dict[str, str]) -> dict[str, Any]:
    """The content of transforms.json; of a single camera the intrinsics are said once."""
    cameras = {image.camera_id: intrinsics(model.camera(image.camera_id)) for image in images}
    shared: dict[str, Any] = next(iter(cameras.values())) if len(cameras) == 1 else {}
    kind = next(iter(cameras.values()))["camera_model"]
    frames = [
        {
            "file_path": f"images/{names[image.name]}",
            "transform_matrix": world_from_camera(image).tolist(),
            "colmap_im_id": image.image_id,
            **({} if shared else cameras[image.camera_id]),
        }
        for image in images
    ]
    return {
        **shared,
        "camera_model": kind,
        "frames": frames,
        "applied_transform": np.hstack([APPLIED, np.zeros((3, 1))]).tolist(),
        "ply_file_path": "sparse_pc.ply",
    }


def world_from_camera(image: pycolmap.Image) -> np.ndarray:
    """(4, 4) nerfstudio's world from the OpenGL camera."""
    matrix = image.cam_from_world().inverse().matrix()
    return np.vstack([APPLIED @ np.hstack([matrix[:, :3] @ OPENGL_FROM_OPENCV, matrix[:, 3:]]), [[0, 0, 0, 1]]])


def intrinsics(camera: pycolmap.Camera) -> dict[str, Any]:
    """Size [px], focal lengths [px], principal point [px] and distortion by nerfstudio's names."""
    kind, names = MODELS[camera.model.name]
    values = dict(zip(names, map(float, camera.params), strict=True))
    if "f" in values:
        values["fl_x"] = values["fl_y"] = values.pop("f")
    pinhole = {name: values.pop(name) for name in ("fl_x", "fl_y", "cx", "cy")}
    distortion = {name: values.get(name, 0.0) for name in DISTORTION[kind]}
    return {"camera_model": kind, "w": camera.width, "h": camera.height, **pinhole, **distortion}
