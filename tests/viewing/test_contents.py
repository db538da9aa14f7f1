"""What is shown of a finished run, without a browser: the scene that was rendered is known exactly."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lgsfm.errors import InputError
from lgsfm.poses import load_poses
from lgsfm.viewing import Contents
from lgsfm.viewing.server import about, escaped, eye_for, field_of_view, label, pose_in


@pytest.fixture
def contents(finished_run: Path):
    with Contents(finished_run) as found:
        yield found


def test_cameras_stand_where_the_model_has_them(contents: Contents, finished_run: Path) -> None:
    """In the frame all distances are those of the model, divided by its radius; and each looks where it looked."""
    frame, scene = contents.frames[0], contents.scenes[0]
    poses = load_poses(finished_run / "sparse" / "0")
    for name, camera in scene.cameras.items():
        rotation, position = pose_in(frame, camera)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1)
        centre = poses[name].centre
        seen = poses[name].rotation.T @ np.array([0, 0, 1.0])  # a world direction
        np.testing.assert_allclose(frame((centre + seen * frame.radius)[None])[0], position + rotation[:, 2], atol=1e-9)


def test_cameras_do_not_hide_each_other(contents: Contents) -> None:
    centres = np.array([pose_in(contents.frames[0], camera)[1] for camera in contents.scenes[0].cameras.values()])
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    apart[np.diag_indices(len(apart))] = np.inf
    assert 0.02 <= contents.depth(0) <= max(0.02, 0.5 * np.median(apart.min(axis=0)))


def test_the_first_look_has_all_in_front_of_it(contents: Contents) -> None:
    eye = np.array(eye_for(contents, 0))
    assert 1.2 < np.linalg.norm(eye) < 6
    points = contents.frames[0](contents.scenes[0].positions)
    assert np.mean((points - eye) @ -eye > 0) > 0.9


def test_the_field_of_view_is_that_of_the_camera(contents: Contents) -> None:
    camera = next(iter(contents.scenes[0].cameras.values()))
    top = np.array([0, camera.size[1] / 2 / camera.focal_px, 1])
    assert field_of_view(camera) == pytest.approx(2 * np.arccos(1 / np.linalg.norm(top)))


def test_neighbours_are_those_it_was_matched_with_the_surest_first(contents: Contents) -> None:
    name = next(iter(contents.photos))
    found = contents.neighbours(name)
    assert sorted(each.name for each in found) == sorted(set(contents.photos) - {name})
    inliers = [each.found.num_inliers for each in found]
    assert inliers == sorted(inliers, reverse=True)
    assert inliers[0] > 50


def test_a_pair_is_drawn_with_its_numbers(contents: Contents) -> None:
    first, second, *_ = contents.photos
    words, sheet = contents.matches(first, second)
    assert sheet is not None
    assert sheet.shape[1] > sheet.shape[0]
    total, _, verified = words.partition(" matches, ")
    pair = contents.collected.pairs[(first, second)]
    assert (int(total), int(verified.split()[0])) == (pair.num_matches, pair.num_inliers)


def test_a_photo_is_shown_upright_and_its_camera_sees_it_as_it_is_stored(contents: Contents) -> None:
    name = next(iter(contents.photos))
    upright, stored = contents.picture(name, 100), contents.picture(name, 100, is_upright=False)
    assert upright is not None
    assert stored is not None
    assert max(upright.shape[:2]) == max(stored.shape[:2]) == 100
    assert stored.shape[1] / stored.shape[0] == pytest.approx(
        np.divide(*contents.scenes[0].cameras[name].size), rel=0.03
    )


def test_without_the_photos_the_model_is_there_all_the_same(finished_run: Path, tmp_path: Path) -> None:
    from lgsfm.files import read_json, write_json

    output = shutil.copytree(finished_run, tmp_path / "out")
    write_json(output / "summary.json", {**read_json(output / "summary.json"), "image_dir": str(tmp_path / "gone")})
    with Contents(output) as contents:
        first, second, *_ = contents.photos
        assert contents.picture(first) is None
        words, sheet = contents.matches(first, second)
        assert sheet is None
        assert "--images" in words
        assert len(contents.scenes[0].positions) > 50


def test_what_holds_no_model_is_refused(finished_run: Path, tmp_path: Path) -> None:
    output = shutil.copytree(finished_run, tmp_path / "out")
    shutil.rmtree(output / "sparse")
    with pytest.raises(InputError, match=r"no model in .*out.* Run `lgsfm reconstruct`"):
        Contents(output)
    with pytest.raises(InputError, match="no output folder"):
        Contents(tmp_path)


def test_names_of_a_stranger_are_only_text() -> None:
    assert escaped("<img src=x>[a](b)") == "&#60;img src=x&#62;&#91;a&#93;&#40;b&#41;"
    assert label("a.jpg", 7) == "a.jpg (7)"


def test_a_photo_outside_of_the_model_says_why(contents: Contents) -> None:
    name = next(iter(contents.photos))
    text = about(contents, 0, name)
    assert "keypoints" in text
    assert "focal length" in text
