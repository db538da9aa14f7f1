"""Focal lengths that nobody tells, from matches."""

from contextlib import suppress

import numpy as np
import pytest
from two_view_scenes import SIZE, angle_deg, camera, scene

from lgsfm.cameras import camera_of_exif
from lgsfm.errors import PoseError
from lgsfm.exif import Exif
from lgsfm.focal import search_focals
from lgsfm.two_view import TwoViewOptions, estimate_pose

GUESS = camera_of_exif(Exif(), SIZE)  # 1920 px


def found(made, camera0=GUESS, camera1=GUESS):
    return search_focals(made.points0, made.points1, camera0, camera1, 1.6)


@pytest.mark.parametrize("focal", [900, 1300, 3200])
def test_a_common_focal_length_is_found(focal):
    made = scene("relief", focals=(focal, focal), num_true=600)
    search = found(made)
    for estimate in (search.camera0, search.camera1):
        assert estimate.focal_px == pytest.approx(focal, rel=0.12)
        assert estimate.source == "estimated from the matches"
        assert estimate.params[1:] == GUESS.params[1:]


def test_one_unknown_focal_length_is_found_and_the_known_one_stays():
    made = scene("relief", focals=(1500, 900), num_true=600)
    search = found(made, camera(1500))
    assert search.camera0 == camera(1500)
    assert search.camera1.focal_px == pytest.approx(900, rel=0.12)
    search = found(made, GUESS, camera(900))
    assert search.camera0.focal_px == pytest.approx(1500, rel=0.12)
    assert search.camera1 == camera(900)


def test_the_pose_is_right_where_the_guess_is_not():
    for focals in ((900, 900), (1000, 1500), (1500, 1000), (1200, 1400)):
        made = scene("relief", focals=focals, num_true=600)
        pose = estimate_pose(made.points0, made.points1, GUESS, GUESS)
        assert angle_deg(pose.rotation, made.rotation) < 2
        with suppress(PoseError):  # said to fit other focal lengths better: as good
            blind = estimate_pose(made.points0, made.points1, GUESS, GUESS, TwoViewOptions(unknown_focal="guess"))
            assert blind.cameras == (GUESS, GUESS)
            assert angle_deg(pose.rotation, made.rotation) < 0.5 * angle_deg(blind.rotation, made.rotation)


def test_photos_of_different_sizes_start_from_a_common_view():
    made = scene("relief", focals=(1300, 1300), num_true=600)
    half = camera_of_exif(Exif(), (800, 600))
    points1 = (made.points1 + 0.5) / 2 - 0.5
    search = search_focals(made.points0, points1, GUESS, half, 1.2)
    assert search.camera0.focal_px == pytest.approx(1300, rel=0.15)
    assert search.camera1.focal_px == pytest.approx(650, rel=0.15)


def test_a_pose_that_the_matches_leave_open_is_refused_with_the_reason():
    """Far things and a step along the view: as well a zoom, or a step back with another lens."""
    rng = np.random.default_rng(0)
    points0 = rng.uniform((0, 0), SIZE, (300, 2))
    points1 = (points0 - np.divide(SIZE, 2)) * 1.3 + np.divide(SIZE, 2) + rng.normal(0, 0.5, (300, 2))
    with pytest.raises(PoseError) as caught:
        estimate_pose(points0, points1, GUESS, GUESS)
    assert "no reliable pose" in str(caught.value)
    assert "Give the focal lengths" in str(caught.value)


@pytest.mark.parametrize("zoom", [1.25, 2.0, 0.4])
def test_a_zoom_is_no_step(zoom):
    """As well a step along the view: told by the focal lengths only."""
    points0 = np.random.default_rng(0).uniform((300, 300), (1300, 900), (300, 2))
    points1 = (points0 + 0.5 - np.divide(SIZE, 2)) * zoom + np.divide(SIZE, 2) - 0.5
    noise = np.random.default_rng(1).normal(0, 0.3, (300, 2))
    with pytest.raises(PoseError, match="Give the focal lengths"):
        estimate_pose(points0, points1 + noise, GUESS, GUESS)
    known = estimate_pose(points0, points1 + noise, camera(1300), camera(1300 * zoom))
    assert known.configuration == "panoramic"


def test_a_turn_on_the_spot_needs_no_focal_length():
    for focal in (1920, 1925):
        pose = estimate_pose(
            *(lambda made: (made.points0, made.points1))(scene("turn", focals=(focal, focal))), GUESS, GUESS
        )
        assert pose.configuration == "panoramic"
    points = np.random.default_rng(0).uniform((100, 100), (1400, 1000), (300, 2))
    noise = np.random.default_rng(1).normal(0, 0.4, (300, 2))
    assert estimate_pose(points, points + noise, GUESS, GUESS).configuration == "panoramic"


def test_random_matches_still_have_no_pose():
    for seed in range(3):
        made = scene("nothing", seed=seed)
        with pytest.raises(PoseError, match="of 400 matches"):
            estimate_pose(made.points0, made.points1, GUESS, GUESS)
