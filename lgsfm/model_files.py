"""The binary files of a COLMAP model, looked over before COLMAP reads them and after it wrote them.

COLMAP believes the lengths in a file: of one that was cut off it takes the rest from thin air, and a track of 10^12
images takes all memory before anything is noticed. And it writes to a full disk without a word. The walk here takes
0.2 s for a million points.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from struct import Struct, error
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pycolmap

__all__ = ["check_lengths", "num_images", "write_model"]

BINARY = ("cameras.bin", "images.bin", "points3D.bin")
COUNT = Struct("<Q")
# After what is said here comes an array: so many bytes of each of its elements. COLMAP, src/colmap/scene/
# reconstruction_io_binary.cc
CAMERA = Struct("<2I2Q")  # number, model, width, height; then the parameters
PARAMETER = 8
NUM_PARAMETERS = (3, 4, 4, 5, 8, 8, 12, 5, 4, 5, 12, 16)  # by number of the model, SIMPLE_PINHOLE first
POINT = Struct("<Q3d3BdQ")  # number, position, colour, error, length of the track
TRACK_ELEMENT = 8
IMAGE = Struct("<I7dI")  # number, pose, camera; then the name
KEYPOINT = 24
RIG = Struct("<2I")  # number, sensors; then the first sensor, and the others with poses
SENSOR = 8
SENSOR_POSE = Struct("<8x?")  # sensor, whether its pose follows
POSE = 56
FRAME = Struct("<2I7dI")  # number, rig, pose, images
FRAME_IMAGE = 16


def check_lengths(folder: Path) -> None:
    """Raises `ValueError` if a binary file of a model in a folder is shorter than the lengths in it say."""
    if not all((folder / name).is_file() for name in BINARY):
        return  # COLMAP reads the text files then
    for name, after in AFTER.items():
        path = folder / name
        if not path.is_file():  # older versions know no rigs and frames
            continue
        with path.open("rb") as file:
            size = path.stat().st_size
            if size < COUNT.size:
                raise ValueError(f"{name} is cut off")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                place = COUNT.size
                try:
                    for _ in repeat(None, COUNT.unpack_from(data)[0]):
                        place = after(data, place)
                except _UnknownModelError:
                    continue
                except (error, OverflowError):  # there is nothing at this place, nor can there be
                    place = size + 1
            if place > size:
                raise ValueError(f"{name} is cut off, or a length in it is wrong")


def num_images(folder: Path) -> int:
    """The registered images of a model by the head of its binary file; 0 if there is none."""
    try:
        with (folder / "images.bin").open("rb") as file:
            return int(COUNT.unpack(file.read(COUNT.size))[0])
    except (OSError, error):
        return 0


def write_model(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Writes the binary files of a model into a folder, which is there; all of them, or it raises OSError."""
    try:
        model.write(folder)
        check_lengths(folder)
    except (RuntimeError, ValueError) as exc:  # the first is COLMAP's
        raise OSError(f"{folder}: {str(exc).partition(chr(10))[0]}") from exc
    cameras = [CAMERA.size + PARAMETER * len(camera.params) for camera in model.cameras.values()]
    if (folder / "cameras.bin").stat().st_size != COUNT.size + sum(cameras):
        raise OSError(f"{folder}: cameras.bin is cut off")


def _after_camera(data: mmap.mmap, place: int) -> int:
    model = CAMERA.unpack_from(data, place)[1]
    if model >= len(NUM_PARAMETERS):
        raise _UnknownModelError
    return place + CAMERA.size + PARAMETER * NUM_PARAMETERS[model]


class _UnknownModelError(Exception):
    """A camera model of which only COLMAP knows how many parameters it has."""


def _after_point(data: mmap.mmap, place: int) -> int:
    length = POINT.unpack_from(data, place)[-1]
    return place + POINT.size + TRACK_ELEMENT * length


def _after_image(data: mmap.mmap, place: int) -> int:
    IMAGE.unpack_from(data, place)
    end = data.find(b"\0", place + IMAGE.size)
    if end < 0:
        raise error
    return end + 1 + COUNT.size + KEYPOINT * COUNT.unpack_from(data, end + 1)[0]


def _after_rig(data: mmap.mmap, place: int) -> int:
    _, sensors = RIG.unpack_from(data, place)
    place += RIG.size + (SENSOR if sensors else 0)
    for _ in range(sensors - 1):
        place += SENSOR_POSE.size + (POSE if SENSOR_POSE.unpack_from(data, place)[0] else 0)
    return place


def _after_frame(data: mmap.mmap, place: int) -> int:
    return place + FRAME.size + FRAME_IMAGE * FRAME.unpack_from(data, place)[-1]


AFTER: dict[str, Callable[[mmap.mmap, int], int]] = {
    "cameras.bin": _after_camera,
    "rigs.bin": _after_rig,
    "frames.bin": _after_frame,
    "images.bin": _after_image,
    "points3D.bin": _after_point,
}
