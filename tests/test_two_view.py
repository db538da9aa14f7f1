"""Two-view geometry against scenes whose pose is known exactly."""

import json

import numpy as np
import pycolmap
import pytest
from two_view_scenes import SIZE, angle_deg, camera, direction_deg, scene, turn

from lgsfm.cameras import Camera
from lgsfm.epipolar import log_false_alarms, quaternion_wxyz
from lgsfm.errors import InputError, PoseError
from lgsfm.estimators import colmap
from lgsfm.registry import available
from lgsfm.two_view import (
    TwoViewOptions,
    estimate_fundamental,
    estimate_homography,
    estimate_pose,
)


@pytest.fixture(params=sorted(available("estimator")))
def options(request):
    if request.param == "poselib":
        pytest.importorskip("poselib", reason="the optional package poselib is not installed")
    return TwoViewOptions(estimator=request.param)


def pose_of(made, options=None, **cameras):
    cameras = {"camera0": made.camera0, "camera1": made.camera1, **cameras}
    return estimate_pose(made.points0, made.points1, options=options, **cameras)


def test_the_pose_is_the_true_one_and_the_outliers_are_found(options):
    made = scene("relief")
    pose = pose_of(made, options)
    limit = 0.6 if options.estimator == "ransac" else 0.15
    assert angle_deg(pose.rotation, made.rotation) < limit
    assert direction_deg(pose.translation, made.translation) < 4 * limit
    assert np.linalg.norm(pose.translation) == pytest.approx(1)
    assert pose.configuration == "calibrated"
    assert pose.inliers[: made.num_true].mean() > (0.6 if options.estimator == "ransac" else 0.95)
    assert pose.inliers[made.num_true :].mean() < 0.05


@pytest.mark.parametrize("estimator", ["colmap", "magsac"])
def test_the_pose_is_as_good_with_the_oldest_pycolmap(estimator, monkeypatch):
    """Which refines a pose over rays, and has no robust estimate of one over points."""
    monkeypatch.setattr(colmap, "TAKES_CAMERAS", False)
    monkeypatch.delattr(pycolmap, "estimate_relative_pose")
    test_the_pose_is_the_true_one_and_the_outliers_are_found(TwoViewOptions(estimator=estimator))
    test_without_noise_the_pose_is_exact(TwoViewOptions(estimator=estimator))


def test_without_noise_the_pose_is_exact(options):
    made = scene("relief", num_false=0, noise_px=0)
    pose = pose_of(made, options)
    assert angle_deg(pose.rotation, made.rotation) < 1e-3
    assert direction_deg(pose.translation, made.translation) < 1e-2


def test_random_matches_have_no_pose(options):
    for seed in range(5):
        with pytest.raises(PoseError, match=r"no reliable pose: \d+ inliers of 400 matches") as caught:
            pose_of(scene("nothing", seed=seed), options)
        assert caught.value.num_matches == 400
        assert caught.value.num_inliers < 40


@pytest.mark.parametrize("count", [0, 1, 7, 8])
def test_too_few_matches_have_no_pose(options, count):
    made = scene("relief", num_true=count or 1, num_false=0)
    with pytest.raises(PoseError, match=f"of {count} matches"):
        estimate_pose(made.points0[:count], made.points1[:count], made.camera0, made.camera1, options)


def test_few_but_clean_matches_are_enough():
    pose = pose_of(scene("relief", num_true=30, num_false=10))
    assert pose.num_inliers >= 25


@pytest.mark.parametrize("estimator", ["magsac", "colmap", "ransac"])
@pytest.mark.parametrize(("kind", "name"), [("relief", "calibrated"), ("plane", "planar"), ("turn", "panoramic")])
def test_the_kind_of_geometry_is_recognised(kind, name, estimator):
    for seed in range(8):
        pose = pose_of(scene(kind, seed=seed), TwoViewOptions(estimator=estimator))
        assert pose.configuration == name
        true = scene(kind, seed=seed).rotation
        if kind == "plane" and pose.alternative:  # two poses explain a plane
            assert min(angle_deg(R, true) for R in (pose.rotation, pose.alternative.rotation)) < 1
        else:
            assert angle_deg(pose.rotation, true) < 1
        if kind == "turn":
            assert pose.median_angle_deg < 0.5


