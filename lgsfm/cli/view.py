"""`lgsfm view`: the models in the browser."""

from __future__ import annotations

import argparse
import threading
import webbrowser
from pathlib import Path
from typing import Any

from ..signals import TerminatedError
from .flags import folder
from .terminal import Terminal

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Adds the command."""
    text = "the models in the browser (package viser)"
    command = commands.add_parser(
        "view",
        help=text,
        description="Example: lgsfm view out. Shows the models in the browser: points, cameras, photos, and with what "
        "each photo was matched. Only this computer can connect. From another one: ssh -L 8080:127.0.0.1:8080 HOST.",
    )
    command.set_defaults(command=_view)
    command.add_argument("run", type=Path, metavar="OUT", help="output folder of lgsfm reconstruct")
    command.add_argument(
        "--images", type=folder, dest="image_dir", metavar="DIR", help="folder of the photos, if they were moved"
    )
    command.add_argument("--port", type=int, default=8080, metavar="N", help="the next free one if it is taken (8080)")
    command.add_argument("--no-browser", action="store_true", help="only say the address")


def _view(arguments: argparse.Namespace, terminal: Terminal) -> None:
    from ..viewing import Contents
    from ..viewing.server import Viewer

    with Contents(arguments.run, arguments.image_dir) as contents:
        for note in contents.collected.notes:
            terminal.say(f"Warning: {note}")
        viewer = Viewer(contents, arguments.port)
        try:
            print(viewer.url, flush=True)
            terminal.say("Only this computer can connect. Ctrl-C ends it.")
            if not arguments.no_browser:
                webbrowser.open(viewer.url)
            threading.Event().wait()
        except TerminatedError:
            raise
        except KeyboardInterrupt:  # which is how it is ended
            terminal.say("Ended.")
        finally:
            viewer.stop()
