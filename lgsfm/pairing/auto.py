"""What ``--pairs auto`` chooses for a collection, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from .collection import Collection
from .options import AUTO_EXHAUSTIVE, PairOptions
from .sequence import natural_pattern, sequences

__all__ = ["choose"]

GPS_SHARE = 0.8  # of the images must have a position
MIN_PLACES, PLACES_SHARE = 3, 0.1  # distinct positions, and how many of all: one place for all says nothing
STEADY_SHARE = 0.5  # of the steps from name to name must be the same
ORDERED_SHARE = 0.9  # of the steps from name to name must not go back in time
QUICK_S = 30.0  # photos that follow each other so quickly were taken on one walk


def choose(collection: Collection, options: PairOptions) -> tuple[list[str], str]:
    """The methods, and the reason in words."""
    count = len(collection.names)
    if count <= AUTO_EXHAUSTIVE:
        return ["exhaustive"], f"{count} photos are few enough for all pairs"
    methods, reasons = ["retrieval"], [f"{count} photos are too many for all pairs"]
    located = [exif.position for exif in collection.exif.values() if exif.position]
    places = {(position.latitude_deg, position.longitude_deg) for position in located}
    if len(located) >= GPS_SHARE * count:
        if len(places) >= MIN_PLACES and len(places) > PLACES_SHARE * len(located):
            methods.append("spatial")
            reasons.append(f"{len(located)} have a GPS position")
        else:
            reasons.append(f"the GPS positions of {len(located)} are only {len(places)} places")
    if why := _why_a_sequence(collection):
        methods.append("sequential")
        reasons.append(why)
    else:
        reasons.append("neither their names nor their times make a sequence")
    return methods, ", ".join(reasons)


def _why_a_sequence(collection: Collection) -> str:
    """What says that images follow each other as their names do; "" if nothing does."""
    found = [sequence for sequence in sequences(collection.names) if len(sequence) > 1]
    steps = sum(len(sequence) - 1 for sequence in found)
    if not steps:
        return ""
    if sum(_steady_steps(sequence) for sequence in found) >= STEADY_SHARE * steps:
        return "their names are numbered in steps"
    seconds = [
        (second - first).total_seconds()
        for sequence in found
        for first, second in pairwise(collection.exif[name].taken for name in sequence)
        if first and second
    ]
    is_ordered = sum(gap >= 0 for gap in seconds) >= ORDERED_SHARE * steps
    if is_ordered and sum(0 <= gap <= QUICK_S for gap in seconds) >= STEADY_SHARE * steps:
        return "their times follow their names"
    return ""


def _steady_steps(sequence: Sequence[str]) -> int:
    """How many steps from name to name are the most common step of one of their numbers, the text being the same."""
    steps: Counter[tuple[int, int]] = Counter()  # (which number, its step)
    for (text0, numbers0), (text1, numbers1) in pairwise(natural_pattern(name) for name in sequence):
        if text0 == text1:
            steps.update((i, b - a) for i, (a, b) in enumerate(zip(numbers0, numbers1, strict=True)) if b != a)
    return max(steps.values(), default=0)
