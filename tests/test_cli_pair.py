"""`lgsfm pose` and `lgsfm show` from the command line."""

import io
import json
import os
import shutil
from contextlib import redirect_stdout

import numpy as np
import pytest
from cli_helpers import SIFT, copy_photos, run, views
from PIL import Image
from two_view_scenes import angle_deg

from lgsfm.cli import main, pair
from lgsfm.cli.terminal import printable
from lgsfm.errors import InputError
from lgsfm.finished import FinishedRun
from lgsfm.images import read_photo
from lgsfm.poses import load_poses
from lgsfm.store import FeatureStore, MatchStore
from lgsfm.types import canonical_pair

FEW = ("view04.jpg", "view05.jpg", "view06.jpg", "view07.jpg")


@pytest.fixture(scope="module")
def photos(courtyard):
    return [courtyard / "images" / name for name in FEW]


@pytest.fixture(scope="module")
def finished(courtyard, tmp_path_factory):
    """A run over four photos, one of them in a sub-folder."""
    folder = tmp_path_factory.mktemp("run")
    copy_photos(courtyard / "images", folder / "photos", views(4, 5, 6))
    copy_photos(courtyard / "images", folder / "photos" / "more", views(7))
    done = run("reconstruct", folder / "photos", "-o", folder / "out", *SIFT)
    assert done.code == 0, done.err
    return folder / "out"


def rotation_of(report):
    return np.array(report["cam1_from_cam0"]["rotation"])


def true_rotation(courtyard, name0, name1):
    poses = load_poses(courtyard / "ground_truth.txt")
    return poses[name1].rotation @ poses[name0].rotation.T


def test_pose_says_all_that_people_need(photos):
    done = run("pose", *photos[:2], *SIFT, "--fundamental", "--homography", "--min-inliers", 8)
    assert done.code == 0, done.err
    for text in (
        "cam1_from_cam0, calibrated",
        "quaternion wxyz",
        "unit length",
        "Matches, inliers",
        "(magsac, ",
        "px (EXIF)  ",
        "Fundamental",
        "Homography",
    ):
        assert text in done.out
    assert "GUESS" not in done.out + done.err
    assert "ESTIMATED" not in done.out + done.err


def test_pose_as_json_is_the_true_one(photos, courtyard):
    report = json.loads(run("pose", *photos[:2], *SIFT, "--json", "--quiet", "--fundamental").out)
    assert angle_deg(rotation_of(report), true_rotation(courtyard, *FEW[:2])) < 0.5
    assert np.linalg.norm(report["cam1_from_cam0"]["translation"]) == pytest.approx(1)
    assert report["image0"].endswith("view04.jpg")
    assert report["num_inliers"] <= report["num_matches"]
    assert np.array(report["fundamental"]["matrix"]).shape == (3, 3)
    assert [camera["source"] for camera in report["cameras"]] == ["EXIF", "EXIF"]


def test_a_guessed_focal_length_is_said_loudly_and_a_given_one_is_used(photos, tmp_path):
    bare = tmp_path / "bare.png"
    Image.fromarray(read_photo(photos[1]).rgb).save(bare)
    done = run("pose", photos[0], bare, *SIFT)
    assert "bare.png is unknown" in done.err
    assert "is ESTIMATED FROM THE MATCHES" in done.err
    assert "(ESTIMATED FROM THE MATCHES)" in done.out
    done = run("pose", photos[0], bare, *SIFT, "--unknown-focal", "guess")
    assert "is A GUESS" in done.err
    assert "(A GUESS)" in done.out
    done = run("pose", photos[0], bare, *SIFT, "--camera1", "1000", "--json")
    assert json.loads(done.out)["cameras"][1]["focal_px"] == 1000
    assert "unknown" not in done.err


def test_no_pose_is_an_honest_error(photos, tmp_path, texture):
    other = tmp_path / "other.png"
    Image.fromarray(texture(800, 600, 5)).save(other)
    done = run("pose", photos[0], other, *SIFT)
    assert done.code == 1
    assert done.out == ""
    assert "no reliable pose: " in done.err
    assert " inliers of " in done.err
    done = run("pose", photos[0], other, *SIFT, "--json")
    assert (done.code, json.loads(done.out)["configuration"]) == (1, "degenerate")


def test_a_matrix_is_told_where_there_is_no_pose(photos, tmp_path):
    """A photo and a part of it: a homography, but no focal length and so no pose."""
    image = read_photo(photos[0]).rgb
    for name, part in (("all.png", image), ("part.png", image[40:, 60:])):
        Image.fromarray(part).save(tmp_path / name)
    done = run("pose", tmp_path / "all.png", tmp_path / "part.png", *SIFT, "--homography", "--min-inliers", "2000")
    assert done.code == 1
    assert done.out == ""
    done = run("pose", tmp_path / "all.png", tmp_path / "part.png", *SIFT, "--homography", "--json")
    matrix = np.array(json.loads(done.out)["homography"]["matrix"])
    assert np.allclose(matrix, [[1, 0, -60], [0, 1, -40], [0, 0, 1]], atol=1)


