"""Damage to the bytes of a file: blind, and at places where a format keeps lengths and numbers."""

import struct
import zlib
from collections.abc import Callable

import numpy as np

__all__ = ["NUMBERS", "mutated", "tiff_entries"]

NUMBERS = (0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
Random = np.random.Generator


def mutated(data: bytes, rng: Random) -> bytes:
    """A damaged copy: one to three damages, of any kind that fits the format."""
    structure = _STRUCTURES.get(data[:4])
    for _ in range(int(rng.integers(1, 4))):
        if structure and rng.random() < 0.5:
            data = structure(data, rng)
        else:
            data = _BLIND[rng.integers(len(_BLIND))](data, rng)
        if len(data) < 4:
            break
    return data


# ---- blind
def _place(data: bytes, rng: Random) -> int:
    """Anywhere, half of the time in the header."""
    end = len(data) if rng.random() < 0.5 else min(len(data), 400)
    return int(rng.integers(max(end, 1)))


def _flip(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 17))):
        changed[_place(data, rng)] ^= 1 << rng.integers(8)
    return bytes(changed)


def _number(data: bytes, rng: Random) -> bytes:
    size = int(rng.choice((1, 2, 4)))
    value = int(NUMBERS[rng.integers(len(NUMBERS))]) % 256**size
    at = _place(data, rng)
    return data[:at] + value.to_bytes(size, ("little", "big")[rng.integers(2)]) + data[at + size :]


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: int(rng.integers(1, len(data)))]


def _without(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + int(rng.integers(1, 64)) :]


def _block(data: bytes, rng: Random) -> tuple[int, int]:
    start = _place(data, rng)
    return start, min(len(data), start + int(rng.integers(1, 257)))


def _swap(data: bytes, rng: Random) -> bytes:
    (a, b), (c, d) = sorted((_block(data, rng), _block(data, rng)))
    return data if b > c else data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _repeat(data: bytes, rng: Random) -> bytes:
    start, stop = _block(data, rng)
    return data[:stop] + data[start:stop] * int(rng.integers(1, 9)) + data[stop:]


def _fill(data: bytes, rng: Random) -> bytes:
    start, stop = _block(data, rng)
    filling = (bytes(stop - start), b"\xff" * (stop - start), rng.bytes(stop - start))[rng.integers(3)]
    return data[:start] + filling + data[stop:]


_BLIND: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flip,
    _number,
    _number,
    _cut,
    _without,
    _swap,
    _repeat,
    _fill,
)


# ---- by format
def _png(data: bytes, rng: Random) -> bytes:
    """A chunk changed, with the checksum that fits, or moved, repeated, left out."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return data
    return data[:8] + b"".join(map(_png_chunk, *zip(*_rearranged(chunks, rng), strict=True)))


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _webp(data: bytes, rng: Random) -> bytes:
    chunks, at = [], 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        chunks.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    if not chunks:
        return data
    body = b"".join(
        kind + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for kind, part in _rearranged(chunks, rng)
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _jpeg(data: bytes, rng: Random) -> bytes:
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append((data[at : at + 2], data[at + 4 : at + 2 + length]))
        at += 2 + length
    if not segments:
        return data
    header = b"".join(
        kind + struct.pack(">H", (len(part) + 2) % 65536) + part for kind, part in _rearranged(segments, rng)
    )
    return data[:2] + header + data[at:]


def _rearranged(parts: list[tuple[bytes, bytes]], rng: Random) -> list[tuple[bytes, bytes]]:
    parts = list(parts)
    i, j = rng.integers(len(parts), size=2)
    what = rng.integers(8)
    if what == 0:
        del parts[i]
    elif what == 1:
        parts.insert(j, parts[i])
    elif what == 2:
        parts[i], parts[j] = parts[j], parts[i]
    elif parts[i][1]:
        kind, body = parts[i]
        parts[i] = kind, _BLIND[rng.integers(len(_BLIND))](body, rng) if len(body) > 1 else rng.bytes(1)
    return parts or [(b"\0\0\0\0", b"")]


def tiff_entries(data: bytes) -> tuple[str, list[int]]:
    """Byte order and the places of the entries of the first directory of a classic TIFF and of those it points to."""
    order, found, todo = "<" if data[:2] == b"II" else ">", [], [int.from_bytes(data[4:8], "little")]
    if order == ">":
        todo = [int.from_bytes(data[4:8], "big")]
    while todo and len(found) < 200:
        at = todo.pop()
        if at + 2 > len(data):
            continue
        count = struct.unpack_from(order + "H", data, at)[0]
        for place in range(at + 2, min(at + 2 + 12 * count, len(data) - 12), 12):
            found.append(place)
            tag, _, _, value = struct.unpack_from(order + "HHII", data, place)
            if tag in (0x8769, 0x8825):
                todo.append(value)
    return order, found


def _tiff(data: bytes, rng: Random) -> bytes:
    """The tag, type, count or value of an entry changed."""
    order, entries = tiff_entries(data)
    if not entries:
        return data
    at = entries[rng.integers(len(entries))]
    offset, kind, limit = ((0, "H", 65536), (2, "H", 14), (4, "I", 2**32), (8, "I", 2**32), (8, "H", 65536))[
        rng.integers(5)
    ]
    value = NUMBERS[rng.integers(len(NUMBERS))] if rng.random() < 0.7 else int(rng.integers(2 * len(data)))
    changed = bytearray(data)
    struct.pack_into(order + kind, changed, at + offset, value % limit)
    return bytes(changed)


_STRUCTURES: dict[bytes, Callable[[bytes, Random], bytes]] = {
    b"\x89PNG": _png,
    b"RIFF": _webp,
    **{b"\xff\xd8\xff" + bytes([last]): _jpeg for last in range(256)},
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
}
