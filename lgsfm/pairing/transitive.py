"""Friends of friends: where a matches b and b matches c, a and c may see the same."""

from __future__ import annotations

from itertools import combinations

from ..types import Pair, canonical_pair
from .collection import Collection
from .options import PairOptions

__all__ = ["transitive_pairs"]


def transitive_pairs(collection: Collection, options: PairOptions) -> set[Pair]:
    """The strong pairs of a first round of matches, and (a, c) where a-b and b-c are strong.

    The first round is what the methods joined with this one have selected. So the same choice gives the same pairs when
    a run is repeated, though the second round has been matched meanwhile.
    """
    matches = collection.matches
    first_round = [pair for pair in collection.selected if pair in matches]
    if collection.selected and not first_round:
        collection.notes += [
            "Friends of friends (transitive) follow when these pairs have been matched.",
            "(`lgsfm reconstruct` goes on by itself; stage by stage, run `lgsfm match`, then `lgsfm pairs` and "
            "`lgsfm match` again.)",
        ]
    strong = [pair for pair in first_round if len(matches[pair]) >= options.min_strong_matches]
    friends: dict[str, set[str]] = {}
    for name0, name1 in strong:
        friends.setdefault(name0, set()).add(name1)
        friends.setdefault(name1, set()).add(name0)
    of_friends = {canonical_pair(*pair) for circle in friends.values() for pair in combinations(circle, 2)}
    return of_friends.union(strong)
