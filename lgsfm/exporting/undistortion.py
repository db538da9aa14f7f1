"""Photos without lens distortion, and the model that is of them: PINHOLE cameras, for programs that know no others."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycolmap

from ..child import run_in_child
from ..errors import ReconstructionError
from ..images import read_photo
from ..model_files import write_model
from ..photo_formats import EXTRA_SUFFIXES
from ..poses import read_reconstruction
from .photos import clear_orientation
from .scene import Scene, flat_names

__all__ = ["undistort"]

UNREADABLE = frozenset((".webp", *EXTRA_SUFFIXES))  # by the COLMAP of the wheels, though not by us


def undistort(scene: Scene, folder: Path, *, max_edge_px: int = 0) -> pycolmap.Reconstruction:
    """Writes the photos of a model without distortion to ``folder/images``, without sub-folders or EXIF orientation.

    Args:
        scene: the model and its photos.
        folder: which is there.
        max_edge_px: of the pictures; 0 leaves the size.

    Returns:
        The model of these pictures, with their names (of WebP photos they are PNG); its keypoints are undistorted, too.

    Raises:
        InputError: a photo is missing or of another size.
        ReconstructionError: COLMAP fails of one.
    """
    work, log = folder / "undistorted", folder / "colmap.log"
    work.mkdir()
    source_model, photos = _readable(scene, {name: scene.photo(name) for name in scene.names}, work)
    arguments = {"target": str(work), "model": str(source_model), "photos": str(photos), "max_edge_px": max_edge_px}
    run_in_child("lgsfm.exporting.undistortion:undistort_in_child", arguments, log)
    model = read_reconstruction(work / "sparse")
    flat = flat_names([image.name for image in model.images.values()])
    (folder / "images").mkdir()
    for image in model.images.values():
        source = work / "images" / image.name
        if not source.is_file():
            last = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise ReconstructionError(f"COLMAP did not undistort the photo {image.name}. It says: {' '.join(last)}")
        target = folder / "images" / flat[image.name]
        source.rename(target)
        clear_orientation(target)
        image.name = flat[image.name]
    shutil.rmtree(work)
    log.unlink()
    return model


def _readable(scene: Scene, photos: dict[str, Path], folder: Path) -> tuple[Path, Path]:
    """The folders of a model and its photos as COLMAP can read them all: where it cannot, of copies in ``folder``."""
    unreadable = {name for name in photos if Path(name).suffix.lower() in UNREADABLE}
    if not unreadable:
        return scene.workspace.sparse / str(scene.number), scene.image_dir
    model = copy.deepcopy(scene.model)
    for image in model.images.values():
        name = f"{image.name}.png" if image.name in unreadable else image.name
        target = folder / "copies" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if image.name in unreadable:
            pycolmap.Bitmap.from_array(read_photo(photos[image.name], orientation=1).rgb).write(target)
        else:
            shutil.copyfile(photos[image.name], target)
        image.name = name
    (folder / "renamed").mkdir()
    write_model(model, folder / "renamed")
    return folder / "renamed", folder / "copies"


def undistort_in_child(
    report: Callable[[int, int], None], target: str, model: str, photos: str, max_edge_px: int
) -> dict[str, Any]:
    """What runs in a process of its own, which COLMAP may abort."""
    options = pycolmap.UndistortCameraOptions(max_image_size=max_edge_px or -1)
    pycolmap.undistort_images(target, model, photos, undistort_options=options)
    return {}
