"""A quick look first: the strongest few keypoints of each image are matched, and pairs with enough matches selected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np

from ..batches import Batches, PreparedImages
from ..matchers import best_batch
from ..store import sources_of
from ..types import Features, Pair
from .collection import Collection
from .options import LOOK_AT_ALL, MOST_SIMILAR, PairOptions
from .retrieval import look_alikes, similar_pairs

__all__ = ["prematch_pairs", "strongest"]

PREPARED_IMAGES = 128  # kept in memory, about a MB each
BLOCK_IMAGES = PREPARED_IMAGES - 2


def prematch_pairs(collection: Collection, options: PairOptions) -> set[Pair]:
    """The pairs whose ``prematch_keypoints`` strongest keypoints have ``prematch_min_matches`` matches.

    Looked at are the pairs of the ``prematch_candidates`` most similar images of each; by default all pairs of few
    images, and those of the `MOST_SIMILAR` of many.
    """
    names, features = collection.described, collection.features
    count = options.prematch_candidates or (MOST_SIMILAR if len(names) > LOOK_AT_ALL else len(names))
    is_all = count >= len(names) - 1
    if not is_all and not options.prematch_candidates:
        collection.notes.append(f"Prematch looks at the {count} most similar photos of each (--prematch-candidates).")
    alike = [] if is_all else _in_blocks(similar_pairs(names, look_alikes(collection, names), count), names)
    total = len(names) * (len(names) - 1) // 2 if is_all else len(alike)

    def candidates() -> Iterable[Pair]:
        return _all_in_blocks(names) if is_all else alike

    @lru_cache(maxsize=PREPARED_IMAGES)
    def few(name: str) -> Features:
        return strongest(features[name], options.prematch_keypoints)

    store, digests = collection.prematches, {name: few(name).digest for name in names}
    todo = (
        (number, pair)
        for number, pair in enumerate(candidates(), start=1)
        if sources_of(store, pair) != (digests[pair[0]], digests[pair[1]])
    )
    matching = Batches(PreparedImages(few, collection.matcher, PREPARED_IMAGES), best_batch(collection.matcher))
    while batch := list(islice(todo, matching.limit)):  # the pairs are drawn as they are needed
        numbers = {pair: number for number, pair in batch}
        for part, found in matching.match(list(numbers)):
            for pair, matches in zip(part, found, strict=True):
                store[pair] = matches
                if collection.progress:
                    collection.progress(numbers[pair], total)
    return {pair for pair in candidates() if len(store[pair]) >= options.prematch_min_matches}


def _in_blocks(pairs: Iterable[Pair], names: Sequence[str]) -> list[Pair]:
    """The pairs in an order in which a block of images stays prepared while their partners pass one by one."""
    number = {name: i for i, name in enumerate(names)}
    return sorted(pairs, key=lambda pair: (number[pair[0]] // BLOCK_IMAGES, number[pair[1]], number[pair[0]]))


def _all_in_blocks(names: Sequence[str]) -> Iterator[Pair]:
    """All pairs of the sorted names in the order of `_in_blocks`, one by one: there may be millions."""
    for start in range(0, len(names), BLOCK_IMAGES):
        for second in range(start + 1, len(names)):
            for first in range(start, min(start + BLOCK_IMAGES, second)):
                yield names[first], names[second]


def strongest(features: Features, count: int) -> Features:
    """The ``count`` keypoints of the highest scores, in their old order."""
    return features.subset(np.sort(np.argsort(-features.scores, kind="stable")[:count]))
