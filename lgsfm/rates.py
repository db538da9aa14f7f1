"""Speeds that were measured on this machine, kept between runs in a small file of the user's cache folder.

A record belongs to what decides the cost: stage, component and those of its options that matter, device, machine,
threads, version. It holds the seconds of one item and, for the size of that item, what the reference machine would
take (`lgsfm.estimate.reference_seconds`): so a record of one size tells of others. Speeds are a convenience; whatever
is wrong with the file, it is as if there were none.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .errors import CacheError
from .estimate import GUESSED, MEASURED, SCALED, STAGES, Rates, Setup, guess_seconds, reference_seconds
from .files import read_json, write_json
from .machine import Machine
from .weights import cache_dir

__all__ = ["MIN_ITEMS", "Speed", "Speeds", "about", "rates_file", "rates_of"]

MIN_ITEMS = {
    "extract": 4,
    "match": 4,
    "verify": 200,
    "map": 10,
}  # fewer tell of the start of a process, not of the work
SAME_SIZE = 0.02  # relative difference of sizes that is none
MOST_ITEMS = 300  # that an old record counts for: machines and habits change
MOST_RECORDS = 300


@dataclass(frozen=True, kw_only=True)
class Speed:
    """A measured speed.

    about: see `about`
    reference_s: seconds of the same item on the reference machine: its size
    seconds: of one item, photo or pair
    count: items that were timed
    """

    stage: str
    about: Mapping[str, Any]
    reference_s: float
    seconds: float
    count: int

    def is_same_size(self, reference_s: float) -> bool:
        """Whether the items are as large as one that takes ``reference_s``."""
        return abs(self.reference_s / reference_s - 1) < SAME_SIZE

    def is_like(self, other: Speed) -> bool:
        """Whether both are of the same work."""
        return self.stage == other.stage and self.about == other.about and self.is_same_size(other.reference_s)

    def joined(self, newer: Speed) -> Speed:
        """The mean of both over their items, of which the old one has at most `MOST_ITEMS`."""
        old = min(self.count, MOST_ITEMS)
        seconds = (old * self.seconds + newer.count * newer.seconds) / (old + newer.count)
        return dataclasses.replace(newer, seconds=seconds, count=old + newer.count)


def about(stage: str, setup: Setup, machine: Machine, tags: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the speed of a stage, but for the size of the items.

    ``tags`` are choices for the matcher that the setup does not know, such as its precision.
    """
    made: dict[str, Any] = {
        "extract": {"component": setup.extractor, "variant": setup.variant},
        "match": {"component": setup.matcher, "features": setup.extractor, "adaptive": setup.is_adaptive, **tags},
        "verify": {"component": "colmap", "features": setup.extractor},
        "map": {"component": setup.mapper, "features": setup.extractor},
    }[stage]
    return {**made, **dataclasses.asdict(machine), "lgsfm": __version__}


def rates_file() -> Path | None:
    """Where speeds are kept: ``$LGSFM_RATES``, else beside the weights in the cache folder; None if it is empty."""
    named = os.environ.get("LGSFM_RATES")
    if named is not None:
        return Path(named).expanduser() if named else None
    return cache_dir().parent / "rates.json"


class Speeds:
    """All that was measured, as it lies in a file; without one, it is forgotten with this object."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.unsaved: list[Speed] = []  # what the file did not take

    def read(self) -> list[Speed]:
        """The records; damaged ones are none."""
        rows = read_json(self.path).get("speeds", []) if self.path else []
        found = (_speed(row) for row in (rows if isinstance(rows, list) else []))
        return [*(speed for speed in found if speed), *self.unsaved]

    def find(self, stage: str, wanted: Mapping[str, Any], reference_s: float) -> tuple[float, str] | None:
        """Seconds of an item and whether they were measured at this size; None if at none."""
        known = [speed for speed in self.read() if speed.stage == stage and speed.about == wanted]
        if not known:
            return None
        nearest = min(known, key=lambda speed: max(speed.reference_s / reference_s, reference_s / speed.reference_s))
        source = MEASURED if nearest.is_same_size(reference_s) else SCALED
        return nearest.seconds * reference_s / nearest.reference_s, source

    def add(self, new: Speed) -> None:
        """Keeps a speed, or takes it into the mean of those before; it is no error if the file cannot be written."""
        before = [speed for speed in self.read() if speed.is_like(new)]
        self.put(before[0].joined(new) if before and _is_telling(new) else new)

    def put(self, new: Speed) -> None:
        """Keeps a speed in the place of those before."""
        if not _is_telling(new):
            return
        others = [speed for speed in self.read() if not speed.is_like(new)]
        self.unsaved = [*others, new][-MOST_RECORDS:]
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, {"speeds": [dataclasses.asdict(speed) for speed in self.unsaved]})
        except (OSError, CacheError):
            return
        self.unsaved = []


def _is_telling(speed: Speed) -> bool:
    return speed.count >= MIN_ITEMS[speed.stage] and 0 < speed.seconds < float("inf")


def _speed(row: Any) -> Speed | None:
    """A record from its JSON, None if it is damaged."""
    try:
        speed = Speed(**row)
        numbers = (speed.reference_s, speed.seconds, speed.count)
        is_sound = all(isinstance(number, int | float) and 0 < number < float("inf") for number in numbers)
        return speed if is_sound and isinstance(speed.about, dict) and speed.stage in STAGES else None
    except TypeError:
        return None


def rates_of(
    setup: Setup, num_images: int, machines: Mapping[str, Machine], tags: Mapping[str, Any], speeds: Speeds
) -> Rates:
    """The speeds of a setup: measured ones, and a guess from a short probe of the machine where there is none.

    Args:
        setup: the choices.
        num_images: of the collection to be mapped.
        machines: stage -> what computes it.
        tags: see `about`.
        speeds: what was measured.
    """
    values: dict[str, float] = {}
    sources: dict[str, str] = {}
    for stage in STAGES:
        machine, size = machines[stage], reference_seconds(stage, setup, num_images)
        found = speeds.find(stage, about(stage, setup, machine, tags), size)
        if not found:
            found = guess_seconds(stage, setup, num_images, machine.gflops(), machine.is_gpu), GUESSED
        values[stage], sources[stage] = found
    return Rates(seconds=values, mapped_images=num_images, sources=sources)
