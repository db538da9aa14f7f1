"""`lgsfm import` and `lgsfm into-database`: what hloc made comes in, and what was made here goes to COLMAP."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..database import VerificationOptions
from ..errors import in_short
from .answer import add_json
from .flags import add_options, folder, given_options
from .terminal import Terminal

if TYPE_CHECKING:
    from ..importing import FillReport, ImportReport

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Adds the commands."""
    _add_import(commands)
    _add_into_database(commands)


def _add_import(commands: Any) -> None:
    text = "features and matches that hloc made, to go on from with lgsfm database and lgsfm map"
    command = commands.add_parser(
        "import",
        help="features and matches of hloc, to go on from",
        description="Example: lgsfm import out --features feats.h5 --matches matches.h5 --images photos. "
        f"Takes {text}; without --matches, with lgsfm pairs and lgsfm match before.",
    )
    command.set_defaults(command=_import)
    command.add_argument("run", type=folder, metavar="OUT", help="output folder, made if it is not there")
    command.add_argument("--features", type=Path, required=True, metavar="FILE", help="hloc's features, feats-*.h5")
    command.add_argument("--matches", type=Path, metavar="FILE", help="hloc's matches of them, *_matches-*.h5")
    command.add_argument(
        "--images", type=folder, required=True, metavar="DIR", help="folder of the photos, by whose names they go"
    )
    command.add_argument(
        "--pairs", type=Path, metavar="FILE", help="hloc's file of pairs (default: all pairs of the matches)"
    )
    command.add_argument(
        "--kind",
        default="imported",
        metavar="NAME",
        help="what the descriptors are, such as superpoint or aliked: lgsfm match and localize then have a matcher for "
        "them (default: imported, which the matcher nearest takes)",
    )
    _add_common(command)


def _add_into_database(commands: Any) -> None:
    text = "write features and matches of a run into a database of COLMAP that is there already"
    command = commands.add_parser(
        "into-database",
        help="matches of a run into a database of COLMAP",
        description=f"Example: lgsfm into-database out project/database.db. Will {text}. It changes as a whole or not "
        "at all; images that it knows by name keep their ids, cameras, rigs and pose priors, others are added.",
    )
    command.set_defaults(command=_into_database)
    command.add_argument(
        "run", type=folder, metavar="OUT", help="output folder of lgsfm reconstruct, or of lgsfm match"
    )
    command.add_argument("database", type=Path, metavar="DATABASE", help="COLMAP's database")
    command.add_argument("--images", type=folder, metavar="DIR", help="folder of the photos, if they have moved")
    command.add_argument(
        "--replace", action="store_true", help="take the place of keypoints and matches that these images have there"
    )
    way = command.add_mutually_exclusive_group()
    way.add_argument(
        "--two-view", action="store_true", help="verify the pairs here, as lgsfm database does (the default)"
    )
    way.add_argument("--raw", action="store_true", help="leave that to COLMAP (colmap geometric_verifier)")
    add_options(command.add_argument_group("verification (default: as in the run)"), VerificationOptions)
    _add_common(command)


def _add_common(command: argparse.ArgumentParser) -> None:
    add_json(command)
    command.add_argument("--quiet", action="store_true", help="no progress, only the result")


def _import(arguments: argparse.Namespace, terminal: Terminal) -> None:
    from ..importing import import_features  # which few commands need

    report = import_features(
        arguments.run,
        arguments.features,
        arguments.matches,
        arguments.images,
        pairs=arguments.pairs,
        kind=arguments.kind,
        observer=terminal,
    )
    terminal.close()
    for note in report.notes:
        terminal.say(note)
    lines = _import_lines(report, arguments.images, has_matches=arguments.matches is not None)
    terminal.answer(report, "\n".join(lines))


def _import_lines(report: ImportReport, images: Path, *, has_matches: bool) -> list[str]:
    lines = [f"Features  {report.num_images} photos"]
    if report.without_features:
        lines.append(f"Without   {len(report.without_features)} photos: {in_short(report.without_features)}")
    if has_matches:
        lines.append(f"Matches   {report.num_matches} of {report.num_pairs} pairs")
    stages = ["database", "map"] if has_matches else ["pairs", "match", "database", "map"]
    place = shlex.join([str(images), "-o", str(report.output)])
    return [*lines, *(f"Go on     lgsfm {stage} {place}" for stage in stages)]


def _into_database(arguments: argparse.Namespace, terminal: Terminal) -> None:
    from ..importing import fill_database

    report = fill_database(
        arguments.run,
        arguments.database,
        image_dir=arguments.images,
        is_raw=arguments.raw,
        replace=arguments.replace,
        verification=given_options(arguments, VerificationOptions),
        observer=terminal,
    )
    terminal.close()
    terminal.answer(report, "\n".join(_fill_lines(report, is_raw=arguments.raw)))


def _fill_lines(report: FillReport, *, is_raw: bool) -> list[str]:
    added = f", {len(report.added)} of them new" if report.added else ""
    verified = "" if is_raw else f", {report.num_verified} verified with {report.num_inliers} inliers"
    lines = [f"Keypoints {report.num_images} photos{added}", f"Matches   {report.num_pairs} pairs{verified}"]
    if report.num_removed:
        lines.append(f"Replaced  {report.num_removed} pairs of other keypoints")
    if report.num_unsure:
        lines.append(f"Left out  {report.num_unsure} pairs without matches, or with unsure ones (--min-confidence)")
    if is_raw:
        lines.append(f"Go on     colmap geometric_verifier --database_path {shlex.quote(str(report.database))}")
    return [*lines, f"Written   {report.database}"]
