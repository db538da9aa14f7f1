"""A finer look behind the first one: the same pixels and the same matches, at other indices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lgsfm.layers import FinerLook, LayeredFeatures, LayeredMatches
from lgsfm.types import Features, Matches, Pair


def features_of(seed: int, count: int) -> Features:
    rng = np.random.default_rng(seed)
    points = (rng.random((count, 2)) * 100).astype(np.float32)
    descriptors = rng.random((count, 4)).astype(np.float32)
    return Features(points, descriptors, rng.random(count).astype(np.float32), (100, 100), "toy")


FIRST = {name: features_of(i, 5 + i) for i, name in enumerate("abc")}
FINER = {name: features_of(10 + i, 9) for i, name in enumerate("ab")}
PAIR: Pair = ("a", "b")


def matches_of(*rows: tuple[int, int]) -> Matches:
    return Matches(np.array(rows, np.int32).reshape(-1, 2), np.linspace(0.5, 1, len(rows)).astype(np.float32))


def points_of(features: LayeredFeatures, matches: Matches, pair: Pair) -> list[np.ndarray]:
    return [features[name].keypoints[matches.indices[:, i]] for i, name in enumerate(pair)]


def test_matches_of_both_looks_point_at_the_same_pixels_as_before() -> None:
    first, finer = matches_of((0, 1), (4, 5)), matches_of((8, 0), (2, 3), (5, 5))
    look = FinerLook(FINER, {PAIR: finer}, frozenset([PAIR]))
    features = LayeredFeatures(FIRST, look)
    matches = LayeredMatches({PAIR: first, ("b", "c"): matches_of((1, 1))}, FIRST, look)
    for i, found in enumerate(points_of(features, matches[PAIR], PAIR)):
        of_first = FIRST[PAIR[i]].keypoints[first.indices[:, i]]
        of_finer = FINER[PAIR[i]].keypoints[finer.indices[:, i]]
        np.testing.assert_array_equal(found, np.concatenate([of_first, of_finer]))
    np.testing.assert_array_equal(matches["b", "c"].indices, [[1, 1]])
    np.testing.assert_array_equal(features["c"].keypoints, FIRST["c"].keypoints)


def test_a_pair_that_only_the_finer_look_has_is_there() -> None:
    look = FinerLook(FINER, {PAIR: matches_of((0, 0))}, frozenset([PAIR]))
    matches = LayeredMatches({}, FIRST, look)
    assert list(matches) == [PAIR]
    np.testing.assert_array_equal(matches[PAIR].indices, [[5, 6]])


def test_of_a_store_that_holds_more_only_what_is_meant_counts() -> None:
    look = FinerLook(FINER, {PAIR: matches_of((0, 0))}, frozenset())
    features = LayeredFeatures(FIRST, look)
    assert {name: len(features[name]) for name in features} == {"a": 5, "b": 6, "c": 7}
    assert list(LayeredMatches({}, FIRST, look)) == []


def test_what_both_looks_find_counts_once() -> None:
    first, again = matches_of((0, 1), (4, 5)), matches_of((0, 1), (4, 5), (2, 3))
    shaken = {name: replace(FIRST[name], keypoints=FIRST[name].keypoints + np.float32(0.7)) for name in PAIR}
    matches = LayeredMatches({PAIR: first}, FIRST, FinerLook(shaken, {PAIR: again}, frozenset([PAIR])))
    np.testing.assert_array_equal(matches[PAIR].indices, [[0, 1], [4, 5], [2 + 5, 3 + 6]])


def test_a_match_that_is_elsewhere_in_one_image_is_another_one() -> None:
    first = matches_of((0, 1))
    far = {"a": FIRST["a"], "b": replace(FIRST["b"], keypoints=FIRST["b"].keypoints + np.float32(9))}
    matches = LayeredMatches({PAIR: first}, FIRST, FinerLook(far, {PAIR: first}, frozenset([PAIR])))
    assert len(matches[PAIR]) == 2
