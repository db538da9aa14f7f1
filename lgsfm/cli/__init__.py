"""The command line: argv -> settings -> API -> print. Results go to stdout, all else to stderr.

Exit codes: 0 done, 1 an error that lgsfm explains, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import closing

from .. import __version__
from ..errors import LgsfmError
from .pair import add_commands as add_pair_commands
from .reconstruction import add_commands as add_reconstruction_commands
from .terminal import Terminal
from .weights import add_commands as add_weights_commands

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""
    # Threads of OpenMP that wait without burning their core: beside any other busy program, six times as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    arguments = _parser().parse_args(argv)
    is_quiet = getattr(arguments, "quiet", False)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("lgsfm").setLevel(logging.ERROR if is_quiet else logging.INFO)
    terminal = Terminal(is_quiet)
    try:
        with closing(terminal):
            arguments.command(arguments, terminal)
            sys.stdout.flush()
    except LgsfmError as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read the result has read enough, as in `lgsfm ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain when it ends
    except KeyboardInterrupt:
        print("Interrupted. What was finished is kept: the same command goes on from there.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lgsfm",
        description="From a folder of photos to a COLMAP model with learned features.",
        epilog="Try: lgsfm reconstruct images/ -o out",
    )
    parser.add_argument("--version", action="version", version=f"lgsfm {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_reconstruction_commands(commands)
    add_pair_commands(commands)
    add_weights_commands(commands)
    return parser
