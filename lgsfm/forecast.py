"""What a run is told before it starts, and what it leaves behind for the next one's forecast.

Nothing here may make a run fail or wait: what is finished is counted on a sample, and any error means no forecast.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

from .errors import InputError
from .estimate import (
    Estimate,
    Rates,
    Setup,
    Work,
    count_pairs,
    duration,
    estimate,
    likely_methods,
    network_bytes,
    reference_seconds,
    size,
)
from .healing import Budget, parse_budget
from .images import read_header
from .machine import Machine, available_bytes, cpu, gpu_bytes, machine_of
from .pairing import METHODS, read_pairs
from .rates import Speed, Speeds, about, rates_file, rates_of
from .room import bytes_in, check_disk, memory_warning
from .settings import ComponentSettings, Settings
from .store import FeatureStore, MatchStore, num_keypoints
from .texture import expected_keypoints
from .types import Pair, Progress, canonical_pair

__all__ = ["Ahead", "Files", "Forecast", "Pace", "machines_of", "seen_pixels", "setup_of", "tags_of"]

SAMPLE = 100  # photos or pairs of which it is looked up whether they are finished
HEADERS = 5  # photos whose size is looked up
LOOKED_AT = 5  # photos whose texture is looked at, some 50 ms each
STAGES = {"extract": "extract", "match": "match", "database": "verify", "map": "map"}  # of a run -> of an estimate
MATCHER_CHOICES = {  # flags that decide speed, by default
    "batch_size": 0,
    "deterministic": False,
    "hopeless": 0.0,
    "precision": "auto",
}
logger = logging.getLogger(__name__)


class Pace:
    """How long the items of a stage took, but for the first batch of them, which waits until a network is loaded."""

    def __init__(self) -> None:
        self.seconds, self.count = 0.0, 0

    def timed(self, progress: Progress | None) -> Progress:
        """The callback (done, total) of a stage, which also times it; its first call is for what was done before.

        ``done`` may grow by several items, those of a batch.
        """
        calls: list[tuple[int, float]] = []

        def report(done: int, total: int) -> None:
            calls.append((done, time.perf_counter()))
            if len(calls) > 2:
                before, start = calls[-2]
                self.count += done - before
                self.seconds += calls[-1][1] - start
                del calls[0]
            if progress:
                progress(done, total)

        return report


@dataclass(frozen=True)
class Files:
    """Where what is finished lies, if there is any."""

    features: Path
    matches: Path
    pairs: Path
    database: Path


@dataclass(frozen=True)
class Ahead:
    """What lies ahead of a run.

    text: for people
    disk_bytes: of all that will lie in the output folder at the fullest moment
    warnings: for people
    """

    text: str = ""
    disk_bytes: int = 0
    warnings: tuple[str, ...] = ()


class Forecast:
    """Of one run.

    Args:
        image_dir: folder of photos.
        names: the photos.
    """

    def __init__(self, image_dir: Path, names: Sequence[str]) -> None:
        self.image_dir, self.names = image_dir, names
        self.paces = {"extract": Pace(), "match": Pace()}
        self.speeds = Speeds(rates_file())
        self._expected: dict[str, int] = {}  # identity of an extractor -> keypoints of a photo

    def lines(self, settings: Settings, extractor: Any, matcher: Any, files: Files) -> list[str]:
        """What people are told before the run. Raises `CacheError` if the disk has surely not enough room."""
        ahead = self.look(settings, extractor, matcher, files)
        folder = files.features.parent
        full = check_disk(folder, ahead.disk_bytes - bytes_in(folder)) if ahead.disk_bytes else ""
        return [line for line in (ahead.text, full, *ahead.warnings) if line]

    def look(self, settings: Settings, extractor: Any, matcher: Any, files: Files) -> Ahead:
        """What the run will take; nothing if that cannot be told."""
        try:
            return self._look(settings, extractor, matcher, files)
        except Exception as exc:  # it is only a forecast
            logger.debug("no forecast: %s", exc)
            return Ahead()

    def _look(self, settings: Settings, extractor: Any, matcher: Any, files: Files) -> Ahead:
        num_images = len(self.names)
        num_pairs = self._count_pairs(settings)
        features_done = _share_done(files.features, FeatureStore, self._some_names())
        candidates = self._some_pairs(settings, files.pairs)
        matches_done = _share_done(files.matches, MatchStore, candidates) * features_done
        is_all_there = features_done == matches_done == 1
        looks = _looks(settings, num_pairs)
        work = Work(
            num_images=num_images,
            num_pairs=num_pairs,
            new_images=round(num_images * (1 - features_done)),
            new_pairs=round(num_pairs * (1 - matches_done)),
            more_pairs=looks.pairs or 0,
            more_s=looks.seconds or 0,
            is_database_new=not (is_all_there and files.database.is_file()),
        )
        identities = {"extractor": extractor.identity, "matcher": matcher.identity}
        setup = self._setup(settings, identities, files.features)
        machines = machines_of(
            settings, setup.extractor, is_extracting=work.new_images > 0, is_matching=work.new_pairs > 0
        )
        rates = rates_of(setup, num_images, machines, tags_of(settings), self.speeds)
        is_known = bool(candidates) or not files.matches.is_file()
        found = estimate(work, setup, rates)
        return Ahead(
            in_words(work, found, rates, is_reuse_known=is_known),
            found.disk_bytes + found.beside_bytes,
            tuple(warning for warning in memory_warnings(work, setup, found, machines) if warning),
        )

    def remember(
        self, stage: str, settings: Settings, identities: Mapping[str, Any], seconds: float, count: int
    ) -> None:
        """Keeps how fast a stage was: ``count`` items in ``seconds``, or what its `Pace` has timed since then."""
        try:
            if stage in STAGES and count:
                self._remember(STAGES[stage], settings, identities, seconds, count)
        except Exception as exc:  # the next forecast will be worse, that is all
            logger.debug("the speed of %s is not kept: %s", stage, exc)

    def _remember(
        self, stage: str, settings: Settings, identities: Mapping[str, Any], seconds: float, count: int
    ) -> None:
        if stage in self.paces:
            seconds, count = self.paces[stage].seconds, self.paces[stage].count
            self.paces[stage] = Pace()
        if not count:
            return
        setup = self._setup(settings, identities)
        devices = {"extract": device_of(setup.extractor, settings.run.device), "match": settings.run.device}
        machine = machine_of(devices.get(stage, "cpu"), threads_of(settings))
        self.speeds.add(
            Speed(
                stage=stage,
                about=about(stage, setup, machine, tags_of(settings)),
                reference_s=reference_seconds(stage, setup, count),
                seconds=seconds / count,
                count=count,
            )
        )

    def _setup(self, settings: Settings, identities: Mapping[str, Any], features: Path | None = None) -> Setup:
        """The setup; the photos are looked at once, so that what is kept of a run is found by the next one."""
        setup = setup_of(identities, settings.mapping.mapper, self._pixels(identities))
        key = str(identities["extractor"])
        if key not in self._expected:
            known = _mean_keypoints(features, self._some_names()) if features else 0
            edge_px = identities["extractor"].get("options", {}).get("max_edge_px", 0)
            some = _spread(self.names, LOOKED_AT)
            self._expected[key] = known or expected_keypoints(self.image_dir, some, setup.extractor, edge_px)
        return replace(setup, expected=self._expected[key])

    def _pixels(self, identities: Mapping[str, Any]) -> int:
        edge_px = identities["extractor"].get("options", {}).get("max_edge_px", 0)
        sizes = []
        for name in _spread(self.names, HEADERS):
            with suppress(InputError):  # a photo that the run will skip and name
                sizes.append(read_header(self.image_dir / name).size)
        return seen_pixels(sizes, edge_px)

    def _count_pairs(self, settings: Settings) -> int:
        files = [name for name in settings.pairs.methods() if name not in (*METHODS, "auto")]
        listed = {pair for name in files for pair in read_pairs(Path(name), self.names)}
        return count_pairs(len(self.names), settings.pairs) + len(listed)

    def _some_names(self) -> list[str]:
        return _spread(self.names, SAMPLE)

    def _some_pairs(self, settings: Settings, selected: Path) -> list[Pair]:
        """Some of the pairs that will be matched; none where that is not known before there are features."""
        if "exhaustive" in likely_methods(len(self.names), settings.pairs):
            return _random_pairs(sorted(self.names))
        if not selected.is_file():
            return []
        lines = _spread(selected.read_text(encoding="utf-8").split("\n")[:-1], SAMPLE)  # names may hold other breaks
        return [(line.split("\t")[0], line.split("\t")[1]) for line in lines]


def in_words(work: Work, found: Estimate, rates: Rates, *, is_reuse_known: bool) -> str:
    """The forecast for people, in two lines at most."""
    parts = [
        _amount(work.new_images, work.num_images, "photo"),
        _amount(work.new_pairs, work.num_pairs, "pair"),
    ]
    rest = "only verification and mapping" if work.is_database_new else "only mapping"
    ahead = ", ".join(part for part in parts if part) or f"{rest}, all else is reused"
    each = [f"{stage} {duration(seconds)}" for stage, seconds in found.seconds.items() if seconds]
    needs = f"{size(found.memory_bytes)} of memory, {size(found.disk_bytes)} of disk"
    caveat = "" if is_reuse_known else ", if no match is reused"
    stages = f" ({', '.join(each)})" if len(each) > 1 else ""
    if found.more_s:
        stages += f", up to {duration(found.total_s + found.more_s)} if photos need second looks"
    origin = rates.origin([stage for stage, seconds in found.seconds.items() if seconds])
    return f"Ahead: {ahead}: about {duration(found.total_s)}{stages}; {needs}{caveat}.\n  Times are {origin}."


def memory_warnings(work: Work, setup: Setup, found: Estimate, machines: Mapping[str, Machine]) -> list[str]:
    """Warnings of stages that may not have enough memory, "" for the others."""
    graphics = machines["match"]
    ours = memory_warning(found.memory, available_bytes())
    if (free := gpu_bytes(graphics)) is None:
        return [ours]
    extraction, matching = network_bytes(work.num_images, setup)
    return [ours, memory_warning({"gpu": round(max(extraction, matching))}, free, graphics.name)]


def _looks(settings: Settings, num_pairs: int) -> Budget:
    """What second looks may cost at most."""
    wanted = settings.healing.budget
    return parse_budget("none" if wanted == "auto" and settings.pairs.is_listed else wanted, num_pairs)


def _amount(new: int, total: int, unit: str) -> str:
    return "" if not new else f"{new:,} {unit}s" if new == total else f"{new:,} of {total:,} {unit}s"


# --------------------------------------------------------------------------------- what decides the cost
def setup_of(identities: Mapping[str, Any], mapper: str, pixels: int) -> Setup:
    """The setup that the identities of an extractor and a matcher tell of."""
    extractor, matcher = identities["extractor"], identities.get("matcher", {})
    options, choices = extractor.get("options", {}), matcher.get("options", {})
    return Setup(
        extractor=str(extractor["extractor"]),
        matcher=str(matcher.get("matcher", "lightglue")),
        mapper="incremental" if mapper == "auto" else mapper,  # which comes first, and most often is all
        variant=str(options.get("variant", "")),
        pixels=pixels,
        keypoints=int(options.get("max_keypoints", 0)),
        is_adaptive=max(choices.get("depth_confidence", -1), choices.get("width_confidence", -1)) >= 0,
    )


def seen_pixels(sizes: Sequence[tuple[int, int]], max_edge_px: int) -> int:
    """Pixels of the middle one of some photos (width, height) once they are reduced to ``max_edge_px`` (0: not)."""
    seen = []
    for width, height in sizes:
        scale = min(1.0, max_edge_px / max(width, height)) if max_edge_px else 1.0
        seen.append(round(width * height * scale**2))
    return sorted(seen)[len(seen) // 2]


def device_of(component: str, device: str) -> str:
    """Where a component computes: SIFT is OpenCV's."""
    return "cpu" if component == "sift" else device


