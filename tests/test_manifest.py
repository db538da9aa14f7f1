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
from lgsfm.errors import CacheError, InputError
from lgsfm.files import read_json, write_json
from lgsfm.manifest import Contents, changed_since, make_manifest, match_digest_of, read_manifest, write_manifest
from lgsfm.manifest_comparison import Comparison, compare_outputs
from lgsfm.observer import Observer
from lgsfm.store import FeatureStore, MatchStore
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


# --------------------------------------------------------------------------------- whether it still holds
def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "model": (lambda out: flip_a_byte(out / "sparse/0/points3D.bin"), "sparse/0/points3D.bin"),
    "model that is gone": (lambda out: (out / "sparse/0/points3D.bin").unlink(), "sparse/0/points3D.bin"),
    "another file": (lambda out: (out / "sparse/0/mine.bin").write_text("x"), "sparse/0/mine.bin"),
    "pairs": (lambda out: (out / "pairs.txt").write_text(f"{PAIR[0]}\t{PAIR[1]}\n"), "pairs.txt"),
    "no pairs": (lambda out: (out / "pairs.txt").unlink(), "pairs.txt"),
    "no features": (lambda out: next(out.glob("features-*")).unlink(), f"features of {PHOTOS[0]}"),
    "no matches": (lambda out: next(out.glob("matches-*")).unlink(), "matches-nearest"),
    "no database": (lambda out: (out / "database.db").unlink(), "database.db"),
    "geometries": (lambda out: change_geometry(out), "database.db"),
    "matches": (lambda out: change_matches(out), "matches-nearest"),
    "options": (
        lambda out: write_json(
            out / "options.json", {**read_json(out / "options.json"), "extractor": {"extractor": "sift"}}
        ),
        "options.json",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_not_as_it_says_any_more_is_named(other: Path, finished: Path, name: str) -> None:
    change, what = CHANGES[name]
    assert changed_since(Workspace(other)) == []
    change(other)
    assert any(part.startswith(what) for part in changed_since(Workspace(other)))
    for ended in (run("manifest", other, "--check"), run("manifest", finished, other, "--check")):
        assert ended.code == 1
        assert f"'{other}' is not what its manifest says any more" in ended.err
        assert what in ended.err


def test_a_run_that_fails_before_it_changes_anything_leaves_it_true(finished: Path, other: Path) -> None:
    with pytest.raises(InputError):
        lgsfm.reconstruct(finished.parent / "images", other, **{**FLAGS, "pairs": str(other / "missing.txt")})
    assert read_manifest(other) == read_manifest(finished)


def test_a_run_that_fails_on_its_way_leaves_a_true_one(
    finished: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise CacheError("the disk is full")

    monkeypatch.setattr("lgsfm.run.map_database", fail)
    with pytest.raises(CacheError, match="full"):
        lgsfm.reconstruct(finished.parent / "images", other, **FLAGS)
    assert read_manifest(other)["models"] == read_manifest(finished)["models"]
    assert changed_since(Workspace(other)) == []


OTHER_PARTS = [{"images": {"a": {}}}, {"pairs": {}}, {"models": [1]}, {"weights": [{}]}, {"database": {"x": "y"}}]


@pytest.mark.parametrize("change", OTHER_PARTS)
def test_a_manifest_of_other_parts_is_no_manifest(other: Path, change: dict[str, Any]) -> None:
    write_json(other / "manifest.json", {**read_manifest(other), **change})
    with pytest.raises(InputError, match="is damaged: "):
        read_manifest(other)


def test_a_manifest_names_no_file_outside_of_the_folder(other: Path) -> None:
    known = read_manifest(other)
    write_json(other / "manifest.json", {**known, "matches": {**known["matches"], "file": "../matches.h5"}})
    with pytest.raises(InputError, match="is damaged: "):
        read_manifest(other)


# --------------------------------------------------------------------------------- the command
def test_the_command_ends_with_0_if_they_are_equal(finished: Path, other: Path) -> None:
    ended = run("manifest", finished, other)
    assert ended.code == 0
    assert ended.out == "They hold the same, bit by bit, as was noted when they were made (--check: and still do).\n"
    assert run("manifest", finished, other, "--check").code == 0


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
