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

from ..options import Options, option
from ..types import Features

__all__ = ["VladOptions", "VladRetriever"]

TRAINING_DESCRIPTORS = 20_000  # in all, spread over the images
TRAINING_ROUNDS = 12


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
        codebook = train_codebook(_sample(names, features), self.options.words)
        return np.stack([aggregate(features[name].descriptors, codebook) for name in names])


def _sample(names: Sequence[str], features: Mapping[str, Features]) -> np.ndarray:
    """Descriptors for training, evenly taken from the images."""
    share = max(1, TRAINING_DESCRIPTORS // len(names))
    rng = np.random.default_rng(0)
    parts = []
    for name in names:
        descriptors = features[name].descriptors
        chosen = rng.permutation(len(descriptors))[:share]
        parts.append(descriptors[np.sort(chosen)])
    return np.concatenate(parts)


def train_codebook(descriptors: np.ndarray, words: int) -> np.ndarray:
    """(words, D) centres by Lloyd's algorithm from a seeded choice of (N, D) L2-normalised descriptors."""
    rng = np.random.default_rng(0)
    centres = descriptors[rng.permutation(len(descriptors))[:words]].copy()
    for _ in range(TRAINING_ROUNDS if len(descriptors) else 0):
        nearest = assign(descriptors, centres)
        for word in range(len(centres)):
            members = descriptors[nearest == word]
            if len(members):
                centres[word] = members.mean(0)
    return centres


def assign(descriptors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(N,) number of the nearest centre of each descriptor."""
    return np.argmax(descriptors @ centres.T - 0.5 * (centres**2).sum(1), axis=1)


def aggregate(descriptors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(words * D,) float32: normalised sums of the residuals of (N, D) descriptors to their centres."""
    sums = np.zeros_like(centres)
    if len(descriptors):
        nearest = assign(descriptors, centres)
        np.add.at(sums, nearest, descriptors - centres[nearest])
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    vector = (sums / np.maximum(norms, 1e-12)).ravel()
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
