"""The pixels of an image file: by OpenCV, and where that fails by Pillow."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from PIL import ExifTags

from .heif import decode_heif
from .image_checks import png_is_full
from .image_headers import ImageHeader, UnusableError, open_by_pillow
from .raw_photos import develop
from .tiff_tags import Tiff

__all__ = ["dct_denominator", "decode", "decode_mask", "quiet_opencv"]

_OPENCV_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_MOST_REDUCED = {"JPEG": 8, "RAW": 2}  # by what a decoder makes a picture smaller for nothing
_EXTRA_KINDS = ("HEIC", "AVIF", "RAW")
_SILENT = 0
# OpenCV 4 has the function in its top module, OpenCV 5 in a deeper one
_set_opencv_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel


def decode(data: bytes, header: ImageHeader, target: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float]]:
    """Pixels (h, w, 3) uint8 BGR of the stored image at ``target`` size, and stored px per px in x and y.

    Raises:
        UnusableError: no decoder makes an image of the size in the header from it.
    """
    size = header.size
    if header.kind == "TIFF":
        data = _without_orientation(data)
    denominator = min(_MOST_REDUCED.get(header.kind, 1), dct_denominator(size, target))
    reduced = (-(-size[0] // denominator), -(-size[1] // denominator))
    decoder = _decode_extra if header.kind in _EXTRA_KINDS else _decode_opencv_reduced
    bgr = decoder(data, header, denominator)
    if bgr is None or bgr.shape != (reduced[1], reduced[0], 3):
        denominator, reduced, bgr = 1, size, _decode_whole(data, header)
    if target != reduced:
        bgr = cv2.resize(bgr, target, interpolation=cv2.INTER_AREA)
    # A pixel of a reduced photo covers exactly `denominator` stored ones, the last perhaps beyond the edge.
    return bgr, (denominator * reduced[0] / target[0], denominator * reduced[1] / target[1])


def decode_mask(data: bytes, header: ImageHeader) -> np.ndarray:
    """(h, w) bool: where a mask is not black; transparency says nothing.

    Lossy compression leaves no pure black around edges, so what is darker than half counts as black there.
    Raises `UnusableError`.
    """
    if (pixels := _decode_opencv(data, cv2.IMREAD_UNCHANGED)) is None:
        raise UnusableError("cannot be decoded")
    brightest = pixels.reshape(*pixels.shape[:2], -1)[..., :3].max(axis=2)
    return np.asarray(brightest >= (128 if header.kind in ("JPEG", "WEBP", "AVIF") else 1))


def dct_denominator(size: tuple[int, int], target: tuple[int, int]) -> int:
    """The strongest of the reductions a JPEG decoder does for nothing that still covers ``target``."""
    for denominator in (8, 4, 2) if target != size else ():
        if all(-(-edge // denominator) >= wanted for edge, wanted in zip(size, target, strict=True)):
            return denominator
    return 1


def _decode_opencv_reduced(data: bytes, header: ImageHeader, denominator: int) -> np.ndarray | None:
    return _decode_opencv(data, _OPENCV_FLAGS[denominator] | cv2.IMREAD_IGNORE_ORIENTATION)


def _decode_extra(data: bytes, header: ImageHeader, denominator: int = 1) -> np.ndarray:
    """Photos that need a library of an extra; only raw ones can be had smaller."""
    try:
        is_raw = header.kind == "RAW"
        rgb = develop(data, is_half=denominator == 2) if is_raw else decode_heif(data, header.kind)
    except (UnusableError, MemoryError):
        raise
    except Exception as exc:  # each of these libraries raises errors of its own
        raise UnusableError(f"truncated, damaged, or a kind of {header.kind} that cannot be read ({exc})") from exc
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


def _decode_opencv(data: bytes, flags: int) -> np.ndarray | None:
    with quiet_opencv():
        try:
            return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            return None


def _decode_whole(data: bytes, header: ImageHeader) -> np.ndarray:
    """(h, w, 3) uint8 BGR of the size in the header, where the first decoder or a smaller picture did not do."""
    bgr = _decode_extra(data, header) if header.kind in _EXTRA_KINDS else _decode_pillow(data, header)
    if bgr.shape[1::-1] != header.size:
        raise UnusableError(f"damaged (a size of {header.size} in the header, of {bgr.shape[1::-1]} in the pixels)")
    return bgr


def _decode_pillow(data: bytes, header: ImageHeader) -> np.ndarray:
    """The second opinion, for kinds of files that OpenCV does not read."""
    if header.kind == "PNG" and not png_is_full(data):
        raise UnusableError("truncated or damaged (its pixels are fewer than its size says)")
    try:
        image = open_by_pillow(io.BytesIO(data), header.kind)
        if image.mode[0] in "IF":  # Pillow would clip these to 8 bits, not scale them
            raise UnusableError(f"samples of Pillow mode {image.mode} cannot be read; save it with 8 bits")
        return cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR)
    except (UnusableError, MemoryError):
        raise
    except Exception as exc:  # damaged pixels make Pillow raise nearly anything
        raise UnusableError(f"truncated or damaged ({exc})") from exc


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV writes no warnings on stderr: they would tear the progress bar, and we report errors."""
    before = _set_opencv_log_level(_SILENT)
    try:
        yield
    finally:
        # Another thread may have silenced it first: then that one restores.
        if before != _SILENT:
            _set_opencv_log_level(before)


def _without_orientation(data: bytes) -> bytes:
    """The TIFF with orientation 1 in its first directory: decoders turn TIFFs, and only TIFFs, unasked."""
    tiff = Tiff(io.BytesIO(data))
    patched = bytearray(data)
    for entry in tiff.entries():
        if entry.tag == ExifTags.Base.Orientation:
            struct.pack_into(tiff.order + "H", patched, entry.place, 1)
    return bytes(patched)
