"""Bundler's files (N. Snavely, version 0.3), for MeshLab and older multi-view stereo: bundle.out, list.txt, photos.

The camera looks along -z with y up; measurements are from the centre of the picture, x right and y up, in pixels. A
camera is a focal length and two radial coefficients, so photos of other camera models are undistorted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pycolmap

from ..errors import InputError
from ..observer import Observer
from ..options import Options
from .photos import copy_photos
from .scene import Scene, flat_names
from .undistortion import undistort

__all__ = ["write_bundler"]

BUNDLER_FROM_OPENCV = np.diag([1.0, -1, -1])
RADIAL = {"SIMPLE_PINHOLE": 0, "SIMPLE_RADIAL": 1, "RADIAL": 2}  # COLMAP's model -> radial coefficients, the last ones
CENTRED_PX = 0.5  # how far from the centre of the picture the principal point may be for others to take it as that


def write_bundler(scene: Scene, folder: Path, options: Options, observer: Observer) -> list[str]:
    """Writes the files."""
    if all(_is_radial(scene.model.camera(image.camera_id)) for image in scene.images):
        model, images, notes = scene.model, scene.images, []
        flat = flat_names(scene.names)
        photos = {flat[name]: scene.photo(name) for name in scene.names}
        copy_photos(photos, folder / "images", observer.progress("export"))
        files = [flat[image.name] for image in images]
    else:
        model = undistort(scene, folder)
        images = [model.image(image.image_id) for image in scene.images]
        files = [image.name for image in images]
        notes = ["The pictures are undistorted: Bundler lacks a camera model of the photos."]
        for image in images:
            _check_pinhole(model.camera(image.camera_id), image.name)
    (folder / "list.txt").write_text("".join(f"images/{name}\n" for name in files), encoding="utf-8")
    with (folder / "bundle.out").open("w", encoding="ascii") as file:
        file.writelines(f"{line}\n" for line in lines(model, images))
    return notes


def _is_radial(camera: pycolmap.Camera) -> bool:
    return camera.model.name in RADIAL and _is_centred(camera)


def _is_centred(camera: pycolmap.Camera) -> bool:
    middle = np.array([camera.width, camera.height]) / 2
    point = np.array([camera.principal_point_x, camera.principal_point_y])
    return bool(np.abs(point - middle).max() <= CENTRED_PX)


def _check_pinhole(camera: pycolmap.Camera, name: str) -> None:
    ratio = camera.focal_length_x / camera.focal_length_y
    if abs(ratio - 1) * camera.width > CENTRED_PX or not _is_centred(camera):
        raise InputError(
            f"Bundler cannot describe the camera of {name}: its pixels are not square, or its principal point is not "
            "in the centre. `lgsfm export` has formats that can: colmap, nerfstudio, gaussians."
        )


def lines(model: pycolmap.Reconstruction, images: list[pycolmap.Image]) -> Iterator[str]:
    """The lines of bundle.out."""
    order = {image.image_id: number for number, image in enumerate(images)}
    seen = {number: _seen(point, order) for number, point in model.points3D.items()}
    tracks = {number: track for number, track in seen.items() if track}
    yield "# Bundle file v0.3"
    yield f"{len(images)} {len(tracks)}"
    for image in images:
        camera = model.camera(image.camera_id)
        yield _numbers([camera.focal_length_x, *_radial(camera)])
        matrix = BUNDLER_FROM_OPENCV @ image.cam_from_world().matrix()
        yield from (_numbers(row) for row in matrix[:, :3])
        yield _numbers(matrix[:, 3])
    for number, track in tracks.items():
        point = model.point3D(number)
        yield _numbers(point.xyz)
        yield " ".join(map(str, point.color.tolist()))
        yield f"{len(track)} " + " ".join(_measurement(model, image, keypoint, order) for image, keypoint in track)


def _radial(camera: pycolmap.Camera) -> list[float]:
    """The two radial coefficients."""
    count = RADIAL.get(camera.model.name, 0)
    return [*camera.params[len(camera.params) - count :], 0.0, 0.0][:2]


def _seen(point: pycolmap.Point3D, order: dict[int, int]) -> list[tuple[int, int]]:
    elements = [(element.image_id, element.point2D_idx) for element in point.track.elements]
    return [(image, keypoint) for image, keypoint in elements if image in order]


def _measurement(model: pycolmap.Reconstruction, image: int, keypoint: int, order: dict[int, int]) -> str:
    found = model.image(image)
    camera = model.camera(found.camera_id)
    x, y = found.points2D[keypoint].xy - [camera.principal_point_x, camera.principal_point_y]
    return f"{order[image]} {keypoint} {x:.6f} {-y:.6f}"


def _numbers(values: object) -> str:
    return " ".join(f"{value:.12g}" for value in np.asarray(values).tolist())
