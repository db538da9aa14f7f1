"""The choices for locating photos: a few of its own, and those of the run that made the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..extractors import ExtractorOptions
from ..finished import FinishedRun
from ..options import Options, option
from ..settings import OF_THE_MOMENT, RunOptions, Settings, flag_fields
from ..upright import UprightOptions
from .absolute_pose import AbsolutePoseOptions

__all__ = ["LocalizationOptions", "check_identity", "settings_of"]


@dataclass(frozen=True, kw_only=True)
class LocalizationOptions(AbsolutePoseOptions):
    """How photos are located, and on which machine; all other choices are those of the run."""

    neighbors: int = option(20, "images of the model that each photo is matched with, the most similar ones", minimum=1)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps; auto takes a GPU if there is one")
    threads: int = option(-1, "CPU threads of the networks; -1 takes all cores", minimum=-1)
    batch_size: int = option(0, "pairs handed to the matcher at once; 0 is what it likes best", minimum=0, maximum=256)
    weights_dir: str = option("", "folder that holds the weights of the networks")
    offline: bool = option(False, "never use the network")


def settings_of(run: FinishedRun, options: LocalizationOptions) -> Settings:
    """The choices of a run as far as features, matches and retrieval depend on them, on this machine."""
    stages: list[type[Options]] = [RunOptions, ExtractorOptions, UprightOptions]
    kept = {field.name for stage in stages for field, _ in stage.fields()} - {*OF_THE_MOMENT, "threads"}
    kept |= {flag.field.name for flag in flag_fields() if flag.owners}
    flags = {name: value for name, value in run.options.get("flags", {}).items() if name in kept}
    for kind, key in (("features", "extractor"), ("matcher", "matcher")):  # what "auto" was
        if key in run.options:
            flags[kind] = run.options[key][key]
    for name in ("device", "threads", "batch_size", "weights_dir", "offline"):
        flags[name] = getattr(options, name)
    return Settings.from_flags(flags)


def check_identity(run: FinishedRun, identity: Mapping[str, Any]) -> None:
    """Raises `InputError` unless the features of the run are what the extractor makes now."""
    recorded = run.features.identity
    if recorded != identity:
        differing = [key for key in sorted({*recorded, *identity}) if recorded.get(key) != identity.get(key)]
        raise InputError(
            f"{run.features.path} was made by another {identity.get('extractor')} than the one here: "
            f"{', '.join(differing)} differ, and features of new photos would not match. Install the version or the "
            "weights of then, or run `lgsfm reconstruct` again."
        )
