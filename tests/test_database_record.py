"""What of a database can stay when photos, pairs or options change: equal to building it anew, and cheaper."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from lgsfm import database as database_module
from lgsfm.camera_groups import CameraGroup
from lgsfm.database import VerificationOptions, build_database, copy_pairs
from lgsfm.database_reading import matched_pairs, read_inlier_matches, read_verified_pairs
from lgsfm.database_record import DatabaseContent, DatabaseRecord
from lgsfm.errors import CacheError
from lgsfm.types import Features, Matches, Pair

SIZE, FOCAL_PX = (640, 480), 500.0
NAMES = ("b.jpg", "c.jpg", "d.jpg")
ALL = ("a.jpg", *NAMES)  # a comes first: all ids are others then


def scene(names: tuple[str, ...]) -> tuple[dict[str, Features], dict[Pair, Matches]]:
    """The same 80 points seen by cameras in a row, and all of their matches."""
    rng = np.random.default_rng(1)
    points = rng.uniform([-2, -1.5, 4], [2, 1.5, 8], (80, 3))
    features = {}
    for name in names:
        seen = points - [0.3 * "abcd".index(name[0]), 0, 0]
        pixels = FOCAL_PX * seen[:, :2] / seen[:, 2:] + np.array(SIZE) / 2
        features[name] = Features(
            pixels.astype(np.float32), np.zeros((80, 1), np.float32), np.ones(80, np.float32), SIZE, "toy"
        )
    rows = np.repeat(np.arange(80, dtype=np.int32)[:, None], 2, 1)
    return features, {pair: Matches(rows, np.ones(80, np.float32)) for pair in combinations(names, 2)}


def build(path: Path, names: tuple[str, ...], kept: set[Pair] | None = None) -> None:
    features, matches = scene(names)
    cameras = [CameraGroup(names, SIZE, FOCAL_PX, "toy")]
    log = path.with_name("log")
    build_database(path, features, matches, sorted(matches), cameras, kept=kept or set(), log_path=log)


def content_of(path: Path) -> list[object]:
    """All that the mapper sees, image by image and pair by pair."""
    database = pycolmap.Database.open(path)
    images = {image.image_id: image.name for image in database.read_all_images()}
    rows: list[object] = sorted((images[i], database.read_keypoints(i).tolist()) for i in images)
    for (i, name0), (j, name1) in combinations(sorted(images.items()), 2):
        geometry = database.read_two_view_geometry(i, j)
        rows.append((name0, name1, np.asarray(database.read_matches(i, j)).tolist(), int(geometry.config)))
        rows.append((np.asarray(geometry.inlier_matches).tolist(), str(geometry.cam2_from_cam1)))
    database.close()
    return rows


def test_an_image_is_added_and_only_its_pairs_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "whole.db", ALL)
    build(tmp_path / "grown.db", NAMES)
    verified = []
    import_matches = database_module.import_matches

    def watched(path: Path, features: object, matches: object, pairs: list[Pair], *more: object, **named: object):
        verified.extend(pairs)
        return import_matches(path, features, matches, pairs, *more, **named)

    monkeypatch.setattr(database_module, "import_matches", watched)
    build(tmp_path / "grown.db", ALL, kept=set(combinations(NAMES, 2)))
    assert verified == [("a.jpg", name) for name in NAMES]
    assert content_of(tmp_path / "grown.db") == content_of(tmp_path / "whole.db")


def test_pairs_that_the_old_database_lacks_are_made_though_they_may_be_kept(tmp_path: Path) -> None:
    build(tmp_path / "whole.db", ALL)
    build(tmp_path / "grown.db", NAMES)
    build(tmp_path / "grown.db", ALL, kept=set(combinations(ALL, 2)))
    assert content_of(tmp_path / "grown.db") == content_of(tmp_path / "whole.db")


def test_copying_from_what_is_no_database_is_a_cache_error(tmp_path: Path) -> None:
    build(tmp_path / "a.db", NAMES)
    (tmp_path / "b.db").write_bytes(b"no database" * 100)
    with pytest.raises(CacheError):
        copy_pairs(tmp_path / "b.db", tmp_path / "a.db", {("b.jpg", "c.jpg")})


# --------------------------------------------------------------------------------- reading
def test_relative_poses_are_those_of_the_cameras_in_either_order_of_ids(tmp_path: Path) -> None:
    build(tmp_path / "a.db", NAMES)
    found = read_verified_pairs(tmp_path / "a.db")
    assert set(found) == set(combinations(NAMES, 2)) == matched_pairs(tmp_path / "a.db")
    for pair in found.values():
        assert (pair.num_matches, pair.num_inliers, pair.is_verified) == (80, 80, True)
        np.testing.assert_allclose(pair.cam1_from_cam0, np.eye(3), atol=1e-3)
        np.testing.assert_allclose(pair.direction, [-1, 0, 0], atol=1e-3)  # the second camera is to the right
    with sqlite3.connect(tmp_path / "a.db") as database:  # as of another program, whose ids do not follow the names
        for name, number in (("x", 1), ("b.jpg", 3), ("d.jpg", 1)):
            database.execute("UPDATE images SET name = ? WHERE image_id = ?", (name, number))
    swapped = read_verified_pairs(tmp_path / "a.db")["b.jpg", "d.jpg"]
    np.testing.assert_allclose(swapped.direction, [1, 0, 0], atol=1e-3)
    assert len(read_inlier_matches(tmp_path / "a.db", "d.jpg", "b.jpg")) == 80
    assert len(read_inlier_matches(tmp_path / "a.db", "d.jpg", "none.jpg")) == 0


# --------------------------------------------------------------------------------- records
def content(names: tuple[str, ...] = NAMES, **changes: object) -> DatabaseContent:
    values: dict[str, object] = {
        "features": {name: f"features of {name}" for name in names},
        "cameras": [CameraGroup(names, SIZE, FOCAL_PX, "toy")],
        "camera_model": "SIMPLE_RADIAL",
        "pairs": list(combinations(names, 2)),
        "matches": "matches.h5",
        "verification": VerificationOptions(),
        "finer": {},
        **changes,
    }
    return DatabaseContent.of(**values)  # type: ignore[arg-type]


def record_of(known: DatabaseContent) -> DatabaseRecord:
    finer = [list(pair) for pair in known.finer]
    return DatabaseRecord(identity=known.identity, images=dict(known.images), finer=finer, origin=known.origin)


def test_a_photo_more_in_the_same_camera_keeps_all_old_pairs() -> None:
    grown = content(ALL)
    assert grown.identity != content().identity
    assert record_of(content()).kept_pairs(grown) & set(combinations(NAMES, 2)) == set(combinations(NAMES, 2))


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"features": {"b.jpg": "other", "c.jpg": "features of c.jpg", "d.jpg": "features of d.jpg"}}, 1),
        ({"cameras": [CameraGroup(NAMES, SIZE, 600.0, "toy")]}, 0),
        ({"camera_model": "OPENCV"}, 0),
        ({"matches": "other.h5"}, 0),
        ({"verification": VerificationOptions(min_inliers=20)}, 0),
        ({"finer": {("b.jpg", "c.jpg"): "finer matches"}}, 2),
        ({"pairs": [("b.jpg", "c.jpg")]}, 1),
    ],
)
def test_what_is_made_of_something_else_is_not_kept(changes: dict[str, object], kept: int) -> None:
    other = content(**changes)
    assert other.identity != content().identity
    assert len(record_of(content()).kept_pairs(other)) == kept


def test_a_pair_whose_finer_look_was_dropped_is_verified_again() -> None:
    finer = content(finer={("b.jpg", "c.jpg"): "finer matches"})
    assert record_of(finer).kept_pairs(content()) == {("b.jpg", "d.jpg"), ("c.jpg", "d.jpg")}


def test_a_record_is_of_its_database_only_while_nobody_touches_that(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    build(path, NAMES)
    record = DatabaseRecord.about(path, content())
    record = replace(record, flags={"features": "sift"})
    record.write(tmp_path / "a.json")
    again = DatabaseRecord.read(tmp_path / "a.json")
    assert again == record
    assert again.is_of(path)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM matches WHERE pair_id = (SELECT min(pair_id) FROM matches)")
    assert not again.is_of(path)
    assert not DatabaseRecord.read(tmp_path / "missing.json").is_of(path)


def test_a_camera_changed_in_the_database_makes_it_another_one(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    build(path, NAMES)
    record = DatabaseRecord.about(path, content())
    with sqlite3.connect(path) as database:  # keypoints, matches and geometries stay
        database.execute("UPDATE cameras SET width = width + 1")
    assert not record.is_of(path)
    assert not DatabaseRecord().is_of(tmp_path / "missing.db")


# --------------------------------------------------------------------------------- bringing up to date
def brought(
    tmp_path: Path, record: DatabaseRecord, wanted: DatabaseContent, names: tuple[str, ...]
) -> tuple[DatabaseRecord, set[Pair], list[set[Pair]]]:
    """What becomes of the record of ``a.db`` and what it kept, and what each building was told to keep."""
    asked = []

    def build_again(kept: set[Pair]) -> tuple[list[Pair], list[str]]:
        assert not (tmp_path / "a.json").exists()  # it would tell of what is being replaced, should we be killed
        asked.append(kept)
        build(tmp_path / "a.db", names, kept)
        return [("b.jpg", "d.jpg")], ["b and d look alike"]

    record.write(tmp_path / "a.json")
    found, kept = record.brought_up_to_date(tmp_path / "a.json", tmp_path / "a.db", wanted, build_again)
    return found, kept, asked


def test_a_database_of_what_is_wanted_stays(tmp_path: Path) -> None:
    build(tmp_path / "a.db", NAMES)
    record = DatabaseRecord.about(tmp_path / "a.db", content())
    found, kept, asked = brought(tmp_path, record, content(), NAMES)
    assert (found, kept, asked) == (record, set(combinations(NAMES, 2)), [])
    assert DatabaseRecord.read(tmp_path / "a.json") == record


def test_a_database_that_grows_keeps_what_is_right_and_has_a_record_of_its_own(tmp_path: Path) -> None:
    build(tmp_path / "a.db", NAMES)
    before = DatabaseRecord.about(tmp_path / "a.db", content())
    found, kept, asked = brought(tmp_path, before, content(ALL), ALL)
    assert set(combinations(NAMES, 2)) <= kept
    assert asked == [kept]
    assert found.identity == content(ALL).identity
    assert found.is_of(tmp_path / "a.db")
    assert found.report["num_verified"] == 6
    assert (found.dropped, found.doubts) == ([["b.jpg", "d.jpg"]], ["b and d look alike"])


@pytest.mark.parametrize("wanted", [NAMES, ALL])
def test_a_database_that_somebody_touched_is_put_beside_and_nothing_is_taken_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wanted: tuple[str, ...]
) -> None:
    caplog.set_level(logging.WARNING, "lgsfm")
    build(tmp_path / "a.db", NAMES)
    record = DatabaseRecord.about(tmp_path / "a.db", content())
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute("DELETE FROM matches WHERE pair_id = (SELECT min(pair_id) FROM matches)")
    found, kept, asked = brought(tmp_path, record, content(wanted), wanted)
    assert (kept, asked) == (set(), [set()])
    assert found.is_of(tmp_path / "a.db")
    with sqlite3.connect(tmp_path / "replaced" / "1" / "a.db") as database:  # whose work it may be
        assert database.execute("SELECT count(*) FROM matches").fetchone()[0] == len(NAMES) * (len(NAMES) - 1) // 2 - 1
    assert "a.db was changed since it was made" in caplog.text
