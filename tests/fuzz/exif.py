"""Thousands of damaged EXIF blocks through `lgsfm.exif`, each as JPEG, PNG, WebP and TIFF hold it.

    python tests/fuzz/exif.py --count 10000            # --seed, --keep FOLDER

Reading never raises, takes little memory, and gives no value that no camera has.
"""

import io
import math
import sys
from dataclasses import fields
from functools import cache

import numpy as np
from images import camera_exif
from mutations import mutated
from PIL import Image
from sandbox import fuzz

from lgsfm.exif import Exif, exif_of, read_exif

__all__ = ["block", "exif_case"]

SIZES = ((96, 72), (4000, 3000), (60, 20_000), (1, 1))
MEMORY_BYTES = 64 << 20


@cache
def originals() -> tuple[bytes, ...]:
    """Intact blocks, in both byte orders, small and as a BigTIFF."""
    grey = Image.new("L", (32, 24))
    phone = camera_exif(grey).removeprefix(b"Exif\0\0")
    swapped = Image.Exif()
    swapped.load(phone)
    swapped.endian = "<" if phone[:2] == b"MM" else ">"
    small = Image.Exif()
    small[274] = 3
    stream = io.BytesIO()
    grey.save(stream, "TIFF", big_tiff=True, exif=swapped)
    return (
        phone,
        swapped.tobytes().removeprefix(b"Exif\0\0"),
        small.tobytes().removeprefix(b"Exif\0\0"),
        stream.getvalue(),
    )


def block(seed: int, number: int) -> bytes:
    """The damaged block of this number."""
    rng = np.random.default_rng((seed, 100, number))
    choice = originals()
    return mutated(choice[rng.integers(len(choice))], rng)


def exif_case(seed: int, number: int) -> str:
    """Reads a block in every way; which of its values were found."""
    data = block(seed, number)
    inside = Image.new("L", (1, 1))
    inside.info["exif"] = b"Exif\0\0" + data
    found = exif_of(io.BytesIO(data))
    assert read_exif(inside) == found
    check(found)
    return f"{sum(getattr(found, field.name) != field.default for field in fields(Exif))} values"


def check(exif: Exif) -> None:
    """Whether a camera may have written that."""
    assert 1 <= exif.orientation <= 8
    for value in (exif.focal_mm, exif.focal_35mm, exif.focal_plane_px_per_mm):
        assert value is None or (math.isfinite(value) and value > 0), value
    assert exif.captured_size is None or min(exif.captured_size) >= 1, exif.captured_size
    if exif.position:
        assert abs(exif.position.latitude_deg) <= 90, exif.position
        assert abs(exif.position.longitude_deg) <= 180, exif.position
        assert exif.position.altitude_m is None or abs(exif.position.altitude_m) <= 1e5, exif.position
    for size in SIZES:
        focal = exif.focal_px(size)
        assert focal is None or 0.1 <= focal / max(size) <= 100, (focal, size)


def main() -> int:
    return fuzz(
        __doc__.splitlines()[0],
        ["exif"],
        lambda kind, seed, number: block(seed, number),
        lambda kind, seed, folder, number: exif_case(seed, number),
        count=10_000,
        legend=f"how many of {len(fields(Exif))} values were found",
        memory_bytes=MEMORY_BYTES,
        limit_s=10,
    )


if __name__ == "__main__":
    sys.exit(main())
