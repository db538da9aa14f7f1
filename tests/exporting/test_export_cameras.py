"""Each format that carries cameras: points through its cameras, by its own convention, fall on the keypoints."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from export_scenes import NAMES, SIZE, World, fisheye, make_world, perspective

from lgsfm import export
from lgsfm.errors import InputError

EXACT_PX = 1e-3
FLAT = {"a/1.jpg": "a_1.jpg", "b/1.jpg": "b_1.jpg", "b/é # %.jpg": "b_é # %.jpg"}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), "OPENCV")


def in_opengl_camera(points: np.ndarray, world_from_camera: np.ndarray) -> np.ndarray:
    """World (N, 3) -> x right, y down, z forward, of a camera whose axes are x right, y up, z backward."""
    local = (points - world_from_camera[:3, 3]) @ world_from_camera[:3, :3]
    return local * [1, -1, -1]


# --------------------------------------------------------------------------------- nerfstudio
def nerfstudio_error_px(world: World, folder: Path) -> float:
    """The largest distance of a keypoint from its point as nerfstudio sees it."""
    content = json.loads((folder / "transforms.json").read_text())
    applied = np.array(content["applied_transform"])
    project = {"OPENCV": perspective, "OPENCV_FISHEYE": fisheye}[content["camera_model"]]
    frames = {frame["file_path"]: frame for frame in content["frames"]}
    errors = []
    for name in NAMES:
        frame = frames[f"images/{FLAT.get(name, name)}"]
        points, keypoints = world.observations(name)
        points = points @ applied[:, :3].T + applied[:, 3]
        local = in_opengl_camera(points, np.array(frame["transform_matrix"]))
        errors.append(np.abs(project(local, {**content, **frame}) - keypoints).max())
    return max(errors)


@pytest.mark.parametrize("camera", ["PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"])
def test_nerfstudio_sees_the_points_where_the_photos_do(tmp_path, camera):
    world = make_world(tmp_path, camera)
    done = export(world.output, "nerfstudio")
    assert nerfstudio_error_px(world, done.path) < EXACT_PX
    assert done.path == world.output / "export" / "nerfstudio"


def test_nerfstudio_knows_fisheyes_by_fewer_parameters_too(tmp_path):
    world = make_world(tmp_path, "SIMPLE_RADIAL_FISHEYE")
    done = export(world.output, "nerfstudio", tmp_path / "ns")
    assert nerfstudio_error_px(world, done.path) < EXACT_PX
    assert not done.notes


def test_several_cameras_are_said_frame_by_frame(tmp_path):
    world = make_world(tmp_path, num_cameras=2)
    folder = export(world.output, "nerfstudio", tmp_path / "ns").path
    content = json.loads((folder / "transforms.json").read_text())
    assert "fl_x" not in content
    assert all("fl_x" in frame for frame in content["frames"])
    assert nerfstudio_error_px(world, folder) < EXACT_PX


@pytest.mark.parametrize(("camera", "options"), [("FULL_OPENCV", {}), ("OPENCV", {"undistort": True})])
def test_nerfstudio_gets_undistorted_pictures_where_it_must_or_shall(tmp_path, camera, options):
    world = make_world(tmp_path, camera)
    done = export(world.output, "nerfstudio", tmp_path / "ns", **options)
    assert bool(done.notes) == (not options)  # what is not asked for is said
    content = json.loads((done.path / "transforms.json").read_text())
    assert [content[name] for name in ("k1", "k2", "p1", "p2")] == [0, 0, 0, 0]
    pictures = sorted(path.name for path in (done.path / "images").iterdir())
    assert pictures == sorted(FLAT.get(name, name) for name in NAMES)
    assert undistorted_error_px(world, done.path, content) < EXACT_PX


def undistorted_error_px(world: World, folder: Path, content: dict) -> float:
    """As `nerfstudio_error_px`, with keypoints that COLMAP's camera takes the distortion from."""
    applied = np.array(content["applied_transform"])
    errors = []
    for frame in content["frames"]:
        name = next(name for name in NAMES if f"images/{FLAT.get(name, name)}" == frame["file_path"])
        points, keypoints = world.observations(name)
        rays = world.model.camera(world.image(name).camera_id).cam_from_img(keypoints)
        wanted = rays * [content["fl_x"], content["fl_y"]] + [content["cx"], content["cy"]]
        local = in_opengl_camera(points @ applied[:, :3].T, np.array(frame["transform_matrix"]))
        errors.append(np.abs(perspective(local, content) - wanted).max())
    return max(errors)


