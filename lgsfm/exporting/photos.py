"""Photos as the model knows them: stored pixels, with no EXIF orientation that would turn them again.

COLMAP ignores the orientation, and so do the poses and keypoints of a model. Programs that open an exported photo may
heed it, and then see another picture than the pose is of. So the tag in the copy says 1, "as it is stored"; no pixel
changes, and nothing is compressed anew.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from ..images import read_header

__all__ = ["clear_orientation", "copy_photos"]

ORIENTATION, SHORT = 0x0112, 3
Progress = Callable[[int, int], None]


def copy_photos(photos: dict[str, Path], folder: Path, progress: Progress | None = None) -> None:
    """Copies photos to the names in a folder that they are given under, without orientation."""
    for done, (name, source) in enumerate(photos.items()):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        clear_orientation(target)
        if progress:
            progress(done + 1, len(photos))


def clear_orientation(path: Path) -> None:
    """Makes the EXIF orientation of a photo 1, in place.

    Raises:
        InputError: the photo is damaged, or of a format whose orientation cannot be changed.
    """
    if read_header(path).exif.orientation == 1:
        return
    data = bytearray(path.read_bytes())
    for start, repair in _exif_blocks(data):
        if _overwrite(data, start):
            repair()
    path.write_bytes(data)
    if read_header(path).exif.orientation != 1:
        raise InputError(f"{path}: its EXIF orientation cannot be taken back. Save the photo anew, turned upright.")


def _overwrite(data: bytearray, start: int) -> bool:
    """Writes 1 into the orientation of the TIFF structure that starts there; whether there is any."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[start : start + 2]))
    if order is None:
        return False
    try:
        (offset,) = struct.unpack_from(f"{order}I", data, start + 4)
        (count,) = struct.unpack_from(f"{order}H", data, start + offset)
        for entry in range(start + offset + 2, start + offset + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}2H", data, entry)
            if tag == ORIENTATION and kind == SHORT:
                struct.pack_into(f"{order}H", data, entry + 8, 1)
                return True
    except struct.error:
        pass  # damaged: what reads it will say so
    return False


def _exif_blocks(data: bytearray) -> list[tuple[int, Callable[[], None]]]:
    """Where TIFF structures with EXIF tags start in a file, and what mends the file when one was changed."""
    if data[:2] == b"\xff\xd8":
        return [(start, _nothing) for start in _jpeg_exif(data)]
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png_exif(data)
    if data[:4] == b"RIFF":
        return [(start, _nothing) for start in _webp_exif(data)]
    return [(0, _nothing)] if data[:2] in (b"II", b"MM") else []


def _nothing() -> None:
    pass


def _jpeg_exif(data: bytearray) -> list[int]:
    starts, place = [], 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:  # up to the pixels
        (length,) = struct.unpack_from(">H", data, place + 2)
        if data[place + 1] == 0xE1 and data[place + 4 : place + 10] == b"Exif\0\0":
            starts.append(place + 10)
        place += 2 + length
    return starts


def _png_exif(data: bytearray) -> list[tuple[int, Callable[[], None]]]:
    blocks: list[tuple[int, Callable[[], None]]] = []
    place = 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        if data[place + 4 : place + 8] == b"eXIf":

            def repair(place: int = place, end: int = place + 8 + length) -> None:
                struct.pack_into(">I", data, end, zlib.crc32(data[place + 4 : end]))

            blocks.append((place + 8, repair))
        place += 12 + length
    return blocks


def _webp_exif(data: bytearray) -> list[int]:
    starts, place = [], 12
    while place + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, place + 4)
        if data[place : place + 4] == b"EXIF":
            starts.append(place + 8 + (6 if data[place + 8 : place + 14] == b"Exif\0\0" else 0))
        place += 8 + length + length % 2
    return starts
