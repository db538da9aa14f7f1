"""The view graph: which photos are tied to which by a verified pair, and where that hangs by a thread.

Its nodes are the images with features, its edges the pairs that passed geometric verification.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from ..database_reading import VerifiedPair
from ..types import Pair, canonical_pair

__all__ = ["ENOUGH_NEIGHBORS", "ViewGraph"]

ENOUGH_NEIGHBORS = 3  # verified pairs of an image: with fewer, one wrong or weak pair decides whether it registers


class ViewGraph:
    """The view graph of some images.

    Args:
        names: the images, also those without any pair.
        pairs: what verification made of the matched pairs; those of other images do not count.
    """

    def __init__(self, names: Iterable[str], pairs: Mapping[Pair, VerifiedPair]) -> None:
        self.names = sorted(set(names))
        import networkx  # not before it is needed: it takes longer to load than a small model to make

        known = set(self.names)
        self.pairs = {
            pair: found for pair, found in pairs.items() if found.is_verified and pair[0] in known and pair[1] in known
        }
        self._graph = networkx.Graph()
        self._graph.add_nodes_from(self.names)
        self._graph.add_edges_from(self.pairs)

    @cached_property
    def components(self) -> list[list[str]]:
        """Sets of images that hang together, the largest first, names sorted; an image without a pair is one."""
        import networkx

        found = [sorted(component) for component in networkx.connected_components(self._graph)]
        return sorted(found, key=lambda component: (-len(component), component))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, component in enumerate(self.components) for name in component}

    def component_of(self, name: str) -> int:
        """The number of an image's component; 0 is the largest one. Raises `KeyError` for an image of no graph."""
        return self._numbers[name]

    @cached_property
    def bridges(self) -> list[Pair]:
        """Pairs without which a component falls into two, sorted."""
        import networkx

        return sorted(canonical_pair(*pair) for pair in networkx.bridges(self._graph))

    def neighbors(self, name: str) -> list[str]:
        """The images that a verified pair ties to this one, sorted."""
        return sorted(self._graph.neighbors(name)) if name in self._graph else []

    def inliers(self, name0: str, name1: str) -> int:
        """The inliers of a pair, 0 where it is not verified."""
        found = self.pairs.get(canonical_pair(name0, name1))
        return found.num_inliers if found else 0

    def weak(self, at_least: int = ENOUGH_NEIGHBORS) -> list[str]:
        """The images that hang by a thread: outside of the largest component, or with fewer neighbours, sorted.

        In a graph so small that nobody can have so many neighbours, those who have not all.
        """
        enough = min(at_least, len(self.names) - 1)
        return [name for name in self.names if self.component_of(name) or len(self._graph[name]) < enough]

    def friends_of_friends(self, name: str) -> list[str]:
        """Images that have a neighbour in common with this one and are none of its neighbours, the surest first.

        As sure as the weaker of the two pairs that lead there, by its inliers.
        """
        own = set(self.neighbors(name))
        sure: dict[str, int] = {}
        for friend in own:
            for other in self._graph[friend]:
                if other != name and other not in own:
                    way = min(self.inliers(name, friend), self.inliers(friend, other))
                    sure[other] = max(sure.get(other, 0), way)
        return sorted(sure, key=lambda other: (-sure[other], other))

    def between(self, some: Sequence[str], others: Sequence[str]) -> list[Pair]:
        """The verified pairs that lead from one set of images to another, those of most inliers first."""
        these, those = set(some), set(others)
        found = [
            pair
            for pair in self.pairs
            if (pair[0] in these and pair[1] in those) or (pair[0] in those and pair[1] in these)
        ]
        return sorted(found, key=lambda pair: (-self.pairs[pair].num_inliers, pair))