def test_points_off_the_plane_decide_between_the_two_poses():
    for seed in range(8):
        plane, relief = scene("plane", seed=seed, num_false=0), scene("relief", seed=seed, num_true=30, num_false=0)
        points = [np.vstack(sides) for sides in zip(plane[:2], relief[:2], strict=True)]
        pose = estimate_pose(*points, plane.camera0, plane.camera1)
        assert pose.configuration == "planar"
        assert pose.alternative is None
        assert angle_deg(pose.rotation, plane.rotation) < 0.3


def test_a_wrong_focal_length_is_noticed():
    made = scene("relief", focals=(1500, 1500))
    assert pose_of(made).configuration == "calibrated"
    poses = [pose_of(made, camera0=camera(focal), camera1=camera(focal)) for focal in (1400, 1150, 1100, 1070)]
    assert "uncalibrated" in [pose.configuration for pose in poses]
    with pytest.raises(PoseError, match=r"\d+ would agree with other focal lengths or lenses"):
        pose_of(made, camera0=camera(900), camera1=camera(900))


def test_points_on_a_line_or_a_spot_have_no_pose(options):
    rng = np.random.default_rng(0)
    line = np.column_stack((np.linspace(100, 1400, 100), np.linspace(100, 1000, 100)))
    for points0, points1 in (
        (line, line + np.array([3, 0])),
        (line + rng.normal(0, 0.3, line.shape), line + np.array([40, 0]) + rng.normal(0, 0.3, line.shape)),
        (np.full((100, 2), 500.0), np.full((100, 2), 520.0)),
    ):
        with pytest.raises(PoseError):
            estimate_pose(points0, points1, camera(1500), camera(1500), options)


@pytest.mark.parametrize("shift", [(20, 0), (0, 20), (60, 30)])
def test_a_perfect_plane_that_moves_sideways_has_a_pose(options, shift):
    if options.estimator == "ransac":
        pytest.skip("plain RANSAC is here for comparison; it does not find every plane")
    points0 = np.random.default_rng(0).uniform((100, 100), (1400, 1000), (200, 2))
    pose = estimate_pose(points0, points0 + shift, camera(1500), camera(1500), options)
    assert pose.num_inliers == 200
    assert pose.configuration in ("planar", "panoramic")


def test_lens_distortion_is_taken_out():
    made = scene("relief", num_false=0, noise_px=0)
    bent = Camera("SIMPLE_RADIAL", SIZE, (1500.0, 800.0, 600.0, -0.15), "given")
    rays = np.column_stack(((made.points0 + 0.5 - np.divide(SIZE, 2)) / 1500, np.ones(len(made.points0))))
    points0 = np.asarray(bent.colmap.img_from_cam(rays)) - 0.5
    assert np.abs(points0 - made.points0).max() > 20
    assert np.allclose(bent.ideal_points(points0) + np.divide(SIZE, 2) - 0.5, made.points0, atol=1e-3)
    pose = estimate_pose(points0, made.points1, bent, made.camera1)
    assert angle_deg(pose.rotation, made.rotation) < 1e-2


def test_the_threshold_counts_pixels_of_the_photo():
    made = scene("relief", noise_px=3, num_false=0)
    strict, loose = (pose_of(made, TwoViewOptions(max_error_px=px)) for px in (1.0, 9.0))
    assert strict.max_error_px == 1.0
    assert strict.num_inliers < 0.6 * made.num_true
    assert loose.num_inliers > 0.97 * made.num_true
    assert TwoViewOptions().error_px((3000, 2000), (1000, 500)) == pytest.approx(2.0)


def test_a_seed_repeats_the_result(options):
    made = scene("relief", noise_px=1)
    assert np.array_equal(pose_of(made, options).rotation, pose_of(made, options).rotation)


