"""How fast this machine is: features and matches at several sizes, and what that means for collections."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .errors import InputError, MemoryShortageError
from .estimate import Estimate, Rates, Setup, Work, count_pairs, duration, estimate, reference_seconds, size
from .extraction import extract_features
from .extractors import Extractor
from .forecast import machines_of, seen_pixels, setup_of, tags_of
from .images import list_images, read_header
from .machine import Machine, memory_bytes
from .matchers import Matcher
from .matching import match_features
from .pairing import AUTO_EXHAUSTIVE, PairOptions
from .rates import Speed, Speeds, about, rates_file, rates_of
from .registry import component_class
from .rendering import save_views
from .settings import QUALITIES, ComponentSettings, choose_features
from .types import Features, Matches, Pair, Progress

__all__ = ["Measurement", "Outlook", "Report", "SizeOfWork", "bench", "recommend", "sizes_of"]

COLLECTIONS = (100, 1_000, 10_000)
MOST_PHOTOS, WARM_UP = 10, 2
LEAST = 4  # photos or pairs that are timed, however slow the machine
EXTRACT_S, MATCH_S = 5.0, 12.0  # wished for per size
QUICK = 0.5  # of that
PATIENCE_S = {"medium": 3600.0, "high": 600.0, "extreme": 300.0}  # medium serves most scenes, so more must be cheap
MEMORY_SHARE = 0.8  # of the machine's, that may be used
POOR = 0.95  # of the keypoints that were asked for: the photos have no more
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SizeOfWork:
    """What is asked of an extractor: a preset by name, or "" for another size."""

    quality: str
    edge_px: int
    keypoints: int


@dataclass(frozen=True)
class Pictures:
    """What is looked at, in an order in which neighbours see the same."""

    folder: Path
    sizes: Mapping[str, tuple[int, int]]  # by name: (width, height) px
    orientations: Mapping[str, int] | None  # EXIF codes of the views; None: as the files say
    reasons: list[str] = field(default_factory=list)  # why photos could not be used

    @property
    def names(self) -> list[str]:
        """All of them."""
        return list(self.sizes)

    def extract(self, names: Sequence[str], extractor: Extractor, store: dict[str, Features]) -> list[str]:
        """The feature stage, for some of them; the names of those that can be used."""
        is_single = len(names) == 1  # then the error names the photo
        try:
            return extract_features(
                self.folder, names, extractor, store, orientations=self.orientations, is_strict=is_single
            ).computed
        except MemoryShortageError:
            raise
        except InputError as exc:  # none can be used, which is an error only if there are no others
            self.reasons.append(str(exc))
            return []


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The speed at one size."""

    size: SizeOfWork
    pixels: int  # of the middle photo as the extractor saw it
    found_keypoints: float  # mean
    found_matches: float  # mean, per pair
    extract_s: float  # per photo
    match_s: float  # per pair
    num_photos: int  # timed
    num_pairs: int  # timed


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a collection would take."""

    quality: str
    num_images: int
    num_pairs: int
    estimate: Estimate
    rates: Rates


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `bench` found."""

    features: str
    matcher: str
    machine: Machine  # of the networks
    source: str  # of the pictures
    measurements: list[Measurement]
    presets: list[Outlook]  # of the collection asked for, the lowest preset first
    recommended: str  # preset
    reason: str
    collections: list[Outlook]  # of several sizes, each with the preset recommended for it
    global_mapping_s: list[float]  # of the same collections, with --mapper global
    shortage: str = ""  # at which size memory ran out, if at any: larger ones were not measured
    memory_bytes: int | None = field(default_factory=memory_bytes)
    torch: str = field(default_factory=lambda: version("torch"))


