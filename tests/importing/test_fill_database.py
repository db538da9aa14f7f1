"""Features and matches of a run in a database that COLMAP made: what changes, what stays, and what is refused."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from import_scenes import (
    NAMES,
    World,
    keypoints_of,
    make_world,
    matches_of,
    names_of,
    run,
    write_features,
    write_matches,
)

from lgsfm.errors import InputError, InUseError, ReconstructionError
from lgsfm.importing import fill_database, import_features

KEPT = ("cameras", "images", "rigs", "rig_sensors", "frames", "frame_data", "pose_priors")
SIZE = (320, 240)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world")


@pytest.fixture
def output(world: World, tmp_path: Path) -> Path:
    """An output folder with features and matches, and no more."""
    files = write_features(world, tmp_path / "f.h5"), write_matches(world, tmp_path / "m.h5")
    import_features(tmp_path / "out", *files, world.photos)
    return tmp_path / "out"


def make_database(world: World, path: Path, names: Iterable[str] = (), size: tuple[int, int] = SIZE) -> Path:
    """A project of COLMAP without features: ids in reverse order of the names, one camera, a rig, priors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pycolmap.Database.open(path) as database:
        camera = next(iter(world.model.cameras.values()))
        camera = pycolmap.Camera(model=camera.model, width=size[0], height=size[1], params=camera.params)
        camera.has_prior_focal_length = True
        camera.camera_id = database.write_camera(camera)
        rig = pycolmap.Rig()
        rig.add_ref_sensor(camera.sensor_id)
        rig_id = database.write_rig(rig)
        for name in sorted(names or names_of(world), reverse=True):
            image = pycolmap.Image(name=name, camera_id=camera.camera_id)
            image.image_id = database.write_image(image)
            frame = pycolmap.Frame(rig_id=rig_id)
            frame.add_data_id(image.data_id)
            database.write_frame(frame)
            prior = pycolmap.PosePrior(corr_data_id=image.data_id, position=np.array([1, 2, image.image_id]))
            database.write_pose_prior(prior)
    return path


def rows_of(path: Path, tables: Iterable[str] = KEPT) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as database:
        return {table: database.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}


def mapped(path: Path, world: World, folder: Path) -> pycolmap.Reconstruction:
    folder.mkdir()
    models = pycolmap.incremental_mapping(path, world.photos, folder)
    assert len(models) == 1
    return models[0]


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# --------------------------------------------------------------------------------- what is written
def test_images_keep_all_that_is_known_of_them_and_can_be_mapped(world, output, tmp_path):
    path = make_database(world, tmp_path / "project" / "a database é.db")
    before = rows_of(path)
    ran = run("into-database", output, path)
    assert ran.code == 0, ran.err
    assert "15 pairs, 15 verified" in ran.out
    assert rows_of(path) == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with pycolmap.Database.open(path) as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        for name in NAMES:
            np.testing.assert_allclose(database.read_keypoints(ids[name])[:, :2], keypoints_of(world, name) + 0.5)
        first, second = sorted(NAMES)[:2]
        dense = matches_of(world, first, second)
        expected = np.stack([np.flatnonzero(dense >= 0), dense[dense >= 0]], axis=1)
        assert ids[first] > ids[second]
        np.testing.assert_array_equal(database.read_matches(ids[first], ids[second]), expected)
        geometry = database.read_two_view_geometry(ids[first], ids[second])
        np.testing.assert_array_equal(geometry.inlier_matches, expected)
    model = mapped(path, world, tmp_path / "models")
    assert {image.name for image in model.images.values()} == set(NAMES)
    assert model.compute_mean_reprojection_error() < 0.01


def test_images_that_it_does_not_know_are_added(world, output, tmp_path):
    known = sorted(NAMES)[2:]
    path = make_database(world, tmp_path / "project" / "database.db", known)
    before = rows_of(path)
    report = fill_database(output, path)
    assert report.added == tuple(sorted(NAMES)[:2])
    after = rows_of(path)
    for table in KEPT:
        assert after[table][: len(before[table])] == before[table]
    assert len(after["images"]) == len(after["frames"]) == 6
    assert len(after["cameras"]) == len(after["rigs"]) == 2
    assert {image.name for image in mapped(path, world, tmp_path / "models").images.values()} == set(NAMES)


