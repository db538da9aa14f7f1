import numpy as np
import pytest

import lgsfm.matchers.nearest as nearest
from lgsfm.errors import InputError
from lgsfm.matchers import match
from lgsfm.matchers.nearest import NearestMatcher, NearestOptions
from lgsfm.types import Features


def features(descriptors, kind="sift", source="s"):
    n = len(descriptors)
    return Features(np.zeros((n, 2), np.float32), descriptors, np.ones(n, np.float32), (9, 9), kind, source=source)


def random_descriptors(n, seed, dim=32):
    values = np.random.default_rng(seed).normal(size=(n, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def related(n0, n1, seed=0, noise=0.5):
    """Two sets, of which a part corresponds, in another order."""
    first, second = random_descriptors(n0, seed), random_descriptors(n1, seed + 1)
    common = min(n0, n1) // 2
    places = np.random.default_rng(seed).permutation(n1)[:common]
    second[places] = first[:common] + noise * second[places]
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    return first, second


def run(first, second, **options):
    matcher = NearestMatcher(NearestOptions(**options), "cpu", None, "sift")
    return match(matcher, features(first, source="a"), features(second, source="b"))


def brute_force(first, second, ratio, mutual, max_distance):
    """The same by sorting every row and column of the distances, in float64."""
    distances = np.linalg.norm(first[:, None].astype(np.float64) - second[None], axis=2)
    out = []
    for i, row in enumerate(distances):
        j = row.argmin()
        column = distances[:, j]
        others = np.delete(row, j).tolist() + (np.delete(column, i).tolist() if mutual else [])
        limit = min([*others, 2**0.5])
        if mutual and column.argmin() != i:
            continue
        if (ratio < 1 and row[j] >= ratio * limit) or row[j] > max_distance:
            continue
        out.append((i, j, max(0, 1 - row[j] / limit)))
    return np.array(out).reshape(-1, 3)


@pytest.mark.parametrize("sizes", [(150, 100), (100, 151), (1, 50), (50, 1), (1, 1), (2, 2)])
@pytest.mark.parametrize("ratio", [0.8, 1.0])
@pytest.mark.parametrize("mutual", [True, False])
@pytest.mark.parametrize("max_distance", [2.0, 0.6])
def test_equals_brute_force(sizes, ratio, mutual, max_distance, monkeypatch):
    monkeypatch.setattr(nearest, "BLOCK", 4000)  # several blocks, the last one smaller
    first, second = related(*sizes)
    found = run(first, second, ratio=ratio, mutual=mutual, max_distance=max_distance)
    expected = brute_force(first, second, ratio, mutual, max_distance)
    np.testing.assert_array_equal(found.indices, expected[:, :2].astype(int))
    np.testing.assert_allclose(found.scores, expected[:, 2], atol=1e-5)
    assert [len(digest) for digest in found.sources] == [64, 64]


def test_rivals_in_one_column():
    """Many rows share their nearest: the second best of that column is another row's best."""
    centre = random_descriptors(40, 0)
    rows = np.repeat(centre, 5, 0) + 0.3 * random_descriptors(200, 1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found, expected = run(rows, centre, ratio=0.95), brute_force(rows, centre, 0.95, True, 2)
    assert 0 < len(found) < 40
    np.testing.assert_array_equal(found.indices, expected[:, :2].astype(int))


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (0, 0)])
def test_no_keypoints(sizes):
    found = run(np.zeros((sizes[0], 32), np.float32), random_descriptors(sizes[1], 1))
    assert found.indices.shape == (0, 2)
    assert [len(digest) for digest in found.sources] == [64, 64]


def test_swapped_images_give_swapped_matches():
    first, second = related(150, 220)
    forth, back = run(first, second), run(second, first)
    order = back.indices[:, 1].argsort()
    np.testing.assert_array_equal(forth.indices, back.indices[order][:, ::-1])
    np.testing.assert_allclose(forth.scores, back.scores[order], atol=1e-5)


def test_equal_descriptors_are_matched_once_at_most():
    same = np.repeat(random_descriptors(1, 0), 6, 0)
    assert len(run(same, same)) == 0  # the ratio test finds none unique
    loose = run(same, same, ratio=1.0)
    assert len(np.unique(loose.indices[:, 0])) == len(np.unique(loose.indices[:, 1])) == len(loose) == 1


def test_identical_images():
    descriptors = random_descriptors(100, 0)
    found = run(descriptors, descriptors)
    np.testing.assert_array_equal(found.indices, np.stack((np.arange(100),) * 2, 1))
    assert found.scores.min() > 0.99
    assert found.scores.max() <= 1


def test_scale_and_half_precision_do_not_matter():
    first, second = related(100, 100)
    plain = run(first, second)
    other = run((3 * first).astype(np.float16), second.astype(np.float16))
    np.testing.assert_array_equal(plain.indices, other.indices)


def test_foreign_features_are_refused():
    matcher = NearestMatcher(NearestOptions(), "cpu", None, "aliked")
    with pytest.raises(InputError, match="made for aliked features but got sift"):
        matcher.prepare(features(random_descriptors(3, 0)))
    with pytest.raises(InputError, match="ratio"):
        NearestOptions(ratio=1.5)