@pytest.mark.parametrize("estimator", ["magsac", "ransac", "colmap", "poselib"])
def test_estimators_agree(photos, courtyard, estimator):
    if estimator == "poselib":
        pytest.importorskip("poselib", reason="the optional package poselib is not installed")
    report = json.loads(run("pose", *photos[:2], *SIFT, "--json", "--estimator", estimator).out)
    assert report["estimator"] == estimator
    assert angle_deg(rotation_of(report), true_rotation(courtyard, *FEW[:2])) < 1


def test_wrong_choices_are_named(photos):
    done = run("pose", *photos[:2], "--estimator", "magsak")
    assert (done.code, "Did you mean 'magsac'" in done.err) == (1, True)
    assert run("pose", photos[0]).code == 2
    done = run("show", photos[0])
    assert (done.code, "Give two photos, or --list FILE" in done.err) == (1, True)
    done = run("pose", *photos[:2], *SIFT, "--camera0", "wide")
    assert (done.code, "'wide' is no camera" in done.err) == (1, True)


def test_show_draws_a_picture(photos, tmp_path):
    path = tmp_path / "m.png"
    done = run("show", *photos[:2], "-o", path, *SIFT, "--edge-px", 500)
    assert (done.code, done.out.strip()) == (0, str(path))
    picture = read_photo(path).rgb
    assert picture.shape[1] == 1008
    yellow = (picture[..., 0] > 200) & (picture[..., 1] > 200) & (picture[..., 2] < 90)
    assert yellow.sum() > 100


def test_show_calls_no_match_an_outlier_where_only_the_focal_lengths_are_open(photos, tmp_path, monkeypatch):
    for photo in photos[:2]:
        Image.open(photo).save(tmp_path / photo.with_suffix(".png").name)
    monkeypatch.setattr("lgsfm.two_view.MAX_OPEN_DEG", -1.0)
    drawn = []
    draw = pair.draw_matches
    monkeypatch.setattr(pair, "draw_matches", lambda *given, **more: drawn.append(given) or draw(*given, **more))
    bare = [tmp_path / photo.with_suffix(".png").name for photo in photos[:2]]
    done = run("show", *bare, "-o", tmp_path / "drawn.png", *SIFT)
    assert done.code == 0, done.err
    inliers = next(each for each in drawn[0] if isinstance(each, np.ndarray) and each.dtype == bool)
    assert inliers.mean() > 0.5


def test_show_replaces_its_own_pictures_and_no_photo(finished, photos, tmp_path):
    photo, drawn = shutil.copy(photos[0], tmp_path / "mine.jpg"), tmp_path / "m.jpg"
    before = photo.read_bytes()
    words = ("show", "--run", finished, "view04.jpg", "view05.jpg", "-o")
    for place, problem in (
        (photo, "is no picture of matches that lgsfm wrote"),
        (FinishedRun(finished).image_dir / "new.png", "is in the folder of the photos"),
        (finished / "sparse" / "new.png", "is among the files of the run"),
    ):
        done = run(*words, place)
        assert (done.code, done.out) == (1, "")
        assert problem in done.err
        assert place == photo or not place.exists()
    assert photo.read_bytes() == before
    assert [run(*words, drawn).code for _ in range(2)] == [0, 0]
    (tmp_path / "pairs.txt").write_text("view04.jpg view05.jpg\nview05.jpg view06.jpg\n")
    (tmp_path / "all").mkdir()
    shutil.copy(photo, tmp_path / "all" / "0002_view05--view06.png")
    done = run("show", "--run", finished, "--list", tmp_path / "pairs.txt", "-o", tmp_path / "all")
    assert (done.code, "0002_view05--view06.png is there" in done.err) == (1, True)
    assert len(list((tmp_path / "all").iterdir())) == 1  # before the work


def test_a_list_of_pairs_is_drawn(courtyard, tmp_path):
    folder = copy_photos(courtyard / "images", tmp_path / "photos", views(4, 5, 6))
    (tmp_path / "pairs.txt").write_text("view04.jpg view05.jpg\nview05.jpg view06.jpg\n")
    done = run("show", "--list", tmp_path / "pairs.txt", "--images", folder, "-o", tmp_path / "drawn", *SIFT)
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "0001_view04--view05.png",
        "0002_view05--view06.png",
    ]
    done = run("show", "--list", tmp_path / "pairs.txt", *SIFT)
    assert (done.code, "--images DIR" in done.err) == (1, True)


