"""Friends of friends: where a matches b and b matches c, a and c may see the same."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from ..errors import InputError
from ..types import Pair, canonical_pair
from .collection import Collection

if TYPE_CHECKING:
    from . import PairOptions

__all__ = ["transitive_pairs"]


def transitive_pairs(collection: Collection, options: PairOptions) -> set[Pair]:
    """The strong pairs of a first round of matches, and (a, c) where a-b and b-c are strong.

    The first round is what the methods joined with this one have selected; alone, all that was matched. So the same
    choice gives the same pairs when a run is repeated, though the second round has been matched meanwhile.

    Raises:
        InputError: there are no matches yet.
    """
    matches, known = collection.matches, set(collection.names)
    first_round = collection.selected or {pair for pair in matches if known.issuperset(pair)}
    if not matches and collection.selected:
        collection.notes.append("Friends of friends (transitive) follow when these pairs have been matched.")
    elif not matches:
        raise InputError(
            "--pairs transitive needs the matches of a first round: run `lgsfm match` on other pairs first."
        )
    strong = {pair for pair in first_round if pair in matches and len(matches[pair]) >= options.min_strong_matches}
    friends: dict[str, set[str]] = {}
    for name0, name1 in strong:
        friends.setdefault(name0, set()).add(name1)
        friends.setdefault(name1, set()).add(name0)
    return strong | {canonical_pair(*pair) for circle in friends.values() for pair in combinations(circle, 2)}
