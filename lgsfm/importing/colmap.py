"""Keypoints and matches of an output folder go into a database that COLMAP made, for those who work in its window.

Images that the database knows keep their ids, cameras, rigs, frames and pose priors; only what is said of keypoints,
descriptors, matches and two-view geometries of them is written anew.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from ..camera_groups import group_cameras, make_camera
from ..cameras import PIXEL_CENTRE
from ..child import run_in_child
from ..database import (
    VerificationOptions,
    check_pycolmap,
    copy_pairs,
    for_matcher,
    is_unsure,
    opened_database,
    verify_matches,
    write_matches,
)
from ..database_reading import DatabaseReport, report_on
from ..errors import InputError, in_short
from ..finished import FinishedRun
from ..matching import current_pairs
from ..observer import Observer
from ..settings import Settings
from ..types import Features, Matches, Pair
from .exclusive import exclusive_copy

__all__ = ["FillReport", "fill_database"]

TABLES = ("cameras", "images", "keypoints", "descriptors", "matches", "two_view_geometries")


@dataclass(frozen=True)
class FillReport:
    """What went into a database.

    database: the file
    num_images: whose keypoints were written
    added: of them those that the database did not know
    num_pairs: whose matches were written
    num_verified: of them with a two-view geometry; 0 where that is left to COLMAP
    num_inliers: of these in all
    num_unsure: pairs that were left out, their matches being too unsure
    num_removed: pairs of other keypoints of these images that were in it before
    """

    database: Path
    num_images: int
    added: tuple[str, ...]
    num_pairs: int
    num_verified: int
    num_inliers: int
    num_unsure: int
    num_removed: int


@dataclass(frozen=True)
class _Known:
    """An image of the database: its id, the (width, height) [px] of its camera, and how many keypoints it has."""

    id: int
    size: tuple[int, int]
    num_keypoints: int


def fill_database(
    output: str | Path,
    database: str | Path,
    *,
    image_dir: str | Path | None = None,
    is_raw: bool = False,
    replace: bool = False,
    verification: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
) -> FillReport:
    """Writes the features and matches of an output folder into a COLMAP database; a finer look of it is left out.

    The database changes as a whole or not at all.

    Args:
        output: folder of `lgsfm reconstruct`, or of its stages up to ``lgsfm match``. Of its photos those are written
            that are still where they were.
        database: the file; its images are known by their names, the others are added, with cameras by EXIF.
        image_dir: of the photos; None means where they were.
        is_raw: leave the geometric verification to COLMAP (``colmap geometric_verifier``).
        replace: take the place of keypoints that images have already, and of all matches of these.
        verification: fields of `VerificationOptions` that are to differ from those of the run.
        observer: told what happens.

    Raises:
        InputError: the database is none that can be filled, or knows these images with other sizes or keypoints.
        InUseError: another process has the database open.
        CacheError: a file cannot be read or written.
        ReconstructionError: COLMAP failed.
    """
    check_pycolmap()
    run, path, say = FinishedRun(Path(output), _path(image_dir)), Path(database), (observer or Observer()).say
    if run.workspace.owns(path):
        raise InputError(f"{path} is the database of the run itself. Name that of a project of COLMAP.")
    settings = Settings.from_flags({**run.options.get("flags", {}), **(verification or {})})
    with run.features as features, run.matches as matches, exclusive_copy(path) as partial:
        _check_readable(partial, path, run.workspace.log)
        if not run.names:
            raise InputError(
                f"None of the {len(features)} photos of {output} is in '{run.image_dir}'. Name: --images DIR."
            )
        known = _known_images(partial, path)
        _check_images(known, run.names, features, path, replace=replace)
        removed = _forget(partial, [known[name].id for name in run.names if name in known])
        added = [name for name in run.names if name not in known]
        ids = {name: image.id for name, image in known.items()}
        ids |= _add_images(partial, run.image_dir, added, settings)
        _write_keypoints(partial, run.names, features, ids)
        there = set(run.names)
        pairs = sorted(pair for pair in current_pairs(features, list(matches), matches) if there.issuperset(pair))
        options = for_matcher(settings.verification, str(run.options["matcher"]["matcher"]))
        say(f"{len(pairs)} pairs of {len(run.names)} photos, {len(added)} of them new to the database.")
        if gone := len(features) - len(run.names):
            say(f"Warning: {gone} photos of the run are left out, which are not in {run.image_dir} any more.")
        if is_raw:
            sure = _write_pairs(partial, ids, matches, pairs, options.min_confidence)
            report = DatabaseReport(len(ids), len(sure), 0, 0)
        else:
            sure, report = _verified_pairs(partial, ids, matches, pairs, options, run.workspace.log)
    unsure = sum(1 for pair in pairs if pair not in sure)
    numbers = report.num_pairs, report.num_verified, report.num_inliers
    return FillReport(path, len(run.names), tuple(added), *numbers, unsure, removed)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


# --------------------------------------------------------------------------------- what is there
def _check_readable(partial: Path, path: Path, log_path: Path) -> None:
    """Raises `InputError` unless this pycolmap can read the database; one of an older version is brought up to date."""
    with closing(sqlite3.connect(partial)) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if missing := [name for name in TABLES if name not in tables]:
        raise InputError(f"{path} is no database of COLMAP: it has no table {missing[0]}. Name another.")
    newest = _own_version(partial.with_name(f"{partial.name}.new"))
    if version > newest:
        raise InputError(
            f"{path} was written by a newer COLMAP (its version is {version}, that of pycolmap {pycolmap.__version__} "
            f"{newest}). Update pycolmap."
        )
    run_in_child("lgsfm.importing.colmap:read_in_child", {"path": str(partial)}, log_path)


def _own_version(path: Path) -> int:
    """What this pycolmap writes as the version of a database, 4020100 for 4.2.1; told by a new one."""
    with opened_database(path):
        pass
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def read_in_child(*, path: str, report: Any) -> None:
    """Reads all images of a database in a child process, which is what may abort if they do not fit together."""
    try:
        database = pycolmap.Database.open(path)
        for read in (database.read_all_cameras, database.read_all_rigs, database.read_all_frames):
            read()
        database.read_all_images()
        database.close()
    except Exception as exc:
        raise InputError(f"COLMAP cannot read a copy of the database: {exc}. It may be damaged.") from exc


def _known_images(partial: Path, path: Path) -> dict[str, _Known]:
    """The images in a database by their names."""
    query = (
        "SELECT name, images.image_id, width, height, coalesce(rows, 0) FROM images JOIN cameras USING (camera_id) "
        "LEFT JOIN keypoints ON keypoints.image_id = images.image_id"
    )
    try:
        with closing(sqlite3.connect(partial)) as database:
            return {row[0]: _Known(row[1], (row[2], row[3]), row[4]) for row in database.execute(query)}
    except (sqlite3.Error, UnicodeDecodeError) as exc:
        raise InputError(f"The images of {path} cannot be read: {exc}. It may be damaged.") from exc


def _check_images(
    known: Mapping[str, _Known], names: Sequence[str], features: Mapping[str, Features], path: Path, *, replace: bool
) -> None:
    """Raises `InputError` where what is to be written does not fit what is there."""
    common = [name for name in names if name in known]
    if known and not common:
        raise InputError(
            f"{path} knows none of the photos: its images are named {in_short(sorted(known))}, those of the run "
            f"{in_short(names)}. Both must be relative to the same folder: run lgsfm on that of the project."
        )
    for name in common:
        if features[name].image_size != known[name].size:
            sizes = ["x".join(map(str, size)) for size in (known[name].size, features[name].image_size)]
            raise InputError(f"{path}: the camera of {name} has {sizes[0]} pixels, the photo of the run {sizes[1]}.")
    taken = [name for name in common if known[name].num_keypoints]
    if taken and not replace:
        raise InputError(
            f"{path} has keypoints of {len(taken)} of these photos already: {in_short(taken)}. With --replace they, "
            "and all matches of them, give way to those of the run."
        )


# --------------------------------------------------------------------------------- what is written
def _forget(partial: Path, ids: Sequence[int]) -> int:
    """Removes keypoints, descriptors and pairs of images; gives how many pairs had matches."""
    with closing(sqlite3.connect(partial)) as database:
        database.execute("CREATE TEMP TABLE gone (image_id INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO gone VALUES (?)", ((image_id,) for image_id in ids))
        for table in ("keypoints", "descriptors"):
            database.execute(f"DELETE FROM {table} WHERE image_id IN (SELECT image_id FROM gone)")
        for table in ("two_view_geometries", "matches"):
            removed = database.execute(
                f"DELETE FROM {table} WHERE pair_id / 2147483647 IN (SELECT image_id FROM gone) "
                "OR pair_id % 2147483647 IN (SELECT image_id FROM gone)"
            ).rowcount
        database.commit()
    return removed


def _add_images(partial: Path, image_dir: Path, names: Sequence[str], settings: Settings) -> dict[str, int]:
    """Writes images that the database does not know: camera and rig per group, a frame per image; gives their ids."""
    if not names:
        return {}
    options = settings.cameras
    found: dict[str, int] = {}
    places: dict[str, tuple[int, int]] = {}
    with opened_database(partial) as database:
        for group in group_cameras(image_dir, names, options):
            camera = make_camera(group, options.camera_model)
            camera.camera_id = database.write_camera(camera)
            rig = pycolmap.Rig()
            rig.add_ref_sensor(camera.sensor_id)
            places |= dict.fromkeys(group.names, (camera.camera_id, database.write_rig(rig)))
        for name in names:
            camera_id, rig_id = places[name]
            image = pycolmap.Image(name=name, camera_id=camera_id)
            image.image_id = found[name] = database.write_image(image)
            frame = pycolmap.Frame(rig_id=rig_id)
            frame.add_data_id(image.data_id)
            database.write_frame(frame)
    return found


def _write_keypoints(
    partial: Path, names: Sequence[str], features: Mapping[str, Features], ids: Mapping[str, int]
) -> None:
    with opened_database(partial) as database:
        for name in names:
            database.write_keypoints(ids[name], features[name].keypoints + np.float32(PIXEL_CENTRE))


def _write_pairs(
    path: Path, ids: Mapping[str, int], matches: Mapping[Pair, Matches], pairs: Sequence[Pair], min_confidence: float
) -> set[Pair]:
    """Writes matches of the pairs that are sure enough on average; gives these."""
    sure = set()
    with opened_database(path) as database:
        for pair in pairs:
            found = matches[pair]
            if len(found) and not is_unsure(found, min_confidence):
                write_matches(database, ids, pair, found)
                sure.add(pair)
    return sure


def _verified_pairs(
    partial: Path,
    ids: Mapping[str, int],
    matches: Mapping[Pair, Matches],
    pairs: Sequence[Pair],
    options: VerificationOptions,
    log_path: Path,
) -> tuple[set[Pair], DatabaseReport]:
    """Writes matches and verified geometries; gives the pairs, and figures of them.

    COLMAP verifies all pairs of a database that have no geometry. Others than ours are not to change, so that it is
    given a copy without them.
    """
    scratch = partial.with_name(f"{partial.name}.verified")
    shutil.copyfile(partial, scratch)
    with closing(sqlite3.connect(scratch)) as database:
        for table in ("matches", "two_view_geometries", "descriptors"):
            database.execute(f"DELETE FROM {table}")
        database.commit()
    sure = _write_pairs(scratch, ids, matches, pairs, options.min_confidence)
    verify_matches(scratch, options, log_path=log_path)
    copy_pairs(scratch, partial, sure)
    return sure, report_on(scratch)
