"""A finished model with the photos that were located in it, as a COLMAP model of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pycolmap

from ..cameras import PIXEL_CENTRE
from ..errors import CacheError, InputError
from ..model_files import write_model
from ..poses import read_reconstruction
from ..workspace import Workspace
from .result import Localization

__all__ = ["add_photos", "check_folder", "write_localized_model"]


def write_localized_model(output: str | Path, localizations: Sequence[Localization], folder: str | Path) -> list[str]:
    """Writes the best model of a run and the photos that were located in it: poses, cameras, keypoints, and which 3D
    points they show. The 3D points and all other poses stay as they are; bundle adjustment is for the caller.

    Args:
        output: folder of `lgsfm reconstruct`, where the photos were located; it is not changed.
        localizations: of these photos; those without a pose are left out.
        folder: of the new model; it must be empty or not be there yet.

    Returns:
        The names that the photos have in the new model, in order.

    Raises:
        InputError: the folder is in use, or there is no model in ``output``.
        CacheError: the folder cannot be written.
    """
    folder = Path(folder)
    check_folder(output, folder)
    model = read_reconstruction(Workspace.of_run(output).sparse / "0")
    names = add_photos(model, localizations)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        write_model(model, partial)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as exc:
        shutil.rmtree(partial, ignore_errors=True)
        raise CacheError(f"The model {folder} cannot be written: {exc}. Check the folder and the disk space.") from exc
    return names


def check_folder(output: str | Path, folder: Path) -> None:
    """Raises `InputError` if a model may not be written there: something is there, or it would count as one of the
    models of the run."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty. Choose a new folder for the model.")
    sparse = Workspace(Path(output)).sparse.resolve()
    if sparse == folder.resolve() or sparse in folder.resolve().parents:
        raise InputError(f"{folder} is among the models of the run itself. Choose a folder outside of {sparse}.")


def add_photos(model: pycolmap.Reconstruction, localizations: Iterable[Localization]) -> list[str]:
    """Adds photos to the model in which they were located; gives their names there."""
    names = []
    taken = {image.name for image in model.images.values()}
    rigs = {image.camera_id: image.frame.rig_id for image in model.images.values()}
    for found in localizations:
        if found.pose is None:
            continue
        name = _free_name(found.image_name, taken)
        taken.add(name)
        names.append(name)
        camera_id = found.camera_id
        if camera_id is None or found.pose.camera.params != tuple(model.cameras[camera_id].params):
            camera_id = _add_camera(model, found)
            rigs[camera_id] = camera_id
        _add_image(model, name, found, camera_id, rigs[camera_id])
    model.update_point_3d_errors()
    return names


def _add_camera(model: pycolmap.Reconstruction, found: Localization) -> int:
    """Adds the camera of a photo, in a rig of its own with the same number."""
    assert found.pose is not None
    camera = found.pose.camera.colmap
    camera.camera_id = 1 + max([0, *model.cameras, *model.rigs])
    model.add_camera_with_trivial_rig(camera)
    return int(camera.camera_id)


def _add_image(model: pycolmap.Reconstruction, name: str, found: Localization, camera_id: int, rig_id: int) -> None:
    assert found.pose is not None
    number = 1 + max([0, *model.images, *model.frames])
    keypoints = np.asarray(found.keypoints, np.float64) + PIXEL_CENTRE
    image = pycolmap.Image(name=name, keypoints=keypoints, camera_id=camera_id, image_id=number)
    image.frame_id = number
    frame = pycolmap.Frame(frame_id=number, rig_id=rig_id)
    frame.add_data_id(image.data_id)
    model.add_frame(frame)
    model.add_image(image)
    motion = pycolmap.Rigid3d(pycolmap.Rotation3d(found.pose.rotation), found.pose.translation)
    model.frame(number).set_cam_from_world(camera_id, motion)
    model.register_frame(number)
    points, first = np.unique(found.observations[:, 1], return_index=True)  # an image shows a point once
    for point, keypoint in zip(points.tolist(), found.observations[first, 0].tolist(), strict=True):
        model.add_observation(point, pycolmap.TrackElement(number, keypoint))


def _free_name(name: str, taken: set[str]) -> str:
    """The name, in a folder of its own if an image of the model has it."""
    candidate, count = name, 1
    while candidate in taken:
        candidate = f"queries{'' if count == 1 else f'-{count}'}/{name}"
        count += 1
    return candidate
