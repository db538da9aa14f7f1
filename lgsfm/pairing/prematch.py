"""A quick look first: the strongest few keypoints of each image are matched, and pairs with enough matches selected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from ..matchers import Matcher, best_batch, match_batch
from ..store import sources_of
from ..types import Features, Matches, Pair
from .collection import Collection
from .retrieval import look_alikes, similar_pairs

if TYPE_CHECKING:
    from . import PairOptions

__all__ = ["prematch_pairs", "strongest"]

PREPARED_IMAGES = 128  # kept in memory, about a MB each


def prematch_pairs(collection: Collection, options: PairOptions) -> set[Pair]:
    """The pairs whose ``prematch_keypoints`` strongest keypoints have ``prematch_min_matches`` matches.

    Looked at are the pairs of the ``prematch_candidates`` most similar images of each; 0 looks at all pairs.
    """
    names, features = collection.described, collection.features
    candidates = set(combinations(names, 2))
    if 0 < options.prematch_candidates < len(names) - 1:
        candidates = similar_pairs(names, look_alikes(collection, names), options.prematch_candidates)

    @lru_cache(maxsize=PREPARED_IMAGES)
    def few(name: str) -> Features:
        return strongest(features[name], options.prematch_keypoints)

    store, digests = collection.prematches, {name: few(name).digest for name in names}
    ordered = _in_blocks(candidates, names)
    todo = [pair for pair in ordered if sources_of(store, pair) != (digests[pair[0]], digests[pair[1]])]
    for done, (pair, found) in enumerate(_match(todo, few, collection.matcher), start=1):
        store[pair] = found
        if collection.progress:
            collection.progress(done, len(todo))
    return {pair for pair in ordered if len(store[pair]) >= options.prematch_min_matches}


def _match(pairs: Sequence[Pair], few: Callable[[str], Features], matcher: Matcher) -> Iterator[tuple[Pair, Matches]]:
    """The matches of the pairs, in batches as the matcher likes them."""

    @lru_cache(maxsize=PREPARED_IMAGES)
    def prepared(name: str) -> Any:
        return matcher.prepare(few(name))

    size = best_batch(matcher)
    for start in range(0, len(pairs), size):
        batch = pairs[start : start + size]
        found = match_batch(matcher, [(prepared(first), prepared(second)) for first, second in batch])
        yield from zip(batch, found, strict=True)


def _in_blocks(pairs: Iterable[Pair], names: Sequence[str]) -> list[Pair]:
    """The pairs in an order in which a block of images stays prepared while their partners pass one by one."""
    number = {name: i for i, name in enumerate(names)}
    block = PREPARED_IMAGES - 2
    return sorted(pairs, key=lambda pair: (number[pair[0]] // block, number[pair[1]], number[pair[0]]))


def strongest(features: Features, count: int) -> Features:
    """The ``count`` keypoints of the highest scores, in their old order."""
    chosen = np.sort(np.argsort(-features.scores, kind="stable")[:count])
    return replace(
        features,
        keypoints=features.keypoints[chosen],
        descriptors=features.descriptors[chosen],
        scores=features.scores[chosen],
    )
