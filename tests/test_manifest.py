"""``manifest.json`` tells what an output was made of and by; `lgsfm manifest` where two outputs part, and why."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import copy_photos, run, views

import lgsfm
from lgsfm import manifest as module
from lgsfm.database_reading import pair_id
from lgsfm.errors import InputError
from lgsfm.files import read_json, write_json
from lgsfm.manifest import Contents, make_manifest, read_manifest, write_manifest
from lgsfm.manifest_comparison import Comparison, compare_outputs
from lgsfm.observer import Observer
from lgsfm.store import FeatureStore, MatchStore, match_digest_of
from lgsfm.types import Features, Matches
from lgsfm.workspace import Workspace

FLAGS = {"features": "sift", "max_edge_px": 640, "max_keypoints": 500, "min_model_size": 2, "deterministic": True}
PHOTOS = views(0, 1, 2)
PAIR = (PHOTOS[0], PHOTOS[2])


@pytest.fixture(scope="module")
def finished(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run; the photos lie beside it."""
    folder = tmp_path_factory.mktemp("manifest")
    images = copy_photos(courtyard / "images", folder / "images", PHOTOS)
    lgsfm.reconstruct(images, folder / "out", **FLAGS)
    return folder / "out"


@pytest.fixture
def other(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return shutil.copytree(finished, tmp_path / "other")


def parts(found: Comparison) -> tuple[list[str], list[str]]:
    return [each.part for each in found.results], [each.part for each in found.causes]


# --------------------------------------------------------------------------------- what is in it
def test_it_tells_what_the_output_was_made_of_and_by(finished: Path) -> None:
    found = read_manifest(finished)
    with FeatureStore(next(finished.glob("features-*.h5"))) as store:
        for name, row in found["images"].items():
            features = store[name]
            assert row["source"] == features.source
            assert (row["keypoints"], row["features"]) == (len(features), features.digest)
    assert sorted(found["images"]) == PHOTOS
    assert found["pairs"]["count"] == found["matches"]["count"] == 3
    assert (finished / found["matches"]["file"]).is_file()
    assert found["options"]["verification"]["max_error_px"] == 4.0  # a default
    assert found["components"]["extractor"]["options"]["max_keypoints"] == 500
    assert found["lgsfm"]["version"] == lgsfm.__version__
    assert all(found["libraries"].values())
    assert {name for name in found["models"] if name.startswith("0/")} >= {"0/cameras.bin", "0/points3D.bin"}


def test_weights_come_with_hash_and_licence(finished: Path, other: Path) -> None:
    rows = [{"name": "a.pth", "sha256": "ab", "licence": "BSD-3-Clause"}]
    write_json(other / "summary.json", {**read_json(other / "summary.json"), "weights": rows})
    assert make_manifest(Workspace(other), Contents(PHOTOS))["weights"] == rows


def test_it_is_not_there_while_it_would_not_be_true(finished: Path, other: Path) -> None:
    class Interrupter(Observer):
        def progress(self, stage: str) -> Any:
            if stage == "map":
                raise KeyboardInterrupt

    images = finished.parent / "images"
    with pytest.raises(KeyboardInterrupt):
        lgsfm.reconstruct(images, other, observer=Interrupter(), **FLAGS)
    with pytest.raises(InputError, match="interrupted"):
        read_manifest(other)
    lgsfm.reconstruct(images, other, **FLAGS)
    assert compare_outputs(finished, other).is_equal


def test_a_stage_alone_tells_of_what_is_there_by_then(finished: Path, tmp_path: Path) -> None:
    images, sizes = finished.parent / "images", ("--max-edge-px", "640", "--max-keypoints", "500")
    assert run("extract", images, "-o", tmp_path / "out", "--features", "sift", *sizes, "--deterministic").code == 0
    found = read_manifest(tmp_path / "out")
    assert found["images"] == read_manifest(finished)["images"]
    assert (found["pairs"]["count"], found["matches"]["count"], found["database"], found["models"]) == (0, 0, {}, {})
    assert run("pairs", images, "-o", tmp_path / "out").code == 0
    assert read_manifest(tmp_path / "out")["pairs"] == read_manifest(finished)["pairs"]
    assert run("match", images, "-o", tmp_path / "out").code == 0
    assert read_manifest(tmp_path / "out")["matches"] == read_manifest(finished)["matches"]


def test_a_manifest_of_a_later_format_is_not_misread(other: Path) -> None:
    write_json(other / "manifest.json", {**read_manifest(other), "format": 99})
    with pytest.raises(InputError, match="format 99"):
        read_manifest(other)


# --------------------------------------------------------------------------------- where two part
def rerun(other: Path, images: Path, **flags: object) -> None:
    lgsfm.reconstruct(images, other, **{**FLAGS, **flags})


def write_anew(output: Path) -> None:
    """The manifest of an output whose files were changed."""
    old = read_manifest(output)
    pairs = [(PHOTOS[i], PHOTOS[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    features = next(output.glob("features-*.h5")).name
    write_manifest(Workspace(output), Contents(list(old["images"]), features, pairs, old["matches"]["file"]))


def change_features(output: Path) -> None:
    with FeatureStore(next(output.glob("features-*.h5")), {}) as store:
        first = store[PHOTOS[1]]
        store[PHOTOS[1]] = first.subset(np.arange(len(first) - 1))


def change_matches(output: Path) -> None:
    with MatchStore(next(output.glob("matches-*.h5")), {}) as store:
        found = store[PAIR]
        store[PAIR] = Matches(found.indices, found.scores * np.float32(0.999), found.sources)


def change_geometry(output: Path) -> None:
    change = "UPDATE two_view_geometries SET qvec = ? WHERE pair_id = ?"
    with closing(sqlite3.connect(output / "database.db")) as database:
        database.execute(change, (np.eye(4)[0].tobytes(), pair_id(2, 3)))
        database.commit()


def change_model(output: Path) -> None:
    path = output / "sparse" / "0" / "points3D.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


@pytest.mark.parametrize(
    ("change", "part", "detail"),
    [
        (change_features, "features", f"{PHOTOS[1]}: 500 and 499 keypoints"),
        (change_matches, "matches", f"{PAIR[0]} {PAIR[1]}: other matches"),
        (change_geometry, "database", f"{PHOTOS[1]} {PHOTOS[2]}: "),
        (change_model, "models", "sparse/0/points3D.bin: other bytes"),
    ],
)
def test_what_differs_is_named(
    finished: Path, other: Path, change: Callable[[Path], None], part: str, detail: str
) -> None:
    change(other)
    write_anew(other)
    found = compare_outputs(finished, other)
    assert parts(found) == ([part], [])
    assert found.results[0].details[0].startswith(detail)


def test_another_photo_is_told_as_such_and_not_as_other_features(
    finished: Path, other: Path, courtyard: Path, tmp_path: Path
) -> None:
    images = shutil.copytree(finished.parent / "images", tmp_path / "images")
    shutil.copy(courtyard / "images" / views(4)[0], images / PHOTOS[0])
    rerun(other, images)
    results, causes = parts(compare_outputs(finished, other))
    assert (results[0], causes) == ("photos", [])
    assert "features" not in results
    assert "matches" in results


def test_a_photo_more_is_named(finished: Path, other: Path, courtyard: Path, tmp_path: Path) -> None:
    images = shutil.copytree(finished.parent / "images", tmp_path / "images")
    copy_photos(courtyard / "images", images, views(4))
    rerun(other, images)
    found = compare_outputs(finished, other)
    assert found.results[0].details == [f"{views(4)[0]}: only in the second"]
    assert [each.part for each in found.results][:3] == ["photos", "pairs", "matches"]


def test_other_options_are_causes_even_where_nothing_came_of_them(finished: Path, other: Path) -> None:
    rerun(other, finished.parent / "images", batch_size=2)
    found = compare_outputs(finished, other)
    assert found.is_equal
    assert [(each.part, each.details) for each in found.causes] == [("options", ["run.batch_size: 0 and 2"])]


def test_another_option_of_a_component_is_found_with_what_came_of_it(finished: Path, other: Path) -> None:
    rerun(other, finished.parent / "images", max_keypoints=400)
    found = compare_outputs(finished, other)
    assert parts(found)[0][:2] == ["features", "matches"]
    assert [each.details for each in found.causes] == [["extractor.options.max_keypoints: 500 and 400"]]


def test_another_seed_parts_at_the_database(finished: Path, other: Path) -> None:
    rerun(other, finished.parent / "images", seed=7)
    results, causes = parts(compare_outputs(finished, other))
    assert results[0] == "database"
    assert causes == ["options"]


@pytest.mark.parametrize(("part", "key"), [("libraries", "torch"), ("machine", "processor"), ("lgsfm", "code")])
def test_other_versions_and_machines_are_causes(finished: Path, other: Path, part: str, key: str) -> None:
    changed = read_manifest(other)
    known = changed[part][key]
    write_json(other / "manifest.json", {**changed, part: {**changed[part], key: "another"}})
    (cause,) = compare_outputs(finished, other).causes
    assert (cause.part, cause.details) == (part, [f"{key}: {known} and another"])


def test_without_the_stores_it_still_says_in_which_stage(finished: Path, other: Path) -> None:
    change_matches(other)
    write_anew(other)
    next(other.glob("matches-*.h5")).unlink()
    (found,) = compare_outputs(finished, other).results
    assert (found.part, found.details) == ("matches", [])
    assert "cannot be told" in found.summary


def test_the_source_code_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "manifest.py"))
    before = module.code_digest.__wrapped__()
    (tmp_path / "a.py").write_text("x = 2\n")
    assert module.code_digest.__wrapped__() != before


# --------------------------------------------------------------------------------- the command
def test_the_command_ends_with_0_if_they_are_equal(finished: Path, other: Path) -> None:
    ended = run("manifest", finished, other)
    assert (ended.code, ended.out) == (0, "They hold the same, bit by bit.\n")


def test_the_command_ends_with_1_and_says_where_they_part(finished: Path, other: Path) -> None:
    change_matches(other)
    change_model(other)
    write_anew(other)
    ended = run("manifest", finished, other)
    assert ended.code == 1
    first, second, third, *_ = ended.out.splitlines()
    assert (first, second) == ("They part at: matches, 1 of 3 differ", f"  {PAIR[0]} {PAIR[1]}: other matches")
    assert third.startswith("Then also: models")
    told = json.loads(run("manifest", finished, other, "--json").out)
    assert told["is_equal"] is False
    assert [each["part"] for each in told["results"]] == ["matches", "models"]


def test_the_command_shows_one_manifest(finished: Path) -> None:
    told = run("manifest", finished, "--json")
    assert (told.code, json.loads(told.out)) == (0, read_manifest(finished))
    text = run("manifest", finished).out
    for word in (lgsfm.__version__, "sift", "max_keypoints 500", "seed 0", "of 3 photos", "sparse/0/points3D.bin"):
        assert word in text


def test_a_folder_without_manifest_is_explained(tmp_path: Path) -> None:
    ended = run("manifest", tmp_path)
    assert (ended.code, ended.out) == (1, "")
    assert "has no manifest.json" in ended.err


def test_the_help_begins_with_an_example() -> None:
    assert "Example: lgsfm manifest" in run("manifest", "--help").out


# --------------------------------------------------------------------------------- stored hashes
def test_matches_of_older_versions_are_hashed_when_asked_for(tmp_path: Path) -> None:
    found = Matches(np.array([[0, 1]], np.int32), np.array([0.5], np.float32), ("a", "b"))
    with MatchStore(tmp_path / "m.h5", {}) as store:
        store["x", "y"] = found
        assert store.attribute(("x", "y"), "digest") == found.digest
        del store.file["x/y"].attrs["digest"]
        assert match_digest_of(store, ("x", "y")) == found.digest
        assert match_digest_of(store, ("x", "z")) is None


def test_the_hash_of_matches_sees_indices_and_scores() -> None:
    indices, scores = np.array([[0, 1], [2, 3]], np.int32), np.array([0.5, 0.25], np.float32)
    others = [
        Matches(indices + np.int32(1), scores),
        Matches(indices, scores + np.float32(1e-7)),
        Matches(indices[:1], scores[:1]),
    ]
    assert len({Matches(indices, scores).digest, *(each.digest for each in others)}) == 4
    assert Matches(indices, scores, ("a", "b")).digest == Matches(indices, scores).digest


def test_a_photo_without_features_is_not_in_it(tmp_path: Path) -> None:
    with FeatureStore(tmp_path / "f.h5", {}) as store:
        one = np.zeros((1, 2), np.float32), np.ones((1, 4), np.float32), np.zeros(1, np.float32)
        store["a.jpg"] = Features(*one, (8, 8), "sift")
    found = make_manifest(Workspace(tmp_path), Contents(["a.jpg", "b.jpg"], "f.h5"))
    assert list(found["images"]) == ["a.jpg"]
