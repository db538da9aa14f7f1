"""`lgsfm report`: the page about a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..report import write_report
from .answer import add_json
from .flags import folder
from .terminal import Terminal

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Adds the command."""
    text = "one HTML file about a run; opens offline"
    command = commands.add_parser(
        "report",
        help=text,
        description="Example: lgsfm report out. Writes one HTML file about a run: what came out, the model, photos, "
        "pairs, cameras, times. It opens offline.",
    )
    command.set_defaults(command=_report)
    command.add_argument("run", type=Path, metavar="OUT", help="output folder of lgsfm reconstruct")
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help="the file (default: OUT/report.html)")
    command.add_argument(
        "--reference", type=Path, metavar="MODEL", help="compare with these poses: a COLMAP model or text, as evaluate"
    )
    command.add_argument(
        "--images", type=folder, dest="image_dir", metavar="DIR", help="folder of the photos, if they were moved"
    )
    add_json(command)


def _report(arguments: argparse.Namespace, terminal: Terminal) -> None:
    terminal.say_photos(arguments.run, arguments.image_dir)
    path = write_report(arguments.run, arguments.reference, arguments.output, image_dir=arguments.image_dir)
    terminal.answer({"path": path}, str(path))
