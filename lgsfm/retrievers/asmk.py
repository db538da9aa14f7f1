"""ASMK: what the local features of two images have in common, word by word of a codebook; needs no weights.

G. Tolias, Y. Avrithis, H. Jégou: "To aggregate or not to aggregate: selective match kernels for image search", ICCV
2013, in its binary form (sec. 4): of each visual word of an image the signs of the aggregated residual are kept, and
two images are as similar as the sum over their words of u³, where u is the correlation of the signs and what is
negative counts nothing. So a few words that agree well outweigh many that agree by chance, which a dot product as in
`vlad` cannot do. The codebook is trained on the collection itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import codebook
from ..options import Options, option
from ..types import Features

__all__ = ["AsmkOptions", "AsmkRetriever", "BinaryWords"]

SELECTIVITY = 3  # the exponent alpha of the paper, at least 2
TILE = (256, 1024)  # rows and columns of scores that are computed at a time: 1 MB


@dataclass(frozen=True, kw_only=True)
class AsmkOptions(Options):
    """Options of ASMK."""

    words: int = option(1024, "retrieval: size of the codebook", minimum=2)


@dataclass(frozen=True, eq=False)
class BinaryWords:
    """The visual words of N images.

    bits: (words, N, ceil(D / 8)) uint8, the signs of the aggregated residuals, packed
    is_seen: (words, N) bool, whether the image has the word
    dim: D
    """

    bits: np.ndarray
    is_seen: np.ndarray
    dim: int


class AsmkRetriever:
    """Binary ASMK over a codebook of the collection; 16 kB per image for 1024 words and 128 dimensions."""

    options_class: ClassVar[type[AsmkOptions]] = AsmkOptions

    def __init__(self, options: AsmkOptions) -> None:
        self.options = options

    def describe(self, names: Sequence[str], features: Mapping[str, Features]) -> BinaryWords:
        """The visual words of the images, in the order of the names."""
        if not names:
            return BinaryWords(np.zeros((0, 0, 0), np.uint8), np.zeros((0, 0), bool), 0)
        centres = codebook.train(codebook.sample(names, features), self.options.words)
        words, dim = centres.shape
        bits = np.zeros((words, len(names), -(-dim // 8)), np.uint8)
        is_seen = np.zeros((words, len(names)), bool)
        for i, name in enumerate(names):
            sums, counts = codebook.residuals(features[name].descriptors, centres)
            bits[:, i], is_seen[:, i] = np.packbits(sums > 0, axis=1), counts > 0
        return BinaryWords(bits, is_seen, dim)

    def similarities(self, described: BinaryWords, start: int, stop: int) -> np.ndarray:
        """(stop - start, N) float32 in [0, 1]: how similar these images are to all."""
        size = described.is_seen.shape[1]
        total = np.zeros((stop - start, size), np.float32)
        scratch = np.empty((2, TILE[0] * TILE[1]), np.float32)
        for bits, is_seen in zip(described.bits, described.is_seen, strict=True):
            if is_seen[start:stop].any():
                signs = _scaled_signs(bits, is_seen, described.dim)
                _add_kernel(total, signs[start:stop], signs, scratch)
        norms = np.sqrt(np.maximum(described.is_seen.sum(0), 1)).astype(np.float32)
        total /= norms[start:stop, None]
        total /= norms
        return total


def _scaled_signs(bits: np.ndarray, is_seen: np.ndarray, dim: int) -> np.ndarray:
    """(N, D) float32: the signs of one word over sqrt(D), so that a dot product is a correlation; unseen: zeros."""
    signs = np.unpackbits(bits, axis=1, count=dim).astype(np.float32)
    signs *= 2
    signs -= 1
    signs *= is_seen[:, None] / np.float32(np.sqrt(dim))
    return signs


def _add_kernel(total: np.ndarray, rows: np.ndarray, columns: np.ndarray, scratch: np.ndarray) -> None:
    """Adds max(rows @ columns.T, 0) ** SELECTIVITY to ``total``, in tiles that stay in the cache of a processor."""
    for top in range(0, len(rows), TILE[0]):
        for left in range(0, len(columns), TILE[1]):
            tile = total[top : top + TILE[0], left : left + TILE[1]]
            u, power = (buffer[: tile.size].reshape(tile.shape) for buffer in scratch)
            np.matmul(rows[top : top + TILE[0]], columns[left : left + TILE[1]].T, out=u)
            np.maximum(u, 0, out=u)
            np.multiply(u, u, out=power)
            for _ in range(SELECTIVITY - 2):
                power *= u
            tile += power
