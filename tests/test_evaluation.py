"""Poses are compared on synthetic worlds whose errors are known exactly."""

import json
import math

import numpy as np
import pycolmap
import pytest

from lgsfm.errors import InputError
from lgsfm.evaluation import THRESHOLDS_DEG, evaluate, fit_similarity, pose_auc, robust_similarity
from lgsfm.poses import CameraPose, load_poses


def rotation(axis, angle_deg):
    """Rodrigues' formula."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    a = math.radians(angle_deg)
    return np.eye(3) + math.sin(a) * K + (1 - math.cos(a)) * K @ K


def random_rotation(rng):
    return rotation(rng.normal(size=3), rng.uniform(0, 180))


def world(n=8, seed=0):
    """n cameras at random places with random rotations."""
    rng = np.random.default_rng(seed)
    return {f"{i:03}.jpg": CameraPose(random_rotation(rng), rng.normal(size=3)) for i in range(n)}


def perturbed(poses, seed=1, noise=0.02):
    rng = np.random.default_rng(seed)
    return {
        name: CameraPose(
            rotation(rng.normal(size=3), rng.normal(scale=2)) @ pose.rotation,
            pose.centre + rng.normal(scale=noise, size=3),
        )
        for name, pose in poses.items()
    }


def moved(poses, scale, R, t):
    """The same cameras in a world with other axes: x_new = scale * R @ x + t."""
    return {name: CameraPose(p.rotation @ R.T, scale * R @ p.centre + t) for name, p in poses.items()}


def write_text(path, poses):
    """A reference file, with the quaternions of pycolmap."""
    lines = ["# image qw qx qy qz cx cy cz", ""]
    for name, pose in poses.items():
        x, y, z, w = pycolmap.Rotation3d(pose.rotation).quat
        lines.append(" ".join([name, *(f"{v:.17g}" for v in (w, x, y, z, *pose.centre))]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def reconstruction(num_images=5, seed=0):
    pycolmap.set_random_seed(seed)
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=num_images, num_points3D=20
    )
    return pycolmap.synthesize_dataset(options)


def write_model(path, num_images=5, seed=0, text=False):
    path.mkdir(parents=True)
    model = reconstruction(num_images, seed)
    (model.write_text if text else model.write_binary)(path)
    return model


# ---- pairs ----


def test_identical_poses_are_perfect():
    poses = world()
    result = evaluate(poses, poses)
    assert (result.num_images, result.num_registered, result.num_extra) == (8, 8, 0)
    assert list(result.auc) == list(THRESHOLDS_DEG)
    assert list(result.auc.values()) == pytest.approx([100] * 5, abs=1e-9)
    assert result.median_rotation_error_deg == pytest.approx(0, abs=1e-9)
    assert result.median_translation_error_deg == pytest.approx(0, abs=1e-9)
    assert result.centres.max < 1e-12
    assert result.centres.scale == pytest.approx(1)
    assert result.centres.num_inliers == 8
    assert result.matched_by == "name"


def turned_first(poses, angle_deg):
    """The first camera turned in place: it is camera 0 of all its pairs, so their translations stay."""
    pose = poses["000.jpg"]
    return poses | {"000.jpg": CameraPose(rotation([1, 2, 3], angle_deg) @ pose.rotation, pose.centre)}


@pytest.mark.parametrize("angle", [1e-6, 0.5, 2.0, 90.0, 179.9])
def test_rotation_errors_are_exact(angle):
    truth = world(2)
    result = evaluate(turned_first(truth, angle), truth)
    assert result.median_rotation_error_deg == pytest.approx(angle, rel=1e-6)
    assert result.median_translation_error_deg == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("angle", [0.5, 2.0, 90.0, 179.9])
def test_direction_errors_are_exact(angle):
    truth = world(2)
    _, second = truth.values()
    baseline = truth["000.jpg"].centre - second.centre
    turn = rotation(np.cross(baseline, [1, 2, 3]), angle)
    poses = truth | {"000.jpg": CameraPose(truth["000.jpg"].rotation, second.centre + turn @ baseline)}
    result = evaluate(poses, truth)
    assert result.median_rotation_error_deg == pytest.approx(0, abs=1e-9)
    assert result.median_translation_error_deg == pytest.approx(angle)


def test_one_turned_camera_gives_the_auc_in_closed_form():
    truth = world(6)
    auc = evaluate(turned_first(truth, 2.0), truth).auc
    # 10 pairs are right, 5 are wrong by 2 degrees: recall from 10/15 to 11/15 until there, then 1
    assert auc[1] == pytest.approx(100 * 10 / 15)
    for t in (3, 5, 10, 20):
        assert auc[t] == pytest.approx(100 * (2 * 10.5 / 15 + (t - 2)) / t)


def test_auc_follows_its_definition():
    # lines (0, 0) - (1, 1/2) - (3, 1), then constant
    auc = pose_auc(np.array([3.0, 1.0]), (1, 2, 4))
    assert auc[4] == pytest.approx(100 * (0.25 + 1.5 + 1) / 4)
    assert auc[2] == pytest.approx(100 * (0.25 + 0.5) / 2)  # 3 is not below the threshold
    assert auc[1] == 0  # nor is 1
    assert pose_auc(np.zeros(4), (1,)) == {1: 100}
    assert pose_auc(np.full(3, 180.0), (20,)) == {20: 0}


def test_equal_errors_give_the_auc_in_closed_form():
    n, angle = 10, 2.0
    for t, value in pose_auc(np.full(n, angle), (3, 5)).items():
        assert value == pytest.approx(100 * (t - angle + angle / (2 * n)) / t)


@pytest.mark.parametrize("seed", range(5))
def test_a_similarity_of_the_world_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    truth = world(7, seed)
    poses = perturbed(truth, seed + 100)
    scale = rng.uniform(0.1, 10)
    other = evaluate(moved(poses, scale, random_rotation(rng), 10 * rng.normal(size=3)), truth)
    result = evaluate(poses, truth)
    assert list(other.auc.values()) == pytest.approx(list(result.auc.values()), abs=1e-6)
    assert other.median_rotation_error_deg == pytest.approx(result.median_rotation_error_deg)
    assert other.median_translation_error_deg == pytest.approx(result.median_translation_error_deg)
    assert other.centres.mean == pytest.approx(result.centres.mean)
    assert other.centres.scale * scale == pytest.approx(result.centres.scale)


def test_the_order_of_the_images_does_not_matter():
    truth = world()
    poses = perturbed(truth)
    assert evaluate(dict(reversed(poses.items())), truth) == evaluate(poses, truth)


def test_pairs_without_a_pose_count_as_failed():
    truth = world(5)
    poses = {name: pose for name, pose in truth.items() if name != "002.jpg"}
    poses["stranger.jpg"] = truth["002.jpg"]
    result = evaluate(poses, truth)
    assert (result.num_images, result.num_registered, result.num_extra) == (5, 4, 1)
    assert result.auc[20] == pytest.approx(100 * 6 / 10)
    assert result.median_rotation_error_deg == pytest.approx(0, abs=1e-9)
    assert "4 of 5" in result.table()
    assert "1 in the model but not in the reference" in result.table()


def test_without_a_baseline_only_the_rotation_counts():
    truth = world(4)
    first = truth["000.jpg"]
    truth["001.jpg"] = CameraPose(truth["001.jpg"].rotation, first.centre)
    poses = truth | {"001.jpg": CameraPose(truth["001.jpg"].rotation, first.centre + 1e-7)}
    assert evaluate(poses, truth).auc[1] == pytest.approx(100, abs=1e-3)
    # a model with both at one place where the reference has a baseline does not know the direction
    assert evaluate(truth, poses).auc[20] == pytest.approx(100 * 5 / 6, abs=1e-3)
    assert evaluate(truth, poses, min_baseline=1e-3).auc[20] == pytest.approx(100, abs=1e-3)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_bad_min_baseline(value):
    with pytest.raises(InputError, match="min_baseline"):
        evaluate(world(), world(), min_baseline=value)


# ---- centres ----


@pytest.mark.parametrize("n", [3, 4, 30])
def test_fit_similarity_recovers_what_made_the_points(n):
    rng = np.random.default_rng(n)
    points, R, t = rng.normal(size=(n, 3)), random_rotation(rng), rng.normal(size=3)
    fit = fit_similarity(points, 2.5 * points @ R.T + t)
    assert fit.scale == pytest.approx(2.5)
    assert fit.rotation == pytest.approx(R)
    assert fit.translation == pytest.approx(t)


def test_fit_similarity_makes_no_mirror_image():
    points = np.random.default_rng(0).normal(size=(9, 3))
    assert np.linalg.det(fit_similarity(points, points * [1, 1, -1]).rotation) == pytest.approx(1)


@pytest.mark.parametrize(("n", "num_wrong"), [(5, 1), (10, 3), (60, 20)])
def test_wrong_centres_do_not_spoil_the_alignment(n, num_wrong):
    rng = np.random.default_rng(n)
    target = rng.normal(size=(n, 3))
    source = (target @ random_rotation(rng).T) / 4
    source[:num_wrong] += rng.normal(scale=20, size=(num_wrong, 3))
    similarity, inliers = robust_similarity(source, target)
    assert similarity.scale == pytest.approx(4)
    assert not inliers[:num_wrong].any()
    assert inliers[num_wrong:].all()


def test_centre_errors_are_those_of_the_one_wrong_centre():
    truth = world(9)
    wrong = truth["004.jpg"]
    poses = truth | {"004.jpg": CameraPose(wrong.rotation, wrong.centre + np.array([0, 30, 40]))}
    centres = evaluate(poses, truth).centres
    assert centres.median < 1e-9
    assert centres.mean == pytest.approx(50 / 9)
    assert centres.max == pytest.approx(50)
    assert centres.num_inliers == 8


def test_gaussian_noise_makes_no_outliers_of_most_images():
    truth = world(40)
    centres = evaluate(perturbed(truth), truth).centres
    assert centres.num_inliers >= 38
    assert centres.median == pytest.approx(0.02 * 1.54, rel=0.3)


def test_cameras_on_a_line_are_aligned():
    truth = {f"{i}.jpg": CameraPose(np.eye(3), np.array([i, 2.0 * i, 0])) for i in range(6)}
    assert evaluate(moved(truth, 3, rotation([1, 1, 0], 70), 1), truth).centres.max < 1e-9


def test_no_alignment_of_two_images_or_of_one_place():
    truth = world(5)
    two = {name: truth[name] for name in list(truth)[:2]}
    one_place = {name: CameraPose(pose.rotation, np.ones(3)) for name, pose in truth.items()}
    assert evaluate(two, truth).centres is None
    assert evaluate(two, truth).auc[20] == pytest.approx(10)
    assert evaluate(one_place, truth).centres is None
    assert evaluate(truth, one_place).centres is None
    assert evaluate(truth, one_place).median_translation_error_deg is None
    assert "not aligned" in evaluate(two, truth).table()


def test_one_common_image_makes_no_pair():
    truth = world(3)
    result = evaluate({"000.jpg": truth["000.jpg"]}, truth)
    assert result.median_rotation_error_deg is None
    assert set(result.auc.values()) == {0.0}
    assert "no pair" in result.table()


# ---- names ----


def test_base_names_match_where_only_the_folders_differ():
    truth = world()
    result = evaluate({f"images/{name}": pose for name, pose in truth.items()}, truth)
    assert result.matched_by == "base name"
    assert result.num_registered == 8
    assert result.auc[1] == pytest.approx(100)
    assert "base name" in result.table()


def test_base_names_that_occur_twice_do_not_match():
    poses = list(world(4).values())
    model = dict(zip(["a/0.jpg", "a/1.jpg"], poses, strict=False))
    truth = dict(zip(["l/0.jpg", "r/0.jpg", "l/1.jpg"], poses, strict=False))
    with pytest.raises(InputError, match=r"'a/0\.jpg'.*'l/0\.jpg'.*not unique \('0\.jpg'\).*prefix"):
        evaluate(model, truth)


def test_no_common_image_names_both_sides():
    truth = world(3)
    with pytest.raises(InputError, match=r"'x\.png', the reference's '000\.jpg', '001\.jpg', \.\.\."):
        evaluate({"x.png": truth["000.jpg"]}, truth)
    with pytest.raises(InputError, match="the model's are none"):
        evaluate({}, truth)


def test_a_reference_of_one_image_is_refused():
    with pytest.raises(InputError, match="two images"):
        evaluate(world(1), world(1))


# ---- results ----


def test_result_is_json_and_a_table():
    truth = world()
    result = evaluate(perturbed(truth), truth)
    data = json.loads(json.dumps(result.to_dict()))
    assert data == result.to_dict()
    assert data["auc"]["5"] == result.auc[5]
    assert data["centres"]["scale"] == result.centres.scale
    table = result.table()
    assert f"@5° {result.auc[5]:.2f}" in table
    assert "8 of 8" in table
    assert "base name" not in table


# ---- files ----


def test_text_file_round_trip_with_spaces_in_names(tmp_path):
    names = ["a b/my photo 1.jpg", "é 中 %.jpg", "1 2 3.jpg"]
    poses = dict(zip(names, world(3).values(), strict=True))
    read = load_poses(write_text(tmp_path / "poses.txt", poses))
    assert list(read) == names
    for name, pose in poses.items():
        assert read[name].rotation == pytest.approx(pose.rotation)
        assert read[name].centre == pytest.approx(pose.centre)


def test_quaternions_need_not_have_unit_length(tmp_path):
    (tmp_path / "poses.txt").write_text("a.jpg 2 2 0 0 1 2 3\n")
    pose = load_poses(tmp_path / "poses.txt")["a.jpg"]
    assert pose.rotation == pytest.approx(rotation([1, 0, 0], 90))
    assert pose.centre.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "line", ["a.jpg 1 0 0 0 1 2", "a.jpg 1 0 0 0 1 2 x", "a.jpg 0 0 0 0 1 2 3", "a.jpg 1 0 0 0 1 2 nan"]
)
def test_bad_line_is_named(tmp_path, line):
    (tmp_path / "poses.txt").write_text(f"# comment\n{line}\n")
    with pytest.raises(InputError, match="line 2: expected 'image qw"):
        load_poses(tmp_path / "poses.txt")


def test_bad_text_files(tmp_path):
    path = tmp_path / "poses.txt"
    path.write_text("a.jpg 1 0 0 0 1 2 3\n" * 2)
    with pytest.raises(InputError, match=r"line 2: image 'a\.jpg' occurs twice"):
        load_poses(path)
    path.write_text("# nothing\n")
    with pytest.raises(InputError, match="no image with a pose"):
        load_poses(path)
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="Cannot read"):
        load_poses(path)


@pytest.mark.parametrize("text", [False, True])
def test_colmap_model_round_trip(tmp_path, text):
    model = write_model(tmp_path / "model", text=text)
    poses = load_poses(tmp_path / "model")
    assert len(poses) == 5
    for image in model.images.values():
        assert poses[image.name].centre == pytest.approx(image.projection_center())
        assert poses[image.name].rotation == pytest.approx(image.cam_from_world().rotation.matrix())
    reference = write_text(tmp_path / "poses.txt", poses)
    result = evaluate(tmp_path / "model", reference)
    assert result.num_registered == 5
    assert result.auc[1] == pytest.approx(100, abs=1e-6)


def test_images_without_a_pose_are_not_registered(tmp_path):
    model = reconstruction(5)
    model.deregister_frame(next(iter(model.reg_frame_ids())))
    model.write_binary(tmp_path)
    assert len(load_poses(tmp_path)) == 4


@pytest.mark.parametrize("folder", ["", "sparse"])
def test_the_largest_of_numbered_models_is_taken(tmp_path, folder):
    for number, num_images in (("0", 2), ("2", 4), ("10", 4), ("old", 6)):
        write_model(tmp_path / folder / number, num_images, seed=int(number) if number.isdecimal() else 0)
    poses = load_poses(tmp_path)
    assert len(poses) == 4
    second = load_poses(tmp_path / folder / "2")
    assert all(np.array_equal(poses[name].centre, second[name].centre) for name in poses)


def test_missing_and_empty_paths(tmp_path):
    with pytest.raises(InputError, match="No model or pose file at"):
        load_poses(tmp_path / "nowhere")
    with pytest.raises(InputError, match="No COLMAP model in"):
        load_poses(tmp_path)
    (tmp_path / "sparse").mkdir()
    with pytest.raises(InputError, match="No COLMAP model in"):
        load_poses(str(tmp_path))


def test_a_file_of_a_model_points_to_its_folder(tmp_path):
    write_model(tmp_path / "model")
    with pytest.raises(InputError, match="Give its folder"):
        load_poses(tmp_path / "model" / "images.bin")


def test_damaged_models(tmp_path):
    write_model(tmp_path / "cut")
    data = (tmp_path / "cut" / "images.bin").read_bytes()
    (tmp_path / "cut" / "images.bin").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="incomplete or damaged"):
        load_poses(tmp_path / "cut")
    write_model(tmp_path / "part")
    (tmp_path / "part" / "cameras.bin").unlink()
    with pytest.raises(InputError, match="incomplete or damaged"):
        load_poses(tmp_path / "part")


def test_text_models_with_spaces_in_names_are_refused(tmp_path):
    write_model(tmp_path / "model", text=True)
    path = tmp_path / "model" / "images.txt"
    path.write_text(path.read_text().replace("camera0", "my camera0"))
    with pytest.raises(InputError, match="cuts the names"):
        load_poses(tmp_path / "model")


def test_a_pose_is_checked():
    with pytest.raises(InputError, match=r"\(3, 3\)"):
        CameraPose(np.eye(4), np.zeros(3))
    with pytest.raises(InputError, match="finite"):
        CameraPose(np.eye(3), np.full(3, np.nan))
