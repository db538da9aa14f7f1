"""Exports in the hands of those who are to read them; what is not installed is skipped."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from export_scenes import NAMES, SIZE, World, make_world

from lgsfm import export
from lgsfm.errors import InputError
from lgsfm.exporting.hloc import pair_key
from lgsfm.files import write_json
from lgsfm.store import FeatureStore, MatchStore
from lgsfm.types import Features, Matches
from lgsfm.workspace import Workspace


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), "OPENCV")


def positions(world: World) -> np.ndarray:
    return np.array([point.xyz for point in world.model.points3D.values()])


def colours(world: World) -> np.ndarray:
    return np.array([point.color for point in world.model.points3D.values()])


# --------------------------------------------------------------------------------- points
def test_plyfile_reads_the_points(world, tmp_path):
    plyfile = pytest.importorskip("plyfile")
    vertices = plyfile.PlyData.read(export(world.output, "ply", tmp_path / "p.ply").path)["vertex"]
    found = np.column_stack([vertices[name] for name in "xyz"])
    order, wanted = np.argsort(found[:, 0]), np.argsort(positions(world)[:, 0])
    np.testing.assert_allclose(found[order], positions(world)[wanted], atol=1e-5)
    found = np.column_stack([vertices[name] for name in ("red", "green", "blue")])
    np.testing.assert_array_equal(found[order], colours(world)[wanted])


def test_plyfile_reads_the_points_of_nerfstudio(world, tmp_path):
    plyfile = pytest.importorskip("plyfile")
    folder = export(world.output, "nerfstudio", tmp_path / "ns").path
    content = json.loads((folder / "transforms.json").read_text())
    vertices = plyfile.PlyData.read(folder / content["ply_file_path"])["vertex"]
    applied = np.array(content["applied_transform"])
    wanted = positions(world) @ applied[:, :3].T
    found = np.column_stack([vertices[name] for name in "xyz"])
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], wanted[np.argsort(wanted[:, 0])], atol=1e-5)


def test_trimesh_reads_the_glb(world, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    scene = trimesh.load(export(world.output, "glb", tmp_path / "m.glb", up="-y").path)
    parts = {scene.graph[node][1]: (scene.graph[node][0], node) for node in scene.graph.nodes_geometry}
    matrix, _ = parts["points"]
    cloud = scene.geometry["points"]
    np.testing.assert_allclose(matrix[:3, :3] @ [0, -1, 0], [0, 1, 0], atol=1e-6)  # COLMAP's up is glTF's
    found = cloud.vertices
    order, wanted = np.argsort(found[:, 0]), np.argsort(positions(world)[:, 0])
    np.testing.assert_allclose(found[order], positions(world)[wanted], atol=1e-5)
    np.testing.assert_array_equal(np.asarray(cloud.colors)[order, :3], colours(world)[wanted])
    centres = np.array([world.image(name).projection_center() for name in NAMES])
    apexes = scene.geometry["cameras"].vertices
    assert max(np.linalg.norm(apexes - centre, axis=1).min() for centre in centres) < 1e-4


# --------------------------------------------------------------------------------- nerfstudio
@pytest.mark.parametrize("camera", ["OPENCV", "OPENCV_FISHEYE"])
def test_nerfstudio_parses_the_folder(tmp_path, camera):
    pytest.importorskip("nerfstudio", reason="nerfstudio is not installed")
    parser = pytest.importorskip("nerfstudio.data.dataparsers.nerfstudio_dataparser")
    world = make_world(tmp_path, camera)
    folder = export(world.output, "nerfstudio").path
    config = parser.NerfstudioDataParserConfig(
        data=folder, orientation_method="none", center_method="none", auto_scale_poses=False, eval_mode="all"
    )
    found = config.setup().get_dataparser_outputs("train")
    assert [path.name for path in found.image_filenames] == sorted(path.name for path in found.image_filenames)
    assert len(found.image_filenames) == len(NAMES)
    assert all(path.is_file() for path in found.image_filenames)
    row = [path.name for path in found.image_filenames].index("c.jpg")
    points, keypoints = world.observations("c.jpg")
    to_parsed = found.dataparser_transform.numpy()
    points = points @ to_parsed[:, :3].T + to_parsed[:, 3]
    origin = found.cameras.camera_to_worlds[row].numpy()
    rays = found.cameras.generate_rays(row, coords=_coordinates(keypoints)).directions.numpy()
    directions = (points - origin[:, 3]) / np.linalg.norm(points - origin[:, 3], axis=1, keepdims=True)
    np.testing.assert_allclose(rays, directions, atol=1e-5)


def _coordinates(keypoints: np.ndarray):
    """As nerfstudio wants them: (N, 2) y, x."""
    import torch

    return torch.from_numpy(keypoints[:, ::-1].astype(np.float32).copy())


# --------------------------------------------------------------------------------- rerun
def read_recording(path) -> dict[str, list]:
    """ "entity:component" -> its values, in the order of the photos."""
    chunk = pytest.importorskip("rerun.chunk", reason="this rerun-sdk, older than 0.30, has no reader of recordings")
    found: dict[str, list] = {}
    for part in chunk.RrdReader(path).stream():
        rows = part.to_record_batch()
        order = rows.column("photo").to_pylist() if "photo" in rows.schema.names else [-1] * rows.num_rows
        for name in set(rows.schema.names) - {"photo", "log_time"}:
            values = zip(order, rows.column(name).to_pylist(), strict=True)
            found.setdefault(f"{part.entity_path}:{name}", []).extend(row for row in values if row[1] is not None)
    return {name: [value for _, value in sorted(rows, key=lambda row: row[0])] for name, rows in found.items()}


def test_rerun_sees_the_points_where_the_pictures_do(world, tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    found = read_recording(export(world.output, "rerun", tmp_path / "r.rrd").path)
    assert len(found["/world/points:Points3D:positions"][0]) == len(positions(world))
    assert [name for (name,) in found["/world/photo:image"]] == sorted(NAMES)
    assert len(found["/world/photo:EncodedImage:blob"]) == len(NAMES)
    for row, name in enumerate(sorted(NAMES)):
        points, _ = world.observations(name)
        rotation = np.array(found["/world/photo:Transform3D:mat3x3"][row]).reshape(3, 3).T  # by columns
        centre = np.array(found["/world/photo:Transform3D:translation"][row]).ravel()
        lens = np.array(found["/world/photo:Pinhole:image_from_camera"][row]).reshape(3, 3).T
        local = (points - centre) @ rotation @ lens.T
        seen = np.array(found["/world/photo/keypoints:Points2D:positions"][row]).reshape(-1, 2)
        np.testing.assert_allclose(local[:, :2] / local[:, 2:], seen, atol=2e-3)  # float32 there
    assert any(name.startswith("/world/cameras/") for name in found)


def test_rerun_that_is_not_installed_is_named(world, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rerun", None)
    with pytest.raises(InputError, match="pip install rerun-sdk"):
        export(world.output, "rerun")
    assert not (world.output / "export" / "recording.rrd").exists()


# --------------------------------------------------------------------------------- hloc
def with_stores(world: World) -> dict[str, Features]:
    """Features and matches of the images, as a run would have left them."""
    extractor = {"extractor": "sift", "options": {}, "weights": ""}
    matcher = {"matcher": "nearest", "options": {}}
    space = Workspace(world.output)
    write_json(space.options, {"flags": {}, "extractor": extractor, "matcher": matcher})
    features = {}
    for name in NAMES:
        xy = np.array([point.xy for point in world.image(name).points2D], np.float32) - 0.5
        descriptors = np.random.default_rng(len(name)).normal(size=(len(xy), 128)).astype(np.float32)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        features[name] = Features(xy, descriptors, np.linspace(1, 0, len(xy), dtype=np.float32), SIZE, "sift")
    with FeatureStore(space.features(extractor), extractor) as store:
        for name, found in features.items():
            store[name] = found
    with MatchStore(space.matches(matcher, space.features(extractor)), matcher) as store:
        for first, second in zip(sorted(NAMES), sorted(NAMES)[1:], strict=False):
            common = _common(world, first, second)
            sources = features[first].digest, features[second].digest
            store[first, second] = Matches(common, np.full(len(common), 0.75, np.float32), sources)
        store["a/1.jpg", "f.jpg"] = Matches.empty(("of other", "features"))
    return features


def _common(world: World, first: str, second: str) -> np.ndarray:
    numbers = [
        {p.point3D_id: i for i, p in enumerate(world.image(n).points2D) if p.has_point3D()} for n in (first, second)
    ]
    both = sorted((numbers[0][point], numbers[1][point]) for point in numbers[0].keys() & numbers[1].keys())
    return np.array(both, np.int32).reshape(-1, 2)


def hloc_pair(file: h5py.File, name0: str, name1: str) -> tuple[np.ndarray, np.ndarray]:
    """hloc's `get_matches`: its loop over matches0, and the keys that it tries."""
    group = file["/".join((name0.replace("/", "-"), name1.replace("/", "-")))]
    matches, scores = group["matches0"].__array__(), group["matching_scores0"].__array__()
    index = np.where(matches != -1)[0]
    return np.stack([index, matches[index]], -1), scores[index]


