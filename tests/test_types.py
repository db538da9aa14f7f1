"""Features and matches of the wrong shape or type are refused where they are made, not hours later."""

from __future__ import annotations

import numpy as np
import pytest

from lgsfm.errors import InputError
from lgsfm.types import Features, Matches, canonical_pair


def features(keypoints: np.ndarray, descriptors: np.ndarray, scores: np.ndarray) -> Features:
    return Features(keypoints, descriptors, scores, (9, 9), "toy")


@pytest.mark.parametrize(
    ("keypoints", "told"),
    [
        (np.zeros((3, 3), np.float32), r"\(3, 3\) float32"),
        (np.zeros(3, np.float32), r"\(3,\) float32"),
        (np.zeros((3, 2), np.float64), r"\(3, 2\) float64"),
        (np.zeros((3, 2), np.float16), r"\(3, 2\) float16"),
    ],
)
def test_keypoints_of_another_shape_or_type_are_refused(keypoints: np.ndarray, told: str) -> None:
    with pytest.raises(InputError, match=rf"keypoints must be \(N, 2\) float32, not {told}"):
        features(keypoints, np.zeros((3, 4), np.float32), np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("descriptors", "scores"), [((4, 8), (3,)), ((2, 8), (3,)), ((3,), (3,)), ((3, 8), (4,)), ((3, 8), (3, 1))]
)
def test_descriptors_and_scores_are_one_for_each_keypoint(descriptors: tuple, scores: tuple) -> None:
    made = np.zeros(descriptors, np.float32), np.zeros(scores, np.float32)
    with pytest.raises(InputError, match="3 keypoints need"):
        features(np.zeros((3, 2), np.float32), *made)


@pytest.mark.parametrize(
    "indices",
    [
        np.zeros((3, 2), np.int32),
        np.zeros((4, 3), np.int32),
        np.zeros(4, np.int32),
        np.zeros((4, 2), np.int64),
        np.zeros((4, 2), np.int16),  # ends at 32,767
    ],
)
def test_indices_of_another_shape_or_type_are_refused(indices: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"indices must be \(4, 2\) int32"):
        Matches(indices, np.zeros(4, np.float32))


def test_the_size_is_that_of_all_arrays() -> None:
    """By which room on the disk is looked for."""
    made = features(np.zeros((5, 2), np.float32), np.zeros((5, 7), np.float32), np.zeros(5, np.float32))
    assert made.nbytes == 4 * 5 * (2 + 7 + 1)
    assert Matches(np.zeros((6, 2), np.int32), np.zeros(6, np.float32)).nbytes == 4 * 6 * 3


def test_a_pair_is_the_same_whoever_is_named_first() -> None:
    assert canonical_pair("b", "a") == canonical_pair("a", "b") == ("a", "b")
