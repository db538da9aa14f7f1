"""Stage 4: features and matches -> COLMAP database with verified two-view geometries.

This is where the keypoints of lgsfm become COLMAP's: there the centre of the top-left pixel is (0.5, 0.5).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from .camera_groups import CameraGroup, make_camera
from .cameras import PIXEL_CENTRE
from .child import run_in_child
from .database_reading import DatabaseReport, matched_pairs, pair_id, report_on
from .errors import CacheError, DamageError, ReconstructionError, is_memory_shortage, no_memory_for
from .files import sync_file, sync_folder
from .options import Options, option
from .types import Features, Matches, Pair

__all__ = [
    "DatabaseReport",
    "VerificationOptions",
    "build_database",
    "check_pycolmap",
    "copy_pairs",
    "for_matcher",
    "import_matches",
    "is_unsure",
    "opened_database",
    "verify_matches",
    "write_matches",
]

SUPPORTED_PYCOLMAP = (4,)  # major versions
MIN_CONFIDENCE = {"lightglue": 0.35}  # of the matches of a pair, on average; those of different things have less


@dataclass(frozen=True, kw_only=True)
class VerificationOptions(Options):
    """Geometric verification of the matches by RANSAC."""

    max_error_px: float = option(4.0, "largest epipolar error of an inlier", minimum=0.1)
    min_inliers: int = option(15, "a pair with fewer inliers is dropped", minimum=5)
    min_confidence: float = option(
        -1.0,
        "a pair whose matches are less sure than this on average is not verified: LightGlue finds matches between any "
        "two photos, and some agree on a geometry; -1: 0.35 for LightGlue, 0 for others",
        minimum=-1,
        maximum=1,
    )
    seed: int = option(
        0, "of the random numbers; -1 for a new one each time; the mapper is exact only with --threads 1", minimum=-1
    )


def for_matcher(options: VerificationOptions, matcher: str) -> VerificationOptions:
    """The options with the confidence that fits a matcher, where that is left open."""
    if options.min_confidence >= 0:
        return options
    return replace(options, min_confidence=MIN_CONFIDENCE.get(matcher, 0.0))


def check_pycolmap() -> None:
    """Raises `ReconstructionError` if the installed pycolmap is outside the supported versions."""
    major = int(pycolmap.__version__.split(".")[0])
    if major not in SUPPORTED_PYCOLMAP:
        raise ReconstructionError(
            f"pycolmap {pycolmap.__version__} is not supported; lgsfm needs 4.x: pip install 'pycolmap>=4.0,<5'."
        )


def build_database(
    path: Path,
    features: Mapping[str, Features],
    matches: Mapping[Pair, Matches],
    pairs: Sequence[Pair],
    cameras: Sequence[CameraGroup],
    *,
    camera_model: str = "SIMPLE_RADIAL",
    verification: VerificationOptions | None = None,
    kept: Collection[Pair] = (),
    review: Callable[[Path], None] | None = None,
    is_repeatable: bool = False,
    log_path: Path,
) -> DatabaseReport:
    """Writes a COLMAP database with verified matches; it appears under its name when it is whole.

    Args:
        path: of the database; an existing one is replaced.
        features: image name -> features, of all images in ``cameras``.
        matches: pair -> matches.
        pairs: those of ``matches`` that are to be imported.
        cameras: which images there are, and their cameras.
        camera_model: COLMAP's name of the camera model.
        verification: options of the geometric verification.
        kept: those of the pairs that are taken from the existing database, matches and geometry, where it has them:
            the caller knows that they would come out the same.
        review: has the last word on the database before it appears under its name.
        is_repeatable: the same content is the same bytes. Else the rows lie in the file in the order in which threads
            wrote them. It takes the disk space of a second database for a moment.
        log_path: COLMAP's output is appended here.

    Raises:
        CacheError: the database cannot be written.
        ReconstructionError: COLMAP failed.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    for left in (partial, _rewritten(partial)):
        _remove_database(left)
    old = matched_pairs(path) & set(kept) if kept else set()
    new = [pair for pair in pairs if pair not in old]
    wanted = verification or VerificationOptions()
    unsure = import_matches(
        partial, features, matches, new, cameras, camera_model=camera_model, min_confidence=wanted.min_confidence
    )
    verify_matches(partial, wanted, log_path=log_path)
    _add_matches(partial, matches, unsure)  # for who asks what was found, not for the mapper
    copy_pairs(path, partial, old)
    if review:
        review(partial)
    if is_repeatable:
        _rewrite(partial)
    report = report_on(partial)
    _remove_database(path)
    try:
        sync_file(partial)  # COLMAP leaves that to the system
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    return report


