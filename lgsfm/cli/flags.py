"""Options classes -> flags of the command line, and back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..extractors import ExtractorOptions
from ..options import Options
from ..pairing import absolute_files
from ..settings import ComponentSettings, Flag, flag_fields

__all__ = ["PRESET_FLAGS", "add_flags", "add_options", "folder", "given_flags", "given_options"]

FILE_FLAGS = {"camera_mask", "cameras", "covisibility_model", "masks", "rig"}
PRESET_FLAGS = {name for preset in ExtractorOptions.presets.values() for name in preset}


def add_flags(command: argparse.ArgumentParser, settings: type[ComponentSettings]) -> None:
    """Adds a flag for each option of the settings, those of components in groups of their own."""
    groups: dict[str, Any] = {"": command}
    for flag in flag_fields(settings):
        owner = " and ".join(flag.owners)
        if owner not in groups:
            groups[owner] = command.add_argument_group(f"options of {owner}")
        _add_flag(groups[owner], flag)


def add_options(command: argparse.ArgumentParser, options: type[Options]) -> None:
    """Adds a flag for each field of options that belong to no settings."""
    for field, value_type in options.fields():
        _add_flag(command, Flag(field, value_type, (), (field.default,)))


def given_options(arguments: argparse.Namespace, options: type[Options]) -> dict[str, Any]:
    """The fields of options whose flags were given."""
    return {field.name: value for field, _ in options.fields() if (value := getattr(arguments, field.name)) is not None}


def _add_flag(group: Any, flag: Flag) -> None:
    """A flag for an options field; it stays unset (None) unless given, so that presets keep their say."""
    field, value_type = flag.field, flag.value_type
    name = f"--{field.name.replace('_', '-')}"
    text = f"{field.metadata['help']}{_default(flag)}".replace("%", "%%")
    if value_type is bool:
        group.add_argument(name, action=argparse.BooleanOptionalAction, default=None, help=text)
    else:
        choices = field.metadata.get("choices")
        metavar = None if choices else {int: "N", float: "X"}.get(value_type, "NAME")
        group.add_argument(name, type=value_type, choices=choices, default=None, metavar=metavar, help=text)


def _default(flag: Flag) -> str:
    """The default of a flag for people, of each component if they differ; "" where that says nothing."""
    values = set(flag.defaults)
    if flag.field.name in PRESET_FLAGS or values <= {"", False}:
        return ""
    if len(values) == 1:
        return f" (default: {flag.field.default})"
    each = (f"{value} of {owner}" for owner, value in zip(flag.owners, flag.defaults, strict=True))
    return f" (default: {', '.join(each)})"


def given_flags(arguments: argparse.Namespace, settings: type[ComponentSettings]) -> dict[str, Any]:
    """The flags that were given; the names of files as absolute paths, since they are recorded."""
    names = [flag.field.name for flag in flag_fields(settings)]
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if "pairs" in given:
        given["pairs"] = absolute_files(given["pairs"])
    for name in FILE_FLAGS & given.keys():
        if given[name]:  # "" takes a recorded one back
            given[name] = str(Path(given[name]).resolve())
    return given


def folder(text: str) -> Path:
    """A path; the empty one, as of a variable that is not set, would be the working folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the name of the folder is empty")
    return Path(text)
