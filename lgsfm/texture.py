"""How many keypoints photos are likely to have, by how much of them is not plain: a look at some, before the run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from .errors import InputError
from .estimate import keypoints_in
from .images import read_photo

__all__ = ["expected_keypoints", "textured_share"]

BLOCK_PX, PLAIN = 8, 4.0  # a block is plain if its standard deviation is less, of 255


def expected_keypoints(image_dir: Path, names: Sequence[str], extractor: str, max_edge_px: int) -> int:
    """Keypoints that photos are likely to have on average; 0 where nothing tells.

    Args:
        image_dir: folder of the photos.
        names: some of them, each is read; those that cannot be are left out.
        extractor: kind of the features.
        max_edge_px: long edge to which the extractor reduces photos; 0 is none.
    """
    textured: list[float] = []
    for name in names if keypoints_in(extractor, 1e6) else []:
        with suppress(InputError):  # a photo that the run will skip and name
            rgb = read_photo(image_dir / name, max_edge_px or None).rgb
            textured.append(textured_share(rgb) * rgb.shape[0] * rgb.shape[1])
    return keypoints_in(extractor, sum(textured) / len(textured)) if textured else 0


def textured_share(rgb: np.ndarray) -> float:
    """The share of a picture, (H, W, 3) uint8, that is not plain, where keypoints lie; 0 if it has no whole block."""
    grey = rgb.mean(2, dtype=np.float32)
    height, width = (edge // BLOCK_PX for edge in grey.shape)
    if not height or not width:
        return 0.0
    blocks = grey[: height * BLOCK_PX, : width * BLOCK_PX].reshape(height, BLOCK_PX, width, BLOCK_PX)
    return float((blocks.std((1, 3)) > PLAIN).mean())
