"""Photos on disk: list the images of a folder, read the header of one, read one for a network.

Two frames of pixels, both with the centre of the top-left pixel at (0, 0):

stored   the image as the file holds it, unrotated and at full size. COLMAP, which ignores the EXIF
         orientation, works in it, and so do our feature files.
upright  the image as the EXIF orientation wants it seen. Networks look at it, resized.

`Photo.to_stored` leads from what the network saw to what the file holds.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import cv2
import numpy as np
from PIL import ExifTags
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from .errors import InputError
from .exif import Exif, read_exif, stored_to_upright, turn_upright, upright_size, upright_to_stored
from .mask_pixels import fitted, lies_across

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_MEGAPIXELS",
    "MIN_EDGE_PX",
    "Exif",
    "ImageHeader",
    "Photo",
    "file_digest",
    "list_images",
    "photo_from_array",
    "read_header",
    "read_photo",
    "stored_to_upright",
    "to_gray",
    "upright_size",
    "upright_to_stored",
    "walk_files",
]

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".pbm", ".pnm")
)
MIN_EDGE_PX = 16  # no network finds anything in a smaller photo
MAX_MEGAPIXELS = 500  # larger images are refused unread: a few kB can claim to hold terabytes

_FOREIGN_SUFFIXES = frozenset(  # photos, but of no format that we read
    (".heic", ".heif", ".avif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2")
)
_OPENERS: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    *((magic, TiffImageFile) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"BM", BmpImageFile),
    (b"RIFF", WebPImageFile),
    *((b"P%d" % kind, PpmImageFile) for kind in range(1, 7)),
)
_OPENCV_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_SILENT = 0
# OpenCV 4 has the function in its top module, OpenCV 5 in a deeper one
_set_opencv_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageHeader:
    """What a file says about its image before any pixel is decoded."""

    size: tuple[int, int]  # (width, height) px, stored
    exif: Exif


@dataclass(frozen=True, eq=False, kw_only=True)
class Photo:
    """An image as a network sees it, and the way back to the file."""

    rgb: np.ndarray  # (H, W, 3) uint8, C-contiguous; upright and resized
    size: tuple[int, int]  # (width, height) px of the stored image
    orientation: int  # EXIF code, 1 to 8
    scale: tuple[float, float]  # stored px per px of the resized image, along stored x and y
    digest: str  # sha256 of the file's bytes and of those of its masks, hexadecimal
    mask: np.ndarray | None = None  # (H, W) bool, of `rgb`: where keypoints are welcome; None is everywhere

    def to_stored(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) in px of `rgb` as px of the stored image; float32 stays float32, else float64."""
        points = np.asarray(points)
        resized = upright_size((self.rgb.shape[1], self.rgb.shape[0]), self.orientation)
        small = upright_to_stored(points.astype(np.float64), resized, self.orientation)
        full = (small + 0.5) * self.scale - 0.5
        return full.astype(np.float32) if points.dtype == np.float32 else full

    def shows(self, points: np.ndarray) -> np.ndarray:
        """(N,) bool: which points (N, 2) in px of the stored image no mask hides; those outside of it are hidden."""
        if self.mask is None:
            return np.ones(len(points), bool)
        height, width = self.mask.shape
        resized = upright_size((width, height), self.orientation)
        small = (np.asarray(points, np.float64) + 0.5) / self.scale - 0.5
        x, y = np.floor(stored_to_upright(small, resized, self.orientation) + 0.5).astype(int).T
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return inside & self.mask[y.clip(0, height - 1), x.clip(0, width - 1)]


def list_images(folder: Path) -> list[str]:
    """The images in ``folder`` and its sub-folders: relative POSIX paths, sorted by code point.

    An image is what has one of `IMAGE_SUFFIXES`, in any case. Hidden files and folders are left out. Links to
    folders are followed, except into a folder that they lie in. Raises `InputError` if there is no image.
    """
    folder = Path(folder)
    if not os.path.exists(folder):
        raise InputError(f"The image folder '{folder}' does not exist. Check the path.")
    if not os.path.isdir(folder):
        raise InputError(f"'{folder}' is not a folder. Give the folder that holds the photos.")
    names = sorted(walk_files(folder))
    images = [name for name in names if _suffix(name) in IMAGE_SUFFIXES]
    others = Counter(_suffix(name) for name in names if _suffix(name) not in IMAGE_SUFFIXES)
    if not images:
        raise InputError(_no_images(folder, others))
    for name in images:
        if any(ord(letter) < 32 for letter in name):  # tab and newline separate names in the pair file
            raise InputError(f"The name of {name!r} in '{folder}' has a control character. Rename the file.")
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # how Python reads bytes that are not UTF-8
            raise InputError(f"The name of {name!r} in '{folder}' is not UTF-8. Rename the file.")
    if unread := sum(others[suffix] for suffix in _FOREIGN_SUFFIXES):
        _log.warning("%d HEIC, AVIF or raw photos in '%s' are left out: convert them to JPEG", unread, folder)
    return images


