"""`--deterministic`: repeated, interrupted and extended runs come to the same bits."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli_helpers import copy_photos, run, run_process, views

import lgsfm
from lgsfm.errors import InputError
from lgsfm.manifest_comparison import compare_outputs
from lgsfm.observer import Observer
from lgsfm.types import Progress

SIFT = {"features": "sift", "max_edge_px": 800, "max_keypoints": 1000}
SIFT_FLAGS = ("--features", "sift", "--max-edge-px", "800", "--max-keypoints", "1000")
ALIKED_FLAGS = ("--features", "aliked", "--max-edge-px", "640", "--max-keypoints", "512")
REPEATED = ("features-*.h5", "matches-*.h5", "pairs.txt", "database.db", "manifest.json", "sparse/*/*")


def files_of(output: Path, patterns: tuple[str, ...] = REPEATED) -> dict[str, bytes]:
    """Name -> bytes of the files that a repeated run is to give again."""
    found = {
        path.relative_to(output).as_posix(): path.read_bytes()
        for pattern in patterns
        for path in output.glob(pattern)
        if path.is_file()
    }
    assert {"pairs.txt", "sparse/0/points3D.bin", "sparse/0/images.bin"} <= set(found)
    return found


def differing(output0: Path, output1: Path, patterns: tuple[str, ...] = REPEATED) -> list[str]:
    """The files that differ byte by byte."""
    files0, files1 = files_of(output0, patterns), files_of(output1, patterns)
    return sorted(name for name in files0.keys() | files1.keys() if files0.get(name) != files1.get(name))


def tables_of(output: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of the database; its bytes also count how often somebody opened it, as an interrupted mapper did."""
    with closing(sqlite3.connect(output / "database.db")) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in names}


@pytest.fixture(scope="module")
def images(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_photos(courtyard / "images", tmp_path_factory.mktemp("photos") / "images", views(0, 1, 2, 3, 4))


@pytest.fixture(scope="module")
def reference(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deterministic run, in a process of its own."""
    output = tmp_path_factory.mktemp("reference") / "out"
    ended = run_process("reconstruct", images, "-o", output, *SIFT_FLAGS, "--deterministic", PYTHONHASHSEED="1")
    assert ended.code == 0, ended.err
    return output


def test_a_repeated_run_gives_the_same_files_byte_by_byte(images: Path, reference: Path, tmp_path: Path) -> None:
    output = tmp_path / "elsewhere"
    ended = run_process("reconstruct", images, "-o", output, *SIFT_FLAGS, "--deterministic", PYTHONHASHSEED="2")
    assert ended.code == 0, ended.err
    assert differing(reference, output) == []


class Interrupter(Observer):
    """Presses Ctrl-C once a stage has done so many items."""

    def __init__(self, stage: str, count: int) -> None:
        self.stage, self.count = stage, count

    def progress(self, stage: str) -> Progress | None:
        def report(done: int, total: int) -> None:
            if stage == self.stage and done >= self.count:
                raise KeyboardInterrupt

        return report


@pytest.fixture(params=[("extract", 2), ("match", 3), ("map", 3)], ids=lambda moment: moment[0])
def interrupted(request: pytest.FixtureRequest, images: Path, tmp_path: Path) -> Path:
    """An output whose first run was interrupted, and whose second run had other threads and another batch size."""
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        lgsfm.reconstruct(images, output, observer=Interrupter(*request.param), deterministic=True, **SIFT)
    assert not (output / "sparse").exists()
    assert not (output / "manifest.json").exists()
    lgsfm.reconstruct(images, output, deterministic=True, threads=2, batch_size=3, **SIFT)
    return output


def test_an_interrupted_run_comes_to_the_same(reference: Path, interrupted: Path) -> None:
    found = compare_outputs(reference, interrupted)
    assert found.is_equal, found.results
    assert [each.part for each in found.causes] == ["options"]  # threads and batch size
    assert tables_of(reference) == tables_of(interrupted)
    assert differing(reference, interrupted, ("pairs.txt", "sparse/*/*")) == []


def test_photos_that_are_added_come_to_the_same(images: Path, reference: Path, tmp_path: Path) -> None:
    few = copy_photos(images, tmp_path / "images", views(0, 2, 3, 4))
    output = tmp_path / "out"
    lgsfm.reconstruct(few, output, deterministic=True, **SIFT)
    copy_photos(images, few, views(1))  # in the middle: all ids behind it move
    summary = lgsfm.reconstruct(few, output, deterministic=True, **SIFT)
    assert summary.reused["database"] == 6
    assert compare_outputs(reference, output).is_equal
    assert tables_of(reference) == tables_of(output)
    assert differing(reference, output, ("pairs.txt", "sparse/*/*")) == []


@pytest.mark.slow
def test_networks_give_the_same_on_any_number_of_cores_and_in_any_company(images: Path, tmp_path: Path) -> None:
    flags = (*ALIKED_FLAGS, "--deterministic")
    for name, more in (("all", ()), ("again", ()), ("one", ("--threads", "1", "--batch-size", "1"))):
        ended = run_process("reconstruct", images, "-o", tmp_path / name, *flags, *more)
        assert ended.code == 0, ended.err
    assert differing(tmp_path / "all", tmp_path / "again") == []
    assert compare_outputs(tmp_path / "all", tmp_path / "one").is_equal
    content = ("features-*.h5", "pairs.txt", "database.db", "sparse/*/*")  # matches lie in the file batch by batch
    assert differing(tmp_path / "all", tmp_path / "one", content) == []


# --------------------------------------------------------------------------------- choices
def test_entries_of_other_runs_are_not_taken_over(images: Path, reference: Path, tmp_path: Path) -> None:
    stores = {path.name for path in reference.glob("*.h5")}
    assert run("extract", images, "-o", tmp_path / "out", *SIFT_FLAGS).code == 0
    (plain,) = (tmp_path / "out").glob("features-*.h5")
    assert plain.name not in stores
    extended = run("extract", images, "-o", tmp_path / "out", *SIFT_FLAGS, "--deterministic")
    assert "5 computed, 0 reused" in extended.out
    assert {path.name for path in (tmp_path / "out").glob("features-*.h5")} - stores == {plain.name}


def test_later_stages_stay_deterministic(reference: Path) -> None:
    options = json.loads((reference / "options.json").read_text(encoding="utf-8"))
    assert options["flags"]["deterministic"] is True
    assert options["mapping"]["threads"] == 1
    assert options["extractor"]["deterministic"] is options["matcher"]["deterministic"] is True


@pytest.mark.parametrize("flags", [{"seed": -1}, {"budget": "10min"}])
def test_what_cannot_be_repeated_is_refused(flags: dict[str, object]) -> None:
    lgsfm.Settings.from_flags(flags)
    with pytest.raises(InputError, match="--deterministic"):
        lgsfm.Settings.from_flags({**flags, "deterministic": True})


def test_the_identity_of_other_runs_is_what_it_was() -> None:
    settings = lgsfm.Settings.from_flags(SIFT)
    extractor = settings.make_extractor("sift")
    assert settings.identity_of(extractor) == extractor.identity
    deterministic = settings.changed({"deterministic": True})
    assert deterministic.identity_of(extractor) == {**extractor.identity, "deterministic": True}
