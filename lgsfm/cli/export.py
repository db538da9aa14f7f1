"""`lgsfm export`: a finished model in the files of other programs."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable
from typing import Any

from ..errors import InputError
from ..exporting import Exported, export
from ..exporting.formats import FORMATS
from .answer import add_json
from .flags import add_options, folder, given_options
from .terminal import Terminal

__all__ = ["add_commands", "format_list"]

WIDTH = 65  # of the text of a format, in a terminal of 80 columns


def add_commands(commands: Any) -> None:
    """Adds the command."""
    text = "the model for other programs: Gaussian splatting, GLB, ..."
    command = commands.add_parser(
        "export",
        help=text,
        description="Example: lgsfm export out gaussians. Writes a finished model in the\n"
        "files of other programs. Without a format, lists them.",
        epilog="formats:\n" + "\n".join(format_list()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=_export)
    command.add_argument("run", type=folder, metavar="OUT", help="output folder of lgsfm reconstruct")
    command.add_argument("format", nargs="?", metavar="FORMAT", help="one of those below")
    command.add_argument(
        "-o", "--output", type=folder, metavar="PATH", help="file or folder to write (default: in OUT/export)"
    )
    command.add_argument("--model", type=int, default=0, metavar="N", help="number of the model (default: 0, the best)")
    command.add_argument("--images", type=folder, metavar="DIR", help="folder of the photos, if they have moved")
    add_json(command)
    command.add_argument("--quiet", action="store_true", help="no progress, only the result")
    for name, each in FORMATS.items():
        if each.options:
            add_options(command.add_argument_group(f"options of {name}"), each.options_class())


def format_list() -> list[str]:
    """The formats, an entry each, as wide as a terminal."""
    texts = {name: textwrap.wrap(each.text, WIDTH) for name, each in FORMATS.items()}
    return [
        "\n".join([f"  {name:10} {first}", *(f"{'':13}{line}" for line in more)])
        for name, (first, *more) in texts.items()
    ]


def _export(arguments: argparse.Namespace, terminal: Terminal) -> None:
    if arguments.format is None:
        rows = [{"name": name, "text": each.text, "is_folder": each.is_folder} for name, each in FORMATS.items()]
        terminal.answer({"formats": rows}, "\n".join([f"lgsfm export {arguments.run} FORMAT", *format_list()]))
        return
    terminal.say_photos(arguments.run, arguments.images)
    done = export(
        arguments.run,
        arguments.format,
        arguments.output,
        model=arguments.model,
        image_dir=arguments.images,
        observer=terminal,
        **_options(arguments),
    )
    terminal.close()
    terminal.answer(done, "\n".join(lines(done)))


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that were given. Raises `InputError` for those of another format than the chosen one."""
    chosen: dict[str, Any] = {}
    for name, each in FORMATS.items():
        given = given_options(arguments, each.options_class())
        if name == arguments.format:
            chosen = given
        elif given and arguments.format in FORMATS:
            flag = f"--{next(iter(given)).replace('_', '-')}"
            raise InputError(f"{flag} is an option of the format {name}, not of {arguments.format}.")
    return chosen


def lines(done: Exported) -> Iterable[str]:
    """The result for people."""
    yield from done.notes
    yield f"Written   {done.path}  ({done.format}: {done.num_images} photos, {done.num_points3D} points)"
    yield f"Open with {done.opened_by}"
