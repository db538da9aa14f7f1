"""`lgsfm localize`: where new photos were taken, in a finished model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cameras import ESTIMATED
from ..destination import check_file
from ..errors import ReconstructionError
from ..files import make_folder_of, write_text
from ..localization import Localizer
from ..localization.model import check_folder, write_localized_model
from ..localization.options import LocalizationOptions
from ..localization.result import Localization, are_localizations
from ..workspace import Workspace
from .answer import add_json
from .flags import add_options, folder, given_options
from .terminal import Terminal

__all__ = ["add_commands", "table"]


def add_commands(commands: Any) -> None:
    """Adds the command."""
    text = "where new photos were taken, in a finished model"
    command = commands.add_parser(
        "localize",
        help=text,
        description=f"Example: lgsfm localize out new/ a.jpg. Tells {text}: rotation and translation cam_from_world, "
        "with x right, y down and z forward in the stored photo. Features, matcher and retrieval are those of the run. "
        "Nothing in its folder is changed. Exit code 1 if no photo could be located.",
    )
    command.set_defaults(command=_localize)
    command.add_argument("run", type=folder, metavar="MODEL_OUT", help="output folder of lgsfm reconstruct")
    command.add_argument("queries", nargs="+", type=folder, metavar="QUERY", help="photos, and folders of photos")
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help="a list of what was found, as JSON")
    add_json(command)
    command.add_argument(
        "--write-model", type=folder, metavar="DIR", help="write a COLMAP model: that of the run and the located photos"
    )
    command.add_argument(
        "--camera",
        metavar="CAMERA",
        help="of all photos: focal length in pixels, MODEL,PARAMS... as COLMAP writes them, or the folder of a model "
        "(default: the refined one of the model if the photo is of the same camera, else EXIF, else a guess)",
    )
    command.add_argument(
        "--images", type=folder, dest="image_dir", metavar="DIR", help="folder of the photos of the model, if moved"
    )
    command.add_argument("--quiet", action="store_true", help="no progress, only the result")
    add_options(command, LocalizationOptions)


def _localize(arguments: argparse.Namespace, terminal: Terminal) -> None:
    options = LocalizationOptions(**given_options(arguments, LocalizationOptions))
    if arguments.write_model:
        check_folder(arguments.run, arguments.write_model)
    if arguments.output:
        run = Workspace.of_run(arguments.run)
        check_file(arguments.output, "list of located photos", are_localizations, run=run)
        make_folder_of(arguments.output)
    terminal.say_photos(arguments.run, arguments.image_dir)
    with Localizer(
        arguments.run,
        image_dir=arguments.image_dir,
        camera=arguments.camera,
        options=options,
        weights_progress=terminal.progress("weights"),
    ) as localizer:
        found = localizer.localize(arguments.queries, progress=terminal.progress("localize"))
    terminal.close()
    rows = [one.to_dict() for one in found]
    terminal.answer({"localizations": rows}, table(found))
    if arguments.output:
        write_text(arguments.output, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    if not any(one.is_localized for one in found):
        raise ReconstructionError(f"None of {len(found)} photos could be located in {arguments.run}.")
    if arguments.write_model:
        names = write_localized_model(arguments.run, found, arguments.write_model)
        terminal.say(f"Model with {len(names)} more photos: {arguments.write_model}")


# --------------------------------------------------------------------------------- what people see
def table(found: Sequence[Localization]) -> str:
    """What was found, for people: a line per photo, then why the others were not located."""
    width = max([len(one.name) for one in found if one.is_localized] + [5])
    lines = [f"Located {sum(one.is_localized for one in found)} of {len(found)} photos"]
    if any(one.is_localized for one in found):
        lines.append(f"{'photo':{width}}   inliers of  error px   ± deg   ± units   {'centre':^29}   focal px (from)")
    lines += [_line(one, width) for one in found if one.pose]
    for one in found:
        if not one.is_localized:
            detail = f" ({one.detail})" if one.detail else ""
            lines.append(f"Not located: {one.name}: {one.state}{detail}. {one.hint}")
    return "\n".join(lines)


def _line(one: Localization, width: int) -> str:
    pose = one.pose
    assert pose is not None
    centre = " ".join(f"{value:9.3f}" for value in pose.centre)
    source = pose.camera.source.upper() if pose.camera.source == ESTIMATED else pose.camera.source
    turned = f", turned by {one.turned_deg}°" if one.turned_deg else ""
    return (
        f"{one.name:{width}} {one.num_inliers:7d} {one.num_correspondences:6d} {pose.median_error_px:8.2f} "
        f"{pose.rotation_sigma_deg:8.3f} {pose.centre_sigma:9.4f}   {centre}   {pose.camera.focal_px:.1f} ({source})"
        f"{turned}"
    )
