"""The tags of a TIFF file, or of EXIF data, which is one inside, read with bounds.

Any count or offset in a file may be wrong, by damage or on purpose: a megabyte can hold thousands of tags that all
point to the same megabyte, which other readers unfold to gigabytes, or a focal length of a million numbers. Here
what is asked for is read and no more, and no directory leads to another by itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["Entry", "Tiff", "TiffError", "Value"]

Value = int | float | str | bytes | tuple[int | float, ...]

MAX_NUMBERS = 16  # of one value: EXIF has three for an angle
MAX_TEXT = 1024  # bytes of one value
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {
    3: "H",
    4: "I",
    5: "II",
    6: "b",
    8: "h",
    9: "i",
    10: "ii",
    11: "f",
    12: "d",
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}
_ASCII, _RAW, _RATIONALS = 2, (1, 7), (5, 10)


class TiffError(ValueError):
    """There is no such thing in the file."""


@dataclass(frozen=True)
class Entry:
    """A tag as its directory has it."""

    tag: int
    kind: int  # of its elements, TIFF 6.0 section 2
    count: int  # of its elements
    place: int  # of its value in the file, or of the offset of that
    is_inline: bool  # the value is at `place`

    @property
    def num_bytes(self) -> int:
        """Of the value, by what the directory says."""
        return self.count * _BYTES.get(self.kind, 1)

    @property
    def is_rational(self) -> bool:
        """Whether its elements are fractions."""
        return self.kind in _RATIONALS


class Tiff:
    """A file that begins as TIFF or BigTIFF; ``stream`` must be able to seek.

    Raises:
        TiffError: it does not.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        start = self._read(0, 16, least=8)
        self.order = {b"II": "<", b"MM": ">"}.get(start[:2], "")
        magic = struct.unpack_from(f"{self.order}H", start, 2)[0] if self.order else 0
        if magic not in (42, 43) or (magic == 43 and len(start) < 16):
            raise TiffError("no TIFF header")
        self.is_big = magic == 43
        # they differ in the type of offsets and counts, that of the number of entries, and the length of an entry
        self.offset, self.number, self.length = ("Q", "Q", 20) if self.is_big else ("I", "H", 12)
        self.first = int(struct.unpack_from(self.order + self.offset, start, 8 if self.is_big else 4)[0])

    def directory(self, place: int | None = None) -> dict[int, Entry]:
        """`entries` by tag; of several with the same tag the first."""
        entries: dict[int, Entry] = {}
        for entry in self.entries(place):
            entries.setdefault(entry.tag, entry)
        return entries

    def entries(self, place: int | None = None) -> list[Entry]:
        """The entries of the directory at an offset, by default the first one; as many as are whole.

        Raises:
            TiffError: there is none.
        """
        place = self.first if place is None else place
        width = struct.calcsize(self.order + self.number)
        (count,) = struct.unpack(self.order + self.number, self._read(place, width))
        start = place + width
        data = self._read(start, min(count, 65_535) * self.length, least=0)
        inline = struct.calcsize(self.offset)
        entries = []
        for at in range(0, len(data) - self.length + 1, self.length):
            tag, kind, number = struct.unpack_from(f"{self.order}HH{self.offset}", data, at)
            is_inline = number * _BYTES.get(kind, 1) <= inline
            entries.append(Entry(tag, kind, number, start + at + self.length - inline, is_inline))
        return entries

    def following(self, place: int) -> int:
        """Where the directory after the one at an offset is; 0 if that is the last one. Raises `TiffError`."""
        width = struct.calcsize(self.order + self.number)
        (count,) = struct.unpack(self.order + self.number, self._read(place, width))
        end = place + width + count * self.length
        return int(struct.unpack(self.order + self.offset, self._read(end, struct.calcsize(self.offset)))[0])

    def value(self, entry: Entry) -> Value:
        """The value of a tag: text without its end, bytes, or a number or several; fractions as floats, 0/0 as NaN.

        Raises:
            TiffError: it lies outside of the file, is of no known kind, or far longer than anything that EXIF has.
        """
        if entry.kind not in _BYTES or not entry.count:
            raise TiffError("a value of no known kind")
        is_text = entry.kind == _ASCII or entry.kind in _RAW
        if entry.count > (MAX_TEXT if is_text else MAX_NUMBERS):
            raise TiffError(f"a value of {entry.count} elements")
        data = self._read(self.place_of(entry), entry.num_bytes)
        if is_text:
            return data.rstrip(b"\0").decode("latin-1") if entry.kind == _ASCII else data
        parts = struct.unpack(self.order + entry.count * _CODES[entry.kind], data)
        if entry.is_rational:
            parts = tuple(n / d if d else float("nan") for n, d in zip(parts[::2], parts[1::2], strict=True))
        return parts[0] if entry.count == 1 else parts

    def place_of(self, entry: Entry) -> int:
        """Where in the file the value is. Raises `TiffError`."""
        if entry.is_inline:
            return entry.place
        data = self._read(entry.place, struct.calcsize(self.offset))
        return int(struct.unpack(self.order + self.offset, data)[0])

    def _read(self, place: int, count: int, least: int | None = None) -> bytes:
        """``count`` bytes, or fewer where the file ends, but not fewer than ``least``, by default all."""
        try:
            self.stream.seek(place)
            data = self.stream.read(count)
        except (OverflowError, ValueError) as exc:
            raise TiffError("an offset outside of the file") from exc
        if len(data) < (count if least is None else least):
            raise TiffError("the file ends before")
        return data
