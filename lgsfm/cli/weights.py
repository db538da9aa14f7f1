"""`lgsfm weights`: licences, presence and download of the networks' weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import weights
from .answer import add_json
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
    text = "put weights in place; by default those of ALIKED + LightGlue"
    example = "Example: lgsfm weights fetch xfeat lightglue-xfeat. P"
    fetching = actions.add_parser("fetch", help=text, description=f"{example}{text[1:]}.")
    fetching.set_defaults(command=_weights_fetch)
    fetching.add_argument("names", nargs="*", metavar="NAME", help="of a model, as `lgsfm weights list` shows it")
    fetching.add_argument("--offline", action="store_true", help="never use the network")
    fetching.add_argument("--quiet", action="store_true", help="no progress, only the result")
    for action in (listing, fetching):
        add_json(action)
        action.add_argument("--weights-dir", default="", help="folder that holds the weights of the networks")


def _weights_list(arguments: argparse.Namespace, terminal: Terminal) -> None:
    rows = weights.status(_folder(arguments.weights_dir))
    terminal.answer({"weights": rows}, "\n".join(_row(row) for row in rows))


def _row(row: weights.WeightStatus) -> str:
    use = "commercial use allowed" if row.commercial_use else "non-commercial use only"
    place = f"{row.path} ({row.source})" if row.present else row.problem or f"not here: lgsfm weights fetch {row.model}"
    return (
        f"{row.name}\n  model    {row.model}\n  licence  {row.licence} ({use})\n  place    {place}\n"
        f"  sha256   {row.sha256}\n  cite     {row.citation}"
    )


def _weights_fetch(arguments: argparse.Namespace, terminal: Terminal) -> None:
    folder = _folder(arguments.weights_dir)
    rows: list[dict[str, Any]] = []
    for name in arguments.names or ("aliked-n16", "lightglue-aliked"):
        file = weights.fetch(name, weights_dir=folder, offline=arguments.offline, progress=terminal.progress("weights"))
        rows.append(
            {
                "name": file.spec.name,
                "model": name,
                "licence": file.spec.licence,
                "sha256": file.sha256,
                "path": file.path,
                "source": file.source,
            }
        )
        terminal.answer({"weights": rows}, f"{name}: {file.path} ({file.spec.licence})")


def _folder(path: str) -> Path | None:
    return Path(path) if path else None
