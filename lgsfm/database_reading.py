"""What is in a COLMAP database, above all what geometric verification made of the pairs.

Read as tables and without the blobs of matches: of a million pairs the numbers fit in memory, the matches do not.
"""

from __future__ import annotations

import hashlib
import shlex
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import CacheError
from .options import digest
from .types import Pair, canonical_pair

__all__ = [
    "DatabaseReport",
    "InlierMatches",
    "VerifiedPair",
    "checksum",
    "fingerprint",
    "geometry_digest",
    "matched_pairs",
    "open_inlier_matches",
    "pair_id",
    "read_inlier_matches",
    "read_verified_pairs",
    "report_on",
]

READING_ERRORS = (sqlite3.Error, OSError, UnicodeDecodeError)  # the last of a damaged name
WRONG_ROWS = (KeyError, ValueError)  # of numbers of images that are not there, and of blobs of other sizes
MAX_IMAGES = 2147483647  # COLMAP: pair_id = id1 * MAX_IMAGES + id2, with id1 < id2
KINDS = {  # COLMAP's configurations of two views
    0: "undefined",
    1: "degenerate",
    2: "calibrated",
    3: "uncalibrated",
    4: "planar",
    5: "panoramic",
    6: "planar or panoramic",
    7: "watermark",
    8: "multiple",
}


@dataclass(frozen=True)
class DatabaseReport:
    """What is in a database."""

    num_images: int
    num_pairs: int  # with matches
    num_verified: int  # of them with a two-view geometry
    num_inliers: int


@dataclass(frozen=True, eq=False)
class VerifiedPair:
    """What is known of one matched pair.

    num_matches: found by the matcher
    num_inliers: of them those that agree with one geometry of the two views; 0: none was found
    kind: of the geometry, in words
    cam1_from_cam0: (3, 3) float64 rotation, None where no relative pose was found
    direction: (3,) float64 unit translation of cam1_from_cam0, zeros if the camera turned on the spot, None likewise
    """

    num_matches: int
    num_inliers: int
    kind: str = "undefined"
    cam1_from_cam0: np.ndarray | None = None
    direction: np.ndarray | None = None

    @property
    def is_verified(self) -> bool:
        """Whether the two views have a geometry that the mapper can use."""
        return self.num_inliers > 0 and self.kind not in ("degenerate", "watermark", "undefined")


def pair_id(id0: int, id1: int) -> int:
    """COLMAP's number of a pair of images."""
    return min(id0, id1) * MAX_IMAGES + max(id0, id1)


def report_on(path: Path) -> DatabaseReport:
    """What is in a database, in figures.

    Raises:
        CacheError: it cannot be read.
    """
    with _opened(path) as database:
        counts = [database.execute(query).fetchone()[0] for query in COUNTS]
    return DatabaseReport(*(int(count or 0) for count in counts))


COUNTS = (
    "SELECT count(*) FROM images",
    "SELECT count(*) FROM matches WHERE rows > 0",
    "SELECT count(*) FROM two_view_geometries WHERE rows > 0",
    "SELECT sum(rows) FROM two_view_geometries",
)


def matched_pairs(path: Path) -> set[Pair]:
    """The pairs with matches, by the names of their images, the lesser first.

    Raises:
        CacheError: the database cannot be read.
    """
    with _opened(path) as database, _unreadable(path, *WRONG_ROWS):
        names = dict(database.execute("SELECT image_id, name FROM images"))
        ids = [divmod(row[0], MAX_IMAGES) for row in database.execute("SELECT pair_id FROM matches WHERE rows > 0")]
        return {canonical_pair(names[first], names[second]) for first, second in ids}


def read_verified_pairs(path: Path) -> dict[Pair, VerifiedPair]:
    """Each pair with matches, by the names of its images, the lesser first; where verification failed, without inliers.

    Raises:
        CacheError: the database cannot be read.
    """
    with _opened(path) as database, _unreadable(path, *WRONG_ROWS):
        names = dict(database.execute("SELECT image_id, name FROM images"))
        found = {}
        for pair_id, matches, inliers, config, qvec, tvec in database.execute(ALL_PAIRS):
            first, second = divmod(pair_id, MAX_IMAGES)
            rotation, direction = _pose(qvec, tvec, is_swapped=names[first] > names[second])
            found[canonical_pair(names[first], names[second])] = VerifiedPair(
                matches, inliers or 0, KINDS.get(config or 0, "undefined"), rotation, direction
            )
    return found


ALL_PAIRS = """
    SELECT matches.pair_id, matches.rows, geometry.rows, geometry.config, geometry.qvec, geometry.tvec
    FROM matches LEFT JOIN two_view_geometries AS geometry ON geometry.pair_id = matches.pair_id
    WHERE matches.rows > 0 ORDER BY matches.pair_id
"""