def test_hloc_reads_features_and_matches(tmp_path):
    world = make_world(tmp_path)
    features = with_stores(world)
    folder = export(world.output, "hloc").path
    with h5py.File(folder / "features.h5") as file:
        for name, wanted in features.items():
            np.testing.assert_array_equal(file[name]["keypoints"][()], wanted.keypoints)
            assert file[name]["keypoints"].attrs["uncertainty"] > 0
            np.testing.assert_allclose(file[name]["descriptors"][()].T, wanted.descriptors, atol=1e-3)
            assert tuple(file[name]["image_size"][()]) == SIZE
            # hloc adds the half pixel; then these are the keypoints of the model, in its order
            seen = np.array([point.xy for point in world.image(name).points2D])
            np.testing.assert_allclose(file[name]["keypoints"][()] + 0.5, seen, atol=1e-3)
    pairs = [line.split(" ") for line in (folder / "pairs.txt").read_text().splitlines() if line.count(" ") == 1]
    assert ["a/1.jpg", "b/1.jpg"] in pairs
    assert ["a/1.jpg", "f.jpg"] not in pairs  # matches of features that are no more
    with h5py.File(folder / "matches.h5") as file:
        for first, second in zip(sorted(NAMES), sorted(NAMES)[1:], strict=False):
            found, scores = hloc_pair(file, first, second)
            np.testing.assert_array_equal(found, _common(world, first, second))
            assert set(scores) <= {0.75}


def test_names_that_hloc_mixes_up_are_an_error(tmp_path):
    world = make_world(tmp_path, names=("a-b/c.jpg", "a/b-c.jpg", "z.jpg"))
    space = Workspace(world.output)
    extractor, matcher = {"extractor": "sift"}, {"matcher": "nearest"}
    write_json(space.options, {"flags": {}, "extractor": extractor, "matcher": matcher})
    none = Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32), np.zeros(0, np.float32), SIZE, "sift")
    with FeatureStore(space.features(extractor), extractor) as store:
        for name in ("a-b/c.jpg", "a/b-c.jpg", "z.jpg"):
            store[name] = none
    with MatchStore(space.matches(matcher, space.features(extractor)), matcher) as store:
        for name in ("a-b/c.jpg", "a/b-c.jpg"):
            store[name, "z.jpg"] = Matches.empty((none.digest, none.digest))
    assert pair_key("a-b/c.jpg", "z.jpg") == pair_key("a/b-c.jpg", "z.jpg")
    with pytest.raises(InputError, match="Rename a photo"):
        export(world.output, "hloc")
