"""Whole runs on real photos, from the folder that LGSFM_TEST_DATA names."""

import shutil

import numpy as np
import pytest
from PIL import Image
from two_view_scenes import angle_deg, direction_deg

import lgsfm
from lgsfm import weights
from lgsfm.errors import PoseError
from lgsfm.poses import load_poses
from lgsfm.two_view import estimate_homography

SMALL = {"features": "aliked", "max_keypoints": 1024, "max_edge_px": 800}


@pytest.fixture(autouse=True)
def needs_weights():
    if not (weights.find("aliked-n16") and weights.find("lightglue-aliked")):
        pytest.skip("the ALIKED and LightGlue weights are not here: lgsfm weights fetch")


def test_a_planar_facade_has_exact_poses(real_photos, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((real_photos / "lund-door" / "images").iterdir())[::2]:
        shutil.copy(path, images)
    summary = lgsfm.reconstruct(images, tmp_path / "out", **SMALL)
    assert summary.num_reg_images == summary.num_images == 6
    assert summary.cameras[0]["focal_px"]  # from EXIF
    truth = lgsfm.evaluate(tmp_path / "out", real_photos / "lund-door" / "ground_truth.txt")
    assert truth.num_registered == 6
    assert truth.median_rotation_error_deg < 0.5


def true_pose(folder, name0, name1):
    poses = load_poses(folder / "ground_truth.txt")
    R = poses[name1].rotation @ poses[name0].rotation.T
    return R, poses[name1].rotation @ (poses[name0].centre - poses[name1].centre)


def test_the_pose_of_two_photos_is_that_of_the_reference(real_photos):
    folder = real_photos / "lund-door"
    paths = [folder / "images" / name for name in ("DSC_0002.JPG", "DSC_0006.JPG")]
    pose = lgsfm.estimate_relative_pose(*paths, features="aliked")
    R, t = true_pose(folder, "DSC_0002.JPG", "DSC_0006.JPG")
    assert [camera.source for camera in pose.cameras] == ["EXIF", "EXIF"]
    assert angle_deg(pose.rotation, R) < 1.2  # EXIF is 5 % off
    assert direction_deg(pose.translation, t) < 3
    refined = lgsfm.estimate_relative_pose(*paths, camera0=2440, camera1=2440, features="aliked")
    assert angle_deg(refined.rotation, R) < 0.2


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_copy_has_the_same_pose_up_to_the_turn(quarters, real_photos, tmp_path):
    paths = [real_photos / "lund-door" / "images" / name for name in ("DSC_0002.JPG", "DSC_0006.JPG")]
    turned = tmp_path / "turned.png"
    Image.fromarray(np.rot90(lgsfm.read_photo(paths[1]).rgb, -quarters)).save(turned, compress_level=1)
    straight = lgsfm.estimate_relative_pose(*paths, **SMALL)
    pose = lgsfm.estimate_relative_pose(paths[0], turned, camera1=straight.cameras[1].focal_px, **SMALL)
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters]
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    assert angle_deg(pose.rotation, turn @ straight.rotation) < 0.1
    assert direction_deg(pose.translation, turn @ straight.translation) < 1
    assert pose.num_inliers > 0.95 * straight.num_inliers


def test_a_focal_length_that_nobody_tells_is_found(real_photos):
    folder = real_photos / "fountain-p11"
    names = ("0003.jpg", "0005.jpg")
    pose = lgsfm.estimate_relative_pose(*(folder / "images" / name for name in names), features="aliked")
    assert pose.cameras[0].source == "estimated from the matches"
    assert pose.cameras[0].focal_px == pytest.approx(2759, rel=0.05)
    assert angle_deg(pose.rotation, true_pose(folder, *names)[0]) < 1


@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_homography_of_a_plane_is_that_of_the_reference(number, real_photos):
    folder = real_photos / "graf"
    photos = sorted((folder / "images").iterdir())
    pair = lgsfm.match_pair(photos[0], photos[number - 1], features="aliked")
    found = estimate_homography(pair.points0, pair.points1, 2.0)
    truth = np.loadtxt(folder / f"H1to{number}p")
    corners = np.array([[100, 100, 1], [700, 100, 1], [700, 540, 1], [100, 540, 1.0]])
    ours, theirs = (corners @ H.T for H in (found.matrix, truth))
    assert np.abs(ours[:, :2] / ours[:, 2:] - theirs[:, :2] / theirs[:, 2:]).max() < 6


@pytest.mark.parametrize(
    ("name0", "name1"),
    [
        ("lund-door/images/DSC_0002.JPG", "kermit/images/kermit000.jpg"),
        ("lund-door/images/DSC_0001.JPG", "reichstag/images/05466646_5360480312.jpg"),
        ("fountain-p11/images/0004.jpg", "reichstag/images/05461164_9050854768.jpg"),
    ],
)
def test_photos_of_different_places_have_no_pose(name0, name1, real_photos):
    """Facades match each other in rows, which is more than chance gives."""
    with pytest.raises(PoseError, match="no reliable pose"):
        lgsfm.estimate_relative_pose(real_photos / name0, real_photos / name1, features="aliked")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cyprus-rotated", "kermit", "monstree-exif6", "sacre-coeur"])
def test_all_photos_register(name, real_photos, tmp_path):
    """Two photos turned in the pixels; little texture; EXIF orientations 1 and 6 mixed; ten cameras."""
    summary = lgsfm.reconstruct(real_photos / name / "images", tmp_path / "out", **SMALL)
    assert summary.unregistered == []
