"""Cameras that are mounted together: the file that says so, COLMAP's ``rig_config.json``, is looked over early.

    [{"cameras": [
        {"image_prefix": "left/", "ref_sensor": true},
        {"image_prefix": "right/", "cam_from_rig_rotation": [1, 0, 0, 0], "cam_from_rig_translation": [-0.12, 0, 0]}]}]

Photos whose names differ by the prefix alone were taken at one moment and share a pose. Rotations are quaternions w, x,
y, z. Where a pose in the rig is missing, it is found from a model that is made without rigs first. Where the file tells
how far cameras are apart, COLMAP keeps to its unit of length.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .camera_groups import CameraGroup
from .errors import InputError, in_short, unknown_name
from .options import digest

__all__ = ["RigCamera", "camera_of", "check_rigs", "read_rigs", "rigs_digest", "split_by_rig"]

EXAMPLE = '[{"cameras": [{"image_prefix": "left/", "ref_sensor": true}, {"image_prefix": "right/"}]}]'
POSE = {"cam_from_rig_rotation": 4, "cam_from_rig_translation": 3}  # key -> numbers
INTRINSICS = ("camera_model_name", "camera_params")
KEYS = ("image_prefix", "ref_sensor", *POSE, *INTRINSICS)
UNIT = 1e-3  # by which the length of a quaternion may be off 1


@dataclass(frozen=True)
class RigCamera:
    """A camera of a rig."""

    prefix: str  # with which the names of its photos begin
    is_reference: bool  # whether the others' poses are told from it
    is_placed: bool  # whether its pose in the rig is known


def read_rigs(path: Path) -> list[list[RigCamera]]:
    """The cameras of each rig in a file. Raises `InputError` if it says nothing that COLMAP can use."""
    content = _content(path)
    if not isinstance(content, list) or not content:
        raise InputError(f"{path} must hold a list of rigs, such as {EXAMPLE}")
    return [_rig(f"{path}, rig {number}", rig) for number, rig in enumerate(content, start=1)]


def rigs_digest(file: str) -> str:
    """Hash of what a file of rigs says; "" without a file. Raises `InputError`."""
    return digest(_content(Path(file))) if file else ""


def check_rigs(path: Path, names: Sequence[str]) -> None:
    """Whether each photo belongs to one camera of a rig, and each camera has photos; and some were taken together.

    Raises:
        InputError: it is not so, or the file cannot be used.
    """
    rigs = read_rigs(path)
    prefixes = [camera.prefix for rig in rigs for camera in rig]
    of_photo = {name: [prefix for prefix in prefixes if name.startswith(prefix)] for name in names}
    if lost := [name for name, found in of_photo.items() if not found]:
        raise InputError(
            f"{path}: no image_prefix fits the photos {in_short(lost)}. Put them elsewhere, or add a rig for them."
        )
    if doubles := [name for name, found in of_photo.items() if len(found) > 1]:
        raise InputError(f"{path}: several of the image_prefixes fit the photos {in_short(doubles)}. Tell them apart.")
    counts = dict.fromkeys(prefixes, 0)
    for (prefix,) in of_photo.values():
        counts[prefix] += 1
    if empty := [prefix for prefix, count in counts.items() if not count]:
        raise InputError(f"{path}: there is no photo whose name begins with {in_short(empty)}.")
    for rig in rigs:
        moments = [
            {name.removeprefix(camera.prefix) for name in names if name.startswith(camera.prefix)} for camera in rig
        ]
        if len(rig) > 1 and len(set[str]().union(*moments)) == sum(map(len, moments)):
            first, second = (next(name for name in names if name.startswith(camera.prefix)) for camera in rig[:2])
            raise InputError(
                f"{path}: no two photos were taken at one moment. Their names must be the same behind the prefix, "
                f"unlike {first} and {second}."
            )


def camera_of(name: str, cameras: Sequence[RigCamera]) -> RigCamera | None:
    """The camera of a rig that took a photo, by its name."""
    return next((camera for camera in cameras if name.startswith(camera.prefix)), None)


def split_by_rig(groups: Sequence[CameraGroup], file: str) -> list[CameraGroup]:
    """Groups of photos that share a camera, so that no two cameras of a rig are one; as they are without a file."""
    if not file:
        return list(groups)
    cameras = [camera for rig in read_rigs(Path(file)) for camera in rig]
    return [
        replace(group, names=own)
        for group in groups
        for camera in [*cameras, None]
        if (own := tuple(name for name in group.names if camera_of(name, cameras) is camera))
    ]


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise InputError(f"The file of rigs '{path}' cannot be read: {exc.strerror}. Check --rig.") from exc
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{path} is no JSON: {exc}. An example of what is: {EXAMPLE}") from exc


def _rig(where: str, rig: Any) -> list[RigCamera]:
    entries = rig.get("cameras") if isinstance(rig, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{where} has no list of 'cameras'. An example: {EXAMPLE}")
    cameras = [_camera(f"{where}, camera {number}", entry) for number, entry in enumerate(entries, start=1)]
    if sum(camera.is_reference for camera in cameras) != 1:
        raise InputError(f"{where}: one of its cameras, and one only, must have 'ref_sensor': true.")
    return cameras


def _camera(where: str, entry: Any) -> RigCamera:
    if not isinstance(entry, dict) or not isinstance(entry.get("image_prefix"), str) or not entry["image_prefix"]:
        raise InputError(f"{where} has no 'image_prefix', with which the names of its photos begin.")
    for key in entry:
        if key not in KEYS:
            raise InputError(f"{where}: {unknown_name('key', key, KEYS)}")
    is_reference = entry.get("ref_sensor", False)
    if not isinstance(is_reference, bool):
        raise InputError(f"{where}: 'ref_sensor' must be true or false.")
    if taken := [key for key in INTRINSICS if key in entry]:
        raise InputError(f"{where}: '{taken[0]}' is not taken from here; say it with --cameras FILE.")
    for key, count in POSE.items():
        if key in entry and not _are_numbers(entry[key], count):
            raise InputError(f"{where}: '{key}' must be a list of {count} numbers.")
    is_placed = all(key in entry for key in POSE)
    if not is_placed and any(key in entry for key in POSE):
        raise InputError(f"{where} has a part of a pose: rotation and translation go together.")
    if is_placed and abs(math.hypot(*entry["cam_from_rig_rotation"]) - 1) > UNIT:
        raise InputError(f"{where}: 'cam_from_rig_rotation' must be a quaternion of length 1: w, x, y, z.")
    if is_placed and is_reference:
        raise InputError(f"{where}: the camera with 'ref_sensor' is where the rig is; it has no pose of its own.")
    return RigCamera(entry["image_prefix"], is_reference, is_placed or is_reference)


def _are_numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each) for each in value)
    )
