"""HEIC and AVIF photos: header and pixels.

Which way up such a photo is, a property of its own says (`irot`, `imir`), and the EXIF orientation is to be ignored
(ISO/IEC 23008-12, 6.5.10 and A.2.2). pillow-heif gives the picture turned already, and EXIF data with orientation 1:
the stored image is the upright one. Pillow gives an AVIF unturned, with the EXIF orientation that says the same as the
property.
"""

from __future__ import annotations

import importlib
import io
from typing import Any, BinaryIO

import numpy as np
from PIL import ImageFile

from .exif import Exif, read_exif
from .image_files import UnusableError
from .photo_formats import is_readable, pip_command

__all__ = ["decode_heif", "parse_heif"]


def parse_heif(stream: BinaryIO, kind: str) -> tuple[tuple[int, int], Exif]:
    """(width, height) px of the stored image, and its EXIF; no pixel is decoded.

    A damaged file makes the libraries raise nearly anything.

    Raises:
        UnusableError: the library for this kind, HEIC or AVIF, is not here.
    """
    image = _opened(stream, kind)
    return image.size, read_exif(image)


def decode_heif(data: bytes, kind: str) -> np.ndarray:
    """(h, w, 3) uint8 RGB of the stored image; of several the main one. Raises as `parse_heif`."""
    return np.asarray(_opened(io.BytesIO(data), kind).convert("RGB"))


def _opened(stream: BinaryIO, kind: str) -> ImageFile.ImageFile:
    if not is_readable(kind):
        library = "pillow-heif" if kind == "HEIC" else "a newer Pillow"
        article = "an" if kind == "AVIF" else "a"
        raise UnusableError(f"{article} {kind} photo, which needs {library}: {pip_command([kind])}")
    if kind == "AVIF":
        plugin: Any = importlib.import_module("PIL.AvifImagePlugin")  # absent from older Pillows
        image: ImageFile.ImageFile = plugin.AvifImageFile(stream)
    else:
        import pillow_heif

        image = pillow_heif.HeifImageFile(stream)
    return image