def import_matches(
    path: Path,
    features: Mapping[str, Features],
    matches: Mapping[Pair, Matches],
    pairs: Sequence[Pair],
    cameras: Sequence[CameraGroup],
    *,
    camera_model: str = "SIMPLE_RADIAL",
    min_confidence: float = 0.0,
) -> list[Pair]:
    """Writes cameras, images, keypoints and matches into a new database; arguments as for `build_database`.

    Returns:
        The pairs that are left out, since their matches have less than ``min_confidence`` on average.

    Raises:
        CacheError: the database cannot be written.
        DamageError: entries of a store are damaged; it has all that were found.
    """
    unsure, damaged = [], []
    with opened_database(path) as database:
        ids = _write_images(database, features, cameras, camera_model)
        for pair in pairs:
            try:
                found = matches[pair]
            except DamageError as exc:
                damaged.append(exc)
                continue
            if is_unsure(found, min_confidence):
                unsure.append(pair)
            else:
                write_matches(database, ids, pair, found)
    if damaged:  # all of one file at once, so that they are made again at once
        of_one_file = [entry for each in damaged if each.path == damaged[0].path for entry in each.entries]
        raise DamageError(str(damaged[0]), damaged[0].path, of_one_file)
    return unsure


def _add_matches(path: Path, matches: Mapping[Pair, Matches], pairs: Sequence[Pair]) -> None:
    """Writes matches of further pairs into a database."""
    if pairs:
        with opened_database(path) as database:
            ids = {image.name: image.image_id for image in database.read_all_images()}
            for pair in pairs:
                write_matches(database, ids, pair, matches[pair])


def is_unsure(matches: Matches, min_confidence: float) -> bool:
    """Whether a pair has matches of which the matcher is not sure enough, on average, for them to be verified."""
    return len(matches) > 0 and float(matches.scores.mean()) < min_confidence


def write_matches(database: pycolmap.Database, ids: Mapping[str, int], pair: Pair, matches: Matches) -> None:
    """Writes matches of a pair, if there are any, by the ids of its images."""
    if len(matches):
        database.write_matches(ids[pair[0]], ids[pair[1]], matches.indices.astype(np.uint32))


@contextmanager
def opened_database(path: Path) -> Iterator[pycolmap.Database]:
    """A database for writing. Raises `CacheError` where that fails."""
    with _quiet_colmap():
        try:
            database = pycolmap.Database.open(path)
        except Exception as exc:  # COLMAP raises plain RuntimeErrors, some with SQLite's text
            raise _unwritable(path, exc) from exc
        try:
            try:
                yield database
            finally:
                database.close()
        except RuntimeError as exc:  # a full disk; errors of the stores are our own
            raise _unwritable(path, exc) from exc


def _write_images(
    database: pycolmap.Database,
    features: Mapping[str, Features],
    cameras: Sequence[CameraGroup],
    camera_model: str,
) -> dict[str, int]:
    """One camera and rig per group, one frame per image; image ids follow the sorted names."""
    names = sorted(name for group in cameras for name in group.names)
    ids = {name: i for i, name in enumerate(names, start=1)}
    for number, group in enumerate(cameras, start=1):
        camera = make_camera(group, camera_model)
        camera.camera_id = database.write_camera(camera)
        rig = pycolmap.Rig(rig_id=number)
        rig.add_ref_sensor(camera.sensor_id)
        database.write_rig(rig, use_rig_id=True)
        for name in group.names:
            image = pycolmap.Image(name=name, camera_id=camera.camera_id, image_id=ids[name], frame_id=ids[name])
            frame = pycolmap.Frame(frame_id=ids[name], rig_id=number)
            frame.add_data_id(image.data_id)
            database.write_frame(frame, use_frame_id=True)
            database.write_image(image, use_image_id=True)
            database.write_keypoints(ids[name], features[name].keypoints + np.float32(PIXEL_CENTRE))
    return ids


