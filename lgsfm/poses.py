"""Camera poses from files: COLMAP models and text.

Rotations are cam_from_world, cameras look along +z with x right and y down, and centres are in world units.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import InputError
from .model_files import check_lengths

if TYPE_CHECKING:
    import pycolmap

__all__ = [
    "CameraPose",
    "SharedPoints",
    "count_shared_points",
    "load_poses",
    "read_reconstruction",
    "read_shared_points",
    "registered_names",
]


@dataclass(frozen=True, eq=False)
class CameraPose:
    """Where a camera is; finite numbers only.

    rotation: (3, 3) float64, cam_from_world
    centre: (3,) float64 [world units], the position of the camera in the world
    """

    rotation: np.ndarray
    centre: np.ndarray

    def __post_init__(self) -> None:
        if self.rotation.shape != (3, 3) or self.centre.shape != (3,):
            found = f"{self.rotation.shape} and {self.centre.shape}"
            raise InputError(f"CameraPose: needs a (3, 3) rotation and a (3,) centre, not {found}.")
        if not (np.isfinite(self.rotation).all() and np.isfinite(self.centre).all()):
            raise InputError("CameraPose: the rotation or the centre is not finite.")


def load_poses(path: str | os.PathLike[str]) -> dict[str, CameraPose]:
    """Image name -> pose, from a COLMAP model or a text file.

    A folder may be a model (.bin or .txt), hold numbered models (0, 1, ...) or hold such a folder ``sparse``,
    as lgsfm's output does; of several models the one with the most images is taken. A text file has lines
    ``image qw qx qy qz cx cy cz`` (rotation cam_from_world, centre in the world) and comments (``# ...``).
    Raises `InputError` if there is nothing to read, or if it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        # max() takes the first of equals: the model with the lowest number
        poses = max((_read_model(folder) for folder in _model_folders(path)), key=len)
    elif not path.exists():
        raise InputError(f"No model or pose file at '{path}'. Check the path.")
    elif path.suffix == ".bin" or path.name in ("images.txt", "cameras.txt", "points3D.txt"):
        raise InputError(f"'{path}' is one file of a COLMAP model. Give its folder: '{path.parent}'.")
    else:
        poses = _read_text(path)
    if not poses:
        raise InputError(f"'{path}' has no image with a pose. Was the reconstruction finished?")
    return poses


def _model_folders(path: Path) -> list[Path]:
    """The COLMAP models that ``path`` stands for: itself, or numbered ones in it or in its ``sparse``."""
    for folder in (path, path / "sparse"):
        if _is_model(folder):
            return [folder]
        children = folder.iterdir() if folder.is_dir() else ()
        numbered = [child for child in children if child.name.isdecimal() and _is_model(child)]
        if numbered:
            return sorted(numbered, key=lambda child: int(child.name))
    raise InputError(
        f"No COLMAP model in '{path}': no images.bin or images.txt in it, in its folder 'sparse', or in a "
        "numbered folder (0, 1, ...) of these. Give the folder of a model, or of lgsfm's output."
    )


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("images.bin", "images.txt"))


def read_reconstruction(path: Path) -> pycolmap.Reconstruction:
    """The COLMAP model that a folder is or holds, the one with the most images; folders as for `load_poses`.

    Raises:
        InputError: there is none, or it is damaged.
    """
    if not path.is_dir():
        raise InputError(f"No folder of a COLMAP model at '{path}'. Check the path.")
    return max((_read_folder(folder) for folder in _model_folders(path)), key=lambda model: model.num_reg_images())


@dataclass(frozen=True, eq=False)
class SharedPoints:
    """Which 3D points of a COLMAP model its registered images see.

    names: of the N images, sorted
    seen: of each image the numbers of its points
    tracks: of each point the numbers of the images that see it
    """

    names: list[str]
    seen: list[list[int]]
    tracks: list[np.ndarray]

    def counts(self, rows: Sequence[int]) -> np.ndarray:
        """(len(rows), N) int32: how many points these images have in common with all; with themselves 0."""
        counts = np.zeros((len(rows), len(self.names)), np.int32)
        for count, image in zip(counts, rows, strict=True):
            if self.seen[image]:
                partners = np.concatenate([self.tracks[point] for point in self.seen[image]])
                count += np.bincount(partners, minlength=len(count)).astype(np.int32)
                count[image] = 0
        return counts