def bench(
    settings: ComponentSettings,
    image_dir: Path | None = None,
    *,
    num_images: int | None = None,
    is_quick: bool = False,
    progress: Progress | None = None,
    weights_progress: Progress | None = None,
) -> Report:
    """Measures features and matches at several sizes on this machine, and keeps the speeds for forecasts.

    Args:
        settings: components, device and their options; with ``max_edge_px``, ``max_keypoints`` or ``quality`` among
            the flags only that size is measured.
        image_dir: folder of photos; None means pictures that are rendered.
        num_images: of the collection that a preset is recommended for; None means that of the folder, or 100.
        is_quick: fewer sizes, shorter.
        progress: called with (steps done, all steps).
        weights_progress: called with (done, total) bytes while weights are fetched.

    Raises:
        InputError: the photos or the options are unusable.
        MemoryShortageError: there is not enough memory even for the smallest size.
        WeightsError: the weights of a network cannot be had.
    """
    name, _ = choose_features(settings.run)
    extractor = settings.make_extractor(name, progress=weights_progress)
    matcher = settings.make_matcher(settings.run.matcher, extractor, progress=weights_progress)
    machines = machines_of(settings, name)
    speeds, shortage = Speeds(rates_file()), ""
    measured: list[Measurement] = []
    too_large: tuple[str, ...] = ()  # presets
    with ExitStack() as stack:
        stack.enter_context(settings.limited_threads())
        if image_dir is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="lgsfm-bench-")))
            every = save_views(folder, LEAST + WARM_UP if is_quick else MOST_PHOTOS)
        else:
            folder, every = image_dir, list_images(image_dir)
        if len(every) < 2:
            raise InputError(f"{image_dir} holds one image. Speed is measured on at least two.")
        sizes = readable_sizes(folder, some_photos(every) if image_dir else every)
        source = (
            f"{len(sizes)} photos of {image_dir}"
            if image_dir
            else f"{len(sizes)} rendered pictures; name a folder of photos for more truth"
        )
        is_as_stored = settings.upright.upright == "off"
        pictures = Pictures(folder, sizes, dict.fromkeys(sizes, 1) if is_as_stored else None)
        todo = sizes_of(name, settings, is_quick=is_quick)
        for i, asked in enumerate(todo):
            step = Step(progress, i, len(todo))
            sized = _sized(settings, name, asked)
            try:
                found = measure(pictures, sized, matcher, asked, QUICK if is_quick else 1.0, step)
            except MemoryShortageError:
                if not measured:
                    raise
                where = f"{asked.edge_px or 'all'} px with {asked.keypoints or 'all'} keypoints"
                shortage = f"At {where}, memory ran out; no larger size was measured"
                too_large = QUALITIES[QUALITIES.index(asked.quality) :] if asked.quality else ()
                step.report(len(todo) - i)
                break
            measured.append(found)
            for speed in _speeds(found, sized, matcher, machines, tags_of(settings)):
                if image_dir is None:  # pictures that are easier than photos: the first run on photos outweighs them
                    speeds.add(replace(speed, count=LEAST))
                else:
                    speeds.put(speed)
    here = Here(settings, name, matcher, list(sizes.values()), machines, speeds, _density(measured))
    wanted = num_images or (len(every) if image_dir else COLLECTIONS[0])
    presets = here.presets(wanted)
    memory = memory_bytes()
    recommended, reason = recommend(presets, memory, too_large)
    counts = sorted({*COLLECTIONS, wanted})
    chosen = [(recommend(here.presets(count), memory, too_large)[0], count) for count in counts]
    return Report(
        features=name,
        matcher=str(matcher.identity["matcher"]),
        machine=machines["match"],
        source=source,
        measurements=measured,
        presets=presets,
        recommended=recommended,
        reason=reason,
        collections=[here.outlook(*each) for each in chosen],
        global_mapping_s=[here.outlook(*each, "global").estimate.seconds["map"] for each in chosen],
        shortage=shortage,
    )


def recommend(presets: Sequence[Outlook], memory: int | None, too_large: Sequence[str] = ()) -> tuple[str, str]:
    """The best preset that needs no more than its time and the memory there is [bytes], and why.

    ``too_large`` are presets for which memory has run out. If none fits, it is the lowest, and the reason says so.
    """
    exceeded = [_exceeded(preset, memory, too_large) for preset in presets]
    best = max((i for i, limits in enumerate(exceeded) if not limits), default=0)
    reason = _takes(presets[best])
    if exceeded[best]:
        return presets[best].quality, f"{reason}, and even that does not fit ({' and '.join(exceeded[best])})"
    if best + 1 < len(presets):
        above, limits = presets[best + 1], " and ".join(exceeded[best + 1])
        reason += f"; {above.quality} would take {_takes(above)} ({limits})"
    return presets[best].quality, reason


