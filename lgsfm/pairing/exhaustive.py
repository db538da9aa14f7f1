"""All pairs."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from ..types import Pair
from .collection import Collection

if TYPE_CHECKING:
    from . import PairOptions

__all__ = ["exhaustive_pairs"]


def exhaustive_pairs(collection: Collection, options: PairOptions) -> set[Pair]:
    """Each image with each other."""
    return set(combinations(sorted(collection.names), 2))