def test_an_empty_database_gets_all_images(world, output, tmp_path):
    path = tmp_path / "project" / "database.db"
    path.parent.mkdir()
    pycolmap.Database.open(path).close()
    assert len(fill_database(output, path).added) == 6
    assert mapped(path, world, tmp_path / "models").num_reg_images() == 6


def test_photos_that_were_taken_away_stay_out(world, output, tmp_path):
    path = tmp_path / "project" / "database.db"
    path.parent.mkdir()
    pycolmap.Database.open(path).close()
    gone = sorted(NAMES)[1]
    (world.photos / gone).unlink()
    ran = run("into-database", output, path)
    assert ran.code == 0, ran.err
    assert "10 pairs of 5 photos" in ran.err
    assert f"Warning: 1 photos of the run are left out, which are not in {world.photos} any more." in ran.err
    assert "Keypoints 5 photos" in ran.out
    with closing(sqlite3.connect(path)) as database:
        assert {row[0] for row in database.execute("SELECT name FROM images")} == set(NAMES) - {gone}
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"None of the 6 photos .*empty.*--images DIR"):
        fill_database(output, path, image_dir=tmp_path / "empty")


def test_raw_matches_are_left_to_colmap(world, output, tmp_path):
    path = make_database(world, tmp_path / "project" / "database.db")
    ran = run("into-database", output, path, "--raw")
    assert f"colmap geometric_verifier --database_path {path}" in ran.out
    rows = rows_of(path, ("matches", "two_view_geometries"))
    assert (len(rows["matches"]), len(rows["two_view_geometries"])) == (15, 0)
    pycolmap.geometric_verification(path)
    assert mapped(path, world, tmp_path / "models").num_reg_images() == 6


def test_keypoints_give_way_only_where_that_is_asked_for_and_those_of_others_never(world, output, tmp_path):
    path = make_database(world, tmp_path / "project" / "database.db", [*NAMES, "x.jpg", "y.jpg"])
    with pycolmap.Database.open(path) as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        for name in ids:
            database.write_keypoints(ids[name], np.full((20, 4), ids[name], np.float32))
        same = np.repeat(np.arange(20, dtype=np.uint32)[:, None], 2, axis=1)
        for pair in (("x.jpg", "y.jpg"), ("x.jpg", "f.jpg"), ("c.jpg", "f.jpg")):
            database.write_matches(ids[pair[0]], ids[pair[1]], same)
    before = listing(path.parent)
    with pytest.raises(InputError, match=r"keypoints of 6 of these photos already: .*--replace"):
        fill_database(output, path)
    assert listing(path.parent) == before
    report = fill_database(output, path, replace=True)
    assert (report.num_removed, report.num_pairs) == (2, 15)
    with pycolmap.Database.open(path) as database:
        np.testing.assert_array_equal(database.read_matches(ids["x.jpg"], ids["y.jpg"]), same)
        assert not database.exists_two_view_geometry(ids["x.jpg"], ids["y.jpg"])  # which nobody asked for
        assert not database.exists_matches(ids["x.jpg"], ids["f.jpg"])
        assert (database.read_keypoints(ids["x.jpg"])[:, :4] == ids["x.jpg"]).all()
        assert database.num_keypoints_for_image(ids["f.jpg"]) == len(keypoints_of(world, "f.jpg"))


def test_options_of_verification_are_those_of_the_run_unless_others_are_given(world, output, tmp_path):
    path = make_database(world, tmp_path / "project" / "database.db")
    ran = run("into-database", output, path, "--min-confidence", "0.8")
    assert "Matches   0 pairs" in ran.out
    assert "Left out  15 pairs" in ran.out


def test_a_database_without_rigs_of_an_older_colmap_is_brought_up_to_date(world, output, tmp_path):
    path = make_database(world, tmp_path / "project" / "database.db")
    with closing(sqlite3.connect(path)) as database:
        for table in ("rig_sensors", "rigs", "frame_data", "frames", "pose_priors"):
            database.execute(f"DROP TABLE {table}")
        database.execute("PRAGMA user_version = 3900")
        database.commit()
    fill_database(output, path)
    assert mapped(path, world, tmp_path / "models").num_reg_images() == 6


