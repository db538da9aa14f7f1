"""`lgsfm cite`: the papers behind a finished run."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from ..citing import Citation, cite
from .answer import add_json
from .flags import folder
from .terminal import Terminal

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Adds the command."""
    text = "BibTeX of all that a run has used"
    command = commands.add_parser(
        "cite",
        help=text,
        description=f"Example: lgsfm cite out > used.bib. Prints {text}: features, matcher, retrieval, COLMAP, mapper, "
        "lgsfm.",
    )
    command.set_defaults(command=_cite)
    command.add_argument("run", type=folder, metavar="OUT", help="output folder of lgsfm reconstruct")
    add_json(command)


def _cite(arguments: argparse.Namespace, terminal: Terminal) -> None:
    found = cite(arguments.run)
    terminal.answer({"citations": found}, "\n".join(lines(found)))


def lines(found: Sequence[Citation]) -> Iterable[str]:
    """A BibTeX file; what is said beside the entries is behind %."""
    for each in found:
        licences = f"; weights: {', '.join(each.licences)}" if each.licences else ""
        yield f"% {', '.join(each.used_for)}{licences}"
        yield each.bibtex or "% no paper is known of it here; ask the authors of its package\n"
        yield ""