def read_shared_points(path: Path) -> SharedPoints:
    """Who sees what in a COLMAP model; folders as for `load_poses`.

    Raises:
        InputError: there is no model, or it is damaged, or it has no points.
    """
    model = _model_with_points(path)
    images = sorted((model.image(number).name, number) for number in model.reg_image_ids())
    place = {number: i for i, (_, number) in enumerate(images)}
    seen: list[list[int]] = [[] for _ in images]
    tracks = []
    for number, point in enumerate(model.points3D.values()):
        with _damage_named(path):  # an image that has no pose, or is not there
            track = sorted({place[element.image_id] for element in point.track.elements})
        tracks.append(np.array(track, np.int32))
        for image in track:
            seen[image].append(number)
    return SharedPoints([name for name, _ in images], seen, tracks)


def registered_names(path: Path) -> list[str]:
    """The names of the registered images of a COLMAP model, sorted. Raises as `read_shared_points`."""
    model = _model_with_points(path)
    return sorted(model.image(number).name for number in model.reg_image_ids())


def count_shared_points(path: Path) -> tuple[list[str], np.ndarray]:
    """The names of `read_shared_points`, and (N, N) int32: how many 3D points two images see; the diagonal is 0."""
    shared = read_shared_points(path)
    return shared.names, shared.counts(range(len(shared.names)))


def _model_with_points(path: Path) -> pycolmap.Reconstruction:
    model = read_reconstruction(path)
    if not model.points3D:
        raise InputError(f"The COLMAP model in '{path}' has no 3D points, so no two images share any.")
    return model


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """What COLMAP, or what asks it, finds wrong with a model becomes an `InputError`."""
    try:
        yield
    except (LookupError, MemoryError, OSError, OverflowError, RuntimeError, ValueError) as exc:
        raise InputError(f"The COLMAP model in '{folder}' is incomplete or damaged ({exc}). Write it again.") from exc


def _read_folder(folder: Path) -> pycolmap.Reconstruction:
    import pycolmap

    with _damage_named(folder):
        check_lengths(folder)
        model = pycolmap.Reconstruction(folder)
        for image in model.images.values():
            _ = image.name  # raises unless it is UTF-8
            if image.has_pose:
                image.cam_from_world()  # raises without the pose of its camera in the rig
        return model


def _read_model(folder: Path) -> dict[str, CameraPose]:
    images = [image for image in _read_folder(folder).images.values() if image.has_pose]
    matrices = [(image.name, np.asarray(image.cam_from_world().matrix(), float)) for image in images]
    if len({name for name, _ in matrices}) < len(matrices):
        raise InputError(
            f"Several images of the COLMAP model in '{folder}' have the same name. (COLMAP cuts the names in "
            "images.txt at the first space; save the model in the binary format.)"
        )
    # an image whose pose is not a number is as good as not registered
    return {name: CameraPose(m[:, :3], -m[:, :3].T @ m[:, 3]) for name, m in matrices if np.isfinite(m).all()}


def _read_text(path: Path) -> dict[str, CameraPose]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: names may hold other breaks
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"Cannot read '{path}' as a text file of poses: {exc}.") from exc
    poses: dict[str, CameraPose] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"'{path}', line {number}"
        name, pose = _parse_line(line, where)
        if name in poses:
            raise InputError(f"{where}: image '{name}' occurs twice. Remove one of the lines.")
        poses[name] = pose
    return poses


def _parse_line(line: str, where: str) -> tuple[str, CameraPose]:
    """Name and pose of one line; the numbers are taken from the right, as names may contain spaces."""
    try:
        name, *fields = line.strip().rsplit(maxsplit=7)
        values = np.array([float(field) for field in fields])
        if len(values) != 7 or not np.isfinite(values).all() or not values[:4].any():
            raise ValueError
    except ValueError:
        raise InputError(
            f"{where}: expected 'image qw qx qy qz cx cy cz' with a finite pose, found '{line.strip()}'."
        ) from None
    return name, CameraPose(_rotation(values[:4]), values[4:])


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """The (3, 3) rotation of a quaternion (w, x, y, z) of any length above 0."""
    w, *v = quaternion / np.linalg.norm(quaternion)
    K = np.cross(np.eye(3), v)  # K @ u == cross(v, u)
    return np.eye(3) + 2 * w * K + 2 * K @ K
