"""Images that look alike, by what a retriever makes of them."""

from __future__ import annotations

from collections.abc import Sequence

from ..retrievers import looks_at_photos, similarities
from ..types import Pair, canonical_pair
from .collection import Collection
from .options import PairOptions
from .ranking import Scores, best_partners

__all__ = ["look_alikes", "retrieval_pairs", "similar_pairs"]


def retrieval_pairs(collection: Collection, options: PairOptions) -> set[Pair]:
    """Each image with those that look most like it."""
    names = collection.described
    mutual_but = options.min_neighbors if options.mutual else None
    return similar_pairs(names, look_alikes(collection, names), options.neighbors, mutual_but)


def look_alikes(collection: Collection, names: Sequence[str]) -> Scores:
    """How similar the images are, by the collection's retriever."""
    retriever = collection.retriever
    if looks_at_photos(retriever):
        collection.notes += getattr(retriever, "notes", list)()
        described = retriever.describe_photos(names, collection.photo)  # type: ignore[attr-defined]
    else:
        described = retriever.describe(names, collection.features)
    return lambda start, stop: similarities(retriever, described, start, stop)


def similar_pairs(names: Sequence[str], scores: Scores, neighbors: int, mutual_but: int | None = None) -> set[Pair]:
    """Each image with the most similar ones.

    With ``mutual_but`` only the pairs that are among the ``neighbors`` best of both images, but of each image its
    ``mutual_but`` best ones in any case.
    """
    found = best_partners(scores, len(names), neighbors)
    partners = {(i, int(j)): rank for i, best in found for rank, j in enumerate(best)}
    return {
        canonical_pair(names[i], names[j])
        for (i, j), rank in partners.items()
        if mutual_but is None or rank < mutual_but or (j, i) in partners
    }
