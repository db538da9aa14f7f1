"""The command line: argv -> settings -> API -> print. Results go to stdout, all else to stderr.

Exit codes: 0 done, 1 an error that lgsfm explains, 2 wrong usage, 130 interrupted, 143 terminated. With --json there is
one JSON object on stdout where the code is 0 or 1, and nothing else.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext, redirect_stdout
from copy import copy
from typing import Any

from .. import __version__
from ..errors import LgsfmError, is_memory_shortage, no_memory_for
from ..signals import TerminatedError, first_interrupt_only, on_termination, plain_crashes, termination
from .answer import Answer

__all__ = ["main"]

MOST_LETTERS = 4000  # of an error, should it name what has no end

# The commands are imported in `main`, where Ctrl-C in the seconds that takes is no traceback.


EXIT_CODES = "Exit codes: 0 done, 1 an error, 2 usage, 130 interrupted, 143 terminated."
STAGES = ("extract", "pairs", "match", "database", "map")
SMALLER = "--quality low, or a smaller --max-edge-px or --max-keypoints"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code; without one that of this process, which it is to end then."""
    if argv is not None:
        return _main(argv)
    with first_interrupt_only():
        return _main(None)


def _main(argv: Sequence[str] | None) -> int:
    # Threads of OpenMP that wait without burning their core: beside any other busy program, six times as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    answer = Answer()
    try:
        with termination():
            return _run(argv, answer)
    except LgsfmError as exc:
        return _failed(exc, str(exc), answer)
    except BrokenPipeError:
        _nobody_reads()
        return 0
    except Exception as exc:
        if not is_memory_shortage(exc):  # where no stage has a better word for it
            raise
        return _failed(exc, f"{no_memory_for('this command', exc)} Or use {SMALLER}.", answer)
    except TerminatedError:
        print("Terminated. What was finished is kept: the same command goes on from there.", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        print("Interrupted. What was finished is kept: the same command goes on from there.", file=sys.stderr)
        return 130


def _failed(exc: Exception, message: str, answer: Answer) -> int:
    """Says an error to people, and to a program; gives the exit code."""
    from ..printable import printable, shortened

    message = shortened(message, MOST_LETTERS)
    print(f"Error: {printable(message)}", file=sys.stderr)
    try:
        answer.end(exc, message)
    except BrokenPipeError:
        _nobody_reads()
    return 1


def _nobody_reads() -> None:
    """Whoever read the result has read enough, as in `lgsfm ... | head`; Python would complain of it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str] | None, answer: Answer) -> int:
    with plain_crashes() if argv is None else nullcontext():  # handlers of a process that is not ours stay
        parser = _parser()
    on_termination()  # again: where the handlers stay, pycolmap's is in the place of ours
    arguments = parser.parse_args(argv)
    answer.as_json = getattr(arguments, "json", False)
    is_quiet = getattr(arguments, "quiet", False)
    from .terminal import AboveBars, PrintableFormatter, PrintableStream, Terminal

    handler = AboveBars()
    handler.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("lgsfm").setLevel(logging.ERROR if is_quiet else logging.INFO)
    terminal = Terminal(is_quiet, answer=answer)
    out: Any = PrintableStream(sys.stdout) if sys.stdout.isatty() else sys.stdout  # a file gets every byte
    with closing(terminal), redirect_stdout(out):
        code = arguments.command(arguments, terminal)
        answer.end()
        sys.stdout.flush()
    return code or 0


class _Parser(argparse.ArgumentParser):
    """Takes flags by their whole names only: an abbreviation would mean something else with the next version."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)


class _CommandList(argparse.HelpFormatter):
    """Help that fits a screen: the commands a line each, and the single stages, which few people need, in one line."""

    def format_help(self) -> str:
        return super().format_help().replace(f"\n\n{EXIT_CODES}", f"\n{EXIT_CODES}")

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action, None, None]:
        for each in action._get_subactions() if isinstance(action, argparse._SubParsersAction) else ():
            if each.dest not in STAGES[1:]:
                yield _stages_of(each) if each.dest == STAGES[0] else each

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        is_list = isinstance(action, argparse._SubParsersAction)
        return text.split("\n", 1)[1] if is_list else text  # without the line that says COMMAND


def _stages_of(first: argparse.Action) -> argparse.Action:
    line = copy(first)
    line.help = f"the stages alone: {', '.join(STAGES)}"
    return line


def _parser() -> argparse.ArgumentParser:
    from .bench import add_commands as add_bench_commands
    from .cache import add_commands as add_cache_commands
    from .cite import add_commands as add_cite_commands
    from .completion import add_commands as add_completion_commands
    from .doctor import add_commands as add_doctor_commands
    from .export import add_commands as add_export_commands
    from .frames import add_commands as add_frames_commands
    from .imports import add_commands as add_import_commands
    from .localize import add_commands as add_localize_commands
    from .manifest import add_commands as add_manifest_commands
    from .pair import add_commands as add_pair_commands
    from .reconstruction import add_commands as add_reconstruction_commands
    from .report import add_commands as add_report_commands
    from .view import add_commands as add_view_commands
    from .weights import add_commands as add_weights_commands

    parser = _Parser(
        prog="lgsfm",
        usage="lgsfm [-h] [--version] COMMAND ...",
        formatter_class=_CommandList,
        epilog=EXIT_CODES,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    version = f"lgsfm {__version__}"
    parser.add_argument("--version", action="version", version=version, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(
        title="lgsfm reconstruct images/ -o out: from photos to a COLMAP model. All commands",
        prog="lgsfm",
        required=True,
        metavar="COMMAND",
    )
    add_reconstruction_commands(commands)
    add_frames_commands(commands)
    add_doctor_commands(commands)
    add_manifest_commands(commands)
    add_report_commands(commands)
    add_view_commands(commands)
    add_pair_commands(commands)
    add_localize_commands(commands)
    add_export_commands(commands)
    add_import_commands(commands)
    add_cite_commands(commands)
    add_bench_commands(commands)
    add_cache_commands(commands)
    add_weights_commands(commands)
    add_completion_commands(commands, _parser)
    return parser
