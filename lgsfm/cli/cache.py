"""`lgsfm cache`: whether the files of an output folder are whole, what to do if not, and what may go."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import CacheError, in_short
from ..integrity import Action, Finding, prune, repair, verify
from ..printable import shortened
from .answer import add_json
from .flags import folder
from .terminal import Terminal

__all__ = ["add_commands", "table"]


def add_commands(commands: Any) -> None:
    """Adds the command."""
    text = "whether the files of an output folder are whole; mends them"
    description = f"Example: lgsfm cache verify out. Tells {text}, or removes what is not needed any more."
    actions = commands.add_parser("cache", help=text, description=description).add_subparsers(
        title="actions", required=True, metavar="ACTION"
    )
    _add(
        actions,
        "verify",
        _verify,
        "read everything and say what is damaged",
        "Reads every file that a run reads, and compares it with the hash of what was written. Changes nothing. "
        "Exit code 1 if something is damaged, was changed, or was written by a newer lgsfm.",
    )
    _add(
        actions,
        "repair",
        _repair,
        "remove what is damaged, and nothing else",
        "Removes damaged entries. Of a damaged file all entries that can be read are kept. The next run makes again "
        "what is missing.",
    )
    pruning = _add(
        actions,
        "prune",
        _prune,
        "remove what no longer serves the last run",
        "Removes features and matches of other options than the last run's and of photos that are gone, entries that "
        "were not finished, and what killed runs and damage have left. Says only what would go, unless --yes is given.",
    )
    pruning.add_argument("--yes", action="store_true", help="remove it; what is removed must be computed again")


def _add(actions: Any, name: str, run: Any, text: str, description: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(
        name, help=text, description=f"Example: lgsfm cache {name} out. {description}"
    )
    action.set_defaults(command=run)
    action.add_argument("output", type=folder, help="output folder of lgsfm reconstruct")
    add_json(action)
    action.add_argument("--quiet", action="store_true", help="no progress, only the result")
    return action


def _verify(arguments: argparse.Namespace, terminal: Terminal) -> None:
    found = verify(arguments.output, report=terminal.progress)
    terminal.close()
    terminal.answer({"findings": found}, "\n".join(table(found)))
    changed = [each.path for each in found if each.changed]
    if damaged := [each.path for each in found if each.is_damaged]:
        raise CacheError(
            f"Damaged: {in_short(damaged)}. `lgsfm cache repair {arguments.output}` removes what is damaged and keeps "
            "the rest; then `lgsfm reconstruct` makes it again."
            + (f" Changed since they were written: {in_short(changed)}." if changed else "")
        )
    if changed:
        raise CacheError(
            f"Changed since they were written, by hand or by another program: {in_short(changed)}. The same "
            "`lgsfm reconstruct` as before makes again what is not its own, and keeps changed models and databases."
        )
    if newer := [each.path for each in found if each.is_newer]:
        raise CacheError(f"Not looked at: {in_short(newer)}, which a newer lgsfm wrote. Update this one.")


def _repair(arguments: argparse.Namespace, terminal: Terminal) -> None:
    done = repair(arguments.output, report=terminal.progress)
    terminal.close()
    lines = [f"{each.path}: {each.what}" for each in done] or ["Nothing is damaged."]
    terminal.answer({"actions": done}, "\n".join(lines))
    if done:
        terminal.say("The same `lgsfm reconstruct` as before makes again what is missing.")


def _prune(arguments: argparse.Namespace, terminal: Terminal) -> None:
    is_dry = not arguments.yes
    done = prune(arguments.output, is_dry=is_dry, report=terminal.progress)
    terminal.close()
    terminal.answer({"is_dry": is_dry, "actions": done}, "\n".join(_pruned(done, is_dry=is_dry)))


def _pruned(done: Sequence[Action], *, is_dry: bool) -> Iterable[str]:
    if not done:
        yield "Nothing to remove."
        return
    for each in done:
        yield f"{_megabytes(each.num_bytes)}  {each.path}: {each.what}"
    total = _megabytes(sum(each.num_bytes for each in done))
    yield f"{total}  {'would be free; add --yes to remove it' if is_dry else 'are free'}"


def table(found: Sequence[Finding]) -> list[str]:
    """The findings for people, one line each."""
    width = max((len(each.path) for each in found), default=0)
    return [f"{each.path:{width}}  {_megabytes(each.num_bytes)}  {_state(each)}" for each in found]


def _state(found: Finding) -> str:
    if found.is_in_use:
        return "in use by another process, not looked at"
    if found.is_newer:
        return f"not looked at: {found.note}"
    if found.problem:
        return f"DAMAGED: {shortened(found.problem)}"
    parts = [f"{found.num_entries:,} {UNITS[found.kind]}"] if found.num_entries else []
    if found.damaged:
        named = in_short(shortened(f"{name} ({why})") for name, why in found.damaged.items())
        parts.append(f"DAMAGED: {len(found.damaged)} entries: {named}")
    elif found.changed:
        what = "not true any more, CHANGED" if found.kind == "manifest" else "CHANGED since it was written"
        parts.append(f"{what}: {in_short(found.changed)}")
    elif found.kind != "leftover":
        parts.append("ok")
    parts += [f"{len(found.unfinished)} unfinished"] if found.unfinished else []
    return ", ".join([*parts, found.note] if found.note else parts)


UNITS = {
    "features": "photos",
    "matches": "pairs",
    "database": "pairs",
    "model": "images",
    "snapshot": "images",
    "record": "lines",
    "manifest": "parts",
}


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:9,.1f} MB"
