"""The view graph on graphs that can be drawn by hand."""

from __future__ import annotations

import pytest

from lgsfm.database_reading import VerifiedPair
from lgsfm.types import Pair
from lgsfm.view_graph import ViewGraph

# a, b, c, d all tied to each other; d - e is a bridge to the triangle e, f, g; h - i apart; j alone
EDGES = "ab ac ad bc bd cd de ef eg fg hi"


def graph_of(edges: str = EDGES, names: str = "abcdefghij", **inliers: int) -> ViewGraph:
    pairs: dict[Pair, VerifiedPair] = {
        (edge[0], edge[1]): VerifiedPair(100, inliers.get(edge, 50), "calibrated") for edge in edges.split()
    }
    return ViewGraph(names, pairs)


def test_components_are_the_largest_first_and_an_image_alone_is_one() -> None:
    assert graph_of().components == [list("abcdefg"), ["h", "i"], ["j"]]
    assert [graph_of().component_of(name) for name in "agij"] == [0, 0, 1, 2]


def test_the_pair_that_holds_two_parts_together_is_a_bridge() -> None:
    assert graph_of().bridges == [("d", "e"), ("h", "i")]
    assert graph_of(EDGES + " cf").bridges == [("h", "i")]


def test_weak_are_those_apart_and_those_with_few_neighbours() -> None:
    assert graph_of().weak() == list("fghij")
    assert graph_of().weak(at_least=4) == list("abcefghij")


def test_in_a_tiny_graph_everybody_tied_to_everybody_is_not_weak() -> None:
    assert graph_of("ab ac bc", "abc").weak() == []
    assert graph_of("ab ac", "abc").weak() == ["b", "c"]


def test_pairs_that_failed_verification_tie_nobody() -> None:
    failed = {
        ("a", "b"): VerifiedPair(80, 0),
        ("b", "c"): VerifiedPair(80, 60, "watermark"),
        ("a", "x"): VerifiedPair(80, 60, "calibrated"),  # x is no image of the graph
    }
    assert ViewGraph("abc", failed).components == [["a"], ["b"], ["c"]]


def test_friends_of_friends_come_in_the_order_of_the_weaker_tie_that_leads_there() -> None:
    graph = graph_of("ab bc bd ae ec", "abcde", ab=90, bc=20, bd=80, ae=40, ec=30)
    assert graph.friends_of_friends("a") == ["d", "c"]  # d over b: 80; c over e: 30, better than over b: 20


def test_ties_between_two_sets_are_those_of_most_inliers_first() -> None:
    graph = graph_of(EDGES + " cf", cf=70)
    assert graph.between("abcd", "efg") == [("c", "f"), ("d", "e")]
    assert graph.between("ab", "hi") == []


def test_an_image_of_no_graph_has_no_neighbours() -> None:
    assert graph_of().neighbors("z") == []
    with pytest.raises(KeyError):
        graph_of().component_of("z")