def verify_matches(path: Path, options: VerificationOptions, *, log_path: Path) -> None:
    """Estimates a two-view geometry for each pair of the database, in a child process.

    Raises:
        ReconstructionError: COLMAP failed.
    """
    run_in_child("lgsfm.database:verify_in_child", {"path": str(path), "options": options.to_dict()}, log_path)


def verify_in_child(*, path: str, options: dict[str, Any], report: Any) -> None:
    """`verify_matches` inside the child process."""
    wanted = VerificationOptions.from_dict(options)
    two_view = pycolmap.TwoViewGeometryOptions()
    two_view.min_num_inliers = wanted.min_inliers
    two_view.compute_relative_pose = True  # who asks which pairs contradict each other needs it
    two_view.ransac.max_error = wanted.max_error_px
    two_view.ransac.random_seed = wanted.seed
    try:
        pycolmap.geometric_verification(path, two_view_geometry_options=two_view)
    except Exception as exc:
        if is_memory_shortage(exc):
            raise
        if "SQLite" in str(exc):
            raise _unwritable(Path(path), exc) from exc
        raise ReconstructionError(f"Geometric verification of {path} failed: {exc}") from exc


def copy_pairs(source: Path, target: Path, pairs: Collection[Pair]) -> None:
    """Copies matches and two-view geometries of pairs from one database to another, whatever their ids there.

    Args:
        source: holds all of the pairs.
        target: holds all of their images, with the same keypoints and cameras, and none of the pairs.
        pairs: the lesser name first, which has the lesser id in both.

    Raises:
        CacheError: a database cannot be read or written.
    """
    if not pairs:
        return
    try:
        with closing(sqlite3.connect(target)) as database:
            database.execute("ATTACH ? AS source", (str(source),))
            old, new = (
                dict(database.execute(f"SELECT name, image_id FROM {schema}.images")) for schema in ("source", "main")
            )
            database.execute("CREATE TEMP TABLE kept (old_id INTEGER PRIMARY KEY, new_id INTEGER)")
            rows = ((pair_id(old[a], old[b]), pair_id(new[a], new[b])) for a, b in pairs)
            database.executemany("INSERT INTO kept VALUES (?, ?)", rows)
            for table in ("matches", "two_view_geometries"):
                columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != "pair_id"]
                database.execute(
                    f"INSERT INTO {table} (pair_id, {', '.join(columns)}) "
                    f"SELECT new_id, {', '.join(columns)} FROM kept JOIN source.{table} ON pair_id = old_id"
                )
            database.commit()
            database.execute("DETACH source")
    except sqlite3.Error as exc:
        raise _unwritable(target, exc) from exc


def _rewritten(path: Path) -> Path:
    return path.with_name(f"{path.name}.rewritten")


def _rewrite(path: Path) -> None:
    """Writes a database anew, table by table and in the order of the keys."""
    try:
        with closing(sqlite3.connect(path)) as database:
            database.execute("VACUUM INTO ?", (str(_rewritten(path)),))
        _remove_database(path)
        os.replace(_rewritten(path), path)
    except (sqlite3.Error, OSError) as exc:
        raise _unwritable(path, exc) from exc


@contextmanager
def _quiet_colmap() -> Iterator[None]:
    """Keeps COLMAP in this process from writing on the terminal; what it has to say comes as an exception."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before


def _unwritable(path: Path, exc: Exception) -> CacheError:
    if is_memory_shortage(exc):
        return CacheError(no_memory_for(f"writing {path}", exc))
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc).partition("\n")[0]
    return CacheError(f"The database {path} cannot be written: {reason}. Check the folder and the disk space.")


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        try:
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        except OSError as exc:
            raise CacheError(f"{path}{suffix} cannot be removed: {exc.strerror}. Check its permissions.") from exc