# --------------------------------------------------------------------------------- Gaussian splatting
def read_old_images(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """images.bin as the code of 3D Gaussian splatting reads it: name -> quaternion wxyz, translation, points."""
    data, place, images = path.read_bytes(), 8, {}
    for _ in range(struct.unpack_from("<Q", data)[0]):
        values = struct.unpack_from("<I7dI", data, place)
        end = data.index(b"\0", place + 64)
        (count,) = struct.unpack_from("<Q", data, end + 1)
        rows = np.frombuffer(data, [("xy", "<f8", 2), ("point", "<i8")], count, end + 9)
        images[data[place + 64 : end].decode()] = np.array(values[1:5]), np.array(values[5:8]), rows
        place = end + 9 + 24 * count
    return images


def rotation(q: np.ndarray) -> np.ndarray:
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_gaussians_are_pinholes_that_see_the_points_where_the_pictures_do(world, tmp_path):
    folder = export(world.output, "gaussians", tmp_path / "gs").path
    model = pycolmap.Reconstruction(folder / "sparse" / "0")
    (camera,) = model.cameras.values()
    assert camera.model.name == "PINHOLE"
    fx, fy, cx, cy = camera.params
    images = read_old_images(folder / "sparse" / "0" / "images.bin")
    assert sorted(images) == sorted(FLAT.get(name, name) for name in NAMES)
    for name in NAMES:
        quaternion, translation, rows = images[FLAT.get(name, name)]
        points, keypoints = world.observations(name)
        local = points @ rotation(quaternion).T + translation
        seen = perspective(local, {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy})
        rays = world.model.camera(world.image(name).camera_id).cam_from_img(keypoints)
        np.testing.assert_allclose(seen, rays * [fx, fy] + [cx, cy], atol=EXACT_PX)
        np.testing.assert_allclose(seen, rows["xy"][rows["point"] >= 0], atol=EXACT_PX)


def test_pictures_of_gaussians_are_of_the_size_of_their_camera(world, tmp_path):
    from PIL import Image

    folder = export(world.output, "gaussians", tmp_path / "gs", max_edge_px=200).path
    (camera,) = pycolmap.Reconstruction(folder / "sparse" / "0").cameras.values()
    assert max(camera.width, camera.height) == 200
    sizes = {Image.open(path).size for path in (folder / "images").iterdir()}
    assert sizes == {(camera.width, camera.height)}


# --------------------------------------------------------------------------------- Bundler
def read_bundler(path: Path) -> tuple[list[dict], list[tuple[np.ndarray, list[tuple[int, np.ndarray]]]]]:
    """Cameras and points of bundle.out, by its description."""
    numbers = path.read_text().split("\n", 1)
    assert numbers[0] == "# Bundle file v0.3"
    values = iter(map(float, numbers[1].split()))

    def take(count: int) -> np.ndarray:
        return np.array([next(values) for _ in range(count)])

    num_cameras, num_points = take(2).astype(int)
    cameras = [{"lens": take(3), "rotation": take(9).reshape(3, 3), "translation": take(3)} for _ in range(num_cameras)]
    points = []
    for _ in range(num_points):
        position, _ = take(3), take(3)
        views = [(int(row[0]), row[2:]) for row in (take(4) for _ in range(int(take(1)[0])))]
        points.append((position, views))
    assert next(values, None) is None
    return cameras, points


@pytest.mark.parametrize("camera", ["SIMPLE_RADIAL", "RADIAL"])
def test_bundler_sees_the_points_where_the_photos_do(tmp_path, camera):
    world = make_world(tmp_path, camera)
    folder = export(world.output, "bundler", tmp_path / "b").path
    cameras, points = read_bundler(folder / "bundle.out")
    assert len(points) == len(world.model.points3D)
    order = (folder / "list.txt").read_text().splitlines()
    assert order == [f"images/{FLAT.get(name, name)}" for name in NAMES]
    assert all((folder / name).is_file() for name in order)
    errors = []
    for position, views in points:
        for number, measured in views:
            lens = cameras[number]["lens"]
            local = cameras[number]["rotation"] @ position + cameras[number]["translation"]
            p = -local[:2] / local[2]
            r2 = p @ p
            errors.append(np.abs(lens[0] * (1 + lens[1] * r2 + lens[2] * r2 * r2) * p - measured).max())
    assert len(errors) == world.model.compute_num_observations()
    assert max(errors) < EXACT_PX
    _, keypoints = world.observations(NAMES[0])
    measured = np.array([xy for _, views in points for number, xy in views if number == 0])
    up = (keypoints - [SIZE[0] / 2, SIZE[1] / 2]) * [1, -1]
    assert sorted(measured.tolist()) == pytest.approx(np.array(sorted(up.tolist())), abs=EXACT_PX)


def test_bundler_says_what_it_cannot_describe(world, tmp_path):
    with pytest.raises(InputError, match="pixels are not square"):
        export(world.output, "bundler", tmp_path / "b")
    assert not (tmp_path / "b").exists()


# --------------------------------------------------------------------------------- GLB
def read_glb(path: Path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def test_glb_cameras_see_the_points_where_the_photos_do(tmp_path):
    world = make_world(tmp_path, "SIMPLE_RADIAL")
    content, _ = read_glb(export(world.output, "glb").path)
    nodes = {node["name"]: node for node in content["nodes"]}
    for name in NAMES:
        lens = content["cameras"][nodes[name]["camera"]]["perspective"]
        matrix = np.array(nodes[name]["matrix"]).reshape(4, 4).T
        points, keypoints = world.observations(name)
        local = in_opengl_camera(points, matrix)
        focal = SIZE[1] / 2 / np.tan(lens["yfov"] / 2)
        centre = [lens["aspectRatio"] * SIZE[1] / 2, SIZE[1] / 2]
        rays = world.model.camera(world.image(name).camera_id).cam_from_img(keypoints)
        seen = focal * local[:, :2] / local[:, 2:] + centre
        np.testing.assert_allclose(seen, rays * 400 + [160, 120], atol=EXACT_PX)


def test_up_of_the_photos_is_y_of_the_glb(tmp_path):
    """Also of photos that lie: 6 is a camera that was held a quarter turn to the left."""
    for orientation, up in ((1, (0, -1, 0)), (6, (-1, 0, 0)), (3, (0, 1, 0))):
        world = make_world(tmp_path / str(orientation), exif=lambda *_, code=orientation: {"orientation": code})
        content, _ = read_glb(export(world.output, "glb").path)
        root = np.array(content["nodes"][0]["matrix"]).reshape(4, 4).T[:3, :3]
        np.testing.assert_allclose(root @ root.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(root) > 0
        ups = [image.cam_from_world().rotation.matrix().T @ up for image in world.model.images.values()]
        mean = np.mean(ups, axis=0)
        np.testing.assert_allclose(root @ mean / np.linalg.norm(mean), [0, 1, 0], atol=1e-6)
