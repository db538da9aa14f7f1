"""A database whose images are in rigs, as a file says; the database of the run stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pycolmap

from ..errors import InputError, ReconstructionError
from ..rigs import RigCamera, camera_of, read_rigs

__all__ = ["copy_database", "rigged"]


def rigged(database: Path, file: Path, copy: Path, map_apart: Callable[[], list[pycolmap.Reconstruction]]) -> Path:
    """A copy of a database with rigs.

    Args:
        database: of images that are not in rigs.
        file: COLMAP's rig_config.json, looked over by `lgsfm.rigs`.
        copy: where it goes.
        map_apart: makes models of the database without rigs; from the best one the poses of those cameras in the rig
            come that the file does not tell.

    Raises:
        InputError: two cameras of a rig are one in the database.
        ReconstructionError: there is no model, or it does not hold what it takes.
    """
    cameras = [camera for rig in read_rigs(file) for camera in rig]
    unknown = [camera.prefix for camera in cameras if not camera.is_placed]
    copy_database(database, copy)
    _check_cameras(copy, cameras)
    models = sorted(map_apart(), key=lambda model: -model.num_reg_images()) if unknown else []
    if unknown and not models:
        raise ReconstructionError(
            f"No model without rigs, from which the poses of {', '.join(unknown)} in the rig could come. Give them in "
            f"{file}: cam_from_rig_rotation and cam_from_rig_translation."
        )
    untold = ReconstructionError(
        "The model without rigs has no moment at which both the reference camera and another one of its rig are "
        f"registered, so it does not tell how they are mounted. Give their poses in {file}."
    )
    configs = pycolmap.read_rig_config(file)
    handle = pycolmap.Database.open(copy)
    try:
        pycolmap.apply_rig_config(configs, handle, *models[:1])
        poses = [pose for rig in handle.read_all_rigs() for pose in rig.non_ref_sensors.values()]
    except RuntimeError as exc:  # how COLMAP says it
        if unknown:
            raise untold from exc
        raise
    finally:
        handle.close()
    if None in poses:
        raise untold
    return copy


def _check_cameras(database: Path, cameras: list[RigCamera]) -> None:
    """COLMAP would make a camera for one of the two, and lose it on the way."""
    handle = pycolmap.Database.open(database)
    try:
        pairs = {(image.camera_id, camera_of(image.name, cameras)) for image in handle.read_all_images()}
    finally:
        handle.close()
    if len(pairs) > len({number for number, _ in pairs}):
        raise InputError("The database was made without --rig: its cameras are one. Run `lgsfm database` with --rig.")


def copy_database(database: Path, copy: Path) -> None:
    """Copies a database with what a killed process did not settle."""
    for suffix in ("", "-wal"):
        if Path(f"{database}{suffix}").exists():
            shutil.copyfile(f"{database}{suffix}", f"{copy}{suffix}")