def test_the_reverse_pair_has_the_inverse_pose():
    made = scene("relief", noise_px=0.1)
    there = pose_of(made)
    back = estimate_pose(made.points1, made.points0, made.camera1, made.camera0)
    assert angle_deg(back.rotation, there.rotation.T) < 0.05
    assert direction_deg(back.translation, -there.rotation.T @ there.translation) < 0.3


def test_fundamental_matrix_and_homography_are_in_pixels_of_the_photos(options):
    made = scene("plane", noise_px=0.2)
    found = estimate_homography(made.points0, made.points1, 1.5, options)
    true = np.column_stack((made.points0[: made.num_true], np.ones(made.num_true))) @ found.matrix.T
    errors = np.linalg.norm(true[:, :2] / true[:, 2:] - made.points1[: made.num_true], axis=1)
    assert np.median(errors) < 0.6
    assert found.inliers[made.num_true :].sum() <= 2
    made = scene("relief", noise_px=0.2)
    found = estimate_fundamental(made.points0, made.points1, 1.5, options)
    E = np.cross(np.eye(3), made.translation) @ made.rotation
    K0, K1 = (
        np.array([[c.focal_px, 0, 799.5], [0, c.focal_px, 599.5], [0, 0, 1]]) for c in (made.camera0, made.camera1)
    )
    F = np.linalg.inv(K1).T @ E @ np.linalg.inv(K0)
    grid = np.stack(np.meshgrid(np.linspace(200, 1400, 5), np.linspace(200, 1000, 5)), -1).reshape(-1, 2)
    lines = [np.column_stack((grid, np.ones(25))) @ matrix.T for matrix in (F, found.matrix)]
    lines = [line / np.linalg.norm(line[:, :2], axis=1, keepdims=True) for line in lines]
    middle = np.array([800, 600, 1])
    apart = np.abs(np.abs(lines[0] @ middle) - np.abs(lines[1] @ middle))
    assert np.median(apart) < (25 if options.estimator == "ransac" else 6)
    with pytest.raises(PoseError, match="no reliable homography"):
        estimate_homography(*(getattr(scene("nothing"), name) for name in ("points0", "points1")), 1.5, options)


def test_rotations_read_well():
    for axis, degrees in (
        ((0, 0, 1), 0.0),
        ((1, 2, 3), 0.01),
        ((0, 1, 0), 90.0),
        ((1, 0, 1), 179.99),
        ((0, 0, 1), 180),
    ):
        R = turn(axis, degrees)
        w, x, y, z = quaternion_wxyz(R)
        assert w >= 0
        assert np.degrees(2 * np.arctan2(np.linalg.norm([x, y, z]), w)) == pytest.approx(degrees, abs=1e-6)
        if degrees:
            sign = np.sign(np.array([x, y, z]) @ np.array(axis, float)) if degrees == 180 else 1
            assert np.allclose(
                sign * np.array([x, y, z]) / np.linalg.norm([x, y, z]), axis / np.linalg.norm(axis), atol=1e-4
            )


def test_the_result_is_json():
    report = json.loads(json.dumps(pose_of(scene("relief")).to_dict()))
    assert report["num_matches"] == 400
    assert report["cameras"][0]["focal_px"] == 1500
    assert len(report["cam1_from_cam0"]["quaternion_wxyz"]) == 4


def test_bad_choices_and_points_are_named():
    with pytest.raises(InputError, match=r"Unknown estimator 'magsak'.*Did you mean 'magsac'"):
        TwoViewOptions(estimator="magsak")
    made = scene("relief")
    with pytest.raises(InputError, match=r"\(K, 2\), not \(400, 2\) and \(399, 2\)"):
        estimate_pose(made.points0, made.points1[1:], made.camera0, made.camera1)


def test_false_alarms_fall_with_support_and_rise_with_trials():
    assert log_false_alarms(100, 60, 0.003) < -50
    assert log_false_alarms(400, 9, 0.003) > 0
    assert log_false_alarms(100, 30, 0.003) < log_false_alarms(100, 20, 0.003)
    assert log_false_alarms(1000, 20, 0.003) > log_false_alarms(100, 20, 0.003)
