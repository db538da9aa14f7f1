"""Images that look alike, by global descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..types import Pair, canonical_pair
from .collection import Collection
from .ranking import best_partners

if TYPE_CHECKING:
    from . import PairOptions

__all__ = ["retrieval_pairs", "similar_pairs"]


def retrieval_pairs(collection: Collection, options: PairOptions) -> set[Pair]:
    """Each image with those that look most like it."""
    names = collection.described
    descriptors = collection.retriever.describe(names, collection.features)
    return similar_pairs(names, descriptors, options.neighbors, options.min_neighbors if options.mutual else None)


def similar_pairs(
    names: Sequence[str], descriptors: np.ndarray, neighbors: int, mutual_but: int | None = None
) -> set[Pair]:
    """Each image with those of the most similar global descriptors; (N, D) float32, L2-normalised.

    With ``mutual_but`` only the pairs that are among the ``neighbors`` best of both images, but of each image its
    ``mutual_but`` best ones in any case.
    """

    def similarities(start: int, stop: int) -> np.ndarray:
        return descriptors[start:stop] @ descriptors.T

    found = best_partners(similarities, len(names), neighbors)
    partners = {(i, int(j)): rank for i, best in found for rank, j in enumerate(best)}
    return {
        canonical_pair(names[i], names[j])
        for (i, j), rank in partners.items()
        if mutual_but is None or rank < mutual_but or (j, i) in partners
    }
