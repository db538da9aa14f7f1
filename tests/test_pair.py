"""Two photos through the API: files, pixels and stored features; poses against the rendered scene's truth."""

import numpy as np
import pytest
from PIL import Image
from two_view_scenes import angle_deg, direction_deg

import lgsfm
from lgsfm.cameras import Camera
from lgsfm.errors import InputError, PoseError
from lgsfm.pair import FrameMatcher, PairMatcher
from lgsfm.poses import load_poses
from lgsfm.settings import PairSettings

SIFT = {"features": "sift", "max_edge_px": 800, "max_keypoints": 1500}


@pytest.fixture(scope="module")
def sift():
    return PairMatcher(PairSettings.from_flags(SIFT))


@pytest.fixture(scope="module")
def truth(courtyard):
    poses = load_poses(courtyard / "ground_truth.txt")

    def relative(name0, name1):
        R = poses[name1].rotation @ poses[name0].rotation.T
        return R, poses[name1].rotation @ (poses[name0].centre - poses[name1].centre)

    return relative


def view(courtyard, number):
    return courtyard / "images" / f"view{number:02}.jpg"


def test_files_pixels_and_features_give_the_same_matches(courtyard):
    paths = [view(courtyard, 4), view(courtyard, 5)]
    of_files = lgsfm.match_pair(*paths, **SIFT)
    pixels = [lgsfm.read_photo(path).rgb for path in paths]
    of_pixels = lgsfm.match_pair(*pixels, **SIFT)
    of_features = lgsfm.match_pair(*of_files.features, **SIFT)
    assert len(of_files) > 100
    assert np.array_equal(of_files.indices, of_features.indices)
    assert len(of_pixels) == pytest.approx(len(of_files), rel=0.05)  # a file is reduced while it is decoded
    assert of_files.points0.shape == of_files.points1.shape == (len(of_files), 2)
    assert np.array_equal(of_files.points1, of_files.features[1].keypoints[of_files.indices[:, 1]])


def test_the_pose_of_two_photos_is_the_true_one(courtyard, truth):
    pose = lgsfm.estimate_relative_pose(view(courtyard, 4), str(view(courtyard, 5)), **SIFT)
    R, t = truth("view04.jpg", "view05.jpg")
    assert angle_deg(pose.rotation, R) < 0.5
    assert direction_deg(pose.translation, t) < 2
    assert [camera.source for camera in pose.cameras] == ["EXIF", "EXIF"]


def test_known_matches_and_cameras_are_used(courtyard, sift, truth):
    pair = sift.match(view(courtyard, 4), view(courtyard, 5))
    exif = lgsfm.estimate_relative_pose(*pair.features, matches=pair)
    assert {camera.source for camera in exif.cameras} == {"estimated from the matches"}  # features have no EXIF
    focal = 0.9 * 1.2 * max(pair.features[0].image_size)
    camera = Camera("SIMPLE_PINHOLE", pair.features[0].image_size, (focal, 1.0, 2.0), "given")
    given = lgsfm.estimate_relative_pose(*pair.features, matches=pair, camera0=camera, camera1=focal)
    assert given.cameras[0] == camera
    assert given.cameras[1].focal_px == pytest.approx(focal)
    plain = lgsfm.Matches(pair.indices, pair.scores)
    again = lgsfm.estimate_relative_pose(*pair.features, matches=plain)
    assert np.array_equal(again.rotation, exif.rotation)
    with pytest.raises(InputError, match="Matches mean nothing without their keypoints"):
        lgsfm.estimate_relative_pose(view(courtyard, 4), view(courtyard, 5), matches=plain)


def test_photos_of_nothing_in_common_have_no_pose(courtyard, texture):
    with pytest.raises(PoseError, match=r"no reliable pose: \d+ inliers of \d+ matches"):
        lgsfm.estimate_relative_pose(view(courtyard, 4), texture(800, 600, 7), **SIFT)