def read_header(path: Path) -> ImageHeader:
    """Size and EXIF of an image file, without decoding pixels. Raises `InputError` if it is no image."""
    with _errors_named(path), open(path, "rb") as stream:
        return _open(stream)[1]


def read_photo(
    path: Path, max_edge_px: int | None = None, *, orientation: int | None = None, masks: Sequence[Path] = ()
) -> Photo:
    """The image of a file: 8-bit RGB, upright, its longer edge at most ``max_edge_px`` (never enlarged).

    ``orientation`` is the EXIF code of the view that is wanted; None means the one that the file names.
    16-bit samples are divided by 256. Transparency is dropped: the colour below stays, no background is made
    up. Of several pictures in a file the first is read. Large JPEGs are decoded at 1/2,
    1/4 or 1/8, the least that still covers the target, which is up to twice as fast.

    ``masks`` are image files of any size that show the stored image; where any of them is black, keypoints are
    not welcome; in a JPEG or WebP what is darker than 128. A pixel is masked if the masks hide any part of it.

    Raises `InputError`, with the path and the reason, if the file or a mask cannot be read, is no image, is
    truncated, or has more than `MAX_MEGAPIXELS`, and if a mask stands upright where the stored image lies.
    """
    if max_edge_px is not None and max_edge_px < 1:
        raise InputError(f"max_edge_px must be at least 1, not {max_edge_px}.")
    with _errors_named(path):
        data = Path(path).read_bytes()
        image, header = _open(io.BytesIO(data))
        _check_size(header.size)
        _check_end(data, image.format)
        target = _target_size(header.size, max_edge_px)
        bgr, scale = _decode(data, image.format, header.size, target)
        mask = _visible(masks, header.size, target, scale)
    code = header.exif.orientation if orientation is None else orientation
    rgb = cv2.cvtColor(turn_upright(bgr, code), cv2.COLOR_BGR2RGB)
    return Photo(
        rgb=rgb,
        size=header.size,
        orientation=code,
        scale=scale,
        digest=_with_masks(hashlib.sha256(data).hexdigest(), masks),
        mask=None if mask is None else turn_upright(mask, code),
    )


def photo_from_array(image: np.ndarray, max_edge_px: int | None = None, *, orientation: int = 1) -> Photo:
    """`read_photo` for pixels in memory: (H, W, 3) RGB or (H, W) grey, uint8. Raises `InputError` for others."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise InputError(
            f"An image in memory must be (H, W, 3) RGB or (H, W) grey of type uint8, not {image.shape} {image.dtype}."
        )
    if 0 in image.shape:
        raise InputError(f"The image in memory has no pixels: its shape is {image.shape}.")
    rgb = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image
    size = (image.shape[1], image.shape[0])
    target = _target_size(size, max_edge_px)
    resized = rgb if target == size else cv2.resize(rgb, target, interpolation=cv2.INTER_AREA)
    return Photo(
        rgb=turn_upright(resized, orientation),
        size=size,
        orientation=orientation,
        scale=(size[0] / target[0], size[1] / target[1]),
        digest=hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest(),
    )


def file_digest(path: Path, masks: Sequence[Path] = ()) -> str:
    """sha256 of the bytes of a file and its masks, hexadecimal: `Photo.digest` undecoded. Raises `InputError`."""
    with _errors_named(path), open(path, "rb") as stream:
        return _with_masks(hashlib.file_digest(stream, "sha256").hexdigest(), masks)


def to_gray(rgb: np.ndarray) -> np.ndarray:
    """Luma of an (H, W, 3) uint8 image as (H, W) float32 in [0, 1]: ITU-R BT.601, unrounded."""
    return cv2.cvtColor(rgb.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2GRAY)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def walk_files(folder: Path | str, prefix: str = "", above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Relative POSIX paths of the files below a folder, hidden ones left out; links to folders are followed.

    ``prefix`` stands before each; ``above`` identifies the folders around, into which a link would loop.
    """
    try:
        status = os.stat(folder)
        entries = list(os.scandir(folder))
    except OSError as exc:
        raise InputError(f"The folder '{folder}' cannot be listed: {exc.strerror}.") from exc
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if os.path.isdir(entry.path):
            yield from walk_files(entry.path, f"{prefix}{entry.name}/", (*above, identity))
        elif os.path.isfile(entry.path) or entry.is_symlink():  # a broken link is named when it is read
            yield f"{prefix}{entry.name}"


