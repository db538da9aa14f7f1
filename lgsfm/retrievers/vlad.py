"""VLAD: a global descriptor made of the local features that are there already; needs no weights.

H. Jégou, M. Douze, C. Schmid, P. Pérez: "Aggregating local descriptors into a compact image representation",
CVPR 2010; with the intra-normalisation of R. Arandjelović, A. Zisserman: "All about VLAD", CVPR 2013. The codebook is
trained on the collection itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import codebook
from ..options import Options, option
from ..types import Features

__all__ = ["VladOptions", "VladRetriever"]


@dataclass(frozen=True, kw_only=True)
class VladOptions(Options):
    """Options of VLAD."""

    words: int = option(64, "retrieval: size of the codebook", minimum=2)


class VladRetriever:
    """VLAD over a codebook of the collection."""

    options_class: ClassVar[type[VladOptions]] = VladOptions

    def __init__(self, options: VladOptions) -> None:
        self.options = options

    def describe(self, names: Sequence[str], features: Mapping[str, Features]) -> np.ndarray:
        """(len(names), words * D) float32 global descriptors; the dot product is the similarity."""
        if not names:
            return np.zeros((0, 0), np.float32)
        centres = codebook.train(codebook.sample(names, features), self.options.words)
        vectors = np.empty((len(names), centres.size), np.float32)
        for row, name in zip(vectors, names, strict=True):
            row[:] = aggregate(features[name].descriptors, centres)
        return vectors


def aggregate(descriptors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(words * D,) float32: normalised sums of the residuals of (N, D) descriptors to their centres."""
    sums, _ = codebook.residuals(descriptors, centres)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    vector = (sums / np.maximum(norms, 1e-12)).ravel()
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
