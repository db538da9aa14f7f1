"""Words of descriptors: the nearest are the nearest, whatever there is few of."""

from __future__ import annotations

import numpy as np
import pytest

from lgsfm.codebook import assign, sample, train_two_levels
from lgsfm.types import Features


def unit(count: int, seed: int, dim: int = 8) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def features_of(descriptors: np.ndarray) -> Features:
    count = len(descriptors)
    return Features(np.zeros((count, 2), np.float32), descriptors, np.ones(count, np.float32), (10, 10), "toy")


def test_no_descriptors_have_no_words() -> None:
    found = assign(unit(0, 0), unit(5, 1))
    assert (found.shape, found.dtype) == ((0,), np.int64)


def test_each_descriptor_gets_its_nearest_words() -> None:
    """Of a codebook without groups, several: those of a search over all."""
    descriptors, book = unit(50, 0), train_two_levels(unit(400, 1), 16)
    flat = type(book)(book.centres, book.coarse[:0], book.starts)
    apart = np.linalg.norm(descriptors[:, None] - flat.centres[None], axis=2)
    expected = np.sort(np.argsort(apart, axis=1)[:, :3], axis=1)
    np.testing.assert_array_equal(np.sort(flat.nearest(descriptors, 3), axis=1), expected)
    assert flat.nearest(descriptors, 99).shape == (50, len(flat))
    assert flat.nearest(descriptors[:0], 3).shape[0] == 0
    assert book.nearest(descriptors, 3).shape == (50, 1)


@pytest.mark.parametrize(("images", "count", "taken"), [(10, 5, 10), (10, 20, 20), (3, 300, 90)])
def test_a_sample_is_taken_evenly_and_at_least_one_of_each_image(images: int, count: int, taken: int) -> None:
    names = [f"{number}.jpg" for number in range(images)]
    found = sample(names, {name: features_of(unit(30, i)) for i, name in enumerate(names)}, count)
    assert len(found) == taken


def test_one_word_is_one_group() -> None:
    book = train_two_levels(unit(40, 0), 1)
    assert (len(book), len(book.coarse)) == (1, 1)
    assert book.assign(unit(5, 1)).tolist() == [0] * 5
