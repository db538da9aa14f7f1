"""Cameras that are mounted together: the file of rigs, and models of a known world in which they share poses."""

import json
import re
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from cli_helpers import SIFT, run
from walks import SIZE, Walk

from lgsfm.database_reading import fingerprint
from lgsfm.errors import InputError, ReconstructionError
from lgsfm.mapping import MappingOptions, map_database
from lgsfm.rigs import check_rigs, read_rigs, rigs_digest

LEFT, RIGHT = {"image_prefix": "left/", "ref_sensor": True}, {"image_prefix": "right/"}
IDENTITY = {"cam_from_rig_rotation": [1, 0, 0, 0], "cam_from_rig_translation": [-0.1, 0, 0]}
NAMES = ["left/1.jpg", "left/2.jpg", "right/1.jpg", "right/2.jpg"]


def written(folder: Path, content) -> Path:
    path = folder / "rig.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# --- the file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("nonsense", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ({}, "list of rigs"),
        ([], "list of rigs"),
        ([{"camera": []}], "rig 1 has no list of 'cameras'"),
        ([{"cameras": [RIGHT]}], "one of its cameras"),
        ([{"cameras": [LEFT, {**RIGHT, "ref_sensor": True}]}], "one only"),
        ([{"cameras": [LEFT, {"image_prefix": ""}]}], "camera 2 has no 'image_prefix'"),
        ([{"cameras": [LEFT, {**RIGHT, "ref_senor": True}]}], "Did you mean 'ref_sensor'"),
        ([{"cameras": [LEFT, {**RIGHT, "cam_from_rig_rotation": [1, 0, 0, 0]}]}], "go together"),
        ([{"cameras": [LEFT, {**RIGHT, **IDENTITY, "cam_from_rig_rotation": [2, 0, 0, 0]}]}], "length 1"),
        ([{"cameras": [LEFT, {**RIGHT, **IDENTITY, "cam_from_rig_translation": [1, 2]}]}], "list of 3 numbers"),
        ([{"cameras": [{**LEFT, **IDENTITY}, RIGHT]}], "no pose of its own"),
        ([{"cameras": [LEFT, {**RIGHT, "camera_params": [1]}]}], "--cameras"),
    ],
)
def test_what_colmap_would_abort_for_is_refused_first(tmp_path, content, reason):
    with pytest.raises(InputError, match=re.escape(reason)):
        read_rigs(written(tmp_path, content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="Check --rig"):
        read_rigs(tmp_path / "rig.json")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([*NAMES, "middle/1.jpg"], "no image_prefix fits the photos middle/1.jpg"),
        (NAMES[:2], "no photo whose name begins with right/"),
        (["left/1.jpg", "right/2.jpg"], "unlike left/1.jpg and right/2.jpg"),
    ],
)
def test_rigs_must_be_those_of_the_photos(tmp_path, names, reason):
    path = written(tmp_path, [{"cameras": [LEFT, RIGHT]}])
    check_rigs(path, NAMES)
    with pytest.raises(InputError, match=re.escape(reason)):
        check_rigs(path, names)


def test_prefixes_that_cannot_be_told_apart(tmp_path):
    path = written(tmp_path, [{"cameras": [LEFT, RIGHT, {"image_prefix": "le"}]}])
    with pytest.raises(InputError, match="several of the image_prefixes fit"):
        check_rigs(path, NAMES)


def test_the_hash_is_of_what_the_file_says(tmp_path):
    first = rigs_digest(str(written(tmp_path, [{"cameras": [LEFT, RIGHT]}])))
    assert rigs_digest(str(written(tmp_path, json.dumps([{"cameras": [LEFT, RIGHT]}], indent=4)))) == first
    assert rigs_digest(str(written(tmp_path, [{"cameras": [LEFT, {**RIGHT, **IDENTITY}]}]))) != first
    assert rigs_digest("") == ""


# --- models -------------------------------------------------------------------------------------------


def world(folder: Path, *, num_frames: int = 8, without: tuple[str, ...] = (), is_shared=False):
    """Two cameras mounted together at several moments: (database without rigs, the right camera's pose in the rig)."""
    pycolmap.set_random_seed(3)
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=2, num_frames_per_rig=num_frames, num_points3D=200
    )
    folder.mkdir(exist_ok=True)
    with pycolmap.Database.open(folder / "whole.db") as source:
        model = pycolmap.synthesize_dataset(options, source)
        rig = next(iter(model.rigs.values()))
        (right,) = rig.non_ref_sensors
        with pycolmap.Database.open(folder / "database.db") as database:
            copied(model, rig, source, database, without, is_shared=is_shared)
    return folder / "database.db", rig.sensor_from_rig(right)


def copied(model, rig, source, database, without, *, is_shared=False) -> None:
    """Each image in a rig of its own camera; or one camera for all, as photos without EXIF have."""
    for camera in model.cameras.values():
        database.write_camera(camera, use_camera_id=True)
        single = pycolmap.Rig(rig_id=camera.camera_id)
        single.add_ref_sensor(camera.sensor_id)
        database.write_rig(single, use_rig_id=True)
    kept = set()
    for image in sorted(model.images.values(), key=lambda image: image.image_id):
        side = "left" if image.camera_id == rig.ref_sensor_id.id else "right"
        name = f"{side}/{image.frame_id:03}.jpg"
        if name in without:
            continue
        kept.add(image.image_id)
        camera_id = rig.ref_sensor_id.id if is_shared else image.camera_id
        new = pycolmap.Image(name=name, camera_id=camera_id, image_id=image.image_id, frame_id=image.image_id)
        frame = pycolmap.Frame(frame_id=image.image_id, rig_id=camera_id)
        frame.add_data_id(new.data_id)
        database.write_frame(frame, use_frame_id=True)
        database.write_image(new, use_image_id=True)
        database.write_keypoints(image.image_id, source.read_keypoints(image.image_id))
    for pair, geometry in zip(*source.read_two_view_geometries(), strict=True):
        first, second = pycolmap.pair_id_to_image_pair(pair)
        if {first, second} <= kept:
            database.write_two_view_geometry(first, second, geometry)
            database.write_matches(first, second, geometry.inlier_matches)