def test_bad_input_is_named(courtyard, tmp_path):
    with pytest.raises(InputError, match="Did you mean 'estimator'"):
        lgsfm.estimate_relative_pose(view(courtyard, 4), view(courtyard, 5), estimater="magsac")
    with pytest.raises(InputError, match=r"none\.jpg: the file does not exist"):
        lgsfm.match_pair(view(courtyard, 4), tmp_path / "none.jpg", **SIFT)
    with pytest.raises(InputError, match=r"must be \(H, W, 3\) RGB or \(H, W\) grey of type uint8"):
        lgsfm.match_pair(view(courtyard, 4), np.zeros((10, 10, 4), np.uint8), **SIFT)
    with pytest.raises(InputError, match="option 'pairs'"):
        lgsfm.match_pair(view(courtyard, 4), view(courtyard, 5), pairs="exhaustive")


def test_grey_pixels_are_an_image(courtyard, sift):
    with Image.open(view(courtyard, 4)) as image:
        grey = np.asarray(image.convert("L"))
    assert len(sift.match(grey, view(courtyard, 5))) > 100


def test_frames_are_extracted_once_and_matched_with_the_last_and_the_keyframe(courtyard, sift, monkeypatch):
    extracted = []
    original = sift.extract
    monkeypatch.setattr(sift, "extract", lambda image, **kwargs: extracted.append(image) or original(image, **kwargs))
    matched = 0
    match_prepared = sift.matcher.match_prepared

    def counted(*prepared):
        nonlocal matched
        matched += 1
        return match_prepared(*prepared)

    monkeypatch.setattr(sift.matcher, "match_prepared", counted)
    frames = FrameMatcher(sift)
    with pytest.raises(InputError, match="There is no frame yet"):
        frames.with_keyframe()
    with pytest.raises(InputError, match="There is no frame yet"):
        frames.set_keyframe()
    paths = [view(courtyard, number) for number in (4, 5, 6)]
    pairs = [frames.next(path) for path in paths]
    assert pairs[0] is None
    for number in (1, 2):
        sides = [sift.matcher.prepare(original(path)) for path in paths[number - 1 : number + 1]]
        expected = match_prepared(*sides)
        assert np.array_equal(pairs[number].indices, expected.indices)
    assert matched == 2
    key = frames.with_keyframe()
    assert matched == 3
    assert frames.with_keyframe() is key
    assert np.array_equal(key.features[0].keypoints, pairs[1].features[0].keypoints)
    frames.set_keyframe()
    frames.next(paths[0])
    assert np.array_equal(frames.with_keyframe().features[0].keypoints, pairs[2].features[1].keypoints)
    assert extracted == [*paths, paths[0]]
    assert len(pairs[1]) > 100


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_copy_gives_the_same_pose_up_to_the_turn(courtyard, truth, turns, tmp_path):
    if not lgsfm.weights.find("aliked-n16") or not lgsfm.weights.find("lightglue-aliked"):
        pytest.skip("the weights of aliked-n16 or lightglue-aliked are not on this computer")
    path = tmp_path / "turned.png"
    Image.fromarray(np.rot90(lgsfm.read_photo(view(courtyard, 5)).rgb, -turns)).save(path)
    flags = {"features": "aliked", "max_edge_px": 640, "max_keypoints": 1024}
    R, t = truth("view04.jpg", "view05.jpg")
    straight = lgsfm.estimate_relative_pose(view(courtyard, 4), view(courtyard, 5), **flags)
    focal = straight.cameras[1].focal_px
    pose = lgsfm.estimate_relative_pose(view(courtyard, 4), path, camera1=focal, **flags)
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])  # clockwise, as y points down
    assert angle_deg(pose.rotation, turn @ R) < 1
    assert direction_deg(pose.translation, turn @ t) < 4
    assert pose.num_inliers > 0.7 * straight.num_inliers
    lying = lgsfm.match_pair(view(courtyard, 4), path, upright="exif", **flags)
    assert len(lying) < 0.7 * straight.num_matches
