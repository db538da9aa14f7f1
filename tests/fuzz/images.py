"""Thousands of damaged photos through all that reads photos: listing, header, EXIF, pixels, reduced pixels, masks.

    python tests/fuzz/images.py --count 2000            # of each format; --seed, --kind, --keep FOLDER

Every photo must be read or refused by an `InputError`, in time, within 1 GiB and without an end of the process.
"""

import io
import struct
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from mutations import mutated
from PIL import Image
from sandbox import fuzz

from lgsfm.errors import InputError
from lgsfm.images import list_images, read_header, read_photo
from lgsfm.photo_formats import is_readable

__all__ = ["EXTRA_FORMATS", "FORMATS", "photo", "read_case"]

# those whose libraries are here; no mask is of them
EXTRA_FORMATS = tuple(name for name, kind in (("heic", "HEIC"), ("avif", "AVIF"), ("dng", "RAW")) if is_readable(kind))
FORMATS = ("jpg", "png", "tif", "webp", "bmp", "pnm", *EXTRA_FORMATS)
SIZE = (96, 72)


@cache
def originals(kind: str) -> tuple[bytes, ...]:
    """Intact small photos of a format, of many kinds."""
    if kind in EXTRA_FORMATS:
        return extra_originals(kind)
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(SIZE[1]), np.arange(SIZE[0]))[..., None] % 256
    colour = Image.fromarray((smooth + rng.integers(0, 60, (SIZE[1], SIZE[0], 3))).clip(0, 255).astype(np.uint8))
    grey = colour.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    see_through = colour.convert("RGBA")
    exif = camera_exif(grey)
    pictures: dict[str, list[tuple[Image.Image, dict]]] = {
        "jpg": [
            (colour, {"exif": exif, "quality": 90}),
            (colour, {"progressive": True, "exif": exif}),
            (grey, {"quality": 30}),
            (colour.convert("CMYK"), {}),
            (colour, {"restart_marker_blocks": 2, "subsampling": 2, "icc_profile": bytes(600)}),
        ],
        "png": [
            (colour, {"exif": exif}),
            (grey, {}),
            (deep, {}),
            (see_through, {"dpi": (72, 72)}),
            (colour.convert("P"), {"transparency": 0}),
            (grey.convert("1"), {}),
        ],
        "tif": [
            (colour, {"exif": exif}),
            *((colour, {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
            (grey.convert("1"), {"compression": "group4"}),
            (deep, {"compression": "tiff_lzw"}),
            (colour, {"big_tiff": True}),
            (Image.fromarray(np.asarray(grey, np.float32)), {}),
            (colour, {"save_all": True, "append_images": [grey], "compression": "tiff_lzw"}),
            (see_through, {"tiffinfo": {278: 8}}),
        ],
        "webp": [
            (colour, {"exif": exif}),
            (see_through, {"lossless": True}),
            (colour, {"quality": 20}),
            (colour, {"save_all": True, "append_images": [colour.rotate(180)], "exif": exif}),
        ],
        "bmp": [(colour, {}), (grey, {}), (grey.convert("1"), {}), (see_through, {})],
        "pnm": [(colour, {}), (grey, {}), (grey.convert("1"), {}), (deep, {})],
    }
    made = [_bytes(picture, kind, options) for picture, options in pictures[kind]]
    if kind == "tif":
        made.append(_tiled(np.asarray(colour)[:64, :64]))
    if kind == "pnm":
        made.append(b"P3\n# text\n2 2\n255\n" + b" ".join(b"%d" % i for i in range(12)) + b"\n")
    return tuple(made)


def extra_originals(kind: str) -> tuple[bytes, ...]:
    """Intact small photos of a format that a library of an extra reads."""
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
    colour = Image.fromarray(pixels).resize(SIZE, Image.Resampling.BICUBIC)
    exif = camera_exif(colour.convert("L"))
    if kind == "dng":
        sys.path.append(str(Path(__file__).parents[1]))  # where it is, if this runs as a program
        from dng import dng, mosaic

        return tuple(dng(mosaic(np.asarray(colour)), orientation) for orientation in (1, 6))
    if kind == "avif":
        return tuple(_bytes(colour, kind, options) for options in ({"exif": exif}, {"quality": 100}))
    import pillow_heif

    made = []
    for choices in ({"exif": exif}, {"quality": -1}, {"exif": exif, "tile_size": 64}):
        stream = io.BytesIO()
        pillow_heif.from_bytes("RGB", SIZE, colour.tobytes()).save(stream, **choices)
        made.append(stream.getvalue())
    return tuple(made)


def camera_exif(thumbnail: Image.Image) -> bytes:
    """EXIF data as a phone writes it: camera, lens, position, a preview."""
    exif = Image.Exif()
    exif[271], exif[272], exif[274] = "Maker", "Model 5", 6
    exif.get_ifd(0x8769).update({37386: 4.25, 41989: 26, 41486: 3000.0, 41488: 3, 40962: 96, 40963: 72})
    exif.get_ifd(0x8769)[36867] = "2024:05:06 07:08:09"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2), 5: b"\0", 6: 35.5})
    preview = io.BytesIO()
    thumbnail.resize((32, 24)).save(preview, "JPEG")
    exif.get_ifd(1).update({513: 0, 514: len(preview.getvalue())})
    return exif.tobytes() + preview.getvalue()


