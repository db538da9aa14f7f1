"""The pose of a photo from pixels and 3D points, on points whose truth is known."""

import math

import numpy as np
import pytest
from two_view_scenes import angle_deg

from lgsfm.cameras import GUESS, PIXEL_CENTRE, Camera
from lgsfm.errors import PoseError
from lgsfm.localization.absolute_pose import AbsolutePoseOptions, Correspondences, estimate_absolute_pose

CAMERA = Camera("SIMPLE_RADIAL", (1000, 800), (900.0, 500.0, 400.0, -0.05), "given")
OPTIONS = AbsolutePoseOptions(max_error_px=4)
ROTATION = np.array([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])
CENTRE = np.array([1.0, 2.0, 3.0])


def scene(count=200, noise_px=0.0, seed=0):
    """Points in front of the camera, and where it sees them."""
    rng = np.random.default_rng(seed)
    seen = rng.uniform((-2, -1.6, 4), (2, 1.6, 9), (count, 3))
    pixels = CAMERA.colmap.img_from_cam(seen) - PIXEL_CENTRE + rng.normal(0, 1, (count, 2)) * noise_px
    return Correspondences(pixels, seen @ ROTATION + CENTRE, np.arange(count), np.ones(count, int))


def joined(*parts):
    return Correspondences(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def test_the_true_pose_is_found_among_wrong_points():
    right = scene()
    rng = np.random.default_rng(1)
    wrong = right._replace(points=rng.permutation(right.points), keypoints=np.arange(200, 400))
    pose = estimate_absolute_pose(joined(right, wrong), CAMERA, OPTIONS, is_fixed=True)
    assert angle_deg(pose.rotation, ROTATION) < 1e-3
    assert np.allclose(pose.centre, CENTRE, atol=1e-4)
    assert pose.inliers[:200].all()
    assert pose.camera == CAMERA


def test_a_keypoint_counts_once_and_for_the_point_with_most_votes():
    right = scene(100)
    near = right._replace(points=right.points + 1e-4, votes=np.full(100, 3))
    pose = estimate_absolute_pose(joined(right, near, right), CAMERA, OPTIONS, is_fixed=True)
    assert pose.inliers.sum() == 100
    assert pose.inliers[100:200].all()


def test_too_few_or_impossible_points_are_no_pose():
    right = scene(14)
    with pytest.raises(PoseError, match="14 inliers of 14"):
        estimate_absolute_pose(right, CAMERA, OPTIONS, is_fixed=True)
    copies = right._replace(keypoints=np.zeros(14, int))  # one keypoint
    for bad in (copies, scene(3), scene(0), right._replace(points=np.tile(right.points[:1], (14, 1)))):
        with pytest.raises(PoseError):
            estimate_absolute_pose(bad, CAMERA, OPTIONS, is_fixed=True)
    rng = np.random.default_rng(7)
    random = scene(300)._replace(points=rng.uniform(-5, 5, (300, 3)))
    with pytest.raises(PoseError):
        estimate_absolute_pose(random, CAMERA, OPTIONS, is_fixed=True)


def test_a_pose_that_few_keypoints_agree_with_is_not_reliable():
    right, rng = scene(24), np.random.default_rng(3)
    wrong = scene(200, seed=4)._replace(points=rng.uniform(-5, 5, (200, 3)), keypoints=np.arange(24, 224))
    with pytest.raises(PoseError, match=r"2[4-6] inliers of 224 matches, less than 20%"):
        estimate_absolute_pose(joined(right, wrong), CAMERA, OPTIONS, is_fixed=True)


def test_a_pose_that_the_points_leave_open_is_not_reliable():
    rng = np.random.default_rng(5)
    seen = np.array([0, 0, 5.0]) + rng.uniform(-0.05, 0.05, (40, 3))  # all in a corner of the photo
    pixels = CAMERA.colmap.img_from_cam(seen) - PIXEL_CENTRE + rng.normal(0, 0.7, (40, 2))
    found = Correspondences(pixels, seen @ ROTATION + CENTRE, np.arange(40), np.ones(40, int))
    with pytest.raises(PoseError, match=r"which leave open where the camera (was|looked)"):
        estimate_absolute_pose(found, CAMERA, OPTIONS, is_fixed=True)


def test_the_focal_length_is_estimated_where_it_is_a_guess_and_refined_where_it_is_not_fixed():
    found = scene(300, noise_px=0.3)
    wrong = Camera("SIMPLE_PINHOLE", (1000, 800), (2600.0, 500.0, 400.0), GUESS)
    pose = estimate_absolute_pose(found, wrong, OPTIONS, is_fixed=False)
    assert pose.camera.focal_px == pytest.approx(900, rel=0.03)
    assert pose.camera.source == "estimated from the matches"
    near = Camera("SIMPLE_PINHOLE", (1000, 800), (910.0, 500.0, 400.0), "EXIF")
    pose = estimate_absolute_pose(found, near, OPTIONS, is_fixed=False)
    assert pose.camera.source == "EXIF, refined"
    fixed = estimate_absolute_pose(found, near, OPTIONS, is_fixed=True)
    assert fixed.camera == near


def test_the_covariance_says_how_far_poses_are_off():
    """Root mean squares of 60 poses of the same points with other noise, against what each says of itself."""
    poses = [
        estimate_absolute_pose(scene(150, 0.5)._replace(pixels=_noisy(i)), CAMERA, OPTIONS, is_fixed=True)
        for i in range(60)
    ]
    angle = math.sqrt(np.mean([angle_deg(pose.rotation, ROTATION) ** 2 for pose in poses]))
    distance = math.sqrt(np.mean([np.sum((pose.centre - CENTRE) ** 2) for pose in poses]))
    assert np.mean([pose.rotation_sigma_deg for pose in poses]) == pytest.approx(angle, rel=0.25)
    assert np.mean([pose.centre_sigma for pose in poses]) == pytest.approx(distance, rel=0.25)


def _noisy(seed):
    return scene(150).pixels + np.random.default_rng(100 + seed).normal(0, 0.5, (150, 2))