def mapped(database: Path, rig: Path | None, **options):
    output = database.parent / "sparse"
    wanted = MappingOptions(rig="" if rig is None else str(rig), threads=1, **options)
    found = map_database(database, database.parent, output, wanted, log_path=database.parent / "colmap.log")
    return pycolmap.Reconstruction(output / "0"), found


def placed(pose) -> dict:
    x, y, z, w = (float(number) for number in pose.rotation.quat)
    return {
        "cam_from_rig_rotation": [w, x, y, z],
        "cam_from_rig_translation": [float(number) for number in pose.translation],
    }


def right_from_left(model) -> list:
    """The pose of the right camera in the left one's frame at each moment."""
    poses = {image.name: image.cam_from_world() for image in model.images.values() if image.has_pose}
    moments = sorted(name.removeprefix("left/") for name in poses if name.startswith("left/"))
    return [
        poses[f"right/{moment}"] * poses[f"left/{moment}"].inverse() for moment in moments if f"right/{moment}" in poses
    ]


@pytest.mark.parametrize("is_placed", [True, False])
@pytest.mark.parametrize("mapper", ["auto", "incremental", "global"])
def test_photos_of_one_moment_share_a_pose(tmp_path, is_placed, mapper):
    database, pose = world(tmp_path)
    before = fingerprint(database)
    right = {**RIGHT, **placed(pose)} if is_placed else RIGHT
    model, (found,) = mapped(database, written(tmp_path, [{"cameras": [LEFT, right]}]), mapper=mapper)
    assert (model.num_reg_images(), model.num_reg_frames(), found.num_reg_images) == (16, 8, 16)
    mounted = right_from_left(model)
    assert len(mounted) == 8
    for other in mounted:
        turned = (other.rotation * pose.rotation.inverse()).angle()
        assert np.degrees(turned) < 0.1
        np.testing.assert_allclose(other.translation, mounted[0].translation, atol=1e-9)
    assert fingerprint(database) == before
    with pycolmap.Database.open(database) as kept:
        assert (kept.num_rigs(), kept.num_frames()) == (2, 16)


def test_without_a_rig_each_photo_has_its_own_pose(tmp_path):
    database, _ = world(tmp_path)
    model, _ = mapped(database, None)
    assert (model.num_reg_images(), model.num_reg_frames()) == (16, 16)


@pytest.mark.parametrize("missing", ["left/003.jpg", "right/003.jpg"])
def test_a_moment_that_one_camera_missed(tmp_path, missing):
    database, pose = world(tmp_path, without=(missing,))
    path = written(tmp_path, [{"cameras": [LEFT, {**RIGHT, **placed(pose)}]}])
    model, _ = mapped(database, path)
    assert (model.num_reg_images(), model.num_reg_frames()) == (15, 8)


def test_a_rig_whose_mounting_nothing_tells(tmp_path):
    apart = [f"{side}/{i:03}.jpg" for i in range(1, 9) for side in ("left", "right") if (side == "left") == (i > 4)]
    database, _ = world(tmp_path, without=tuple(apart))
    with pytest.raises(ReconstructionError, match="does not tell how they are mounted"):
        mapped(database, written(tmp_path, [{"cameras": [LEFT, RIGHT]}]))


def test_a_database_whose_cameras_are_one_is_refused(tmp_path):
    database, _ = world(tmp_path, is_shared=True)
    with pytest.raises(InputError, match="Run `lgsfm database` with --rig"):
        mapped(database, written(tmp_path, [{"cameras": [LEFT, RIGHT]}]))


def test_from_photos_to_a_rig(tmp_path):
    """Two cameras 12 cm apart on a walk past panels, from the command line."""
    from PIL import Image

    walk = Walk(lambda i: 0.3 * i)
    for side, shift in (("left", 0.0), ("right", 0.12)):
        (tmp_path / "images" / side).mkdir(parents=True)
        for i in range(6):
            rotation, centre = walk.pose(i)
            picture = walk.seen_from(rotation, centre + rotation.T @ (shift, 0, 0))
            assert picture.shape == (SIZE[1], SIZE[0], 3)
            Image.fromarray(picture).save(tmp_path / "images" / side / f"{i}.png")
    path = written(tmp_path, [{"cameras": [LEFT, {**RIGHT, **IDENTITY, "cam_from_rig_translation": [-0.12, 0, 0]}]}])
    ran = run("reconstruct", tmp_path / "images", "-o", tmp_path / "out", *SIFT, "--rig", path)
    assert ran.code == 0, ran.err
    model = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    assert (model.num_reg_images(), model.num_reg_frames()) == (12, 6)
    centres = {image.name: image.projection_center() for image in model.images.values()}
    # the rig gives the scale: the walk is in metres
    for i in range(5):
        found = np.linalg.norm(centres[f"left/{i + 1}.png"] - centres[f"left/{i}.png"])
        assert found == pytest.approx(np.linalg.norm(walk.pose(i + 1)[1] - walk.pose(i)[1]), rel=0.03)
    (tmp_path / "images" / "middle.png").write_bytes((tmp_path / "images" / "left" / "0.png").read_bytes())
    ran = run("reconstruct", tmp_path / "images", "-o", tmp_path / "out", *SIFT, "--rig", path)
    assert ran.code == 1
    assert "no image_prefix fits the photos middle.png" in ran.err
