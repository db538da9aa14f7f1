"""The best partners of each image, by any score: in blocks of rows, so that all scores are never held at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..types import Pair, canonical_pair

__all__ = ["Scores", "best_partners", "partner_pairs"]

BLOCK_SCORES = 1 << 25  # scores that are in memory at a time: 128 MB in float32; some retrievers work block by block

Scores = Callable[[int, int], np.ndarray]  # (start, stop) -> (stop - start, N) scores of these images to all N


def best_partners(scores: Scores, size: int, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Each image with its ``count`` partners of the highest scores, best first.

    Of equal scores, those nearest in the order of the images come first: not the same few for everybody.

    Scores of -inf are no partners, and nobody is his own.
    """
    count = min(count, size - 1)
    if count <= 0:
        return
    rows = max(1, BLOCK_SCORES // size)
    for start in range(0, size, rows):
        stop = min(start + rows, size)
        for i, scored in enumerate(scores(start, stop), start=start):
            row = np.array(scored)
            row[i] = -np.inf
            limit = np.partition(row, size - count)[size - count]
            reached = np.flatnonzero((row >= limit) & (row > -np.inf))  # with ties at the limit: more than count
            yield i, reached[np.lexsort((np.abs(reached - i), -row[reached]))][:count]


def partner_pairs(names: Sequence[str], scores: Scores, count: int) -> set[Pair]:
    """Each image with its ``count`` best partners."""
    found = best_partners(scores, len(names), count)
    return {canonical_pair(names[i], names[j]) for i, partners in found for j in partners}