def _pose(
    qvec: bytes | None, tvec: bytes | None, *, is_swapped: bool
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Rotation and unit translation of cam1_from_cam0 from COLMAP's quaternion (w, x, y, z) and translation."""
    if not qvec or not tvec:
        return None, None
    (w, x, y, z), translation = np.frombuffer(qvec), np.frombuffer(tvec)
    length = float(np.linalg.norm(translation))
    direction = translation / length if length else np.zeros(3)  # the camera may have turned on the spot
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return (rotation.T, -rotation.T @ direction) if is_swapped else (rotation, direction)


def read_inlier_matches(path: Path, name0: str, name1: str) -> np.ndarray:
    """The verified matches (K, 2) int64 of two images, in the order of the names; none where there is no geometry.

    Raises:
        CacheError: the database cannot be read.
    """
    with _opened(path) as database, _unreadable(path, *WRONG_ROWS):
        ids = dict(database.execute("SELECT name, image_id FROM images WHERE name IN (?, ?)", (name0, name1)))
        if len(ids) < 2:
            return np.zeros((0, 2), np.int64)
        row = database.execute(
            "SELECT data FROM two_view_geometries WHERE pair_id = ?", (pair_id(*ids.values()),)
        ).fetchone()
        matches = np.frombuffer(row[0] if row and row[0] else b"", np.uint32).reshape(-1, 2).astype(np.int64)
    return matches[:, ::-1] if ids[name0] > ids[name1] else matches


class InlierMatches(Mapping[Pair, np.ndarray]):
    """The verified matches of each pair with a geometry, (K, 2) int64, read one by one; from `open_inlier_matches`."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database, self._path = database, path
        self._ids = dict(database.execute("SELECT name, image_id FROM images"))
        self._names = {image_id: name for name, image_id in self._ids.items()}

    def __getitem__(self, pair: Pair) -> np.ndarray:
        first, second = self._ids[pair[0]], self._ids[pair[1]]
        row = self._database.execute(
            "SELECT data FROM two_view_geometries WHERE pair_id = ? AND rows > 0", (pair_id(first, second),)
        ).fetchone()
        if row is None:
            raise KeyError(pair)
        with _unreadable(self._path, *WRONG_ROWS):
            matches = np.frombuffer(row[0], np.uint32).reshape(-1, 2).astype(np.int64)
        return matches[:, ::-1] if first > second else matches

    def __iter__(self) -> Iterator[Pair]:
        for (number,) in self._database.execute("SELECT pair_id FROM two_view_geometries WHERE rows > 0"):
            with _unreadable(self._path, *WRONG_ROWS):
                pair = canonical_pair(*(self._names[image] for image in divmod(number, MAX_IMAGES)))
            yield pair

    def __len__(self) -> int:
        (count,) = self._database.execute("SELECT count(*) FROM two_view_geometries WHERE rows > 0").fetchone()
        return int(count)


@contextmanager
def open_inlier_matches(path: Path) -> Iterator[InlierMatches]:
    """The verified matches of all pairs, for as long as the block lasts.

    Raises:
        CacheError: the database cannot be read.
    """
    with _opened(path) as database:
        yield InlierMatches(database, path)


def fingerprint(path: Path) -> str:
    """Hash of what a database holds: images, cameras, the number of keypoints, matches, inliers; "" if it is damaged.

    Not of size and time, which COLMAP changes when it opens a database for reading.
    """
    try:
        with _opened(path) as database:
            if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                return ""
            return digest([database.execute(query).fetchall() for query in CONTENT])
    except (CacheError, TypeError):  # bytes where a text or number was
        return ""


CONTENT = (
    "SELECT image_id, name, camera_id FROM images ORDER BY image_id",
    "SELECT camera_id, model, width, height, hex(params), prior_focal_length FROM cameras ORDER BY camera_id",
    "SELECT count(*), sum(rows) FROM keypoints",
    "SELECT count(*), sum(rows) FROM matches",
    "SELECT count(*), sum(rows), sum(config) FROM two_view_geometries",
)


def geometry_digest(path: Path) -> str:
    """Hash of the geometries of all pairs: their kinds, numbers of inliers, matrices and poses.

    They are made of the inliers, but far smaller: other inliers give other matrices.

    Raises:
        CacheError: the database cannot be read.
    """
    found = hashlib.sha256()
    with _opened(path) as database:
        for row in database.execute(GEOMETRIES):
            found.update(repr(row).encode())
    return found.hexdigest()


GEOMETRIES = "SELECT pair_id, rows, config, F, E, H, qvec, tvec FROM two_view_geometries ORDER BY pair_id"


def checksum(path: Path) -> str:
    """Hash of all keypoints, matches and geometries in a database; "" if it cannot be read."""
    summed = hashlib.sha256()
    try:
        with _opened(path) as database:
            for query in DATA:
                for row in database.execute(query):
                    for value in row:
                        summed.update(value if isinstance(value, bytes) else repr(value).encode())
    except CacheError:
        return ""
    return summed.hexdigest()[:32]


DATA = (
    "SELECT image_id, cols, data FROM keypoints ORDER BY image_id",
    "SELECT pair_id, cols, data FROM matches ORDER BY pair_id",
    "SELECT pair_id, cols, data, config, F, E, H, qvec, tvec FROM two_view_geometries ORDER BY pair_id",
)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database for reading only. Raises `CacheError` for what goes wrong in reading it, not for other errors of the
    block."""
    with _unreadable(path, *READING_ERRORS):
        wal = Path(f"{path}-wal")
        is_settled = not wal.exists() or not wal.stat().st_size  # nobody died in the middle of writing
        address = f"{Path(path).resolve().as_uri()}?mode=ro{'&immutable=1' if is_settled else ''}"
        connection = sqlite3.connect(address, uri=True)
    with closing(connection) as database, _unreadable(path, *READING_ERRORS):
        yield database


@contextmanager
def _unreadable(path: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Raises `CacheError` for errors of these kinds: those of SQLite, and what rows that do not fit together give."""
    try:
        yield
    except kinds as exc:
        raise CacheError(
            f"The database {path} cannot be read: {exc}. `lgsfm cache repair {shlex.quote(str(path.parent))}` sets it "
            "aside; the next run makes it again."
        ) from exc
