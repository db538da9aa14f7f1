"""What the mapper leaves behind: foreign files, models that are too small, principal points, failing disks."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from lgsfm.cameras import MODELS
from lgsfm.database import opened_database, verify_in_child
from lgsfm.errors import CacheError, CrashError, ReconstructionError
from lgsfm.mapping import (
    MappingOptions,
    map_database,
    map_in_child,
    principal_point_note,
    summarize_model,
)
from lgsfm.mapping.principal_point import MAX_SHIFT, refine_principal_points, shared_cameras, shift

SIZE = (640, 480)
OFF_CENTRE = (12.0, -7.0)  # px


def synthesize(folder: Path, *, num_rigs: int = 1, num_images: int = 7, off_centre: bool = False) -> Path:
    """A database with verified matches: one camera per rig, its principal point off the centre if asked for."""
    x, y = OFF_CENTRE if off_centre else (0, 0)
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=num_rigs,
        num_frames_per_rig=num_images,
        num_points3D=150,
        camera_width=SIZE[0],
        camera_height=SIZE[1],
        camera_model_id=pycolmap.CameraModelId.SIMPLE_PINHOLE,
        camera_params=[500, SIZE[0] / 2 + x, SIZE[1] / 2 + y],
    )
    pycolmap.set_random_seed(1)
    path = folder / "database.db"
    database = pycolmap.Database.open(path)
    pycolmap.synthesize_dataset(options, database)
    for camera in database.read_all_cameras():
        camera.principal_point_x, camera.principal_point_y = SIZE[0] / 2, SIZE[1] / 2
        database.update_camera(camera)
    database.close()
    (folder / "photos").mkdir()
    return path


def mapped(folder: Path, *, former_images: int = 0, **options: object) -> list:
    return map_database(
        folder / "database.db",
        folder / "photos",
        folder / "sparse",
        MappingOptions(**options),
        former_images=former_images,
        log_path=folder / "log",
    )


# --------------------------------------------------------------------------------- principal points
@pytest.mark.parametrize("name", MODELS)
def test_models_of_every_camera_model_are_summarized(name: str) -> None:
    camera = pycolmap.Camera.create_from_model_name(1, name, 500, *SIZE)
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera)
    for number in range(1, 7):
        image = pycolmap.Image(name=f"{number}.jpg", camera_id=1, image_id=number)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    assert shift(camera) == 0
    assert summarize_model(model, "0").principal_points_refined == 0
    assert shared_cameras(model) == ([] if name == "EQUIRECTANGULAR" else [1])


@pytest.mark.parametrize(("choice", "refined"), [("auto", 2), ("fixed", 0), ("refined", 2)])
def test_principal_points_are_refined_where_photos_determine_them(tmp_path: Path, choice: str, refined: int) -> None:
    synthesize(tmp_path, num_rigs=2, off_centre=True)
    (model,) = mapped(tmp_path, principal_point=choice, threads=1)
    assert model.principal_points_refined == refined


def test_one_camera_that_runs_away_does_not_hold_back_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesize(tmp_path, num_rigs=2, off_centre=True)
    mapped(tmp_path, principal_point="fixed")
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")

    def shift_of(camera: pycolmap.Camera) -> float:
        is_free = shift(camera) > 1e-9
        return MAX_SHIFT * 2 if is_free and camera.camera_id == 1 else shift(camera)

    monkeypatch.setattr("lgsfm.mapping.principal_point.shift", shift_of)
    refined = refine_principal_points(model, threads=1)
    assert shift(refined.cameras[1]) == 0
    camera = refined.cameras[2]
    moved = np.array([camera.principal_point_x, camera.principal_point_y]) - np.array(SIZE) / 2
    assert moved == pytest.approx(np.array(OFF_CENTRE), abs=5)  # the other stays wrong


def test_asked_for_but_not_done_is_said(tmp_path: Path) -> None:
    synthesize(tmp_path, num_images=4)
    models = mapped(tmp_path, principal_point="refined")
    assert "at least 5 registered photos" in principal_point_note(MappingOptions(principal_point="refined"), models)
    assert principal_point_note(MappingOptions(principal_point="auto"), models) == ""
    assert principal_point_note(MappingOptions(principal_point="refined"), []) == ""


# --------------------------------------------------------------------------------- the folder of the models
def test_a_rerun_keeps_what_is_not_its_own(tmp_path: Path) -> None:
    synthesize(tmp_path)
    mapped(tmp_path)
    sparse = tmp_path / "sparse"
    (sparse / "notes.txt").write_text("mine")
    (sparse / "aligned").mkdir()
    (sparse / "aligned" / "images.bin").write_text("mine")
    (sparse / "2024").mkdir()
    (sparse / "7").mkdir()
    (sparse / "7" / "cameras.bin").write_text("a model of mine")
    mapped(tmp_path)
    assert sorted(path.name for path in sparse.iterdir()) == ["0", "2024", "aligned", "models.json", "notes.txt"]
    assert (sparse / "aligned" / "images.bin").read_text() == "mine"
    assert (tmp_path / "replaced" / "1" / "7" / "cameras.bin").read_text() == "a model of mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["database.db", "log", "photos", "replaced", "sparse"]


def test_a_rerun_leaves_no_models_of_its_own_behind(tmp_path: Path) -> None:
    synthesize(tmp_path)
    mapped(tmp_path)
    mapped(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["database.db", "log", "photos", "sparse"]
    assert sorted(path.name for path in (tmp_path / "sparse").iterdir()) == ["0", "models.json"]


def test_a_model_of_more_photos_is_kept_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    synthesize(tmp_path)
    mapped(tmp_path)
    before = (tmp_path / "sparse" / "0" / "images.bin").read_bytes()
    caplog.set_level(logging.WARNING, "lgsfm")
    mapped(tmp_path, former_images=8)
    assert (tmp_path / "replaced" / "1" / "0" / "images.bin").read_bytes() == before
    assert "The model has 7 photos, the one that was there had 8; that one is kept." in caplog.text
    assert f"Kept in {tmp_path / 'replaced' / '1'}" in caplog.text


@pytest.mark.parametrize("is_new_there", [False, True])
def test_killed_between_two_renames_nothing_is_lost(tmp_path: Path, is_new_there: bool) -> None:
    synthesize(tmp_path)
    mapped(tmp_path)
    before = (tmp_path / "sparse").rename(tmp_path / "sparse.before")
    (before / "notes.txt").write_text("mine")
    if is_new_there:
        mapped(tmp_path)
    (tmp_path / "database.db").unlink()
    assert mapped(tmp_path) == []  # there is nothing in the database
    assert sorted(path.name for path in (tmp_path / "sparse").iterdir()) == ["0", "models.json", "notes.txt"]


@pytest.mark.parametrize("mapper", ["incremental", "global"])
def test_models_that_are_too_small_are_the_cause_that_is_named(tmp_path: Path, mapper: str) -> None:
    path = synthesize(tmp_path, num_images=4)
    database = pycolmap.Database.open(path)
    camera = database.read_all_cameras()[0]
    for number in range(100, 110):  # photos without any match
        image = pycolmap.Image(name=f"{number}.jpg", camera_id=camera.camera_id, image_id=number, frame_id=number)
        frame = pycolmap.Frame(frame_id=number, rig_id=1)
        frame.add_data_id(image.data_id)
        database.write_frame(frame, use_frame_id=True)
        database.write_image(image, use_image_id=True)
    database.close()
    with pytest.raises(ReconstructionError, match="the largest of 4 images, which is smaller than --min-model-size 9"):
        mapped(tmp_path, min_model_size=9, mapper=mapper)
    assert not (tmp_path / "sparse").exists()


def test_a_disk_that_is_full_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = synthesize(tmp_path)

    def fail(model: object, folder: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pycolmap.Reconstruction, "write", fail)
    (tmp_path / "out").mkdir()
    options = MappingOptions(principal_point="fixed").to_dict()
    with pytest.raises(CacheError, match=r"out cannot be written: No space left on device\. Check"):
        map_in_child(
            database=str(path),
            image_dir=str(tmp_path / "photos"),
            output=str(tmp_path / "out"),
            options=options,
            report=lambda done, total: None,
        )


def test_a_disk_on_which_colmap_cannot_even_open_the_database_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: object) -> None:
        raise RuntimeError("No registered database factory succeeded.")  # COLMAP's words on a full disk

    monkeypatch.setattr(pycolmap.Database, "open", fail)
    monkeypatch.setattr("lgsfm.disk.free_bytes", lambda folder: 0)
    with pytest.raises(CacheError, match=r"work cannot be written: No space left on device\. Check"):
        map_in_child(
            database=str(tmp_path / "database.db"),
            image_dir=str(tmp_path),
            output=str(tmp_path / "out"),
            options=MappingOptions().to_dict(),
            report=lambda done, total: None,
        )


def test_what_colmap_raises_says_nothing_about_the_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where SQLite has no memory; a `ReconstructionError` would be taken for photos that do not register."""

    def fail(path: object) -> None:
        raise RuntimeError("No registered database factory succeeded.")

    monkeypatch.setattr(pycolmap.Database, "open", fail)
    with pytest.raises(CrashError, match=r"The global mapper failed: No registered database factory succeeded\."):
        map_in_child(
            database=str(tmp_path / "database.db"),
            image_dir=str(tmp_path),
            output=str(tmp_path / "out"),
            options=MappingOptions().to_dict(),
            report=lambda done, total: None,
            way="global",
        )


@pytest.mark.parametrize("error", [MemoryError("std::bad_alloc"), OSError(12, "Cannot allocate memory")])
def test_want_of_memory_says_nothing_about_the_photos_and_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    path = synthesize(tmp_path)
    monkeypatch.setattr(pycolmap, "incremental_mapping", fail)
    monkeypatch.setattr(pycolmap, "geometric_verification", fail)
    with pytest.raises(MemoryError):  # of which the child makes a message
        map_in_child(
            database=str(path),
            image_dir=str(tmp_path),
            output=str(tmp_path / "out"),
            options=MappingOptions().to_dict(),
            report=lambda done, total: None,
        )
    with pytest.raises((MemoryError, OSError)):
        verify_in_child(path=str(path), options={}, report=None)
    with pytest.raises(CacheError, match=r"^Not enough memory for writing .*database\.db"), opened_database(path):
        raise RuntimeError("SQLite error: out of memory")
