"""Whether an image file is whole, and whether it asks a decoder for far more time or memory than it holds bytes."""

from __future__ import annotations

import io
import math
import re
import struct
import zlib

from .image_headers import ImageHeader, UnusableError
from .tiff_tags import Tiff

__all__ = ["check_whole", "png_is_full"]

MAX_SCANS = 64  # of a JPEG; encoders write up to some 20, and each costs as much as decoding all pixels once
MAX_INFLATION = 1040  # bytes from one of zlib, at most
MAX_TIFF_NUMBERS = 1 << 22  # of one tag: more offsets of strips than any photo has rows
MAX_FRACTIONS = 1 << 10
# Pixels per byte of a file, at most: a JPEG has a bit for each of its blocks, twice that for safety; BMP runs of 255
MAX_PIXELS = {"JPEG": 1024, "BMP": 128, "PPM": 8}


def check_whole(data: bytes, header: ImageHeader) -> None:
    """Refuses a file that breaks off, and one that asks a decoder for far more than it holds.

    Some decoders take half a file and paint the rest grey, so look for the mark at the end ourselves. It may be
    followed by padding, a second picture or a video, as phones write.

    Raises:
        UnusableError: with the reason.
    """
    check = {"JPEG": _check_jpeg, "PNG": _check_png, "TIFF": _check_tiff}.get(header.kind)
    is_whole = math.prod(header.size) <= MAX_PIXELS.get(header.kind, math.inf) * len(data)
    if not is_whole or (check and not check(data, header)):
        raise UnusableError(f"truncated: the {header.kind} file breaks off after {len(data)} bytes; copy it again")


_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # of those that stand alone, only the end ends something


def _check_jpeg(data: bytes, header: ImageHeader) -> bool:
    """Whether there is an end mark behind the first scan; before it, a thumbnail brings an end mark of its own."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        # 0xFF may be repeated as padding before a marker
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    is_whole = data.rfind(b"\xff\xd9", at) >= 0
    for _ in range(MAX_SCANS + 1):  # a scan, then the tables of the next one
        while (marker := _MARKER.search(data, at)) and marker[0] not in (b"\xff\xda", b"\xff\xd9"):
            at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        if not marker or marker[0] == b"\xff\xd9":
            return is_whole
        at = marker.end()
    raise UnusableError(f"a JPEG of more than {MAX_SCANS} scans; save it again")


def _check_png(data: bytes, header: ImageHeader) -> bool:
    """Whether the chunks reach to the last one, and those with pixels could hold so many."""
    at, held = 8, 0
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND":
            return MAX_INFLATION * held >= _png_bytes(data)
        held += length if kind == b"IDAT" else 0
        at += 12 + length
    return False


def _png_bytes(data: bytes) -> int:
    """How many bytes the pixels of a PNG are when unpacked, each row behind one that names its filter."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    total = 0
    for x, y, step_x, step_y in passes if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        total += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    return total


def _check_tiff(data: bytes, header: ImageHeader) -> bool:
    """True; raises if the values of the tags cannot lie side by side in the file, or are too many to be unfolded."""
    entries = Tiff(io.BytesIO(data)).entries()
    values = sum(min(entry.num_bytes, len(data)) for entry in entries if not entry.is_inline)
    many = any(
        entry.count > (MAX_FRACTIONS if entry.is_rational else MAX_TIFF_NUMBERS)
        for entry in entries
        if entry.num_bytes > entry.count
    )
    if values > 2 * len(data) + 65_536 or many:
        raise UnusableError("the header is damaged (its tags hold more than the file)")
    return True


def png_is_full(png: bytes) -> bool:
    """Whether a PNG has the pixels that its size says, by unpacking them; nothing is kept of them."""
    at, unpacker, found, count = 8, zlib.decompressobj(), 0, _png_bytes(png)
    try:
        while at + 12 <= len(png) and found < count:
            length, kind = struct.unpack_from(">I4s", png, at)
            part = png[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
            while part and found < count:
                found += len(unpacker.decompress(part, 1 << 20))
                part = unpacker.unconsumed_tail
            at += 12 + length
    except zlib.error:
        return False
    return found >= count
