"""`lgsfm manifest`: what an output was made of and by, and in what two outputs differ."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import CacheError, in_short
from ..manifest import changed_since, read_manifest
from ..manifest_comparison import Comparison, Difference, compare_outputs
from ..workspace import Workspace
from .answer import add_json
from .terminal import Terminal

__all__ = ["add_commands"]

MOST = 10  # things that are named, of one part
SHOWN = 16  # digits of a hash, for people


def add_commands(commands: Any) -> None:
    """Adds the command."""
    text = "what an output was made of; where two outputs part"
    command = commands.add_parser(
        "manifest",
        help=text,
        description="Example: lgsfm manifest out-monday out-friday. Prints what an output was made of and by, in "
        "hashes; of two outputs, in which stage they part, and what was different when they were made, as was noted "
        "then. Exit code 0: they hold the same photos, features, pairs, matches, geometries and models, bit by bit; "
        "1: they do not.",
    )
    command.set_defaults(command=_manifest)
    command.add_argument("output", type=Path, help="output folder of lgsfm reconstruct")
    command.add_argument("other", type=Path, nargs="?", help="another one, to be compared")
    command.add_argument(
        "--check", action="store_true", help="first look whether the folders are still what their manifests say"
    )
    add_json(command)


def _manifest(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if arguments.check:
        for output in filter(None, (arguments.output, arguments.other)):
            _check(output)
    if arguments.other is None:
        found = read_manifest(arguments.output)
        terminal.answer(found, "\n".join(_overview(found)))
        return 0
    comparison = compare_outputs(arguments.output, arguments.other)
    values = {"is_equal": comparison.is_equal, **asdict(comparison)}
    terminal.answer(values, "\n".join(_in_words(comparison)))
    return 0 if comparison.is_equal else 1


def _check(output: Path) -> None:
    """Raises `CacheError` if an output folder is not what its manifest says."""
    read_manifest(output)
    if changed := changed_since(Workspace.of_run(output)):
        raise CacheError(
            f"'{output}' is not what its manifest says any more: {in_short(changed)}. The same command as before makes "
            "it again; what is finished is kept."
        )


def _overview(found: Mapping[str, Any]) -> Iterable[str]:
    """A manifest for people."""
    yield f"lgsfm       {found['lgsfm']['version']}, source {found['lgsfm']['code'][:SHOWN]}"
    yield f"Machine     {', '.join(found['machine'].values())}"
    yield f"Libraries   {', '.join(f'{name} {version}' for name, version in found['libraries'].items())}"
    for name, identity in found["components"].items():
        yield f"{name.capitalize():11} {', '.join(_plain(identity))}"
    for file in found["weights"]:
        yield f"Weights     {file['name']}, sha256 {file['sha256'][:SHOWN]}, {file['licence']}"
    for stage, options in found["options"].items():
        yield f"Options     {stage}: {', '.join(_plain(options))}"
    yield f"Features    of {len(found['images'])} photos"
    yield f"Pairs       {found['pairs']['count']}, {found['pairs']['digest'][:SHOWN]}"
    for part in ("matches", "finer matches"):
        if found[part]["count"]:
            yield f"{part.capitalize():11} of {found[part]['count']} pairs, {found[part]['digest'][:SHOWN]}"
    if found["database"]:
        yield f"Database    geometries {found['database']['geometries'][:SHOWN]}"
    yield from (f"Model       sparse/{name} {sha256[:SHOWN]}" for name, sha256 in found["models"].items())


def _plain(values: Mapping[str, Any], name: str = "") -> Iterable[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _plain(value, f"{name}{key}.")
        elif value != "":
            yield f"{name}{key} {value}"


def _in_words(comparison: Comparison) -> Iterable[str]:
    """A comparison for people."""
    if comparison.is_equal:
        yield "They hold the same, bit by bit, as was noted when they were made (--check: and still do)."
    for i, difference in enumerate(comparison.results):
        yield f"{'They part at' if i == 0 else 'Then also'}: {difference.part}, {difference.summary}"
        yield from _some(difference)
    if comparison.causes:
        yield "What was different when they were made:"
    elif not comparison.is_equal:
        yield "They were made with the same options, versions and processor. --deterministic makes runs repeatable."
    for difference in comparison.causes:
        yield f"{difference.part}:"
        yield from _some(difference)


def _some(difference: Difference) -> Iterable[str]:
    yield from (f"  {line}" for line in difference.details[:MOST])
    if len(difference.details) > MOST:
        yield f"  and {len(difference.details) - MOST} more (--json lists all)"