# --------------------------------------------------------------------------------- what is refused
def test_a_database_that_another_process_has_open_is_left_alone(world, output, tmp_path):
    path = make_database(world, tmp_path / "project" / "database.db")
    idle = "import pycolmap, sys; d = pycolmap.Database.open(sys.argv[1]); d.num_images(); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", idle, path], stdin=-1, stdout=-1, text=True) as other:
        other.stdout.readline()
        before = path.read_bytes()
        with pytest.raises(InUseError, match="open in another process"):
            fill_database(output, path)
        assert path.read_bytes() == before
        other.communicate("\n")
    assert fill_database(output, path).num_pairs == 15


def damaged(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 9000000")


def of_somebody_else(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE images (name TEXT)")
        database.commit()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (damaged, "damaged"),
        (newer, r"written by a newer COLMAP .*Update pycolmap"),
        (of_somebody_else, "no database of COLMAP"),
        (lambda path: path.write_text("no database at all, but a text " * 99), "no SQLite database"),
    ],
    ids=["damaged", "newer", "other", "text"],
)
def test_databases_that_cannot_be_filled_stay_as_they_are(world, output, tmp_path, change, words):
    path = make_database(world, tmp_path / "project" / "database.db")
    change(path)
    before = listing(path.parent)
    with pytest.raises(InputError, match=words):
        fill_database(output, path)
    assert listing(path.parent) == before


def test_photos_of_other_sizes_or_names_are_refused(world, output, tmp_path):
    path = make_database(world, tmp_path / "a" / "database.db", size=(640, 480))
    with pytest.raises(InputError, match="has 640x480 pixels, the photo of the run 320x240"):
        fill_database(output, path)
    path = make_database(world, tmp_path / "b" / "database.db", ["elsewhere/c.jpg"])
    with pytest.raises(InputError, match=r"knows none of the photos: .*elsewhere/c.jpg.*same folder"):
        fill_database(output, path)


def test_the_database_of_a_run_and_none_at_all_are_refused(world, output, tmp_path):
    run("database", world.photos, "-o", output)
    with pytest.raises(InputError, match="database of the run itself"):
        fill_database(output, output / "database.db")
    with pytest.raises(InputError, match="There is no database"):
        fill_database(output, tmp_path / "none.db")


def test_what_fails_on_the_way_leaves_the_database_as_it_was(world, output, tmp_path, monkeypatch):
    path = make_database(world, tmp_path / "project" / "database.db")
    before = listing(path.parent)

    def fail(*_: object, **__: object) -> None:
        raise ReconstructionError("COLMAP failed")

    monkeypatch.setattr("lgsfm.importing.colmap.verify_matches", fail)
    with pytest.raises(ReconstructionError):
        fill_database(output, path)
    assert listing(path.parent) == before


def test_what_killed_processes_left_is_cleared_up_and_a_link_stays_a_link(world, output, tmp_path):
    path = make_database(world, tmp_path / "project" / "database.db")
    for left in (".database.db.123.partial", ".database.db.123.partial.verified", ".other.db.123.partial"):
        (path.parent / left).write_text("half")
    link = tmp_path / "link.db"
    link.symlink_to(path)
    fill_database(output, link)
    assert link.is_symlink()
    assert {file.name for file in path.parent.iterdir()} == {"database.db", ".other.db.123.partial"}
    assert len(rows_of(path, ["matches"])["matches"]) == 15


# --------------------------------------------------------------------------------- the whole way
@pytest.mark.slow
def test_colmaps_own_features_give_way_and_all_photos_are_mapped(courtyard, tmp_path):
    images, output, path = courtyard / "images", tmp_path / "out", tmp_path / "project.db"
    for stage in ("extract", "pairs", "match"):
        ran = run(stage, images, "-o", output, "--features", "sift", "--max-edge-px", "800", "--max-keypoints", "1500")
        assert ran.code == 0, ran.err
    pycolmap.Database.open(path).close()
    pycolmap.import_images(path, images)
    pycolmap.extract_features(path, images)
    before = rows_of(path)
    assert run("into-database", output, path).code == 1
    ran = run("into-database", output, path, "--replace", "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert (told["database"], told["num_images"], told["added"]) == (str(path), 14, [])
    assert rows_of(path) == before
    (tmp_path / "models").mkdir()
    models = pycolmap.incremental_mapping(path, images, tmp_path / "models")
    assert models[0].num_reg_images() == 14
    assert models[0].compute_mean_reprojection_error() < 1
