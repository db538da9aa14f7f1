"""The header of an image file: its format, size and EXIF, and whether it is too large to be read.

Files come from anybody: what a header claims is checked before anything is made of it.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
from PIL import ExifTags
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from .errors import InputError
from .exif import Exif, exif_of, read_exif
from .heif import parse_heif
from .image_files import NoFileError, UnusableError
from .input_kinds import AVIF_BRANDS, HEIF_BRANDS, RAW_BRANDS, brands
from .raw_photos import RAW_MAGIC, is_raw_tiff, parse_raw
from .tiff_tags import Tiff, TiffError

__all__ = [
    "MAX_MEGAPIXELS",
    "ImageHeader",
    "UnusableError",
    "errors_named",
    "max_megapixels",
    "open_by_pillow",
    "parse_header",
    "read_whole",
]

MAX_MEGAPIXELS = 500  # larger images are refused unread; LGSFM_MAX_MEGAPIXELS sets another limit
_BYTES_PER_PIXEL = 8  # of a file: 16-bit RGBA, not compressed
_TOO_LARGE = "make it smaller or cut it up, or raise the limit: LGSFM_MAX_MEGAPIXELS"
_HEAD_BYTES = 160  # all brands that are looked at
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    *((magic, "TIFF") for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"BM", "BMP"),
    (b"RIFF", "WEBP"),
    *((b"P%d" % kind, "PPM") for kind in range(1, 7)),
    *((magic, "RAW") for magic in RAW_MAGIC),
)


class _Jpeg(JpegImageFile):
    """Without the resolution that Pillow looks for in the EXIF data, whatever that claims to hold."""

    def _read_dpi_from_exif(self) -> None:
        pass


_OPENERS: dict[str, type[ImageFile]] = {
    "JPEG": _Jpeg,
    "PNG": PngImageFile,
    "TIFF": TiffImageFile,
    "BMP": BmpImageFile,
    "WEBP": WebPImageFile,
    "PPM": PpmImageFile,
}


@dataclass(frozen=True)
class ImageHeader:
    """What a file says about its image before any pixel is decoded."""

    size: tuple[int, int]  # (width, height) px, stored
    exif: Exif
    kind: str = ""  # JPEG, PNG, TIFF, BMP, WEBP, PPM, HEIC, AVIF or RAW


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """What goes wrong with the file becomes an `InputError` ``path: reason``."""
    try:
        yield
    except UnusableError as exc:
        raise InputError(f"{path}: {exc}.") from exc.__cause__
    except NoFileError as exc:
        raise InputError(f"{path}: {exc}.") from exc
    except FileNotFoundError as exc:
        raise InputError(f"{path}: the file does not exist.") from exc
    except IsADirectoryError as exc:
        raise InputError(f"{path}: is a folder, not a file.") from exc
    except PermissionError as exc:
        raise InputError(f"{path}: no permission to read it.") from exc
    except OSError as exc:
        raise InputError(f"{path}: cannot be read ({exc.strerror or exc}).") from exc
    except (MemoryError, cv2.error) as exc:
        raise InputError(f"{path}: decoding failed, perhaps for want of memory ({exc}).") from exc


def max_megapixels() -> float:
    """How large an image may be: `MAX_MEGAPIXELS`, or what LGSFM_MAX_MEGAPIXELS says.

    Raises:
        InputError: that is no positive number.
    """
    text = os.environ.get("LGSFM_MAX_MEGAPIXELS", "").strip()
    if not text:
        return MAX_MEGAPIXELS
    with contextlib.suppress(ValueError):
        if math.isfinite(limit := float(text)) and limit > 0:
            return limit
    raise InputError(f"LGSFM_MAX_MEGAPIXELS must be a positive number of megapixels, not '{text}'.")


def parse_header(stream: BinaryIO) -> ImageHeader:
    """Format, size and EXIF of an image, no pixel decoded. Raises `UnusableError`."""
    kind = _kind_of(stream)
    try:
        header = _PARSERS.get(kind, _parse_by_pillow)(stream, kind)
    except UnusableError:
        raise
    except Exception as exc:  # a damaged header makes Pillow raise nearly anything
        raise UnusableError(f"the header is damaged or truncated ({exc})") from exc
    if min(header.size) < 1:
        raise UnusableError(f"the image has no pixels ({header.size[0]} x {header.size[1]})")
    return header


def _kind_of(stream: BinaryIO) -> str:
    """The format of an image by its first bytes; raises `UnusableError` if it is none that we read."""
    head = stream.read(_HEAD_BYTES)
    if not head:
        raise UnusableError("the file is empty (0 bytes)")
    kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), "")
    if found := brands(head):  # AVIF first: such files claim to be HEIF, too
        of_brands = ((AVIF_BRANDS, "AVIF"), (HEIF_BRANDS, "HEIC"), (RAW_BRANDS, "RAW"))
        kind = next((kind for known, kind in of_brands if found & known), "")
    if kind == "TIFF" and is_raw_tiff(stream):
        kind = "RAW"
    if not kind:
        raise UnusableError("not an image of a format we read (JPEG, PNG, TIFF, BMP, WebP, PPM, HEIC, AVIF, raw)")
    stream.seek(0)
    return kind


def open_by_pillow(stream: BinaryIO, kind: str) -> ImageFile:
    """The image, no pixel decoded yet. Not by `PIL.Image.open`, which refuses a phone's 200 megapixels.

    A damaged header makes Pillow raise nearly anything.
    """
    return _OPENERS[kind](stream)


def _parse_by_pillow(stream: BinaryIO, kind: str) -> ImageHeader:
    image = open_by_pillow(stream, kind)
    return ImageHeader(image.size, read_exif(image), kind)


def _parse_tiff(stream: BinaryIO, kind: str) -> ImageHeader:
    tiff = Tiff(stream)
    entries = tiff.directory()
    width, height = (tiff.value(entries[tag]) for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength))
    if not isinstance(width, int) or not isinstance(height, int):
        raise TiffError("no width and height")
    return ImageHeader((width, height), exif_of(stream), kind)


def _parse_webp(stream: BinaryIO, kind: str) -> ImageHeader:
    """Not by Pillow, which makes two canvases of the size that the header claims."""
    chunks: dict[bytes, bytes] = {}
    length = int.from_bytes(stream.read(12)[4:8], "little")
    while stream.tell() < length + 8 and len(head := stream.read(8)) == 8:
        size = int.from_bytes(head[4:], "little")
        keep = head[:4] in (b"VP8X", b"VP8 ", b"VP8L", b"EXIF", b"XMP ") and head[:4] not in chunks
        if keep:
            chunks[head[:4]] = stream.read(size if head[:4] in (b"EXIF", b"XMP ") else min(size, 16))
            stream.seek(size - len(chunks[head[:4]]), io.SEEK_CUR)
        else:
            stream.seek(size, io.SEEK_CUR)
        stream.seek(size % 2, io.SEEK_CUR)
    exif = exif_of(io.BytesIO(chunks.get(b"EXIF", b"").removeprefix(b"Exif\0\0")), chunks.get(b"XMP ", b""))
    if extended := chunks.get(b"VP8X"):
        width, height = (1 + int.from_bytes(extended[at : at + 3], "little") for at in (4, 7))
    elif lossless := chunks.get(b"VP8L"):
        bits = int.from_bytes(lossless[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (number & 0x3FFF for number in struct.unpack_from("<HH", chunks[b"VP8 "], 6))
    return ImageHeader((width, height), exif, kind)


def _parse_heif(stream: BinaryIO, kind: str) -> ImageHeader:
    _check_bytes(stream)  # which the library reads at once
    return ImageHeader(*parse_heif(stream, kind), kind)


def _parse_raw(stream: BinaryIO, kind: str) -> ImageHeader:
    _check_bytes(stream)
    return ImageHeader(*parse_raw(stream), kind)


_PARSERS = {"TIFF": _parse_tiff, "WEBP": _parse_webp, "HEIC": _parse_heif, "AVIF": _parse_heif, "RAW": _parse_raw}


def read_whole(stream: BinaryIO) -> tuple[bytes, ImageHeader]:
    """All bytes of an image file, and its header, if neither the file nor the image is too large.

    Raises:
        UnusableError: one is, or it is no image.
    """
    header = parse_header(stream)
    width, height = header.size
    limit = max_megapixels()
    if width * height > limit * 1e6:
        raise UnusableError(f"{width} x {height} px is more than {limit:g} megapixels; {_TOO_LARGE}")
    num_bytes = _check_bytes(stream)
    return stream.read(num_bytes), header


def _check_bytes(stream: BinaryIO) -> int:
    """How many bytes a file has; the stream is at its start then. Raises `UnusableError` if no image needs so many."""
    num_bytes, limit = stream.seek(0, io.SEEK_END), max_megapixels()
    if num_bytes > _BYTES_PER_PIXEL * limit * 1e6:
        raise UnusableError(
            f"its {num_bytes / 1e9:.1f} GB are more than an image of {limit:g} megapixels needs; {_TOO_LARGE}"
        )
    stream.seek(0)
    return num_bytes
