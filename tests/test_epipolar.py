"""What chance would give, against numbers worked out by hand; and angles where they are hardest."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lgsfm.epipolar import chance_of_line, log_false_alarms, ray_angles, width_of


def test_opposite_rays_are_half_a_turn_apart_and_equal_ones_not_at_all() -> None:
    rays = np.random.default_rng(0).normal(size=(1000, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)  # some are longer than 1 by a rounding error
    np.testing.assert_allclose(ray_angles(rays, -rays), math.pi, atol=1e-6)
    assert (ray_angles(rays, rays) == 0).all()
    longer = np.array([[1 + 1e-12, 0, 0]])
    assert ray_angles(longer, -longer) == pytest.approx(math.pi)


# --------------------------------------------------------------------------------- chance of a line
def spread(width: float, height: float) -> np.ndarray:
    """Points all over a rectangle, whose standard deviations are those of a uniform distribution."""
    xs, ys = ((np.arange(200) + 0.5) / 200 * edge for edge in (width, height))
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def test_in_a_whole_image_the_longest_line_counts() -> None:
    """A band of 2 px on each side along the diagonal of 500 px: 2000 of 120,000 px."""
    assert chance_of_line((400, 300), spread(400, 300), 2.0) == pytest.approx(2000 / 120_000)


def test_in_a_narrow_band_of_matches_the_line_along_it_counts() -> None:
    """Of matches in a band of 20 px, those within 2 px on each side of its middle: a fifth, along or across."""
    assert chance_of_line((400, 300), spread(400, 20), 2.0) == pytest.approx(0.2, rel=1e-3)
    assert chance_of_line((400, 300), spread(20, 300), 2.0) == pytest.approx(0.2, rel=1e-3)


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.zeros((9, 2)), spread(400, 1)])
def test_matches_on_one_line_or_none_tell_nothing(points: np.ndarray) -> None:
    assert chance_of_line((400, 300), points, 2.0) == 0.5


def test_the_width_is_the_standard_deviation_across() -> None:
    assert width_of(spread(400, 20)) == pytest.approx(20 / math.sqrt(12), rel=1e-3)
    assert width_of(np.array([[0.0, 0], [1, 1], [2, 2]])) == pytest.approx(0, abs=1e-9)


# --------------------------------------------------------------------------------- false alarms
@pytest.mark.parametrize(("matches", "inliers", "chance"), [(7, 6, 0.1), (40, 12, 0.02), (300, 300, 0.5)])
def test_false_alarms_are_counted_as_in_the_paper(matches: int, inliers: int, chance: float) -> None:
    """L. Moisan, B. Stival, 2004: models that can be drawn, times the chance that so many others agree."""
    drawn = 10 * (matches - 5) * math.comb(matches, inliers) * math.comb(inliers, 5)
    expected = math.log10(drawn) + (inliers - 5) * math.log10(chance)
    assert log_false_alarms(matches, inliers, chance) == pytest.approx(expected)


@pytest.mark.parametrize("inliers", [0, 4, 5])
def test_a_sample_alone_proves_nothing(inliers: int) -> None:
    assert log_false_alarms(100, inliers, 0.001) == math.inf
