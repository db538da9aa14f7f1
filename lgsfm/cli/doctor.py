"""`lgsfm doctor`: why photos did not register."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..diagnosis import Diagnosis
from ..doctor import Examination, examine
from ..printable import shortened
from .answer import add_json
from .terminal import Terminal

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Adds the command."""
    text = "why photos are not in the model, and what would help"
    command = commands.add_parser(
        "doctor",
        help=text,
        description=f"Example: lgsfm doctor out. Tells {text}, with the numbers behind it; and why models are apart.",
    )
    command.set_defaults(command=_doctor)
    command.add_argument("output", type=Path, help="output folder of lgsfm reconstruct")
    add_json(command)


def _doctor(arguments: argparse.Namespace, terminal: Terminal) -> None:
    found = examine(arguments.output)
    terminal.answer(found, "\n".join(lines(found)))


def lines(found: Examination) -> Iterable[str]:
    """The findings for people."""
    where = " in the best model" if found.num_registered else ""
    yield f"Registered {found.num_registered} of {found.num_images} photos{where}."
    if found.missing:
        yield f"The run has not come to its stage '{found.missing}' yet. Go on with it: then more can be said."
    for reason, diagnoses in found.by_reason().items():
        yield ""
        yield f"{reason}: {len(diagnoses)}"
        for each in diagnoses:
            yield shortened(f"  {each.image}: {each.evidence}")
        yield from (f"  -> {advice}" for advice in _advice(diagnoses))
    for split in found.splits:
        yield ""
        yield shortened(split.evidence)
        yield f"  -> {split.advice}{_try(split.command)}"


def _advice(diagnoses: Sequence[Diagnosis]) -> list[str]:
    """What would help, each advice once."""
    return list(dict.fromkeys(each.advice + _try(each.command) for each in diagnoses))


def _try(command: str) -> str:
    return f"\n     {command}" if command else ""
