"""Visual words: a codebook trained on the local features of the collection itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .types import Features

__all__ = ["assign", "residuals", "sample", "train"]

TRAINING_DESCRIPTORS = 20_000  # in all, spread over the images
TRAINING_ROUNDS = 12


def sample(names: Sequence[str], features: Mapping[str, Features]) -> np.ndarray:
    """Descriptors for training, evenly taken from the images."""
    share = max(1, TRAINING_DESCRIPTORS // len(names))
    rng = np.random.default_rng(0)
    parts = []
    for name in names:
        descriptors = features[name].descriptors
        chosen = rng.permutation(len(descriptors))[:share]
        parts.append(descriptors[np.sort(chosen)])
    return np.concatenate(parts)


def train(descriptors: np.ndarray, words: int) -> np.ndarray:
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


def residuals(descriptors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(words, D) sums of the residuals of (N, D) descriptors to their centres, and (words,) how many each has."""
    sums = np.zeros_like(centres)
    if not len(descriptors):
        return sums, np.zeros(len(centres), int)
    nearest = assign(descriptors, centres)
    np.add.at(sums, nearest, descriptors - centres[nearest])
    return sums, np.bincount(nearest, minlength=len(centres))
