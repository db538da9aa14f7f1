"""Colours of points from photos that COLMAP cannot read, or reads otherwise: of raw ones it takes the bare sensor.

Without this the points that only such photos see would be black.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import pycolmap

from ..errors import InputError
from ..image_files import image_path
from ..images import read_photo
from ..photo_formats import EXTRA_SUFFIXES

__all__ = ["MISREAD_SUFFIXES", "recolour"]

MISREAD_SUFFIXES = frozenset((".webp", *EXTRA_SUFFIXES))  # by the COLMAP of the wheels
EDGE_PX = 1024  # that photos are reduced to: a colour needs no more


def recolour(model: pycolmap.Reconstruction, image_dir: Path) -> None:
    """Gives each point that such photos see the mean of its colours in them; a photo that cannot be read has no say."""
    sums: dict[int, np.ndarray] = {}  # red, green, blue and 1 of each sight of a point
    for image in model.images.values():
        if image.has_pose and PurePosixPath(image.name).suffix.lower() in MISREAD_SUFFIXES:
            with suppress(InputError):
                for number, colour in _sights(image, image_dir):
                    sums[number] = sums.get(number, np.zeros(4)) + np.append(colour, 1)
    for number, total in sums.items():
        model.points3D[number].color = np.round(total[:3] / total[3]).astype(np.uint8)


def _sights(image: pycolmap.Image, image_dir: Path) -> list[tuple[int, np.ndarray]]:
    """The points that an image sees, each with its colour there, (3,) uint8."""
    seen = [(point.point3D_id, point.xy) for point in image.points2D if point.has_point3D()]
    if not seen:
        return []
    photo = read_photo(image_path(image_dir, image.name), EDGE_PX, orientation=1)
    numbers, places = zip(*seen, strict=True)
    height, width = photo.rgb.shape[:2]
    x, y = np.clip(np.floor(np.array(places) / photo.scale), 0, (width - 1, height - 1)).astype(int).T
    return list(zip(numbers, photo.rgb[y, x], strict=True))
