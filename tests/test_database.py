"""Databases that cannot be written, are damaged or were edited."""

from __future__ import annotations

import resource
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from lgsfm.camera_groups import CameraGroup
from lgsfm.database import VerificationOptions, build_database, for_matcher, import_matches
from lgsfm.database_reading import (
    fingerprint,
    matched_pairs,
    open_inlier_matches,
    read_inlier_matches,
    read_verified_pairs,
)
from lgsfm.errors import CacheError
from lgsfm.types import Features, Matches

SIZE = (320, 240)
NAMES = ("a.jpg", "b.jpg")


def features_of(count: int) -> dict[str, Features]:
    rng = np.random.default_rng(0)
    points = (rng.random((count, 2)) * SIZE).astype(np.float32)
    return {name: Features(points, np.zeros((count, 1)), np.ones(count, np.float32), SIZE, "toy") for name in NAMES}


def matches_of(count: int) -> dict[tuple[str, str], Matches]:
    return {NAMES: Matches(np.repeat(np.arange(count, dtype=np.int32)[:, None], 2, 1), np.ones(count, np.float32))}


GROUP = [CameraGroup(NAMES, SIZE, 400.0, "toy")]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "a folder é %20?#" / "database.db"
    path.parent.mkdir()
    build_database(path, features_of(50), matches_of(50), [NAMES], GROUP, log_path=tmp_path / "log")
    return path


# --------------------------------------------------------------------------------- writing
def test_a_full_disk_is_a_cache_error_and_colmap_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(CacheError, match=r"x\.db cannot be written: .*(SQLite|sqlite).*disk space"):
            import_matches(tmp_path / "x.db", features_of(60_000), {}, [], GROUP)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_is_not_there_is_a_cache_error_and_colmap_is_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    level = pycolmap.logging.minloglevel
    with pytest.raises(CacheError, match="cannot be written"):
        import_matches(tmp_path / "missing" / "x.db", features_of(5), {}, [], GROUP)
    assert capfd.readouterr() == ("", "")
    assert pycolmap.logging.minloglevel == level


# --------------------------------------------------------------------------------- fingerprints
def test_reading_leaves_the_fingerprint_and_the_folder_as_they_are(database: Path) -> None:
    before = fingerprint(database)
    pycolmap.Database.open(database).close()
    assert before == fingerprint(database) != ""
    assert [path.name for path in database.parent.iterdir()] == ["database.db"]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM two_view_geometries",
        "DELETE FROM matches",
        "DELETE FROM keypoints WHERE image_id = 1",
        "UPDATE images SET name = 'c.jpg' WHERE image_id = 1",
        "UPDATE cameras SET prior_focal_length = 0",
        "DROP TABLE keypoints",
    ],
)
def test_an_edited_database_has_another_fingerprint(database: Path, change: str) -> None:
    before = fingerprint(database)
    connection = sqlite3.connect(database)
    connection.execute(change)
    connection.commit()
    connection.close()
    assert fingerprint(database) != before


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_database_is_damaged(database: Path, share: float) -> None:
    whole = database.read_bytes()
    database.write_bytes(whole[: int(share * len(whole))])
    assert fingerprint(database) == ""


def test_no_database_has_no_fingerprint(tmp_path: Path) -> None:
    assert fingerprint(tmp_path / "database.db") == ""
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------- sure and unsure pairs
@pytest.mark.parametrize(
    ("confidence", "least", "is_verified"), [(0.2, 0.3, False), (0.4, 0.3, True), (0.2, 0.0, True)]
)
def test_matches_that_are_unsure_make_no_pair_and_are_still_told(
    tmp_path: Path, confidence: float, least: float, is_verified: bool
) -> None:
    matches = {NAMES: replace(matches_of(50)[NAMES], scores=np.full(50, confidence, np.float32))}
    path = tmp_path / "x.db"
    options = VerificationOptions(min_confidence=least)
    report = build_database(path, world(50), matches, [NAMES], GROUP, verification=options, log_path=tmp_path / "log")
    (found,) = read_verified_pairs(path).values()
    assert (found.num_matches, found.is_verified) == (50, is_verified)
    assert (report.num_pairs, report.num_verified) == (1, int(is_verified))


def world(count: int) -> dict[str, Features]:
    """The same points seen by two cameras beside each other."""
    points = np.random.default_rng(3).uniform([-2, -1.5, 4], [2, 1.5, 8], (count, 3))
    features = {}
    for shift, name in zip((0, 0.5), NAMES, strict=True):
        seen = points - [shift, 0, 0]
        pixels = (400 * seen[:, :2] / seen[:, 2:] + np.array(SIZE) / 2).astype(np.float32)
        features[name] = Features(pixels, np.zeros((count, 1)), np.ones(count, np.float32), SIZE, "toy")
    return features


def test_the_confidence_that_is_asked_for_is_that_of_the_matcher() -> None:
    assert for_matcher(VerificationOptions(), "lightglue").min_confidence == 0.35
    assert for_matcher(VerificationOptions(), "nearest").min_confidence == 0
    assert for_matcher(VerificationOptions(min_confidence=0.1), "lightglue").min_confidence == 0.1


# --------------------------------------------------------------------------------- reading
@pytest.mark.parametrize("error", [KeyError("a name"), ValueError("a shape")])
def test_an_error_of_who_reads_the_matches_stays_what_it_is(database: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as raised, open_inlier_matches(database):
        raise error
    assert raised.value is error
    with pytest.raises(CacheError, match="cannot be read"), open_inlier_matches(database):
        raise sqlite3.DatabaseError("malformed")


def test_rows_that_do_not_fit_together_are_a_cache_error(database: Path) -> None:
    connection = sqlite3.connect(database)
    connection.execute("UPDATE two_view_geometries SET data = x'00010203', rows = 1, qvec = x'00', tvec = x'00'")
    connection.commit()
    with open_inlier_matches(database) as inliers, pytest.raises(CacheError, match="cannot be read"):
        inliers[NAMES]
    for read in (read_verified_pairs, lambda path: read_inlier_matches(path, *NAMES)):
        with pytest.raises(CacheError, match="cannot be read"):
            read(database)
    connection.execute("DELETE FROM images WHERE image_id = 1")
    connection.commit()
    connection.close()
    with open_inlier_matches(database) as inliers, pytest.raises(CacheError, match="cannot be read"):
        list(inliers)
    for read in (read_verified_pairs, matched_pairs):
        with pytest.raises(CacheError, match="cannot be read"):
            read(database)
