"""Whether a long run grows: memory, open files and threads of one process that extracts and matches for half an hour.

    python tests/benchmarks/growth.py --minutes 30 --csv growth.csv

Each round makes photos of ever new sizes (crops of a rendered wall, so that networks see new shapes all the time),
extracts their features and matches neighbours, all through the stages that a run uses, into stores that stay open and
grow. Behind each part of a round, resident memory, open files and threads are noted. The slopes are those of
the means of ten blocks of rounds, the first quarter left out (libraries fill their caches there), with a confidence of
95 %. What a part adds is summed up over the same rounds.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from lgsfm.extraction import extract_features
from lgsfm.extractors import Extractor
from lgsfm.matchers import Matcher
from lgsfm.matching import match_features
from lgsfm.rendering import render_views
from lgsfm.settings import Settings
from lgsfm.store import FeatureStore, MatchStore

PARTS = ("aliked", "lightglue", "sift", "nearest")
FEATURES_OF = {"lightglue": "aliked", "nearest": "sift"}
EDGES_PX = (120, 360)  # of the photos
NEIGHBOURS = 4  # photos behind each that it is matched with
BLOCKS = 10
WARM_UP = 0.25  # share of the rounds that does not count
T_95 = 2.306  # Student's t for two sides and BLOCKS - 2 degrees of freedom


@dataclass(frozen=True)
class Sample:
    """What a process holds after so many photos."""

    part: str
    photos: int
    pairs: int
    seconds: float
    rss_mb: float
    files: int
    threads: int


def rss_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """Open descriptors of this process, without the one that lists them."""
    return len(os.listdir("/proc/self/fd")) - 1


class Round:
    """One round after the other, over the same components and stores.

    Args:
        folder: for photos and stores.
        photos: of a round.
        keypoints: of a photo.
        opened: closes the stores.
    """

    def __init__(self, folder: Path, photos: int, keypoints: int, opened: ExitStack) -> None:
        self.folder, self.photos, self.opened = folder, photos, opened
        self.rng, self.views, self.made = np.random.default_rng(0), render_views(4, (1200, 900)), 0
        self.settings = {
            kind: Settings.from_flags({"features": kind, "max_keypoints": keypoints}) for kind in ("aliked", "sift")
        }
        self.extractors: dict[str, Extractor] = {
            kind: settings.make_extractor(kind) for kind, settings in self.settings.items()
        }
        self.matchers: dict[str, Matcher] = {
            name: self.settings[kind].make_matcher(name, self.extractors[kind]) for name, kind in FEATURES_OF.items()
        }
        self.features = {kind: self._opened(FeatureStore, kind, self.extractors[kind]) for kind in self.extractors}
        self.matches = {name: self._opened(MatchStore, name, self.matchers[name]) for name in self.matchers}

    def _opened(self, store: Callable[..., FeatureStore | MatchStore], name: str, component: object) -> object:
        return self.opened.enter_context(store(self.folder / f"{name}.h5", component.identity))

    def make_photos(self) -> list[str]:
        """Writes the photos of a round."""
        names = []
        for _ in range(self.photos):
            width, height = (int(edge) for edge in self.rng.integers(*EDGES_PX, 2))
            view = self.views[self.made // 50 % len(self.views)]
            x, y = (int(self.rng.integers(0, (room - edge) // 4)) for room, edge in ((1200, width), (900, height)))
            names.append(f"{self.made:07}.jpg")
            cv2.imwrite(str(self.folder / names[-1]), view[y : y + height, x : x + width])
            self.made += 1
        return names

    def work(self, parts: Sequence[str]) -> Iterator[tuple[str, int]]:
        """The parts of one round, each with how many pairs it matched."""
        names = self.make_photos()
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 : i + 1 + NEIGHBOURS]]
        for part in parts:
            if part in self.extractors:
                extract_features(self.folder, names, self.extractors[part], self.features[part])
                yield part, 0
            else:
                match_features(self.features[FEATURES_OF[part]], pairs, self.matchers[part], self.matches[part])
                yield part, len(pairs)
        for name in names:
            (self.folder / name).unlink()


def watched(arguments: argparse.Namespace, folder: Path) -> Iterator[Sample]:
    """Rounds until the time is over, with a sample behind each part."""
    with ExitStack() as opened:
        rounds = Round(folder, arguments.photos, arguments.keypoints, opened)
        start, pairs = time.monotonic(), 0
        while (now := time.monotonic() - start) < 60 * arguments.minutes:
            yield Sample("start", rounds.made, pairs, now, rss_mb(), open_files(), threading.active_count())
            for part, matched in rounds.work(arguments.parts):
                pairs += matched
                gc.collect()
                now = time.monotonic() - start
                yield Sample(part, rounds.made, pairs, now, rss_mb(), open_files(), threading.active_count())


# --------------------------------------------------------------------------------- what they tell
def slope(xs: np.ndarray, ys: np.ndarray) -> tuple[float, float]:
    """Least-squares slope of the means of blocks, and half the width of its interval of 95 %.

    Neighbouring samples are alike; the means of blocks are nearly independent, so that the interval is not too small.
    """
    x, y = (np.array([block.mean() for block in np.array_split(values, BLOCKS)]) for values in (xs, ys))
    away = x - x.mean()
    found = float(away @ y / (away @ away))
    rest = y - y.mean() - found * away
    return found, T_95 * float(np.sqrt(rest @ rest / (BLOCKS - 2) / (away @ away)))


def report(samples: Sequence[Sample]) -> list[str]:
    """The curve, the slopes, and what each part added."""
    starts = [sample for sample in samples if sample.part == "start"]
    lines = [f"{'photos':>8} {'pairs':>8} {'s':>7} {'RSS MB':>8} {'files':>6} {'threads':>7}"]
    for row in starts[:: max(1, len(starts) // 20)]:
        lines.append(f"{row.photos:8} {row.pairs:8} {row.seconds:7.0f} {row.rss_mb:8.1f} {row.files:6} {row.threads:7}")
    counted = starts[round(WARM_UP * len(starts)) :]
    if len(counted) < 2 * BLOCKS:
        return [*lines, f"Too few rounds for slopes: {len(starts)}."]
    for what, unit in (("rss_mb", "MB"), ("files", "files"), ("threads", "threads")):
        values = np.array([getattr(row, what) for row in counted], float)
        for of in ("photos", "pairs"):
            each = np.array([getattr(row, of) for row in counted], float) / 1000
            found, half = slope(each, values) if np.ptp(each) else (0.0, 0.0)
            lines.append(f"{unit:>8} per 1,000 {of:6} {found:+8.3f} +- {half:.3f}")
    first = counted[0].photos
    added: defaultdict[str, float] = defaultdict(float)
    for before, after in pairwise(samples):
        if before.photos > first:
            added[after.part] += after.rss_mb - before.rss_mb
    thousands = (counted[-1].photos - first) / 1000
    lines += [f"{part:>10} added {mb / thousands:+8.3f} MB per 1,000 photos" for part, mb in added.items()]
    return lines


def main() -> None:
    """Works for the asked time and prints the curve."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--photos", type=int, default=20, help="of a round")
    parser.add_argument("--keypoints", type=int, default=256, help="of a photo")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--csv", type=Path, help="all samples")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("reads /proc, which only Linux has")
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        file = opened.enter_context(open(arguments.csv or os.devnull, "w", encoding="utf-8", newline=""))
        table = csv.writer(file)
        for sample in watched(arguments, Path(folder)):
            samples.append(sample)
            table.writerow(vars(sample).values())
            file.flush()
    print("\n".join(report(samples)))


if __name__ == "__main__":
    main()
