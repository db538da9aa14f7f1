"""Which photos --mapper auto brings in, which models it must not prefer, and what a killed mapper goes on from."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from lgsfm.database_reading import VerifiedPair
from lgsfm.errors import CrashError, InputError, ReconstructionError
from lgsfm.mapping import MappingOptions, _best_of, _Try, map_database, map_in_child, mapping_note
from lgsfm.mapping.choice import Missing, Score, missing_images, objection, score
from lgsfm.mapping.mappers import ModelSummary
from lgsfm.view_graph import ViewGraph

SIZE, FOCAL, NUM_IMAGES = (640, 480), 500, 8


def synthesize(
    folder: Path, *, num_points: int = 150, num_images: int = NUM_IMAGES, is_guess: bool = False
) -> pycolmap.Reconstruction:
    """Writes a database with exact matches and gives the true model; a guessed focal length is twice the true one."""
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1,
        num_frames_per_rig=num_images,
        num_points3D=num_points,
        camera_width=SIZE[0],
        camera_height=SIZE[1],
        camera_model_id=pycolmap.CameraModelId.SIMPLE_PINHOLE,
        camera_params=[FOCAL, SIZE[0] / 2, SIZE[1] / 2],
        camera_has_prior_focal_length=not is_guess,
    )
    pycolmap.set_random_seed(1)
    database = pycolmap.Database.open(folder / "database.db")
    truth = pycolmap.synthesize_dataset(options, database)
    if is_guess:
        for camera in database.read_all_cameras():
            camera.focal_length = 2 * FOCAL
            database.update_camera(camera)
    database.close()
    (folder / "photos").mkdir()
    return truth


def change_last_image(folder: Path, *, keep: int | None = None, is_wrong: bool = False) -> str:
    """Keeps matches of few keypoints of the last image, or makes them wrong though verified; gives its name."""
    database = pycolmap.Database.open(folder / "database.db")
    last = max(database.read_all_images(), key=lambda image: image.image_id)
    rng = np.random.default_rng(0)
    for other in database.read_all_images():
        if other.image_id == last.image_id:
            continue
        geometry = database.read_two_view_geometry(other.image_id, last.image_id)
        matches = np.array(geometry.inlier_matches)
        if keep is not None:
            matches = matches[matches[:, 1] < keep]
        if is_wrong:
            matches[:, 1] = rng.permutation(matches[:, 1])
        geometry.inlier_matches = matches
        database.delete_two_view_geometry(other.image_id, last.image_id)
        database.delete_matches(other.image_id, last.image_id)
        database.write_matches(other.image_id, last.image_id, matches)
        database.write_two_view_geometry(other.image_id, last.image_id, geometry)
    database.close()
    return last.name


def mapped(folder: Path, **options: object) -> list[ModelSummary]:
    choices = MappingOptions(**{"threads": 1, **options})
    return map_database(folder / "database.db", folder / "photos", folder / "sparse", choices, log_path=folder / "log")


def content(database: Path) -> list[str]:
    """All tables; the bytes of the file change whenever COLMAP opens it."""
    with sqlite3.connect(database) as opened:
        return list(opened.iterdump())


def kept(models: list[ModelSummary]) -> str:
    (way,) = [row["way"] for row in models[0].attempts if row["is_kept"]]
    return way


def errors_px(folder: Path) -> float:
    return pycolmap.Reconstruction(folder / "sparse" / "0").compute_mean_reprojection_error()


# --------------------------------------------------------------------------------- auto
def test_where_all_are_registered_nothing_else_is_tried(tmp_path: Path) -> None:
    synthesize(tmp_path)
    (model,) = mapped(tmp_path)
    assert (model.num_reg_images, model.mapper, model.attempts) == (NUM_IMAGES, "incremental", ())
    assert mapping_note([model]) == ""


def test_a_photo_of_few_matches_is_brought_in_and_told_of(tmp_path: Path) -> None:
    synthesize(tmp_path)
    name = change_last_image(tmp_path, keep=22)
    (alone,) = mapped(tmp_path, mapper="incremental")
    assert name not in alone.registered
    (model,) = mapped(tmp_path)
    assert model.num_reg_images == NUM_IMAGES
    assert model.mapper == kept([model]) == "incremental with weaker poses"
    assert errors_px(tmp_path) < 1e-3
    assert mapping_note([model]) == (
        "Mapping: incremental left out 1 photo that matches tie to others. "
        "Kept is incremental with weaker poses, with 8 photos instead of 7."
    )


def test_where_no_pair_can_be_a_start_a_weaker_one_makes_the_model(tmp_path: Path) -> None:
    synthesize(tmp_path, num_points=20)
    assert mapped(tmp_path, mapper="incremental") == []
    (model,) = mapped(tmp_path)
    assert (model.num_reg_images, model.mapper, kept([model])) == (NUM_IMAGES, *2 * ["incremental with a weaker start"])


def test_a_photo_that_fits_nowhere_changes_nothing(tmp_path: Path) -> None:
    synthesize(tmp_path)
    name = change_last_image(tmp_path, keep=17, is_wrong=True)
    (alone,) = mapped(tmp_path, mapper="incremental")
    (model,) = mapped(tmp_path)
    assert name not in model.registered
    assert kept([model]) == "incremental"
    assert replace(model, attempts=()) == alone
    assert "No other way was better: incremental with weaker poses (no more photos stand firm)" in mapping_note([model])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["database.db", "log", "photos", "sparse"]


def a_try(way: str, firm: int, observations: int, missing: tuple[str, ...]) -> _Try:
    model = ModelSummary("0", firm, 100, 3.0, 0.5, 0, tuple("abcdefgh"[:firm]))
    figures = Score(firm, firm, 100, observations, 3.0, 0.5)
    return _Try(way, [model], 8, missing=Missing(missing, 0, 8), score=figures)


def test_a_way_that_fails_costs_nothing_of_what_is_there() -> None:
    def run(way: str, start: Path | None) -> _Try:
        if way != "incremental":
            raise ReconstructionError("COLMAP (map) was killed by signal SIGABRT.")
        return a_try(way, 6, 300, ("g", "h"))

    best, rows = _best_of(run)
    assert best.way == "incremental"
    assert [row["reason"].partition(":")[0] for row in rows] == ["", "failed", "failed", "failed"]


def test_of_several_ways_the_one_with_most_firm_photos_is_kept_and_goes_on_from_the_best_so_far() -> None:
    starts = {}
    figures = {"incremental": (5, 300), "continued": (6, 350), "looser": (5, 500), "global": (7, 360)}

    def run(way: str, start: Path | None) -> _Try:
        starts[way] = start
        firm, observations = figures[way]
        return replace(a_try(way, firm, observations, tuple("abcdefgh"[firm:])), folder=Path(way))

    best, rows = _best_of(run)
    assert best.way == "global"
    assert [row["is_kept"] for row in rows] == [False, False, False, True]
    assert [row["reason"] for row in rows] == [
        "continued: more photos stand firm",
        "global: more photos stand firm",
        "fewer photos stand firm",
        "",
    ]
    assert starts == {
        "incremental": None,
        "continued": Path("incremental"),
        "looser": Path("continued"),
        "global": Path("continued"),
    }


def test_of_a_few_missing_only_what_is_cheap_is_tried() -> None:
    tried = []

    def run(way: str, start: Path | None) -> _Try:
        tried.append(way)
        return replace(a_try(way, 7, 300, ("h",)), missing=Missing(("h",), 0, 11))

    _best_of(run)
    assert tried == ["incremental", "continued"]


# --------------------------------------------------------------------------------- the criterion
def test_a_collapsed_model_has_nothing_that_stands_firm(tmp_path: Path) -> None:
    truth = synthesize(tmp_path)
    before = score([truth])
    assert before.firm_images == before.firm_images_of_largest == NUM_IMAGES
    collapsed = pycolmap.Reconstruction(truth)
    for image in collapsed.images.values():  # all cameras nearly at one place: the rays of each point are parallel
        pose = image.cam_from_world()
        centre = 1e-4 * image.projection_center()
        collapsed.frame(image.frame_id).rig_from_world = pycolmap.Rigid3d(
            pose.rotation, -(pose.rotation.matrix() @ centre)
        )
    after = score([collapsed])
    assert (after.firm_images, after.firm_observations) == (0, 0)
    assert objection(after, before) == "fewer photos stand firm"


def test_one_photo_more_does_not_outweigh_matches_that_are_given_up() -> None:
    old = Score(7, 7, 1000, 6000, 6.0, 0.5)
    assert objection(replace(old, firm_images=8, firm_images_of_largest=8), old) == ""
    assert objection(replace(old, firm_images=8, firm_images_of_largest=8, firm_observations=5999), old) != ""
    assert objection(replace(old, firm_images=9, firm_images_of_largest=5), old) == "fewer photos stand firm"
    assert objection(old, old) == "no more photos stand firm"


def test_a_photo_in_two_models_counts_once(tmp_path: Path) -> None:
    truth = synthesize(tmp_path)
    assert score([truth, truth]).firm_images == NUM_IMAGES


# --------------------------------------------------------------------------------- the global mapper
@pytest.mark.parametrize("is_guess", [False, True])
def test_the_global_mapper_calibrates_guesses_and_leaves_the_database_alone(tmp_path: Path, is_guess: bool) -> None:
    synthesize(tmp_path, is_guess=is_guess)
    before = content(tmp_path / "database.db")
    (model,) = mapped(tmp_path, mapper="global", principal_point="fixed")
    assert (model.num_reg_images, model.mapper) == (NUM_IMAGES, "global, calibrated" if is_guess else "global")
    (camera,) = pycolmap.Reconstruction(tmp_path / "sparse" / "0").cameras.values()
    assert camera.focal_length == pytest.approx(FOCAL, rel=1e-3)
    assert content(tmp_path / "database.db") == before


class OldGlobalOptions:
    """Those of pycolmap 4.0, as far as they are set."""

    __slots__ = ("num_threads", "random_seed")

    def __init__(self, *, random_seed: int, num_threads: int) -> None:
        self.random_seed, self.num_threads = random_seed, num_threads


def test_the_global_mapper_asks_the_oldest_pycolmap_for_nothing_that_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = synthesize(tmp_path)
    asked: list[OldGlobalOptions] = []

    def global_mapping(database: Path, image_dir: Path, work: Path, options: OldGlobalOptions) -> dict[int, object]:
        asked.append(options)
        return {0: truth}

    monkeypatch.setattr(pycolmap, "GlobalPipelineOptions", OldGlobalOptions)
    monkeypatch.setattr(pycolmap, "global_mapping", global_mapping)
    answer = map_in_child(
        database=str(tmp_path / "database.db"),
        image_dir=str(tmp_path / "photos"),
        output=str(tmp_path / "out"),
        options=MappingOptions(mapper="global", principal_point="fixed", threads=1).to_dict(),
        report=lambda done, total: None,
        way="global",
    )
    assert [model["num_reg_images"] for model in answer["models"]] == [NUM_IMAGES]
    assert [(options.random_seed, options.num_threads) for options in asked] == [(0, 1)]


def test_a_mapper_that_pycolmap_lacks_is_an_error_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pycolmap, "hierarchical_mapping", raising=False)  # as in 4.0
    with pytest.raises(InputError, match="has no hierarchical mapper: choose another --mapper"):
        MappingOptions(mapper="hierarchical")


# --------------------------------------------------------------------------------- snapshots
KILLED = """
import os, signal, sys
from pathlib import Path
import lgsfm.mapping.mappers
from lgsfm.mapping import MappingOptions, map_in_child

