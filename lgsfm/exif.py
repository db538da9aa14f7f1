"""What the EXIF data of a photo says: which way up it is, the camera, a first guess of the focal length, where and
when it was taken.

`read_exif` never raises for a damaged file: what cannot be read counts as not written, and so does a focal length
that no lens has. What it takes in memory and time does not depend on what a file claims.
The functions on points turn between the stored and the upright image (see `images`): for all of them the
centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags
from PIL.Image import Image

from .errors import InputError
from .tiff_tags import Entry, Tiff, TiffError, Value

__all__ = [
    "Exif",
    "GpsPosition",
    "exif_of",
    "read_exif",
    "stored_to_upright",
    "turn_upright",
    "turned_clockwise",
    "upright_size",
    "upright_to_stored",
]

_BASE, _IFD, _GPS = ExifTags.Base, ExifTags.IFD, ExifTags.GPS
_BASE_TAGS = (_BASE.Orientation, _BASE.Make, _BASE.Model)
_PHOTO_TAGS = (
    _BASE.FocalLength,
    _BASE.FocalLengthIn35mmFilm,
    _BASE.FocalPlaneXResolution,
    _BASE.FocalPlaneResolutionUnit,
    _BASE.ExifImageWidth,
    _BASE.ExifImageHeight,
    _BASE.DateTimeOriginal,
)
_GPS_TAGS = (
    _GPS.GPSLatitudeRef,
    _GPS.GPSLatitude,
    _GPS.GPSLongitudeRef,
    _GPS.GPSLongitude,
    _GPS.GPSAltitudeRef,
    _GPS.GPSAltitude,
)
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # inch, cm; mm and µm are written though not standard
_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
_SENSOR_MM = (1.5, 100.0)  # long edges that exist, from phones to digital backs
_AGREE = 0.1  # relative difference up to which two focal lengths mean the same lens position
_FOCAL_EDGES = (0.1, 100.0)  # focal lengths that exist, in long edges: from fisheyes to telescopes
_ALTITUDES_M = (-12_000.0, 100_000.0)  # from the deepest sea to the edge of space
_SAME_ASPECT = 0.02  # relative difference of aspect ratios that rounding of edges explains

# EXIF code -> (transpose, then mirror x, then mirror y) leading from the stored to the upright image
_MOVES = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


# EXIF codes in the order in which a quarter turn clockwise of the upright view leads from one to the next
_QUARTER_TURNS = ((1, 6, 3, 8), (2, 7, 4, 5))


@dataclass(frozen=True)
class GpsPosition:
    """A position on WGS84."""

    latitude_deg: float  # north is positive
    longitude_deg: float  # east is positive
    altitude_m: float | None = None  # above the sea or the ellipsoid, writers differ; of phones often wrong


@dataclass(frozen=True, kw_only=True)
class Exif:
    """The EXIF values that matter for reconstruction; the default is a photo without any."""

    orientation: int = 1  # 1 to 8; invalid codes read as 1
    make: str = ""
    model: str = ""
    focal_mm: float | None = None
    focal_35mm: float | None = None  # mm, for a 36 x 24 mm frame; written as an integer: 1-2 % coarse
    focal_plane_px_per_mm: float | None = None  # pixels of `captured_size` per mm on the sensor
    captured_size: tuple[int, int] | None = None  # (width, height) px when the photo was taken
    position: GpsPosition | None = None
    taken: datetime | None = None  # in the camera's own time, whole seconds

    def focal_px(self, size: tuple[int, int]) -> float | None:
        """Focal length [px] of the photo stored at ``size`` (width, height); None if EXIF does not tell.

        Two ways lead there. `focal_mm` times the focal plane resolution is fine (below 1 %) but goes wrong
        when a writer confuses units or describes another picture size. The 35 mm equivalent is robust but
        rounded to whole millimetres. So: the first where both agree within 10 % or where it stands alone
        with a sensor of possible size; else the second. A photo that was resized after capture is scaled by
        `captured_size`; one that was cropped (another aspect ratio) has no known focal length: None.
        `focal_mm` alone says nothing without the size of the sensor. What no lens has is not known either.
        """
        if self._is_cropped(size):
            return None
        equivalent, plane = (
            focal if focal is not None and _FOCAL_EDGES[0] <= focal / max(size) <= _FOCAL_EDGES[1] else None
            for focal in (self._focal_from_35mm(size), self._focal_from_plane(size))
        )
        if plane is None or equivalent is None:
            return equivalent if plane is None else plane
        return plane if abs(plane - equivalent) <= _AGREE * equivalent else equivalent

    def _is_cropped(self, size: tuple[int, int]) -> bool:
        if self.captured_size is None:
            return False
        now, then = max(size) / min(size), max(self.captured_size) / min(self.captured_size)
        return abs(now - then) > _SAME_ASPECT * then

    def _focal_from_35mm(self, size: tuple[int, int]) -> float | None:
        """By the diagonal of the whole sensor, as CIPA DCG-001 defines the equivalent.

        Sensors are 4:3 to 3:2. A 16:9 or square picture is a part of one, so its diagonal is that of the
        smallest such frame around it (of a drone's 16:9 picture: 5 % off where its own would be 9 % off).
        """
        if self.focal_35mm is None:
            return None
        long, short = max(size), min(size)
        diagonal = math.hypot(max(long, short * 4 / 3), max(short, long * 2 / 3))
        return self.focal_35mm * diagonal / _FILM_DIAGONAL_MM

    def _focal_from_plane(self, size: tuple[int, int]) -> float | None:
        if self.focal_mm is None or self.focal_plane_px_per_mm is None:
            return None
        captured_px = max(self.captured_size or size)
        if not _SENSOR_MM[0] <= captured_px / self.focal_plane_px_per_mm <= _SENSOR_MM[1]:
            return None
        return self.focal_mm * self.focal_plane_px_per_mm * max(size) / captured_px


def read_exif(image: Image) -> Exif:
    """The EXIF data of an open Pillow image, without decoding its pixels. Never raises."""
    if image.format == "TIFF":
        return exif_of(getattr(image, "fp", None), image.info.get("xmp", b""))
    profile = image.info.get("Raw profile type exif")  # how ImageMagick writes it into a PNG
    block = image.info.get("exif", b"")
    with contextlib.suppress(ValueError):
        block = block or bytes.fromhex("".join(str(profile or "").split("\n")[3:]))
    return exif_of(io.BytesIO(block.removeprefix(b"Exif\0\0")), image.info.get("xmp", b""))


def exif_of(stream: BinaryIO | None, xmp: bytes = b"") -> Exif:
    """The EXIF data in a TIFF file, as which other formats have it too; the orientation may be in XMP instead.

    Never raises for what is in the file.
    """
    tags = _read_tags(stream) if stream else {}
    orientation = tags.get(_BASE.Orientation, _orientation_in(xmp))
    width, height = _positive(tags.get(_BASE.ExifImageWidth)), _positive(tags.get(_BASE.ExifImageHeight))
    resolution = _positive(tags.get(_BASE.FocalPlaneXResolution))
    unit = tags.get(_BASE.FocalPlaneResolutionUnit, 2)
    mm_per_unit = _MM_PER_UNIT.get(unit) if isinstance(unit, int) else None
    return Exif(
        orientation=orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1,
        make=_text(tags.get(_BASE.Make)),
        model=_text(tags.get(_BASE.Model)),
        focal_mm=_positive(tags.get(_BASE.FocalLength)),
        focal_35mm=_positive(tags.get(_BASE.FocalLengthIn35mmFilm)),
        focal_plane_px_per_mm=_positive(resolution / mm_per_unit) if resolution and mm_per_unit else None,
        captured_size=(int(width), int(height)) if width and height and min(width, height) >= 1 else None,
        position=_position(tags),
        taken=_time(tags.get(_BASE.DateTimeOriginal)),
    )


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """The stored image (H, W) or (H, W, C) turned as the EXIF orientation says; C-contiguous."""
    transposed, mirror_x, mirror_y = _moves(orientation)
    turned = image.swapaxes(0, 1) if transposed else image
    return np.ascontiguousarray(turned[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def turned_clockwise(orientation: int, quarter_turns: int) -> int:
    """The EXIF code of the view that ``orientation`` describes, turned clockwise by that many quarter turns."""
    _moves(orientation)
    cycle = next(cycle for cycle in _QUARTER_TURNS if orientation in cycle)
    return cycle[(cycle.index(orientation) + quarter_turns) % 4]


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) of the upright image for that of the stored one, or the reverse."""
    transposed, _, _ = _moves(orientation)
    return (size[1], size[0]) if transposed else size


def stored_to_upright(points: np.ndarray, stored_size: tuple[int, int], orientation: int) -> np.ndarray:
    """Points (N, 2) [px] of the stored image, of (width, height) ``stored_size``, in the upright one.

    Computed in float64; float32 comes back as float32, all else as float64.
    """
    transposed, *mirrored = _moves(orientation)
    moved = np.asarray(points, np.float64)
    moved = moved[:, ::-1] if transposed else moved
    last = np.subtract(upright_size(stored_size, orientation), 1)
    return _typed_as(np.where(mirrored, last - moved, moved), points)


def upright_to_stored(points: np.ndarray, stored_size: tuple[int, int], orientation: int) -> np.ndarray:
    """The inverse of `stored_to_upright`, with the same arguments."""
    transposed, *mirrored = _moves(orientation)
    moved = np.asarray(points, np.float64)
    last = np.subtract(upright_size(stored_size, orientation), 1)
    moved = np.where(mirrored, last - moved, moved)
    return _typed_as(moved[:, ::-1] if transposed else moved, points)


def _moves(orientation: int) -> tuple[bool, bool, bool]:
    if orientation not in _MOVES:
        raise InputError(f"An EXIF orientation is 1 to 8, not {orientation}.")
    return _MOVES[orientation]


def _typed_as(moved: np.ndarray, points: np.ndarray) -> np.ndarray:
    kept = np.float32 if np.asarray(points).dtype == np.float32 else np.float64
    return np.ascontiguousarray(moved, kept)


def _read_tags(stream: BinaryIO) -> dict[int, Value]:
    """The tags we use and the file has; those that cannot be read are left out."""
    tags: dict[int, Value] = {}
    with contextlib.suppress(TiffError, OSError):
        tiff = Tiff(stream)
        first = tiff.directory()
        tags |= _values(tiff, first, _BASE_TAGS)
        for pointer, wanted in ((_IFD.Exif, _PHOTO_TAGS), (_IFD.GPSInfo, _GPS_TAGS)):
            with contextlib.suppress(TiffError):
                place = _values(tiff, first, (pointer,)).get(pointer)
                if isinstance(place, int):
                    tags |= _values(tiff, tiff.directory(place), wanted)
    return tags


def _values(tiff: Tiff, entries: dict[int, Entry], wanted: tuple[int, ...]) -> dict[int, Value]:
    values: dict[int, Value] = {}
    for tag in wanted:
        with contextlib.suppress(TiffError):
            if tag in entries:
                values[tag] = tiff.value(entries[tag])
    return values


def _orientation_in(xmp: bytes) -> int:
    found = re.search(rb'tiff:Orientation(="|>)([0-9])', xmp)
    return int(found[2]) if found else 1


def _positive(value: Any) -> float | None:
    """``value`` as a positive finite number, or None: EXIF writes 0, 0/0 and worse for unknown."""
    number = _number(value)
    return number if number is not None and number > 0 else None


def _text(value: Any) -> str:
    """``value`` if it is a string, without the padding that cameras add."""
    return value.partition("\0")[0].strip() if isinstance(value, str) else ""


def _position(tags: dict[int, Any]) -> GpsPosition | None:
    """Where the photo was taken; None if that is not, or not completely, written."""
    latitude = _degrees(tags.get(_GPS.GPSLatitude), _text(tags.get(_GPS.GPSLatitudeRef)), "NS", 90)
    longitude = _degrees(tags.get(_GPS.GPSLongitude), _text(tags.get(_GPS.GPSLongitudeRef)), "EW", 180)
    if latitude is None or longitude is None or (latitude, longitude) == (0.0, 0.0):
        return None  # zeros are what phones write that know no position
    altitude = _number(tags.get(_GPS.GPSAltitude))
    if altitude is not None and tags.get(_GPS.GPSAltitudeRef) in (1, b"\x01"):
        altitude = -altitude
    is_possible = altitude is not None and _ALTITUDES_M[0] <= altitude <= _ALTITUDES_M[1]
    return GpsPosition(latitude, longitude, altitude if is_possible else None)


def _degrees(parts: Any, direction: str, directions: str, limit_deg: float) -> float | None:
    """Degrees, minutes and seconds with a direction (the first of ``directions`` is positive) as one number [deg].

    Some writers leave out the seconds, or the minutes too, and some write the direction as a word.
    """
    parts = parts if isinstance(parts, tuple) else (parts,)
    letter = direction[:1].upper()
    if not 1 <= len(parts) <= 3 or not letter or letter not in directions or direction.upper() == directions:
        return None
    numbers = [_number(part) for part in parts]
    degrees = sum(math.nan if number is None else number / 60**i for i, number in enumerate(numbers))
    if not 0 <= degrees <= limit_deg:
        return None
    return degrees if letter == directions[0] else -degrees


def _time(value: Any) -> datetime | None:
    try:
        return datetime.strptime(_text(value), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None


def _number(value: Any) -> float | None:
    """``value`` as a finite number, or None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
