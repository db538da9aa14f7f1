"""A synthetic world through the stores, the database and the mapper: what went in must come out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from lgsfm.camera_groups import CameraGroup
from lgsfm.database import VerificationOptions, build_database
from lgsfm.errors import CacheError
from lgsfm.evaluation import evaluate, robust_similarity
from lgsfm.mapping import MappingOptions, map_database
from lgsfm.poses import CameraPose, load_poses
from lgsfm.store import FeatureStore, MatchStore
from lgsfm.types import Features, Matches, Pair

SIZE = (320, 240)
FOCAL_PX = 400.0
PINHOLE = "SIMPLE_PINHOLE"
COLMAP_CENTRE = 0.5  # of the top-left pixel; ours is 0


# --------------------------------------------------------------------------------- a world
@dataclass(frozen=True)
class World:
    """A synthetic world as lgsfm would have seen it."""

    truth: pycolmap.Reconstruction
    truth_dir: Path
    image_dir: Path
    features: dict[str, Features]
    matches: dict[Pair, Matches]

    @property
    def cameras(self) -> list[CameraGroup]:
        return [CameraGroup(tuple(sorted(self.features)), SIZE, FOCAL_PX, "synthetic")]


def synthesize(folder: Path, num_images: int = 6, num_points: int = 120) -> World:
    """One pinhole camera, exact observations, blank photos."""
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1,
        num_frames_per_rig=num_images,
        num_points3D=num_points,
        camera_width=SIZE[0],
        camera_height=SIZE[1],
        camera_model_id=pycolmap.CameraModelId.SIMPLE_PINHOLE,
        camera_params=[FOCAL_PX, SIZE[0] / 2, SIZE[1] / 2],
    )
    pycolmap.set_random_seed(0)
    database = pycolmap.Database.open(folder / "synthetic.db")
    truth = pycolmap.synthesize_dataset(options, database)
    names = {image.image_id: image.name for image in database.read_all_images()}
    image_dir, truth_dir = folder / "images", folder / "truth"
    truth_dir.mkdir()
    truth.write(truth_dir)
    features, matches = {}, {}
    for number, name in names.items():
        (image_dir / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, "grey").save(image_dir / name, format="JPEG")
        features[name] = synthetic_features(database.read_keypoints(number)[:, :2] - COLMAP_CENTRE)
    for first, second in combinations(sorted(names, key=names.__getitem__), 2):
        indices = np.asarray(database.read_matches(first, second))
        if len(indices):
            scores = np.ones(len(indices), np.float32)
            matches[names[first], names[second]] = Matches(indices.astype(np.int32), scores)
    database.close()
    return World(truth, truth_dir, image_dir, features, matches)


def synthetic_features(keypoints: np.ndarray) -> Features:
    count = len(keypoints)
    descriptors = np.eye(count, 8, dtype=np.float32)
    return Features(keypoints.astype(np.float32), descriptors, np.ones(count, np.float32), SIZE, "synthetic")


def build_and_map(world: World, folder: Path, principal_point: str = "fixed") -> tuple[pycolmap.Reconstruction, Path]:
    """The best model and the folder of the output."""
    folder.mkdir(exist_ok=True)
    log = folder / "colmap.log"
    report = build_database(
        folder / "database.db",
        world.features,
        world.matches,
        sorted(world.matches),
        world.cameras,
        camera_model=PINHOLE,
        verification=VerificationOptions(),
        log_path=log,
    )
    assert report.num_images == len(world.features)
    assert report.num_verified == report.num_pairs == len(world.matches)
    options = MappingOptions(principal_point=principal_point)
    models = map_database(folder / "database.db", world.image_dir, folder / "sparse", options, log_path=log)
    assert [model.path for model in models] == ["0"]
    assert models[0].registered == tuple(sorted(world.features))
    return pycolmap.Reconstruction(folder / "sparse" / "0"), folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return synthesize(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def mapped(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[pycolmap.Reconstruction, Path]:
    return build_and_map(world, tmp_path_factory.mktemp("mapped"))


# --------------------------------------------------------------------------------- what comes out
def test_exact_observations_give_an_exact_model(world: World, mapped: tuple[pycolmap.Reconstruction, Path]) -> None:
    model, _ = mapped
    assert model.num_reg_images() == world.truth.num_reg_images()
    assert model.num_points3D() == world.truth.num_points3D()
    assert model.compute_mean_reprojection_error() < 1e-3


def test_camera_centres_are_those_of_the_world(world: World, mapped: tuple[pycolmap.Reconstruction, Path]) -> None:
    result = evaluate(mapped[1], world.truth_dir)
    assert result.num_registered == result.num_images == len(world.features)
    assert result.auc[1] > 99.9
    assert result.centres is not None
    assert result.centres.num_inliers == len(world.features)
    extent = np.ptp([pose.centre for pose in load_poses(world.truth_dir).values()], axis=0).max()
    assert result.centres.max < 1e-4 * extent


def test_the_alignment_carries_each_centre_to_its_place(
    world: World, mapped: tuple[pycolmap.Reconstruction, Path]
) -> None:
    ours, truth = load_poses(mapped[1]), load_poses(world.truth_dir)
    names = sorted(truth)
    found = np.array([ours[name].centre for name in names])
    wanted = np.array([truth[name].centre for name in names])
    similarity, _ = robust_similarity(found, wanted)
    assert np.abs(similarity(found) - wanted).max() < 1e-4 * np.ptp(wanted, axis=0).max()


def test_the_focal_length_and_the_principal_point_are_those_of_the_world(
    mapped: tuple[pycolmap.Reconstruction, Path],
) -> None:
    (camera,) = mapped[0].cameras.values()
    assert camera.focal_length == pytest.approx(FOCAL_PX, rel=1e-4)
    assert (camera.principal_point_x, camera.principal_point_y) == (SIZE[0] / 2, SIZE[1] / 2)


# --------------------------------------------------------------------------------- half a pixel
def test_our_pixel_0_0_is_0_5_0_5_in_the_database(tmp_path: Path) -> None:
    """The centre of the top-left pixel, and of the bottom-right one."""
    corners = np.array([[0, 0], [SIZE[0] - 1, SIZE[1] - 1]], np.float32)
    features = {"a.jpg": synthetic_features(corners), "b.jpg": synthetic_features(corners)}
    group = CameraGroup(("a.jpg", "b.jpg"), SIZE, None, "no EXIF")
    log = tmp_path / "colmap.log"
    build_database(tmp_path / "database.db", features, {}, [], [group], log_path=log)
    database = pycolmap.Database.open(tmp_path / "database.db")
    stored = database.read_keypoints(1)[:, :2]
    (camera,) = database.read_all_cameras()
    database.close()
    assert stored.tolist() == [[0.5, 0.5], [SIZE[0] - 0.5, SIZE[1] - 0.5]]
    centre = np.array([camera.principal_point_x, camera.principal_point_y])
    assert np.allclose(stored.mean(axis=0), centre)  # the middle of the image is the principal point


def test_half_a_pixel_of_shift_would_be_noticed(world: World, tmp_path: Path) -> None:
    """Observations half a pixel off the fixed principal point no longer fit: the thresholds above do guard."""
    shifted = {
        name: synthetic_features(features.keypoints + np.float32(COLMAP_CENTRE))
        for name, features in world.features.items()
    }
    model, _ = build_and_map(World(world.truth, world.truth_dir, world.image_dir, shifted, world.matches), tmp_path)
    assert model.compute_mean_reprojection_error() > 2e-3  # a thousand times that of the exact ones


# --------------------------------------------------------------------------------- invariances
def test_hdf5_stores_give_the_database_that_dictionaries_give(
    world: World, mapped: tuple[pycolmap.Reconstruction, Path], tmp_path: Path
) -> None:
    with (
        FeatureStore(tmp_path / "features.h5", {"extractor": "synthetic"}) as features,
        MatchStore(tmp_path / "matches.h5", {"matcher": "synthetic"}) as matches,
    ):
        features.update(world.features)
        matches.update(world.matches)
        log = tmp_path / "colmap.log"
        pairs = sorted(matches)
        cameras = world.cameras
        build_database(tmp_path / "o.db", features, matches, pairs, cameras, camera_model=PINHOLE, log_path=log)
    ours, theirs = pycolmap.Database.open(tmp_path / "o.db"), pycolmap.Database.open(mapped[1] / "database.db")
    for number in range(1, len(world.features) + 1):
        assert np.array_equal(ours.read_keypoints(number), theirs.read_keypoints(number))
    for first, second in combinations(range(1, len(world.features) + 1), 2):
        assert np.array_equal(ours.read_matches(first, second), theirs.read_matches(first, second))
        inliers = [db.read_two_view_geometry(first, second).inlier_matches for db in (ours, theirs)]
        assert np.array_equal(*inliers)
    ours.close()
    theirs.close()


def test_the_order_of_images_and_pairs_does_not_matter(
    world: World, mapped: tuple[pycolmap.Reconstruction, Path], tmp_path: Path
) -> None:
    backwards = World(
        world.truth,
        world.truth_dir,
        world.image_dir,
        dict(reversed(world.features.items())),
        dict(reversed(world.matches.items())),
    )
    model, _ = build_and_map(backwards, tmp_path)
    assert model.num_points3D() == mapped[0].num_points3D()
    assert sorted(image.name for image in model.images.values()) == sorted(world.features)


def test_an_existing_database_is_replaced_and_no_partial_one_is_left(world: World, tmp_path: Path) -> None:
    (tmp_path / "database.db").write_text("old")
    cameras, log = world.cameras, tmp_path / "colmap.log"
    for _ in range(2):
        build_database(tmp_path / "database.db", world.features, {}, [], cameras, camera_model=PINHOLE, log_path=log)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["colmap.log", "database.db"]


def test_a_database_that_cannot_be_written_is_a_cache_error(world: World, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "database.db"
    with pytest.raises(CacheError, match=r"database\.db\.partial cannot be written"):
        build_database(path, world.features, {}, [], world.cameras, log_path=tmp_path / "colmap.log")


def test_no_verified_pair_gives_no_model(world: World, tmp_path: Path) -> None:
    log = tmp_path / "colmap.log"
    database = tmp_path / "database.db"
    report = build_database(database, world.features, {}, [], world.cameras, camera_model=PINHOLE, log_path=log)
    assert (report.num_pairs, report.num_verified, report.num_inliers) == (0, 0, 0)
    assert map_database(database, world.image_dir, tmp_path / "sparse", log_path=log) == []


def test_poses_of_another_world_do_not_pass(world: World) -> None:
    """The comparison itself is no formality: a turned camera is seen."""
    truth = load_poses(world.truth_dir)
    name = min(truth)
    quarter_turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned = {**truth, name: CameraPose(quarter_turn @ truth[name].rotation, truth[name].centre)}
    assert evaluate(turned, truth).auc[5] < 70
