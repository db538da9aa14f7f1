"""Two looks at the same photos as one: the keypoints of the finer look behind those of the first.

So the matches of the first look keep their indices, and a finer look costs only the photos and pairs that need it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from .options import digest
from .store import num_keypoints, sources_of
from .types import Features, Matches, Pair

__all__ = ["FinerLook", "LayeredFeatures", "LayeredMatches"]

SAME_PX = 3.0  # two keypoints of one corner, seen in two sizes of the picture
BLOCK_ROWS = 256  # matches that are compared with all others at a time


@dataclass(frozen=True)
class FinerLook:
    """A finer look at some pairs.

    features: image name -> features, of at least the images of the pairs
    matches: pair -> matches, of at least the pairs
    pairs: what counts of it
    """

    features: Mapping[str, Features] = field(default_factory=dict)
    matches: Mapping[Pair, Matches] = field(default_factory=dict)
    pairs: frozenset[Pair] = frozenset()

    @cached_property
    def names(self) -> frozenset[str]:
        """The images of the pairs."""
        return frozenset(name for pair in self.pairs for name in pair)

    @cached_property
    def digests(self) -> dict[Pair, str]:
        """Pair -> hash of what its matches were made from."""
        return {pair: digest(sources_of(self.matches, pair)) for pair in self.pairs}


class LayeredFeatures(Mapping[str, Features]):
    """Image name -> features of the first look and, where there is one, of the finer look behind them.

    Descriptors of two looks are of no use together: this is for who needs keypoints.

    Args:
        first: of all images.
        finer: of some, in the same pixels of the stored photo.
    """

    def __init__(self, first: Mapping[str, Features], finer: FinerLook) -> None:
        self.first, self.finer = first, finer

    def __getitem__(self, name: str) -> Features:
        first = self.first[name]
        if name not in self.finer.names:
            return first
        finer = self.finer.features[name]
        return replace(
            first,
            keypoints=np.concatenate([first.keypoints, finer.keypoints]),
            descriptors=np.concatenate([first.descriptors, finer.descriptors]),
            scores=np.concatenate([first.scores, finer.scores]),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.first)

    def __len__(self) -> int:
        return len(self.first)


class LayeredMatches(Mapping[Pair, Matches]):
    """Pair -> matches of the first look and what the finer look adds, as indices into `LayeredFeatures`.

    A match that both looks found counts once: else a pair of few matches would have twice as many by looking twice.

    Args:
        first: pair -> matches of the first look.
        features: of the first look.
        finer: of some pairs.
    """

    def __init__(self, first: Mapping[Pair, Matches], features: Mapping[str, Features], finer: FinerLook) -> None:
        self.first, self.finer, self._features = first, finer, features
        self._counts = {name: num_keypoints(features, name) or 0 for name in finer.names}

    def __getitem__(self, pair: Pair) -> Matches:
        if pair not in self.finer.pairs:
            return self.first[pair]
        finer = self.finer.matches[pair]
        first = self.first[pair] if pair in self.first else Matches.empty()
        offsets = np.array([self._counts[name] for name in pair], np.int32)
        is_new = ~_near(self._points(self.finer.features, pair, finer), self._points(self._features, pair, first))
        return Matches(
            np.concatenate([first.indices, (finer.indices + offsets)[is_new]]),
            np.concatenate([first.scores, finer.scores[is_new]]),
            first.sources,
        )

    def _points(self, features: Mapping[str, Features], pair: Pair, matches: Matches) -> np.ndarray:
        """(K, 4) float32 [px]: where the matches are in both images."""
        if not len(matches):
            return np.zeros((0, 4), np.float32)
        return np.hstack([features[name].keypoints[matches.indices[:, i]] for i, name in enumerate(pair)])

    def __iter__(self) -> Iterator[Pair]:
        yield from self.first
        yield from (pair for pair in self.finer.pairs if pair not in self.first)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _near(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(K,) bool: whether a match (K, 4) [px] is one of the others (M, 4), within `SAME_PX` in both images."""
    if not len(points) or not len(others):
        return np.zeros(len(points), bool)
    near = np.zeros(len(points), bool)
    for start in range(0, len(points), BLOCK_ROWS):
        apart = np.abs(points[start : start + BLOCK_ROWS, None] - others[None]).max(-1)
        near[start : start + BLOCK_ROWS] = apart.min(1) <= SAME_PX
    return near