def tags_of(settings: ComponentSettings) -> dict[str, Any]:
    """The choices for the matcher that decide its speed and that a `Setup` does not know, but for the defaults."""
    asked = {name: settings.flags.get(name, default) for name, default in MATCHER_CHOICES.items()}
    return {name: value for name, value in asked.items() if value != MATCHER_CHOICES[name]}


def threads_of(settings: ComponentSettings) -> int:
    """The threads that were asked for; -1 if none were."""
    parts = (settings.run, getattr(settings, "mapping", None))
    return max(part.to_dict().get("threads", -1) if part else -1 for part in parts)


def machines_of(
    settings: ComponentSettings, extractor: str, *, is_extracting: bool = True, is_matching: bool = True
) -> dict[str, Machine]:
    """Stage -> what computes it. Torch is not loaded for stages that have nothing to do."""
    device, threads = settings.run.device, threads_of(settings)
    central = cpu(threads)
    return {
        "extract": machine_of(device_of(extractor, device), threads) if is_extracting else central,
        "match": machine_of(device, threads) if is_matching else central,
        "verify": central,
        "map": central,
    }


# --------------------------------------------------------------------------------- what is finished
def _share_done(path: Path, store: Callable[[Path], Any], sample: Sequence[Any]) -> float:
    """The share of some entries that a store holds; 0 where it does not exist."""
    if not path.is_file() or not sample:
        return 0.0
    with store(path) as entries:
        return sum(key in entries for key in sample) / len(sample)


def _mean_keypoints(path: Path, sample: Sequence[str]) -> int:
    """Keypoints of the photos that a store holds, on average of some; 0 if it holds none of them."""
    if not path.is_file():
        return 0
    with FeatureStore(path) as entries:
        counts = [count for name in sample if (count := num_keypoints(entries, name)) is not None]
    return round(sum(counts) / len(counts)) if counts else 0


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most so many of the items, evenly spread."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def _random_pairs(names: list[str]) -> list[Pair]:
    """Some pairs of all; all if there are few."""
    if len(names) ** 2 <= 4 * SAMPLE:
        return list(combinations(names, 2))
    random = Random(0)
    return [canonical_pair(*random.sample(names, 2)) for _ in range(SAMPLE)]