def test_a_finished_run_is_shown_without_computing(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("lgsfm.pair.PairMatcher.__init__", lambda *_, **__: pytest.fail("networks were loaded"))
    done = run("show", "--run", finished, "view04.jpg", "view07.jpg", "-o", tmp_path / "m.jpg")
    assert done.code == 0, done.err
    assert (tmp_path / "m.jpg").stat().st_size > 10_000
    (tmp_path / "pairs.txt").write_text("view06.jpg\tview05.jpg\n")
    assert run("show", "--run", finished, "--list", tmp_path / "pairs.txt", "-o", tmp_path / "all").code == 0
    assert len(list((tmp_path / "all").iterdir())) == 1


def test_the_pose_of_a_finished_run_uses_its_cameras(finished, courtyard):
    there = json.loads(run("pose", "--run", finished, "view04.jpg", "more/view07.jpg", "--json").out)
    assert "model" in there["cameras"][0]["source"]
    assert angle_deg(rotation_of(there), true_rotation(courtyard, "view04.jpg", "view07.jpg")) < 0.5
    back = json.loads(run("pose", "--run", finished, "view07.jpg", "view04.jpg", "--json").out)
    assert angle_deg(rotation_of(back), rotation_of(there).T) < 0.2
    done = run("pose", "--run", finished, "view04.jpg", "none.jpg")
    assert (done.code, "no image named 'none.jpg'" in done.err) == (1, True)
    done = run("pose", "--run", courtyard, "view04.jpg", "view05.jpg")
    assert (done.code, "is no output folder of lgsfm" in done.err) == (1, True)


def test_a_run_knows_its_pairs_in_both_orders(finished):
    opened = FinishedRun(finished)
    there, back = opened.pair("view04.jpg", "view05.jpg"), opened.pair("view05.jpg", "view04.jpg")
    assert sorted(map(tuple, there.indices[:, ::-1])) == list(map(tuple, back.indices))
    assert np.array_equal(np.sort(there.scores), np.sort(back.scores))
    inliers = opened.inliers("view04.jpg", "view05.jpg", there)
    assert 0.5 < inliers.mean() <= 1
    assert inliers.sum() == opened.inliers("view05.jpg", "view04.jpg", back).sum()


def test_names_of_a_run_lead_to_no_file_outside_of_its_photos(finished, courtyard):
    run_of_others = FinishedRun(finished)
    outside = courtyard / "images" / "view00.jpg"
    assert outside.is_file()
    for name in (str(outside), os.path.relpath(outside, run_of_others.image_dir)):
        with pytest.raises(InputError, match="no name of a photo"):
            run_of_others.photo(name)
    known = next(iter(run_of_others.features))
    assert run_of_others.photo(known).is_file()


def test_a_store_of_others_cannot_have_a_picture_drawn_of_any_file(finished, courtyard, tmp_path):
    """The name of a photo in the files of the run is that of a file elsewhere."""
    copy = tmp_path / "out"
    shutil.copytree(finished, copy)
    secret = tmp_path / "secret.jpg"
    shutil.copy(courtyard / "images" / "view00.jpg", secret)
    photos = FinishedRun(finished).image_dir
    name = os.path.relpath(secret, photos)
    with FinishedRun(copy).features as store:
        first, second = sorted(store)[:2]
        stored = {image: store[image] for image in store}
    with FinishedRun(copy).matches as store:
        matches = store[first, second]
        path = store.path
    features_path = FinishedRun(copy).features.path
    for file, entries in ((features_path, {name: stored[first]}), (path, {canonical_pair(name, second): matches})):
        kind = FeatureStore if file == features_path else MatchStore
        with kind(file, {}) as store:
            store.update(entries)
    done = run("show", name, second, "--run", copy, "-o", tmp_path / "picture.png")
    assert done.code == 1
    assert "is no name of a photo" in done.err
    assert not (tmp_path / "picture.png").exists()


def test_what_controls_a_terminal_is_escaped():
    assert printable("a\x1b[2Jb\x9bc\rd\u202ee\n\té中") == "a\\x1b[2Jb\\x9bc\\rd\\u202ee\n\té中"
    done = run("pose", "no\x1b]0;title\x07such.jpg", "b.jpg", *SIFT)
    assert done.code == 1
    assert "no\\x1b]0;title\\x07such.jpg" in done.err
    assert "\x1b" not in done.err


def test_results_on_a_terminal_are_escaped_and_in_a_file_whole(monkeypatch):
    class Tty(io.StringIO):
        def isatty(self):
            return True

    for stream, expected in ((Tty(), "x\\x9by\n"), (io.StringIO(), "x\x9by\n")):
        monkeypatch.setattr(pair, "_pose", lambda *_: print("x\x9by"))
        with redirect_stdout(stream):
            assert main(["pose", "a", "b"]) == 0
        assert stream.getvalue() == expected
