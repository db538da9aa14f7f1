"""Raw photos of cameras, by LibRaw: header and developed pixels.

The stored image is the sensor's, unturned, as LibRaw develops it. It may have some rows more than the camera's JPEG.
"""

from __future__ import annotations

import dataclasses
import io
from typing import BinaryIO

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from .exif import Exif, exif_of, read_exif
from .image_files import UnusableError
from .photo_formats import is_readable, pip_command
from .tiff_tags import Entry, Tiff, TiffError

__all__ = ["RAW_MAGIC", "develop", "is_raw_tiff", "parse_raw"]

# How those raw files begin that are no TIFF by their first bytes; the first four are one but for these
RAW_MAGIC = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb")
_LIKE_TIFF = {b"IIRO": b"II*\0", b"IIRS": b"II*\0", b"MMOR": b"MM\0*", b"IIU\0": b"II*\0"}
_FUJI = b"FUJIFILMCCD-RAW"
_FUJI_PREVIEW = 84  # where the place of the preview is, which has the EXIF data; its length follows
_SUBFILE, _COMPRESSION, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 259, 262, 330, 50706
_REDUCED = 1
_PIECES = ((273, 279), (324, 325))  # tags of the places and the sizes of strips, and of tiles
_OF_SENSORS = {_PHOTOMETRIC: (32803, 34892), _COMPRESSION: (32767, 32770, 34713, 65535)}
_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's flip -> EXIF code


def is_raw_tiff(stream: BinaryIO) -> bool:
    """Whether a TIFF is a raw photo: DNG, or one of those formats of cameras that begin as TIFFs do.

    They say it in a tag of the first picture; or that picture is a preview, and the photo is in a directory below.
    """
    stream.seek(8)
    if stream.read(2) == b"CR":  # Canon's CR2
        return True
    try:
        tiff = Tiff(stream)
        entries = tiff.directory()
        if _DNG_VERSION in entries:
            return True
        values = {tag: tiff.value(entries[tag]) for tag in (_SUBFILE, *_OF_SENSORS) if tag in entries}
    except TiffError:
        return False
    is_preview = values.get(_SUBFILE) == _REDUCED and _SUB_IFDS in entries
    return is_preview or any(values.get(tag) in known for tag, known in _OF_SENSORS.items())


def parse_raw(stream: BinaryIO) -> tuple[tuple[int, int], Exif]:
    """(width, height) px of the stored image, and what EXIF says; no pixel is unpacked.

    LibRaw raises errors of its own for what it cannot read.

    Raises:
        UnusableError: the file breaks off, or rawpy is not here.
    """
    stream.seek(0)
    data = stream.read()
    if not _is_whole(data):  # LibRaw would write about it on stderr
        raise UnusableError(f"truncated: the raw photo breaks off after {len(data)} bytes; copy it again")
    with _opened(data) as raw:
        sizes, focal_mm = raw.sizes, getattr(raw, "other", None) and raw.other.focal_length
    exif = dataclasses.replace(_exif(data), orientation=_ORIENTATIONS.get(sizes.flip, 1))
    if exif.focal_mm is None and focal_mm and focal_mm > 0:
        exif = dataclasses.replace(exif, focal_mm=float(focal_mm))
    return (sizes.iwidth, sizes.iheight), exif


def develop(data: bytes, *, is_half: bool) -> np.ndarray:
    """(h, w, 3) uint8 RGB of the stored image, of half its size if so: then four pixels of the sensor make one."""
    with _opened(data) as raw:
        rgb: np.ndarray = raw.postprocess(user_flip=0, use_camera_wb=True, output_bps=8, half_size=is_half)
    return rgb


def _opened(data: bytes):  # type: ignore[no-untyped-def]  # of a class that may not be here
    if not is_readable("RAW"):
        raise UnusableError(f"a raw photo, which needs rawpy: {pip_command(['RAW'])}")
    import rawpy

    return rawpy.imread(io.BytesIO(data))


def _is_whole(data: bytes) -> bool:
    """Whether the last piece of each picture lies in the file; of formats that are no TIFF, True."""
    try:
        tiff = Tiff(io.BytesIO(data))
        directories = [tiff.directory()]
        if below := directories[0].get(_SUB_IFDS):
            places = tiff.value(below)
            directories += [
                tiff.directory(_number(place)) for place in (places if isinstance(places, tuple) else [places])
            ]
        ends = [
            _last(tiff, entries[place]) + _last(tiff, entries[size])
            for entries in directories
            for place, size in _PIECES
            if place in entries and size in entries
        ]
    except TiffError:
        return True  # LibRaw knows better
    return max(ends, default=0) <= len(data)


def _last(tiff: Tiff, entry: Entry) -> int:
    """The last of the numbers of a tag, of which there may be thousands."""
    place = tiff.place_of(entry) + entry.num_bytes // max(entry.count, 1) * (entry.count - 1)
    return _number(tiff.value(dataclasses.replace(entry, count=1, place=place, is_inline=True)))


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TiffError("no number")
    return value


def _exif(data: bytes) -> Exif:
    """Of a format that has it where TIFFs have, or in its preview; else nothing is known."""
    if data.startswith(_FUJI):
        at, size = (int.from_bytes(data[_FUJI_PREVIEW + i : _FUJI_PREVIEW + i + 4], "big") for i in (0, 4))
        try:
            return read_exif(JpegImageFile(io.BytesIO(data[at : at + size])))
        except Exception:  # a damaged preview makes Pillow raise nearly anything
            return Exif()
    return exif_of(io.BytesIO(_LIKE_TIFF.get(data[:4], data[:4]) + data[4:]))
