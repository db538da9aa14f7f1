"""`lgsfm frames`: photos from a video."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..sources import in_words
from ..video import FrameOptions, default_folder, extract_frames
from .answer import add_json
from .flags import add_options, folder, given_options
from .terminal import Terminal

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Adds the command."""
    text = "photos from a video: sharp frames, far enough from each other"
    command = commands.add_parser(
        "frames",
        help=text,
        description=f"Example: lgsfm frames walk.mp4 -o images. Makes a folder of {text}. The same command again "
        "goes on where it was stopped. Several videos may share a folder. "
        "`lgsfm reconstruct walk.mp4` does this by itself.",
    )
    command.set_defaults(command=_frames)
    command.add_argument("video", type=Path, metavar="VIDEO", help="MP4, MOV, MKV, WebM, AVI, MPEG, WMV")
    command.add_argument("-o", "--output", type=folder, help="folder (default: VIDEO-frames, beside the video)")
    add_json(command)
    command.add_argument("--quiet", action="store_true", help="no progress, only the result")
    add_options(command, FrameOptions)


def _frames(arguments: argparse.Namespace, terminal: Terminal) -> None:
    options = FrameOptions(**given_options(arguments, FrameOptions))
    target = arguments.output or default_folder(arguments.video)
    taken = extract_frames(arguments.video, target, options, progress=terminal.progress)
    terminal.close()
    for line in in_words(taken):
        terminal.say(line)
    terminal.answer(taken, f"{len(taken.names)} frames in {taken.folder}")