lgsfm.mapping.mappers.SNAPSHOT_IMAGES = 3
folder = Path(sys.argv[1])

def report(done, total):
    if done == 10:
        os.kill(os.getpid(), signal.SIGKILL)

partial = folder / "sparse.partial"
map_in_child(
    database=str(folder / "database.db"), image_dir=str(folder / "photos"), output=str(partial / "incremental"),
    options=MappingOptions(threads=1).to_dict(), report=report, snapshots=str(partial / "snapshots"),
)
"""


def kill_while_mapping(folder: Path) -> list[Path]:
    """The snapshots that are left, the oldest first."""
    ended = subprocess.run([sys.executable, "-c", KILLED, str(folder)], stderr=subprocess.DEVNULL)
    assert ended.returncode == -signal.SIGKILL
    return sorted(path for path in (folder / "sparse.partial" / "snapshots").iterdir() if path.is_dir())


def test_a_killed_mapper_goes_on_and_gives_as_good_a_model(tmp_path: Path) -> None:
    synthesize(tmp_path, num_images=14)
    (snapshot,) = kill_while_mapping(tmp_path)
    held = pycolmap.Reconstruction(snapshot).num_reg_images()
    assert 6 <= held <= 10
    (model,) = mapped(tmp_path)
    assert (model.resumed_from, model.num_reg_images) == (held, 14)
    assert errors_px(tmp_path) < 1e-3
    assert mapping_note([model]) == f"Mapping went on from a model of {held} photos that a stopped run had left."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["database.db", "log", "photos", "sparse"]


def test_a_snapshot_of_another_database_is_not_used(tmp_path: Path) -> None:
    synthesize(tmp_path, num_images=14)
    kill_while_mapping(tmp_path)
    change_last_image(tmp_path, keep=40)
    (model,) = mapped(tmp_path)
    assert (model.resumed_from, model.num_reg_images) == (0, 14)


def test_a_snapshot_that_was_cut_off_is_not_used(tmp_path: Path) -> None:
    synthesize(tmp_path, num_images=14)
    (snapshot,) = kill_while_mapping(tmp_path)
    newer = snapshot.with_name(str(int(snapshot.name) + 1))
    newer.mkdir()
    (newer / "images.bin").write_bytes(b"half of it")
    held = pycolmap.Reconstruction(snapshot).num_reg_images()
    assert mapped(tmp_path)[0].resumed_from == held


@pytest.mark.parametrize("name", ["images.bin", "points3D.bin", "cameras.bin"])
def test_a_snapshot_with_a_wrong_byte_is_not_used(tmp_path: Path, name: str) -> None:
    synthesize(tmp_path, num_images=14)
    (snapshot,) = kill_while_mapping(tmp_path)
    content = bytearray((snapshot / name).read_bytes())
    content[len(content) // 2] ^= 1
    (snapshot / name).write_bytes(content)
    (model,) = mapped(tmp_path)
    assert (model.resumed_from, model.num_reg_images) == (0, 14)


def test_a_mapper_that_is_killed_twice_over_one_snapshot_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once may have been for want of memory, and the snapshot is hours of work."""
    synthesize(tmp_path, num_images=14)
    (snapshot,) = kill_while_mapping(tmp_path)
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(tmp_path))
        (tmp_path / "sitecustomize.py").write_text(
            "import os, sys\nif 'lgsfm.child' in sys.orig_argv:\n    import pycolmap\n"
            "    pycolmap.incremental_mapping = lambda *arguments, **options: os.abort()\n"
        )
        for is_left in (True, False):
            with pytest.raises(CrashError, match="SIGABRT"):
                mapped(tmp_path)
            assert snapshot.exists() == is_left
    (model,) = mapped(tmp_path)
    assert (model.resumed_from, model.num_reg_images) == (0, 14)


def test_a_model_within_another_one_is_no_split() -> None:
    pairs = {pair: VerifiedPair(50, 50, "calibrated") for pair in combinations("abcdef", 2)}
    graph = ViewGraph("abcdef", pairs)
    assert not missing_images(graph, ["abcdef", "bcd"], 3).is_any
    assert missing_images(graph, ["abcd", "cdef"], 3).num_split == 1
    assert missing_images(graph, ["bcd", "abcde"], 3) == Missing(("f",), 0, 6)
