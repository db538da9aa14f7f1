"""Visual words: a codebook trained on the local features of the collection itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .types import Features

__all__ = ["Codebook", "assign", "residuals", "sample", "sums_by_word", "train", "train_two_levels"]

TRAINING_DESCRIPTORS = 20_000  # in all, spread over the images
TRAINING_IMAGES = 2_000  # at most, evenly spread: a large collection is not read twice
TRAINING_ROUNDS = 12


@dataclass(frozen=True, eq=False)
class Codebook:
    """Centres of visual words; of many words, in groups, so that a descriptor need not be compared with all.

    centres: (words, D) float32
    coarse: (groups, D) float32 centres of the groups; of a flat codebook (0, D)
    starts: (groups + 1,) int, the words of group i are starts[i] to starts[i + 1] - 1
    """

    centres: np.ndarray
    coarse: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.centres)

    def nearest(self, descriptors: np.ndarray, count: int) -> np.ndarray:
        """(N, count) numbers of the nearest words of each descriptor, in any order; fewer where there are no more.

        Of a codebook in groups only one is given, see `assign`.
        """
        if count == 1 or len(self.coarse) or not len(descriptors):
            return self.assign(descriptors)[:, None]
        count = min(count, len(self.centres))
        scores = descriptors @ self.centres.T - 0.5 * (self.centres**2).sum(1)
        return np.argpartition(scores, -count, axis=1)[:, -count:]

    def assign(self, descriptors: np.ndarray) -> np.ndarray:
        """(N,) number of the word of each descriptor: the nearest, with groups the nearest in the nearest group."""
        if not len(self.coarse):
            return assign(descriptors, self.centres)
        groups = assign(descriptors, self.coarse)
        words = np.zeros(len(descriptors), np.int64)
        order = np.argsort(groups, kind="stable")
        bounds = np.searchsorted(groups[order], np.arange(len(self.coarse) + 1))
        for group in np.flatnonzero(np.diff(bounds)):
            members = order[bounds[group] : bounds[group + 1]]
            start, stop = self.starts[group : group + 2]
            words[members] = start + assign(descriptors[members], self.centres[start:stop])
        return words


def sample(names: Sequence[str], features: Mapping[str, Features], count: int = TRAINING_DESCRIPTORS) -> np.ndarray:
    """About ``count`` descriptors for training, evenly taken from the images, or from `TRAINING_IMAGES` of many."""
    if len(names) > TRAINING_IMAGES:
        names = [names[i] for i in np.linspace(0, len(names) - 1, TRAINING_IMAGES).astype(int)]
    share = max(1, count // len(names))
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
        order = np.argsort(nearest, kind="stable")
        bounds = np.searchsorted(nearest[order], np.arange(len(centres) + 1))
        for word in np.flatnonzero(np.diff(bounds)):
            centres[word] = descriptors[order[bounds[word] : bounds[word + 1]]].mean(0)
    return centres


def train_two_levels(descriptors: np.ndarray, words: int) -> Codebook:
    """A codebook of about ``words`` words in as many groups as each has words.

    D. Nistér, H. Stewénius: "Scalable recognition with a vocabulary tree", CVPR 2006, with two levels.
    """
    if not len(descriptors):
        return Codebook(descriptors, descriptors, np.zeros(1, int))
    branches = max(1, round(words**0.5))
    coarse = train(descriptors, branches)
    groups = assign(descriptors, coarse)
    fine = [train(descriptors[groups == group], branches) for group in range(len(coarse))]
    # a centre that nothing is nearest to stands for its group, which other descriptors may fall into
    fine = [centres if len(centres) else coarse[i : i + 1] for i, centres in enumerate(fine)]
    return Codebook(np.concatenate(fine), coarse, np.cumsum([0, *map(len, fine)]))


def assign(descriptors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(N,) number of the nearest centre of each descriptor."""
    if not len(descriptors):
        return np.zeros(0, np.int64)
    return np.argmax(descriptors @ centres.T - 0.5 * (centres**2).sum(1), axis=1)


def residuals(descriptors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(words, D) sums of the residuals of (N, D) descriptors to their centres, and (words,) how many each has."""
    sums = np.zeros_like(centres)
    if not len(descriptors):
        return sums, np.zeros(len(centres), int)
    nearest = assign(descriptors, centres)
    np.add.at(sums, nearest, descriptors - centres[nearest])
    return sums, np.bincount(nearest, minlength=len(centres))


def sums_by_word(descriptors: np.ndarray, words: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The (K,) words that occur, ascending, and (K, D) sums of the residuals of (N, D) descriptors to theirs."""
    order = np.argsort(words, kind="stable")
    found, starts = np.unique(words[order], return_index=True)
    if not len(found):
        return found, np.zeros((0, centres.shape[1]), np.float32)
    return found, np.add.reduceat((descriptors - centres[words])[order], starts, axis=0)