def _exceeded(preset: Outlook, memory: int | None, too_large: Sequence[str]) -> list[str]:
    """The limits that a preset does not keep, for people."""
    limits, patience_s = [], PATIENCE_S.get(preset.quality, float("inf"))
    if preset.estimate.total_s > patience_s:
        limits.append(f"it is recommended up to {duration(patience_s)}")
    if preset.quality in too_large:
        limits.append("memory ran out")
    elif memory and preset.estimate.memory_bytes > MEMORY_SHARE * memory:
        limits.append(f"of the {size(memory)} of memory here, at most {MEMORY_SHARE:.0%} is reckoned with")
    return limits


def _takes(outlook: Outlook) -> str:
    return f"{duration(outlook.estimate.total_s)} and {size(outlook.estimate.memory_bytes)} of memory"


# --------------------------------------------------------------------------------- what is measured
def sizes_of(features: str, settings: ComponentSettings, *, is_quick: bool) -> list[SizeOfWork]:
    """The sizes to measure at: half of the lowest preset and the presets but the highest, or what the flags ask for."""
    presets = component_class("extractor", features).options_class.presets
    asked = {flag: settings.flags[flag] for flag in ("max_edge_px", "max_keypoints") if flag in settings.flags}
    if asked or "quality" in settings.flags:
        options = {**presets[settings.run.quality], **asked}
        return [SizeOfWork("" if asked else settings.run.quality, options["max_edge_px"], options["max_keypoints"])]
    some = [SizeOfWork(name, presets[name]["max_edge_px"], presets[name]["max_keypoints"]) for name in QUALITIES[:-1]]
    if is_quick:
        return some[:2]
    return [SizeOfWork("", some[0].edge_px * 2 // 3, some[0].keypoints // 2), *some]


def some_photos(names: Sequence[str]) -> list[str]:
    """Photos of which most see the same: of all parts of a small collection, neighbours by name in a large one."""
    count = min(MOST_PHOTOS, len(names))
    if len(names) <= AUTO_EXHAUSTIVE:
        return [names[i * len(names) // count] for i in range(count)]
    start = (len(names) - count) // 2
    return list(names[start : start + count])


def readable_sizes(folder: Path, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(width, height) px of those photos whose header can be read.

    Raises:
        InputError: those are less than two.
    """
    sizes, reasons = {}, []
    for name in names:
        try:
            sizes[name] = read_header(folder / name).size
        except InputError as exc:
            reasons.append(str(exc))
    if len(sizes) < 2:
        raise InputError(f"Too few photos in {folder} can be used. {reasons[0]}")
    for reason in reasons:
        logger.warning("Left out: %s", reason)
    return sizes


class Step:
    """A part of all the work: one of several sizes."""

    def __init__(self, progress: Progress | None, number: int, count: int) -> None:
        self.progress, self.number, self.count = progress, number, count

    def report(self, share: float) -> None:
        """Says which share of the part is done."""
        if self.progress:
            self.progress(round(100 * (self.number + share) / self.count), 100)


def measure(
    pictures: Pictures,
    extractor: Extractor,
    matcher: Matcher,
    asked: SizeOfWork,
    patience: float,
    step: Step,
) -> Measurement:
    """The speed at one size: through the stages of a run, from files on, after a few items to load and to warm up."""
    step.report(0)
    names, features = pictures.names, dict[str, Features]()
    rest = list(names)
    while rest and len(features) < WARM_UP:
        start = time.perf_counter()
        pictures.extract([rest.pop(0)], extractor, features)
        last_s = time.perf_counter() - start
    if len(features) < 2:
        raise InputError(f"Too few photos in {pictures.folder} can be used. {pictures.reasons[0]}")
    warm = list(features)
    some = _within(rest, last_s, patience * EXTRACT_S)
    start = time.perf_counter()
    timed = pictures.extract(some, extractor, features) if some else []
    if not timed:
        start = time.perf_counter()
        timed = pictures.extract(warm, extractor, {})
    extract_s = (time.perf_counter() - start) / len(timed)
    step.report(0.3)
    pairs = sorted(combinations(sorted(features), 2), key=lambda pair: names.index(pair[1]) - names.index(pair[0]))
    match_features(features, pairs[:WARM_UP], matcher, {})
    start = time.perf_counter()
    match_features(features, pairs[:1], matcher, {})
    step.report(0.4)
    chosen = _within(pairs, time.perf_counter() - start, patience * MATCH_S)
    matches: dict[Pair, Matches] = {}
    start = time.perf_counter()
    match_features(
        features, chosen, matcher, matches, progress=lambda done, total: step.report(0.4 + 0.6 * done / total)
    )
    match_s = (time.perf_counter() - start) / len(chosen)
    return Measurement(
        size=asked,
        pixels=seen_pixels([pictures.sizes[name] for name in timed], asked.edge_px),
        found_keypoints=sum(len(found) for found in features.values()) / len(features),
        found_matches=sum(len(found) for found in matches.values()) / len(matches),
        extract_s=extract_s,
        match_s=match_s,
        num_photos=len(timed),
        num_pairs=len(chosen),
    )


def _within(items: Sequence[Any], each_s: float, seconds: float) -> list[Any]:
    """As many evenly spread items as fit into so many seconds, but at least a few."""
    count = min(len(items), max(LEAST, int(seconds / max(each_s, 1e-6))))
    return [items[i * len(items) // count] for i in range(count)]


def _sized(settings: ComponentSettings, features: str, asked: SizeOfWork) -> Extractor:
    flags = {**settings.flags, "max_edge_px": asked.edge_px, "max_keypoints": asked.keypoints}
    return type(settings).from_flags(flags).make_extractor(features)


def _speeds(
    found: Measurement, extractor: Extractor, matcher: Matcher, machines: dict[str, Machine], tags: dict[str, Any]
) -> list[Speed]:
    """What is kept of a measurement."""
    identities = {"extractor": extractor.identity, "matcher": matcher.identity}
    setup = replace(setup_of(identities, "incremental", found.pixels), expected=round(found.found_keypoints))
    timed = (("extract", found.extract_s, found.num_photos), ("match", found.match_s, found.num_pairs))
    return [
        Speed(
            stage=stage,
            about=about(stage, setup, machines[stage], tags),
            reference_s=reference_seconds(stage, setup),
            seconds=seconds,
            count=count,
        )
        for stage, seconds, count in timed
    ]


# --------------------------------------------------------------------------------- what it means
@dataclass(frozen=True)
class Here:
    """All that decides what a collection takes on this machine."""

    settings: ComponentSettings
    features: str
    matcher: Matcher
    sizes: Sequence[tuple[int, int]]  # of photos
    machines: dict[str, Machine]
    speeds: Speeds
    density: float = 0.0  # keypoints per pixel that photos are likely to have; 0: as many as may be

    def presets(self, num_images: int) -> list[Outlook]:
        """What a collection would take with each preset, the lowest first."""
        return [self.outlook(quality, num_images) for quality in QUALITIES]

    def outlook(self, quality: str, num_images: int, mapper: str = "incremental") -> Outlook:
        """What a collection would take with a preset and the pairs that ``--pairs auto`` chooses."""
        setup = self._setup(quality, mapper)
        rates = rates_of(setup, num_images, self.machines, tags_of(self.settings), self.speeds)
        num_pairs = count_pairs(num_images, PairOptions())
        found = estimate(Work.all_of(num_images, num_pairs), setup, rates)
        return Outlook(quality=quality, num_images=num_images, num_pairs=num_pairs, estimate=found, rates=rates)

    def _setup(self, quality: str, mapper: str) -> Setup:
        preset = component_class("extractor", self.features).options_class.presets[quality]
        extractor = _sized(self.settings, self.features, SizeOfWork(quality, **_renamed(preset)))
        pixels = seen_pixels(self.sizes, preset["max_edge_px"])
        setup = setup_of({"extractor": extractor.identity, "matcher": self.matcher.identity}, mapper, pixels)
        return replace(setup, expected=round(self.density * pixels))


def _density(measured: Sequence[Measurement]) -> float:
    """Keypoints per pixel of measurements that found fewer than they might have; 0 without any."""
    poor = [row for row in measured if not row.size.keypoints or row.found_keypoints < POOR * row.size.keypoints]
    return max((row.found_keypoints / row.pixels for row in poor), default=0.0)


def _renamed(preset: Any) -> dict[str, int]:
    return {"edge_px": preset["max_edge_px"], "keypoints": preset["max_keypoints"]}
