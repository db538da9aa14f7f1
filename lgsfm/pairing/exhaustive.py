"""All pairs."""

from __future__ import annotations

from itertools import combinations

from ..types import Pair
from .collection import Collection
from .options import PairOptions

__all__ = ["exhaustive_pairs"]


def exhaustive_pairs(collection: Collection, options: PairOptions) -> set[Pair]:
    """Each image with each other."""
    return set(combinations(sorted(collection.names), 2))
