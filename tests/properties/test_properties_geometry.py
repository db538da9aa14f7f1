"""Pixels there and back, turns, poses and their errors."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import PHOTOS, orientations, points, quaternions, seeds, sizes

from lgsfm.cameras import PIXEL_CENTRE, Camera
from lgsfm.epipolar import (
    best_rotation,
    epipolar_errors,
    homography_of,
    pose_inliers,
    quaternion_wxyz,
    ray_angles,
    sampson_errors,
    transfer_errors,
)
from lgsfm.estimators import RelativePose
from lgsfm.evaluation import THRESHOLDS_DEG, evaluate, fit_similarity, pose_auc, robust_similarity
from lgsfm.exif import stored_to_upright, turn_upright, turned_clockwise, upright_size, upright_to_stored
from lgsfm.images import photo_from_array
from lgsfm.mask_pixels import fitted, lies_across
from lgsfm.poses import CameraPose, load_poses

small_sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


# --------------------------------------------------------------------------------- pixels
@given(sizes, orientations, points(4))
def test_there_and_back_is_where_it_was(size, code, stored):
    upright = stored_to_upright(stored, size, code)
    np.testing.assert_allclose(upright_to_stored(upright, size, code), stored, rtol=0, atol=1e-9)
    assert upright_size(upright_size(size, code), code) == size


@given(small_sizes, orientations, st.data())
def test_points_move_as_pixels_do(size, code, data):
    """Each pixel carries its own number; the point that names it must find it in the turned image."""
    image = np.arange(size[0] * size[1]).reshape(size[1], size[0])
    x, y = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    turned = turn_upright(image, code)
    ((u, v),) = stored_to_upright(np.array([[x, y]]), size, code).astype(int)
    assert turned[v, u] == image[y, x]
    assert turned.shape == upright_size(size, code)[::-1]


@given(orientations, st.integers(-8, 8), st.integers(-8, 8), small_sizes)
def test_quarter_turns_add_up_and_turn_as_numpy_does(code, first, second, size):
    assert turned_clockwise(turned_clockwise(code, first), second) == turned_clockwise(code, first + second)
    image = np.arange(size[0] * size[1]).reshape(size[1], size[0])
    expected = np.rot90(turn_upright(image, code), -first)
    assert np.array_equal(turn_upright(image, turned_clockwise(code, first)), expected)


@given(small_sizes, st.integers(1, 60), orientations)
def test_a_resized_photo_covers_just_what_the_stored_one_does(size, edge, code):
    photo = photo_from_array(np.zeros((size[1], size[0]), np.uint8), edge, orientation=code)
    height, width = photo.rgb.shape[:2]
    assert max(width, height) == min(max(size), edge)
    corners = np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])
    found = np.sort(photo.to_stored(corners), axis=0)
    np.testing.assert_allclose(found, [[-0.5, -0.5], [size[0] - 0.5, size[1] - 0.5]], atol=1e-9)
    resized = upright_size((width, height), code)
    exact = [small * large / max(size) for small, large in ((max(resized), edge) for edge in size)]
    assert all(abs(a - max(1, b)) <= 0.5 + 1e-9 for a, b in zip(resized, exact, strict=True))


@given(small_sizes, small_sizes, st.tuples(st.integers(1, 8), st.integers(1, 8)), seeds)
def test_a_fitted_mask_shows_nothing_that_the_mask_hides(size, shape, target, rng):
    """A point in a true pixel of the fitted mask lies in a true pixel of the mask that was given."""
    target = tuple(min(t, s) for t, s in zip(target, size, strict=True))
    scale = tuple(s / t for s, t in zip(size, target, strict=True))
    mask = rng.random(shape[::-1]) > 0.2
    small = fitted(mask, size, target, scale)
    assert small.shape == target[::-1]
    steps = [s / t * m / s for s, t, m in zip(size, target, shape, strict=True)]  # of the mask's pixels
    for (v, u), shown in np.ndenumerate(small):
        (x0, x1), (y0, y1) = (
            (int(np.floor(i * step + 1e-6)), int(np.ceil((i + 1) * step - 1e-6)))
            for i, step in zip((u, v), steps, strict=True)
        )
        assert shown == mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].all()


@given(small_sizes, small_sizes)
def test_a_mask_lies_across_where_one_is_upright_and_the_other_is_not(shape, size):
    signs = [np.sign(width - height) for width, height in (shape, size)]
    assert lies_across(np.zeros(shape[::-1], bool), size) == (signs[0] * signs[1] == -1)


@given(st.floats(100, 5000), st.tuples(st.integers(50, 9000), st.integers(50, 9000)), points(3))
def test_the_pixel_centre_is_colmaps(focal, size, stored):
    """A pinhole by hand, in lgsfm's pixels: COLMAP's object must see the same once half a pixel is added."""
    cx, cy = size[0] / 2, size[1] / 2
    camera = Camera("PINHOLE", size, (focal, focal, cx, cy), "given")
    expected = stored + PIXEL_CENTRE - [cx, cy]
    np.testing.assert_allclose(camera.ideal_points(stored), expected, atol=1e-6)


# --------------------------------------------------------------------------------- poses
def rotation_of(q: np.ndarray) -> np.ndarray:
    """By the textbook, entry by entry."""
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@given(quaternions())
def test_a_rotation_gives_its_quaternion(q):
    found = quaternion_wxyz(rotation_of(q))
    assert found[0] >= 0
    assert abs(np.linalg.norm(found) - 1) < 1e-12
    np.testing.assert_allclose(rotation_of(found), rotation_of(q), atol=1e-12)


@given(
    st.dictionaries(
        PHOTOS.map(str.strip), st.tuples(quaternions(), hnp.arrays(float, 3, elements=st.floats(-1e6, 1e6)))
    )
)
@example({"a\u2028b.jpg": (np.array([1.0, 0, 0, 0]), np.zeros(3)), "c\x85.jpg": (np.array([0, 1.0, 0, 0]), np.ones(3))})
def test_poses_in_a_text_file_are_read_as_they_are(poses):
    poses = {name: pose for name, pose in poses.items() if not name.startswith("#")}
    assume(poses)
    lines = ["# image qw qx qy qz cx cy cz", ""]
    lines += [" ".join([name, *map(repr, map(float, (*q, *centre)))]) for name, (q, centre) in poses.items()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "poses.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        found = load_poses(path)
    assert list(found) == list(poses)
    for name, (q, centre) in poses.items():
        np.testing.assert_allclose(found[name].rotation, rotation_of(q), atol=1e-12)
        assert np.array_equal(found[name].centre, centre)


def scene(rng: np.random.Generator, q: np.ndarray, n: int = 12):
    """A pose, and unit rays of points before both cameras."""
    R = rotation_of(q)
    t = rng.normal(size=3)
    t /= np.linalg.norm(t)
    depth = rng.uniform(2, 9, (40 * n, 1))
    X0 = np.column_stack((rng.uniform(-1, 1, (40 * n, 2)), np.ones(40 * n))) * depth
    X1 = X0 @ R.T + t
    keep = np.flatnonzero(X1[:, 2] > 0.2)[:n]
    X0, X1 = X0[keep], X1[keep]
    return RelativePose(R, t), X0, X1


def unit(X: np.ndarray) -> np.ndarray:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


@given(seeds, quaternions())
def test_exact_points_have_no_epipolar_error_and_lie_before_both_cameras(rng, q):
    pose, X0, X1 = scene(rng, q)
    rays0, rays1 = unit(X0), unit(X1)
    assert np.all(epipolar_errors(pose, rays0, rays1) < 1e-9)
    assert pose_inliers(pose, rays0, rays1, 1e-6).all()
    F = np.cross(np.eye(3), pose.translation) @ pose.rotation
    assert np.all(sampson_errors(F, X0[:, :2] / X0[:, 2:], X1[:, :2] / X1[:, 2:]) < 1e-9)
    behind = RelativePose(pose.rotation, -pose.translation)
    near = np.linalg.norm(np.cross(rays1, rays0 @ pose.rotation.T), axis=1) > 1e-3
    assert not pose_inliers(behind, rays0, rays1, 1e-6)[near].any()


@given(seeds, quaternions(), st.floats(1e-4, 1e-2))
def test_a_point_off_its_line_has_about_that_error(rng, q, off):
    """Moved across its line in image 1 the first-order error is at most the distance, and not below half of it."""
    pose, X0, X1 = scene(rng, q)
    rays0, x1 = unit(X0), X1[:, :2] / X1[:, 2:]
    E = np.cross(np.eye(3), pose.translation) @ pose.rotation
    line1, line0 = rays0 / rays0[:, 2:] @ E.T, np.column_stack((x1, np.ones(len(x1)))) @ E
    across = line1[:, :2] / np.linalg.norm(line1[:, :2], axis=1, keepdims=True)
    moved = np.column_stack((x1 + off * across, np.ones(len(x1))))
    # compared where the line of image 0 is no steeper, and hardly turns with the move
    fair = np.linalg.norm(line0[:, :2], axis=1) < 0.5 * np.linalg.norm(line1[:, :2], axis=1)
    errors = epipolar_errors(pose, rays0, unit(moved))
    assert np.all(errors <= off * (1 + 1e-9))
    assert np.all(errors[fair] >= 0.5 * off)


@given(seeds, quaternions())
def test_a_plane_gives_its_homography(rng, q):
    pose, X0, _ = scene(rng, q)
    normal = np.array([0.1, -0.2, 1.0])
    X0 = X0 / (X0 @ normal)[:, None] * 5
    X1 = X0 @ pose.rotation.T + pose.translation
    keep = X1[:, 2] > 0.2
    assume(keep.sum() >= 4 and np.linalg.matrix_rank(X0[keep], 1e-2) == 3)
    X0, X1 = X0[keep], X1[keep]
    H = homography_of(pose, unit(X0), unit(X1))
    assume(np.linalg.cond(H) < 1e4)
    x0, x1 = X0[:, :2] / X0[:, 2:], X1[:, :2] / X1[:, 2:]
    assert np.all(transfer_errors(H, x0, x1) < 1e-5)


@given(seeds, quaternions())
def test_the_rotation_is_found_among_wrong_rays(rng, q):
    R = rotation_of(q)
    rays0 = unit(rng.normal(size=(30, 3)))
    rays1 = rays0 @ R.T
    rays1[:8] = unit(rng.normal(size=(8, 3)))
    found, keep = best_rotation(R + 0.001 * rng.normal(size=(3, 3)), rays0, rays1, 0.02)
    np.testing.assert_allclose(found, R, atol=0.02)
    assert keep[8:].all()
    assert np.all(ray_angles(rays0[keep] @ found.T, rays1[keep]) <= 0.02)


# --------------------------------------------------------------------------------- errors of poses
ERRORS = hnp.arrays(
    np.float64, st.integers(1, 12), elements=st.one_of(st.floats(0, 180), st.sampled_from([0.0, 1, 3, 180]))
)


@given(ERRORS, st.permutations(range(12)), st.data())
def test_the_auc_is_bounded_and_grows_as_errors_shrink(errors, order, data):
    auc = pose_auc(errors)
    values = [auc[threshold] for threshold in THRESHOLDS_DEG]
    assert all(-1e-9 <= value <= 100 + 1e-9 for value in values)
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(values)), "a wider threshold gives no less"
    shuffled = errors[[i for i in order if i < len(errors)]]
    assert pose_auc(shuffled) == auc
    smaller = errors * data.draw(hnp.arrays(np.float64, len(errors), elements=st.floats(0, 1)))
    better = pose_auc(smaller)
    assert all(better[threshold] >= auc[threshold] - 1e-9 for threshold in THRESHOLDS_DEG)
    assert pose_auc(np.zeros(3)) == dict.fromkeys(THRESHOLDS_DEG, 100.0)


def some_poses(rng: np.random.Generator, n: int) -> dict[str, CameraPose]:
    quaternion = rng.normal(size=(n, 4))
    return {
        f"{i:02}.jpg": CameraPose(rotation_of(q / np.linalg.norm(q)), rng.normal(size=3))
        for i, q in enumerate(quaternion)
    }


@given(seeds, st.integers(3, 7), quaternions(), st.floats(0.01, 100))
def test_another_world_is_no_error(rng, n, q, scale):
    """A model in a world turned, moved and scaled is the same model: all errors are 0, and the scale is found."""
    truth, R, t = some_poses(rng, n), rotation_of(q), rng.normal(size=3)
    model = {name: CameraPose(pose.rotation @ R.T, scale * R @ pose.centre + t) for name, pose in truth.items()}
    found = evaluate(model, truth)
    assert found.num_registered == n
    assert all(value > 99.99 for value in found.auc.values())
    assert found.centres.scale == pytest.approx(1 / scale, rel=1e-6)
    assert found.centres.max < 1e-6
    missing = evaluate({name: pose for name, pose in model.items() if name != "00.jpg"}, truth)
    left = (n - 1) * (n - 2) / (n * (n - 1))  # of the pairs
    assert missing.auc[20] == pytest.approx(100 * left, abs=0.01)


@given(seeds, st.integers(4, 30), quaternions(), st.floats(0.01, 100))
def test_a_similarity_is_found_again_in_spite_of_outliers(rng, n, q, scale):
    R, t, source = rotation_of(q), rng.normal(size=3), rng.normal(size=(n, 3))
    target = scale * source @ R.T + t
    exact = fit_similarity(source, target)
    assert exact.scale == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(exact.rotation, R, atol=1e-6)
    np.testing.assert_allclose(exact(source), target, atol=1e-6 * scale + 1e-9)
    wrong = (n - 2) // 2 - 1  # fewer than the median bears
    target[:wrong] += 100 * scale * rng.normal(size=(wrong, 3))
    robust, inliers = robust_similarity(source, target)
    assert inliers[wrong:].all()
    assert robust.scale == pytest.approx(scale, rel=1e-6)