def _bytes(picture: Image.Image, kind: str, options: dict) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, {"jpg": "JPEG", "tif": "TIFF", "pnm": "PPM"}.get(kind, kind.upper()), **options)
    return stream.getvalue()


def _tiled(pixels: np.ndarray) -> bytes:
    """A TIFF of four tiles of 32 x 32, uncompressed."""
    tiles = [pixels[y : y + 32, x : x + 32].tobytes() for y in (0, 32) for x in (0, 32)]
    entries = {256: 64, 257: 64, 259: 1, 262: 2, 277: 3, 284: 1, 322: 32, 323: 32}
    arrays = {258: (3, [8, 8, 8]), 324: (4, []), 325: (4, [len(tile) for tile in tiles])}
    start = 8 + 2 + 12 * (len(entries) + len(arrays)) + 4
    arrays[324] = 4, [start + 38 + i * len(tiles[0]) for i in range(4)]
    out, tail = b"", b""
    for tag in sorted({*entries, *arrays}):
        if tag in entries:
            out += struct.pack("<HHIHH", tag, 3, 1, entries[tag], 0)
            continue
        kind, values = arrays[tag]
        out += struct.pack("<HHII", tag, kind, len(values), start + len(tail))
        tail += struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries) + len(arrays)) + out + bytes(4) + tail + b"".join(tiles)


def photo(kind: str, seed: int, number: int) -> bytes:
    """The damaged photo of this number."""
    rng = np.random.default_rng((seed, FORMATS.index(kind), number))
    choice = originals(kind)
    return mutated(choice[rng.integers(len(choice))], rng)


def read_case(make: Callable[[int], bytes], folder: Path, number: int) -> str:
    """Reads a photo in every way; the outcome in words."""
    photos = folder / "photos"
    photos.mkdir(exist_ok=True)
    whole = folder / "whole.png"
    if not whole.exists():
        Image.new("RGB", SIZE).save(whole)
    (photos / "photo.jpg").write_bytes(make(number))  # the suffix decides nothing
    (name,) = list_images(photos)
    path = photos / name
    done = [
        _tried(lambda: _checked_header(path)),
        _tried(lambda: _checked(read_photo(path))),
        _tried(lambda: _checked(read_photo(path, 33))),
        _tried(lambda: _checked(read_photo(whole, masks=[path]))),
    ]
    return " ".join(done)


def _tried(read: Callable[[], None]) -> str:
    try:
        read()
    except InputError as exc:
        return "memory" if "memory" in str(exc) else "refused"
    return "read"


def _checked_header(path: Path) -> None:
    header = read_header(path)
    assert min(header.size) > 0
    focal = header.exif.focal_px(header.size)
    assert focal is None or 0 < focal < 1e3 * max(header.size), f"focal length {focal}"


def _checked(found) -> None:
    height, width, channels = found.rgb.shape
    assert channels == 3
    assert found.rgb.dtype == np.uint8
    assert 1 <= found.orientation <= 8
    assert width * height <= found.size[0] * found.size[1]
    assert found.mask is None or found.mask.shape == (height, width)


def main() -> int:
    return fuzz(
        __doc__.splitlines()[0],
        FORMATS,
        photo,
        lambda kind, seed, folder, number: read_case(partial(photo, kind, seed), folder, number),
        count=2000,
        legend="header, photo, reduced photo, mask",
    )


if __name__ == "__main__":
    sys.exit(main())
