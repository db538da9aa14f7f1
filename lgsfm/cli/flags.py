"""Options classes -> flags of the command line, and back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..extractors import ExtractorOptions
from ..pairing import is_file
from ..settings import ComponentSettings, flag_fields

__all__ = ["PRESET_FLAGS", "add_flags", "given_flags"]

PRESET_FLAGS = {name for preset in ExtractorOptions.presets.values() for name in preset}


def add_flags(command: argparse.ArgumentParser, settings: type[ComponentSettings]) -> None:
    """Adds a flag for each option of the settings, those of components in groups of their own."""
    groups: dict[str, Any] = {"": command}
    for flag in flag_fields(settings):
        owner = " and ".join(flag.owners)
        if owner not in groups:
            groups[owner] = command.add_argument_group(f"options of {owner}")
        _add_flag(groups[owner], flag.field, flag.value_type)


def _add_flag(group: Any, field: Any, value_type: type) -> None:
    """A flag for an options field; it stays unset (None) unless given, so that presets keep their say."""
    name = f"--{field.name.replace('_', '-')}"
    default = (
        ""
        if field.name in PRESET_FLAGS or field.default == "" or field.default is False
        else f" (default: {field.default})"
    )
    text = f"{field.metadata['help']}{default}".replace("%", "%%")
    if value_type is bool:
        group.add_argument(name, action=argparse.BooleanOptionalAction, default=None, help=text)
    else:
        choices = field.metadata.get("choices")
        metavar = None if choices else {int: "N", float: "X"}.get(value_type, "NAME")
        group.add_argument(name, type=value_type, choices=choices, default=None, metavar=metavar, help=text)


def given_flags(arguments: argparse.Namespace, settings: type[ComponentSettings]) -> dict[str, Any]:
    """The flags that were given; the name of a pair file as an absolute path, since they are recorded."""
    names = [flag.field.name for flag in flag_fields(settings)]
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if is_file(given.get("pairs", "")):
        given["pairs"] = str(Path(given["pairs"]).resolve())
    return given