def _no_images(folder: Path, others: Counter[str]) -> str:
    kinds = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in others.most_common(5))
    found = f"; found {others.total()} other files: {kinds}" if others else "; the folder is empty"
    advice = " Convert these photos to JPEG or PNG." if _FOREIGN_SUFFIXES & others.keys() else ""
    looked_for = " ".join(sorted(IMAGE_SUFFIXES))
    return f"No images in '{folder}' or below (looked for {looked_for}{found}).{advice}"


class _UnusableError(Exception):
    """The reason why a file cannot be used, without its name."""


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """What goes wrong with the file becomes an `InputError` ``path: reason``."""
    try:
        yield
    except _UnusableError as exc:
        raise InputError(f"{path}: {exc}.") from exc.__cause__
    except FileNotFoundError as exc:
        raise InputError(f"{path}: the file does not exist.") from exc
    except IsADirectoryError as exc:
        raise InputError(f"{path}: is a folder, not an image.") from exc
    except PermissionError as exc:
        raise InputError(f"{path}: no permission to read it.") from exc
    except OSError as exc:
        raise InputError(f"{path}: cannot be read ({exc.strerror or exc}).") from exc
    except (MemoryError, cv2.error) as exc:
        raise InputError(f"{path}: decoding failed, perhaps for want of memory ({exc}).") from exc


def _open(stream: BinaryIO) -> tuple[ImageFile, ImageHeader]:
    """The image, no pixel decoded yet. Not by `PIL.Image.open`, which refuses a phone's 200 megapixels."""
    magic = stream.read(8)
    stream.seek(0)
    if not magic:
        raise _UnusableError("the file is empty (0 bytes)")
    for prefix, opener in _OPENERS:
        if magic.startswith(prefix):
            try:
                image = opener(stream)
                return image, ImageHeader(_stored_size(image), read_exif(image))
            except Exception as exc:  # a damaged header makes Pillow raise nearly anything
                raise _UnusableError(f"the header is damaged or truncated ({exc})") from exc
    raise _UnusableError("not an image of a format we read (JPEG, PNG, TIFF, BMP, WebP, PPM)")


def _stored_size(image: ImageFile) -> tuple[int, int]:
    if isinstance(image, TiffImageFile):  # newer versions of Pillow say the upright size of a TIFF
        return int(image.tag_v2[256]), int(image.tag_v2[257])
    return image.size


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise _UnusableError(f"the image has no pixels ({width} x {height})")
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        raise _UnusableError(
            f"{width} x {height} px is more than {MAX_MEGAPIXELS} megapixels; make it smaller or cut it up"
        )


# --------------------------------------------------------------------------------- masks
def _with_masks(digest: str, masks: Sequence[Path]) -> str:
    """The hash of a photo together with its masks; without any it stays as it is."""
    if not masks:
        return digest
    return hashlib.sha256("\n".join([digest, *map(file_digest, masks)]).encode()).hexdigest()


def _visible(
    masks: Sequence[Path], size: tuple[int, int], target: tuple[int, int], scale: tuple[float, float]
) -> np.ndarray | None:
    """(h, w) bool of the stored image, of (width, height) ``size``, at ``target`` size: what no mask hides.

    ``scale``: stored px per px in x and y.
    """
    visible = None
    for path in masks:
        try:
            mask = _mask_pixels(path)
        except InputError as exc:
            raise _UnusableError(f"its mask {str(exc).rstrip('.')}") from exc
        if lies_across(mask, size):
            raise _UnusableError(
                f"its mask {path} has {mask.shape[1]}x{mask.shape[0]} pixels, the stored photo {size[0]}x{size[1]}; "
                "masks show photos as they are stored, before EXIF turns them"
            )
        mask = fitted(mask, size, target, scale)
        visible = mask if visible is None else visible & mask
    return visible


def _mask_pixels(path: Path) -> np.ndarray:
    """(h, w) bool: where a mask is not black; transparency says nothing.

    Lossy compression leaves no pure black around edges, so what is darker than half counts as black there.
    """
    with _errors_named(path):
        data = Path(path).read_bytes()
        image, header = _open(io.BytesIO(data))
        _check_size(header.size)
        _check_end(data, image.format)
        with _quiet_opencv():
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise _UnusableError("cannot be decoded")
    brightest = pixels.reshape(*pixels.shape[:2], -1)[..., :3].max(axis=2)
    return np.asarray(brightest >= (128 if image.format in ("JPEG", "WEBP") else 1))


