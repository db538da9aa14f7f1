"""`lgsfm weights`: licences, presence and download of the networks' weights."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import weights
from .terminal import Terminal

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Adds the command."""
    text = "the weights of the networks: licences, presence, download"
    description = f"Example: lgsfm weights list. Manages {text}."
    actions = commands.add_parser("weights", help=text, description=description).add_subparsers(
        title="actions", required=True, metavar="ACTION"
    )
    text = "licence, presence and place of each file"
    listing = actions.add_parser("list", help=text, description=f"Example: lgsfm weights list. Prints {text}.")
    listing.set_defaults(command=_weights_list)
    listing.add_argument("--json", action="store_true", help="print JSON")
    text = "put weights in place; by default those of ALIKED + LightGlue"
    example = "Example: lgsfm weights fetch xfeat lightglue-xfeat. P"
    fetching = actions.add_parser("fetch", help=text, description=f"{example}{text[1:]}.")
    fetching.set_defaults(command=_weights_fetch)
    fetching.add_argument("names", nargs="*", metavar="NAME", help="of a model, as `lgsfm weights list` shows it")
    fetching.add_argument("--offline", action="store_true", help="never use the network")
    fetching.add_argument("--quiet", action="store_true", help="no progress, only the result")
    for action in (listing, fetching):
        action.add_argument("--weights-dir", default="", help="folder that holds the weights of the networks")


def _weights_list(arguments: argparse.Namespace, terminal: Terminal) -> None:
    rows = weights.status(_folder(arguments.weights_dir))
    if arguments.json:
        print(json.dumps([{**asdict(row), "path": row.path and str(row.path)} for row in rows], indent=2))
        return
    for row in rows:
        use = "commercial use allowed" if row.commercial_use else "non-commercial use only"
        place = (
            f"{row.path} ({row.source})" if row.present else row.problem or f"not here: lgsfm weights fetch {row.model}"
        )
        print(f"{row.name}\n  model    {row.model}\n  licence  {row.licence} ({use})\n  place    {place}")
        print(f"  sha256   {row.sha256}\n  cite     {row.citation}")


def _weights_fetch(arguments: argparse.Namespace, terminal: Terminal) -> None:
    folder = _folder(arguments.weights_dir)
    for name in arguments.names or ("aliked-n16", "lightglue-aliked"):
        file = weights.fetch(name, weights_dir=folder, offline=arguments.offline, progress=terminal.progress("weights"))
        print(f"{name}: {file.path} ({file.spec.licence})")


def _folder(path: str) -> Path | None:
    return Path(path) if path else None
