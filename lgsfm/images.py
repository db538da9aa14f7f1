"""Photos on disk: list the images of a folder, read the header of one, read one for a network.

Two frames of pixels, both with the centre of the top-left pixel at (0, 0):

stored   the image as the file holds it, unrotated and at full size. COLMAP, which ignores the EXIF
         orientation, works in it, and so do our feature files.
upright  the image as the EXIF orientation wants it seen. Networks look at it, resized.

`Photo.to_stored` leads from what the network saw to what the file holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .decoding import decode, decode_mask
from .errors import InputError
from .exif import Exif, stored_to_upright, turn_upright, upright_size, upright_to_stored
from .image_checks import check_whole
from .image_files import IMAGE_SUFFIXES, image_path, list_images, open_file, walk_files
from .image_headers import MAX_MEGAPIXELS, ImageHeader, UnusableError, errors_named, parse_header, read_whole
from .mask_pixels import fitted, lies_across

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_MEGAPIXELS",
    "MIN_EDGE_PX",
    "Exif",
    "ImageHeader",
    "Photo",
    "file_digest",
    "image_path",
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

MIN_EDGE_PX = 16  # no network finds anything in a smaller photo


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


def read_header(path: Path) -> ImageHeader:
    """Size and EXIF of an image file, without decoding pixels. Raises `InputError` if it is no image."""
    with errors_named(path), open_file(path) as stream:
        return parse_header(stream)


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
    truncated, or has more megapixels than `MAX_MEGAPIXELS` or the environment variable LGSFM_MAX_MEGAPIXELS allows,
    and if a mask stands upright where the stored image lies.
    """
    if max_edge_px is not None and max_edge_px < 1:
        raise InputError(f"max_edge_px must be at least 1, not {max_edge_px}.")
    with errors_named(path):
        data, header = _read_file(path)
        target = _target_size(header.size, max_edge_px)
        bgr, scale = decode(data, header, target)
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
    with errors_named(path), open_file(path) as stream:
        return _with_masks(hashlib.file_digest(stream, "sha256").hexdigest(), masks)


def to_gray(rgb: np.ndarray) -> np.ndarray:
    """Luma of an (H, W, 3) uint8 image as (H, W) float32 in [0, 1]: ITU-R BT.601, unrounded."""
    return cv2.cvtColor(rgb.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2GRAY)


def _read_file(path: Path) -> tuple[bytes, ImageHeader]:
    """The bytes of a whole image file of allowed size, and its header. Raises `UnusableError`, OSError."""
    with open_file(path) as stream:
        data, header = read_whole(stream)
    check_whole(data, header)
    return data, header


def _target_size(size: tuple[int, int], max_edge_px: int | None) -> tuple[int, int]:
    if max_edge_px is None or max(size) <= max_edge_px:
        return size
    shrink = max_edge_px / max(size)
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


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
            with errors_named(path):
                mask = decode_mask(*_read_file(path))
        except InputError as exc:
            raise UnusableError(f"its mask {str(exc).rstrip('.')}") from exc
        if lies_across(mask, size):
            raise UnusableError(
                f"its mask {path} has {mask.shape[1]}x{mask.shape[0]} pixels, the stored photo {size[0]}x{size[1]}; "
                "masks show photos as they are stored, before EXIF turns them"
            )
        mask = fitted(mask, size, target, scale)
        visible = mask if visible is None else visible & mask
    return visible
