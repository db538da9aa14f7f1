"""Photos that were left out of a reconstruction are located in it: poses against the rendered scene's truth."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import h5py
import numpy as np
import pycolmap
import pytest
from cli_helpers import SIFT, copy_photos, run, views
from PIL import Image
from two_view_scenes import angle_deg

import lgsfm
from lgsfm.cameras import PIXEL_CENTRE, Camera
from lgsfm.errors import InputError
from lgsfm.evaluation import robust_similarity
from lgsfm.exif import turn_upright
from lgsfm.files import read_json, write_json
from lgsfm.finished import FinishedRun
from lgsfm.images import read_photo
from lgsfm.localization import Localizer
from lgsfm.localization.known_scene import KnownScene
from lgsfm.localization.options import LocalizationOptions
from lgsfm.localization.result import STATES
from lgsfm.poses import load_poses
from lgsfm.settings import Settings
from lgsfm.workspace import Workspace

FLAGS = {"features": "sift", "max_edge_px": 800, "max_keypoints": 1500}
KNOWN, LEFT_OUT = views(3, 4, 5, 7, 8, 9), views(6, 10)
QUARTER = {6: np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]]), 8: np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])}
QUARTER |= {3: QUARTER[6] @ QUARTER[6], 1: np.eye(3)}  # stored from upright, by the EXIF code


@pytest.fixture(scope="module")
def output(courtyard, tmp_path_factory):
    """A run over six photos; it must stay as it is."""
    folder = tmp_path_factory.mktemp("known")
    images = copy_photos(courtyard / "images", folder / "images", KNOWN)
    assert lgsfm.reconstruct(images, folder / "out", **FLAGS).num_reg_images == len(KNOWN)
    return folder / "out"


@pytest.fixture(scope="module")
def localizer(output):
    with Localizer(output) as opened:
        yield opened


@pytest.fixture(scope="module")
def errors(output, courtyard):
    """Of a pose of a photo in the model: the angle [deg], and the distance [units of the truth], to the true one."""
    truth, model = load_poses(courtyard / "ground_truth.txt"), load_poses(output)
    centres = [np.array([poses[name].centre for name in KNOWN]) for poses in (model, truth)]
    world, _ = robust_similarity(*centres)

    def of(pose, name, turn=None):
        R = (np.eye(3) if turn is None else turn) @ truth[name].rotation
        centre = world(pose.centre[None])[0]
        return angle_deg(pose.rotation @ world.rotation.T, R), float(np.linalg.norm(centre - truth[name].centre))

    return of


def photo(courtyard, name):
    return courtyard / "images" / name


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --------------------------------------------------------------------------------- right poses
def test_photos_that_were_left_out_are_located(localizer, courtyard, errors):
    found = localizer.localize([photo(courtyard, name) for name in LEFT_OUT])
    for name, one in zip(LEFT_OUT, found, strict=True):
        assert (one.state, one.hint, one.is_localized) == ("localized", "", True)
        angle, distance = errors(one.pose, name)
        assert angle < 0.3
        assert distance < 0.05  # the cameras are about 10 units from what they see
        assert one.num_inliers == len(one.observations) == one.pose.inliers.sum() > 60
        assert one.num_inliers <= one.num_correspondences == len(one.pose.inliers)
        assert one.camera.source == "camera 1 of the model"
        assert one.num_images == len(KNOWN)
        assert set(dict(one.best_images)) <= set(KNOWN)
        assert list(dict(one.best_images).values()) == sorted(dict(one.best_images).values(), reverse=True)
        assert 0.001 < one.pose.rotation_sigma_deg < 0.3
        assert 0.0001 < one.pose.centre_sigma < 0.1


def test_a_warm_localizer_gives_what_a_cold_one_gives(localizer, output, courtyard):
    """One by one, in another order, and after other photos: the photos do not get mixed up."""
    paths = [photo(courtyard, name) for name in LEFT_OUT]
    together = localizer.localize(paths)
    back = [localizer.localize(path)[0] for path in reversed(paths)]
    cold = lgsfm.localize(output, paths[1])
    for one, other in zip([*together, together[1]], [*reversed(back), *cold], strict=True):
        assert np.array_equal(one.pose.rotation, other.pose.rotation)
        assert np.array_equal(one.observations, other.observations)


def test_a_photo_of_the_model_is_found_where_it_is(localizer, output, courtyard):
    (one,) = localizer.localize(photo(courtyard, KNOWN[2]))
    known = load_poses(output)[KNOWN[2]]
    assert angle_deg(one.pose.rotation, known.rotation) < 0.1
    assert one.best_images[0][0] == KNOWN[2]


def test_keypoints_of_a_finer_look_may_follow_in_the_model(localizer, output):
    run = FinishedRun(output)
    first = {name: run.features[name].subset(np.arange(400)) for name in KNOWN}
    run.features.close()
    vars(run)["features"] = first
    for name in KNOWN:
        assert np.array_equal(KnownScene(run).point_ids(name), localizer.scene.point_ids(name)[:400])
    first[KNOWN[0]] = first[KNOWN[0]].subset(np.arange(400)[::-1])
    with pytest.raises(InputError, match="not made of the features"):
        KnownScene(run).point_ids(KNOWN[0])


def test_the_most_similar_images_are_the_candidates(output, courtyard, errors):
    (one,) = lgsfm.localize(output, photo(courtyard, LEFT_OUT[0]), neighbors=3)
    assert one.num_images == 3
    assert errors(one.pose, LEFT_OUT[0])[0] < 0.5
    assert "view07.jpg" in dict(one.best_images)  # the one beside it


def test_a_photo_looks_most_like_itself(localizer):
    scene = localizer.scene
    photos = {f"\n{name}": scene.run.features[name] for name in KNOWN[:3]}
    found = scene.look_alikes(photos, localizer.settings.make_retriever, 2, read_photo)
    assert {key: best[0] for key, best in found.items()} == {f"\n{name}": name for name in KNOWN[:3]}
    assert {len(best) for best in found.values()} == {2}


def test_a_retriever_may_look_at_the_photos(output, courtyard, monkeypatch):
    """The photos of the model are described once, and the queries upright and each by itself."""
    described = []

    class Thumbnails:
        looks_at_photos = True

        def describe_photos(self, names, read):
            described.append(list(names))
            small = np.stack([cv2.resize(read(name, 448).rgb, (16, 12)).astype(float).ravel() for name in names])
            small -= small.mean(1, keepdims=True)
            return small / np.linalg.norm(small, axis=1, keepdims=True)

    made = []
    monkeypatch.setattr(Settings, "make_retriever", lambda self: made.append(1) or Thumbnails())
    with Localizer(output, options=LocalizationOptions(neighbors=2)) as opened:
        for name in KNOWN[:2]:
            (one,) = opened.localize(photo(courtyard, name))
            assert one.is_localized
            assert one.num_images == 2
            assert one.best_images[0][0] == name
    assert made == [1]
    assert [len(names) for names in described if set(names) & set(KNOWN)] == [len(KNOWN)]
    assert len(described) == 3
    with Localizer(output) as opened:  # enough neighbours for all: there is nothing to compare
        assert opened.localize(photo(courtyard, KNOWN[0]))[0].num_images == len(KNOWN)
    assert made == [1]


@pytest.mark.parametrize("code", [1, 3, 6, 8])
def test_poses_are_of_the_stored_photo_whatever_its_exif_orientation(
    localizer, output, courtyard, errors, save_photo, tmp_path, code
):
    name = LEFT_OUT[0]
    path = save_photo(tmp_path / "turned.png", read_photo(photo(courtyard, name)).rgb, code)
    focal = localizer.scene.camera(1).focal_px
    (one,) = lgsfm.localize(output, path, camera=focal)
    assert one.camera.source == "given"
    angle, distance = errors(one.pose, name, QUARTER[code])
    assert angle < 0.5
    assert distance < 0.08


def test_an_unknown_focal_length_is_estimated_and_that_is_said(localizer, courtyard, errors, tmp_path):
    bare = tmp_path / "bare.png"
    Image.fromarray(read_photo(photo(courtyard, LEFT_OUT[0])).rgb).save(bare)
    (one,) = localizer.localize(bare)
    assert (one.camera.source, one.camera_id) == ("estimated from the matches", None)
    assert one.camera.focal_px == pytest.approx(localizer.scene.camera(1).focal_px, rel=0.03)
    angle, distance = errors(one.pose, LEFT_OUT[0])
    assert angle < 1
    assert distance < 0.4


def test_a_camera_that_shares_no_more_than_the_size_gives_way_to_a_better_one(
    localizer, courtyard, tmp_path, monkeypatch
):
    bare = tmp_path / "bare.png"
    Image.fromarray(read_photo(photo(courtyard, LEFT_OUT[0])).rgb).save(bare)
    known = localizer.scene.camera(1)
    wrong = Camera(known.model, known.size, (1.5 * known.params[0], *known.params[1:]), known.source)
    monkeypatch.setattr(localizer.scene, "camera_id", lambda header: 1)
    (one,) = localizer.localize(bare)
    assert (one.camera, one.camera_id) == (known, 1)
    monkeypatch.setattr(localizer.scene, "camera", lambda number: wrong)
    (one,) = localizer.localize(bare)
    assert (one.camera.source, one.camera_id) == ("estimated from the matches", None)
    assert one.camera.focal_px == pytest.approx(known.focal_px, rel=0.03)


def test_a_lying_photo_without_exif_is_turned(courtyard, tmp_path):
    if not lgsfm.weights.find("aliked-n16") or not lgsfm.weights.find("lightglue-aliked"):
        pytest.skip("the weights of aliked-n16 or lightglue-aliked are not on this computer")
    images = copy_photos(courtyard / "images", tmp_path / "images", views(4, 5, 7))
    flags = {"features": "aliked", "max_edge_px": 640, "max_keypoints": 768}
    lgsfm.reconstruct(images, tmp_path / "out", **flags)
    upright = photo(courtyard, "view06.jpg")
    lying = tmp_path / "lying.png"
    Image.fromarray(turn_upright(read_photo(upright).rgb, 6)).save(lying)
    with Localizer(tmp_path / "out") as opened:
        straight, turned = opened.localize([upright, lying])
    assert straight.turned_deg == 0
    assert turned.turned_deg == 270
    assert turned.num_inliers > 0.6 * straight.num_inliers
    assert angle_deg(turned.pose.rotation, QUARTER[8] @ straight.pose.rotation) < 1.5


# --------------------------------------------------------------------------------- no pose
def test_a_photo_of_something_else_is_refused(localizer, save_photo, texture, tmp_path):
    paths = [save_photo(tmp_path / f"{seed}.png", texture(800, 600, seed)) for seed in range(4)]
    paths.append(save_photo(tmp_path / "blank.png", np.full((600, 800, 3), 90, np.uint8)))
    found = localizer.localize(paths)
    assert not any(one.is_localized for one in found)
    assert {one.state for one in found} <= set(STATES)
    assert found[-1].state == "no features"
    assert all(one.hint and one.pose is None and not len(one.observations) for one in found)


def test_an_unusable_file_is_named_and_the_others_are_located(localizer, courtyard, tmp_path):
    (tmp_path / "text.jpg").write_text("no photo")
    whole = photo(courtyard, LEFT_OUT[0]).read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    shutil.copy(photo(courtyard, LEFT_OUT[1]), tmp_path / "whole.jpg")
    found = localizer.localize([tmp_path, tmp_path / "none.jpg"])
    assert [one.state for one in found] == ["unreadable", "unreadable", "localized", "unreadable"]
    assert [Path(one.name).name for one in found] == ["half.jpg", "text.jpg", "whole.jpg", "none.jpg"]
    assert found[-1].detail == "the file does not exist"


def test_wrong_choices_are_named(output, courtyard, tmp_path):
    query = photo(courtyard, LEFT_OUT[0])
    with pytest.raises(InputError, match="Did you mean 'neighbors'"):
        lgsfm.localize(output, query, neighbours=3)
    with pytest.raises(InputError, match="is no camera"):
        lgsfm.localize(output, query, camera="wide")
    with pytest.raises(InputError, match="is no output folder of lgsfm"):
        lgsfm.localize(courtyard, query)
    with pytest.raises(InputError, match="No images in"):
        lgsfm.localize(output, tmp_path)


def test_a_run_whose_features_or_model_do_not_fit_is_refused(output, courtyard, tmp_path):
    query = photo(courtyard, LEFT_OUT[0])
    copy = shutil.copytree(output, tmp_path / "out")
    shutil.rmtree(copy / "sparse")
    with pytest.raises(InputError, match="There is no model in"):
        lgsfm.localize(copy, query)
    shutil.copytree(output / "sparse", copy / "sparse")
    done = run("extract", output.parent / "images", "-o", copy, *SIFT, "--max-edge-px", "500")
    assert done.code == 0, done.err
    (one,) = lgsfm.localize(copy, query)  # by what the model was made of, not by the last command
    assert one.pose is not None
    (copy / "database.json").unlink()  # now nobody knows
    with pytest.raises(InputError, match="not made of the features of the last command"):
        lgsfm.localize(copy, query)


def test_features_of_another_version_are_refused(output, courtyard, tmp_path):
    copy = shutil.copytree(output, tmp_path / "out")
    options = read_json(copy / "options.json")
    other = {**options["extractor"], "version": 99}
    (copy / "database.json").unlink()
    write_json(copy / "options.json", {**options, "extractor": other})
    features = next(copy.glob("features-*.h5")).rename(Workspace(copy).features(other))
    with h5py.File(features, "a") as file:
        file.attrs["identity"] = json.dumps(other)
    with pytest.raises(InputError, match=r"made by another sift .* version differ"):
        lgsfm.localize(copy, photo(courtyard, LEFT_OUT[0]))


# --------------------------------------------------------------------------------- the model with the photos
def test_the_new_model_holds_the_photos_and_can_be_adjusted(localizer, output, courtyard, tmp_path):
    before = contents(output)
    bare = tmp_path / "bare.png"
    Image.fromarray(read_photo(photo(courtyard, LEFT_OUT[1])).rgb).save(bare)
    found = localizer.localize([photo(courtyard, LEFT_OUT[0]), bare, photo(courtyard, KNOWN[0])])
    names = lgsfm.write_localized_model(output, found, tmp_path / "new")
    assert names == [LEFT_OUT[0], "bare.png", f"queries/{KNOWN[0]}"]
    assert contents(output) == before
    old, new = (pycolmap.Reconstruction(folder) for folder in (output / "sparse" / "0", tmp_path / "new"))
    assert new.num_reg_images() == old.num_reg_images() + 3
    assert new.num_points3D() == old.num_points3D()
    assert len(new.cameras) == len(old.cameras) + 1  # of the photo without EXIF
    images = {image.name: image for image in new.images.values()}
    for name, one in zip(names, found, strict=True):
        image = images[name]
        assert np.allclose(image.cam_from_world().matrix()[:, :3], one.pose.rotation)
        assert np.allclose(image.projection_center(), one.pose.centre)
        assert image.num_points2D() == len(one.keypoints)
        assert image.num_points3D == pytest.approx(one.num_inliers, rel=0.1)  # a point once per image
        distances = []
        for i in image.get_observation_point2D_idxs():
            seen = image.points2D[i]
            assert np.allclose(seen.xy - PIXEL_CENTRE, one.keypoints[i], atol=1e-3)
            distances.append(np.linalg.norm(image.project_point(new.points3D[seen.point3D_id].xyz) - seen.xy))
        assert max(distances) <= 0.004 * 800 + 1e-6
        assert np.median(distances) == pytest.approx(one.pose.median_error_px, rel=0.1)
    pycolmap.bundle_adjustment(new)
    assert new.compute_mean_reprojection_error() < 1.5
    with pytest.raises(InputError, match="is not empty"):
        lgsfm.write_localized_model(output, found, tmp_path / "new")
    with pytest.raises(InputError, match="among the models of the run"):
        lgsfm.write_localized_model(output, found, output / "sparse" / "7")


# --------------------------------------------------------------------------------- the command
def test_the_command_prints_a_table_and_json(output, courtyard, save_photo, texture, tmp_path):
    other = save_photo(tmp_path / "other.png", texture(800, 600, 3))
    query = photo(courtyard, LEFT_OUT[0])
    before = contents(output)
    done = run(
        "localize", output, query, other, "-o", tmp_path / "new/f.json", "--write-model", tmp_path / "m", "--quiet"
    )
    assert done.code == 0, done.err
    assert done.err == ""
    assert "Located 1 of 2 photos" in done.out
    assert "camera 1 of the model" in done.out
    assert f"Not located: {other}: " in done.out
    assert contents(output) == before
    assert pycolmap.Reconstruction(tmp_path / "m").num_reg_images() == len(KNOWN) + 1
    rows = json.loads((tmp_path / "new/f.json").read_text())
    assert [row["name"] for row in rows] == [query.as_posix(), other.as_posix()]
    assert np.linalg.norm(rows[0]["cam_from_world"]["quaternion_wxyz"]) == pytest.approx(1)
    assert "centre" not in rows[1]
    done = run("localize", output, query, "--json", "--quiet", "--camera", "SIMPLE_PINHOLE,650,400,300")
    assert json.loads(done.out)["localizations"][0]["camera"]["params"] == [650, 400, 300]


def test_the_command_fails_where_nothing_is_located(output, tmp_path):
    done = run("localize", output, tmp_path / "none.jpg")
    assert done.code == 1
    assert "unreadable" in done.out
    assert "None of 1 photos could be located" in done.err
    assert run("localize", output).code == 2


def test_where_the_result_cannot_be_written_is_said_before_the_work(output, courtyard, tmp_path):
    (tmp_path / "text").write_text("")
    for place, words in ((tmp_path / "text/found.json", "cannot be made"), (tmp_path, "is a folder")):
        done = run("localize", output, photo(courtyard, LEFT_OUT[0]), "-o", place)
        assert (done.code, done.out) == (1, "")
        assert words in done.err


def test_the_result_replaces_such_a_result_and_nothing_else(output, courtyard, tmp_path):
    query, mine = tmp_path / "none.jpg", Path(shutil.copy(photo(courtyard, LEFT_OUT[0]), tmp_path / "mine.jpg"))
    before = contents(output), mine.read_bytes()
    for place in (mine, output / "options.json", output / "database.db"):
        done = run("localize", output, query, "-o", place)
        assert (done.code, done.out) == (1, "")
        assert "-o" in done.err
    assert (contents(output), mine.read_bytes()) == before
    for _ in range(2):
        assert "None of 1 photos could be located" in run("localize", output, query, "-o", tmp_path / "f.json").err
    assert json.loads((tmp_path / "f.json").read_text())[0]["state"] == "unreadable"


def test_the_given_camera_of_another_size_is_refused(output, courtyard):
    camera = Camera("SIMPLE_PINHOLE", (100, 300), (50.0, 50.0, 150.0), "given")
    with pytest.raises(InputError, match="The camera is of an image of 100x300"):
        lgsfm.localize(output, photo(courtyard, LEFT_OUT[0]), camera=camera)