# --------------------------------------------------------------------------------- decoding
def _check_end(data: bytes, kind: str | None) -> None:
    """Some decoders take half a file and paint the rest grey, so look for the mark at the end ourselves.

    It may be followed by padding, a second picture or a video, as phones write.
    """
    if kind == "JPEG":
        whole = data.rfind(b"\xff\xd9", _jpeg_pixels(data)) >= 0
    else:
        whole = kind != "PNG" or data.rfind(b"IEND") >= 0
    if not whole:
        raise _UnusableError(f"truncated: the {kind} file breaks off after {len(data)} bytes; copy it again")


def _jpeg_pixels(data: bytes) -> int:
    """Offset of the first scan of a JPEG; before it, a thumbnail brings an end mark of its own."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        # 0xFF may be repeated as padding before a marker
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def _target_size(size: tuple[int, int], max_edge_px: int | None) -> tuple[int, int]:
    if max_edge_px is None or max(size) <= max_edge_px:
        return size
    shrink = max_edge_px / max(size)
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def _dct_denominator(size: tuple[int, int], target: tuple[int, int]) -> int:
    """The strongest of the reductions a JPEG decoder does for nothing that still covers ``target``."""
    for denominator in (8, 4, 2) if target != size else ():
        if all(-(-edge // denominator) >= wanted for edge, wanted in zip(size, target, strict=True)):
            return denominator
    return 1


def _decode(
    data: bytes, kind: str | None, size: tuple[int, int], target: tuple[int, int]
) -> tuple[np.ndarray, tuple[float, float]]:
    """Pixels (h, w, 3) uint8 BGR of the stored image at ``target`` size, and stored px per px in x and y."""
    if kind == "TIFF":
        data = _without_orientation(data)
    denominator = _dct_denominator(size, target) if kind == "JPEG" else 1
    reduced = (-(-size[0] // denominator), -(-size[1] // denominator))
    bgr = _decode_opencv(data, denominator)
    if bgr is None or bgr.shape != (reduced[1], reduced[0], 3):
        denominator, reduced, bgr = 1, size, _decode_pillow(data)
    if target != reduced:
        bgr = cv2.resize(bgr, target, interpolation=cv2.INTER_AREA)
    # A pixel of a reduced JPEG covers exactly `denominator` stored ones, the last perhaps beyond the edge.
    return bgr, (denominator * reduced[0] / target[0], denominator * reduced[1] / target[1])


def _decode_opencv(data: bytes, denominator: int) -> np.ndarray | None:
    flags = _OPENCV_FLAGS[denominator] | cv2.IMREAD_IGNORE_ORIENTATION
    with _quiet_opencv():
        try:
            return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            return None  # Pillow tries next, and says what is wrong


def _decode_pillow(data: bytes) -> np.ndarray:
    """The second opinion, for kinds of files that OpenCV does not read."""
    image, _ = _open(io.BytesIO(data))
    if image.mode[0] in "IF":  # Pillow would clip these to 8 bits, not scale them
        raise _UnusableError(f"samples of Pillow mode {image.mode} cannot be read; save it with 8 bits")
    try:
        return cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR)
    except Exception as exc:  # damaged pixels make Pillow raise nearly anything
        raise _UnusableError(f"truncated or damaged ({exc})") from exc


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV writes no warnings on stderr: they would tear the progress bar, and we report errors."""
    before = _set_opencv_log_level(_SILENT)
    try:
        yield
    finally:
        # Another thread may have silenced it first: then that one restores.
        if before != _SILENT:
            _set_opencv_log_level(before)


def _without_orientation(tiff: bytes) -> bytes:
    """The TIFF with orientation 1 in its first directory: decoders turn TIFFs, and only TIFFs, unasked."""
    order = "<" if tiff[:2] == b"II" else ">"
    big = tiff[2:4] in (b"+\0", b"\0+")
    # classic and BigTIFF differ in: where the directory's offset is, its type, the type of the number of
    # entries, the length of an entry, where the value is in it
    at, offset, number, length, value = (8, "Q", "Q", 20, 12) if big else (4, "I", "H", 12, 8)
    patched = bytearray(tiff)
    try:
        (directory,) = struct.unpack_from(order + offset, tiff, at)
        (entries,) = struct.unpack_from(order + number, tiff, directory)
        first = directory + struct.calcsize(order + number)
        for entry in range(first, first + entries * length, length):
            if struct.unpack_from(order + "H", tiff, entry)[0] == ExifTags.Base.Orientation:
                struct.pack_into(order + "H", patched, entry + value, 1)
    except struct.error as exc:
        raise _UnusableError(f"the header is damaged or truncated ({exc})") from exc
    return bytes(patched)
