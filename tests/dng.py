"""A raw photo as a camera writes it: DNG 1.4 with one picture of a Bayer sensor, uncompressed, and EXIF data."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["dng", "mosaic"]

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL = 1, 2, 3, 4, 5, 10
CODES = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "I", SRATIONAL: "i"}
SRGB_FROM_XYZ = (32406, -15372, -4986, -9689, 18758, 415, 557, -2040, 10570)  # times 10,000
Tag = tuple[int, int, Any]  # number, kind, values; of fractions numerators and denominators by turns
STRIP, EXIF = 273, 34665


def mosaic(rgb: np.ndarray) -> np.ndarray:
    """(h, w) uint16 of a sensor with the pattern RGGB that sees a picture (h, w, 3) uint8, its values are of light."""
    light = (65535 * (rgb / 255) ** 2.2).astype(np.uint16)
    sensor = light[..., 1].copy()
    sensor[::2, ::2], sensor[1::2, 1::2] = light[::2, ::2, 0], light[1::2, 1::2, 2]
    return sensor


def dng(sensor: np.ndarray, orientation: int = 1, focal_mm: float = 4.2, focal_35mm: int = 26) -> bytes:
    """The file; ``sensor`` (h, w) uint16 with the pattern RGGB."""
    height, width = sensor.shape
    matrix = [number for value in SRGB_FROM_XYZ for number in (value, 10_000)]
    tags: list[Tag] = [
        (254, LONG, [0]),
        *((256, LONG, [width]), (257, LONG, [height]), (258, SHORT, [16]), (259, SHORT, [1])),
        *((262, SHORT, [32803]), (271, ASCII, "Maker"), (272, ASCII, "Model 5")),
        *((STRIP, LONG, [0]), (274, SHORT, [orientation]), (277, SHORT, [1]), (278, LONG, [height])),
        *((279, LONG, [2 * sensor.size]), (33421, SHORT, [2, 2]), (33422, BYTE, [0, 1, 1, 2])),
        (EXIF, LONG, [0]),
        *((50706, BYTE, [1, 4, 0, 0]), (50708, ASCII, "Maker Model 5"), (50717, LONG, [65535])),
        *((50721, SRATIONAL, matrix), (50728, RATIONAL, [1, 1] * 3), (50778, SHORT, [21])),
    ]
    exif: list[Tag] = [(37386, RATIONAL, [round(1000 * focal_mm), 1000]), (41989, SHORT, [focal_35mm])]
    exif_at = 8 + len(_directory(tags, 8))
    pixels_at = exif_at + len(_directory(exif, exif_at))
    known = {STRIP: [pixels_at], EXIF: [exif_at]}
    placed = [(tag, kind, known.get(tag, values)) for tag, kind, values in tags]
    head = struct.pack("<2sHI", b"II", 42, 8)
    return head + _directory(placed, 8) + _directory(exif, exif_at) + sensor.astype("<u2").tobytes()


def _directory(tags: Sequence[Tag], start: int) -> bytes:
    """A directory that lies at an offset, with the values that do not fit into it behind."""
    entries, values = struct.pack("<H", len(tags)), b""
    behind = start + 2 + 12 * len(tags) + 4
    for tag, kind, items in tags:
        data = items.encode() + b"\0" if kind == ASCII else struct.pack(f"<{len(items)}{CODES[kind]}", *items)
        count = len(data) if kind == ASCII else len(items) // (2 if kind in (RATIONAL, SRATIONAL) else 1)
        entries += struct.pack("<HHI", tag, kind, count)
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", behind + len(values))
            values += data + bytes(len(data) % 2)
    return entries + bytes(4) + values
