"""What 1,000, 10,000 and 100,000 photos cost apart from networks, verification and mapping: seconds and memory.

    python tests/benchmarks/scale.py out/redkitchen/features-aliked-*.h5 --images 1000 10000 --folder /tmp/scale

The photos are made up of real features: each place is a random choice of ``--keypoints`` keypoints of the file, moved
and with noise on the descriptors; each of its ten photos shows two thirds of them, with less noise, and others.
Matching is replaced by a look at which keypoints are the same. Each stage runs in a process of its own, which says
its wall time, its CPU time (of all threads) and its peak memory. The files stay in the folder for further stages
(``--stages``) until ``--clean``: 70 kB of features per photo with 256 keypoints, 3 kB per pair of matches.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lgsfm import database
from lgsfm.camera_groups import CameraGroup
from lgsfm.database_reading import fingerprint
from lgsfm.matching import match_features
from lgsfm.pairing import PairOptions, read_pairs, select_pairs, write_pairs
from lgsfm.registry import component_class
from lgsfm.store import FeatureStore, MatchStore, digest_of
from lgsfm.types import Features, Matches, canonical_pair

PHOTOS_OF_A_PLACE = 10
SHOWN = 2 / 3  # of the keypoints of a place, by each of its photos
NOISE_OF_PLACE, NOISE_OF_PHOTO = 0.3, 0.15  # length of what is added to unit descriptors
SIZE = (1024, 768)
WATCHED_CALLS = 1000  # entries that one-by-one operations are timed on


# --------------------------------------------------------------------------------- photos of places
class Places:
    """Photos made of the features of a file; photo ``number`` shows place ``number // PHOTOS_OF_A_PLACE``."""

    def __init__(self, path: Path, keypoints: int) -> None:
        with FeatureStore(path) as store:
            found = [store[name] for name in islice(store, 100)]
        self.descriptors = np.concatenate([features.descriptors for features in found])
        self.extractor, self.keypoints = found[0].extractor, keypoints

    @lru_cache(maxsize=4)  # noqa: B019 - one object per process
    def place(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(K, 2) float32 [px] keypoints and (K, D) float32 descriptors of a place."""
        rng = np.random.default_rng((1, number))
        chosen = self.descriptors[rng.integers(0, len(self.descriptors), self.keypoints)]
        return rng.random((self.keypoints, 2), np.float32) * SIZE, _noisy(chosen, NOISE_OF_PLACE, rng)

    def shown(self, number: int) -> np.ndarray:
        """(K,) int: which keypoint of its place each keypoint of a photo is, ascending; -1 for those of its own."""
        rng = np.random.default_rng((2, number))
        seen = np.sort(rng.permutation(self.keypoints)[: int(SHOWN * self.keypoints)])
        return np.concatenate([seen, np.full(self.keypoints - len(seen), -1)])

    def photo(self, number: int) -> Features:
        """The features of a photo."""
        rng = np.random.default_rng((3, number))
        points, descriptors = self.place(number // PHOTOS_OF_A_PLACE)
        shown, own = self.shown(number), rng.integers(0, len(self.descriptors), self.keypoints)
        is_shown = shown[:, None] >= 0
        moved = points[shown] + rng.normal(0, 5, points.shape)
        return Features(
            keypoints=np.where(is_shown, moved, rng.random(points.shape) * SIZE).clip(0, 767).astype(np.float32),
            descriptors=_noisy(np.where(is_shown, descriptors[shown], self.descriptors[own]), NOISE_OF_PHOTO, rng),
            scores=np.linspace(1, 0.2, self.keypoints, dtype=np.float32),
            image_size=SIZE,
            extractor=self.extractor,
            source=f"{number:064x}",
        )


def _noisy(descriptors: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(descriptors.shape, np.float32) * np.float32(length / np.sqrt(descriptors.shape[1]))
    noisy = descriptors + noise
    return noisy / np.linalg.norm(noisy, axis=1, keepdims=True)


def name_of(number: int) -> str:
    """Name of a photo; all are in one folder."""
    return f"{number:07}.jpg"


def number_of(name: str) -> int:
    """The number of a photo."""
    return int(name[-11:-4])


class Lookup:
    """A matcher that looks up which keypoints are the same; like the networks, it prepares an image once."""

    kind = "aliked"
    batch_size = 32  # as on a GPU

    def __init__(self, places: Places) -> None:
        self.places = places

    def prepare(self, features: Features) -> tuple[int, np.ndarray, Features]:
        number = int(features.source, 16)
        return number // PHOTOS_OF_A_PLACE, self.places.shown(number), features

    def match_prepared(self, first: Any, second: Any) -> Matches:
        both = np.intersect1d(first[1], second[1], return_indices=True) if first[0] == second[0] else None
        sources = (first[2].digest, second[2].digest)
        if both is None:
            return Matches.empty(sources)
        indices = np.stack([i[both[0] >= 0] for i in both[1:]], axis=1).astype(np.int32)
        return Matches(indices, np.full(len(indices), 0.9, np.float32), sources)


# --------------------------------------------------------------------------------- stages
class Bench:
    """The stages over some number of photos in a folder; each returns figures to print beside the time."""

    def __init__(self, folder: Path, count: int, places: Callable[[], Places], watch: Watch) -> None:
        self.folder, self.count, self.make_places, self.watch = folder, count, places, watch
        self.features_path, self.matches_path = folder / "features.h5", folder / "matches.h5"
        self.pairs_path, self.database_path = folder / "pairs.txt", folder / "database.db"
        self.names = [name_of(number) for number in range(count)]

    def features(self) -> FeatureStore:
        return FeatureStore(self.features_path)

    def pairs(self) -> list[tuple[str, str]]:
        return read_pairs(self.pairs_path, self.names)

    def write_features(self) -> dict[str, Any]:
        places = self.make_places()
        with FeatureStore(self.features_path, {"extractor": "made up"}) as store:
            for number in range(self.count):
                if name_of(number) in store:  # of an earlier call that was stopped
                    continue
                photo = places.photo(number)
                with self.watch:
                    store[name_of(number)] = photo
        return {"MB": megabytes(self.features_path)}

    def list_features(self) -> dict[str, Any]:
        with self.watch, self.features() as store:
            found = [name for name in self.names if name in store]
            digests = [digest_of(store, name) for name in self.names]
            assert len(found) == len(set(digests)) == len(list(store)) == self.count
        return {}

    def read_features(self) -> dict[str, Any]:
        with self.watch, self.features() as store:
            return {"keypoints": sum(len(store[name]) for name in self.names)}

    def retrieve(self, retriever: str) -> dict[str, Any]:
        component = component_class("retriever", retriever)
        with self.watch, self.features() as store:
            options = PairOptions(pairs="retrieval")
            pairs = select_pairs(self.names, options, features=store, retriever=component(component.options_class()))
        places = self.count // PHOTOS_OF_A_PLACE * PHOTOS_OF_A_PLACE * (PHOTOS_OF_A_PLACE - 1) // 2
        same = sum(number_of(a) // PHOTOS_OF_A_PLACE == number_of(b) // PHOTOS_OF_A_PLACE for a, b in pairs)
        (self.folder / f"pairs-{retriever}.json").write_text(json.dumps(pairs))
        return {"pairs": len(pairs), "of one place found": f"{same / max(places, 1):.1%}"}

    def retrieve_asmk(self) -> dict[str, Any]:
        return self.retrieve("asmk")

    def retrieve_vlad(self) -> dict[str, Any]:
        return self.retrieve("vlad")

    def write_pairs(self) -> dict[str, Any]:
        pairs = [canonical_pair(*pair) for pair in json.loads((self.folder / "pairs-asmk.json").read_text())]
        with self.watch:
            write_pairs(self.pairs_path, pairs)
        return {"pairs": len(pairs), "MB": megabytes(self.pairs_path)}

    def read_pairs(self) -> dict[str, Any]:
        with self.watch:
            return {"pairs": len(self.pairs())}

    def match(self) -> dict[str, Any]:
        pairs, matcher = self.pairs(), Lookup(self.make_places())
        with self.watch, self.features() as store, MatchStore(self.matches_path, {"matcher": "look-up"}) as matches:
            report = match_features(store, pairs, matcher, matches)
        return {"pairs": len(report.computed), "MB": megabytes(self.matches_path)}

    def match_again(self) -> dict[str, Any]:
        pairs, matcher = self.pairs(), Lookup(self.make_places())
        with self.watch, self.features() as store, MatchStore(self.matches_path, {"matcher": "look-up"}) as matches:
            report = match_features(store, pairs, matcher, matches)
        return {"pairs": len(report.reused)}

    def list_matches(self) -> dict[str, Any]:
        with self.watch, MatchStore(self.matches_path) as store:
            return {"pairs": sum(1 for _ in store)}

    def open_and_append(self) -> dict[str, Any]:
        added = [(f"new/{i}.jpg", f"new/{i + 1}.jpg") for i in range(WATCHED_CALLS)]
        with self.watch, MatchStore(self.matches_path, {"matcher": "look-up"}) as store:
            for pair in added:
                store[pair] = Matches.empty()
        with MatchStore(self.matches_path, {"matcher": "look-up"}) as store:
            for pair in added:
                del store[pair]
        return {"pairs": len(added)}

    def import_database(self) -> dict[str, Any]:
        group = CameraGroup(names=tuple(self.names), size=SIZE, focal_px=900.0, label="made up")
        pairs = self.pairs()
        with self.watch, self.features() as features, MatchStore(self.matches_path) as matches:
            database._remove_database(self.database_path)
            database.import_matches(self.database_path, features, matches, pairs, [group])
        return {"pairs": len(pairs), "MB": megabytes(self.database_path)}

    def fingerprint(self) -> dict[str, Any]:
        with self.watch:
            return {"": fingerprint(self.database_path)}


STAGES = [name for name in vars(Bench) if not name.startswith("_") and name not in ("features", "pairs", "retrieve")]


# --------------------------------------------------------------------------------- measuring
class Watch:
    """Adds up the time of what is done ``with`` it: not that of making photos up."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def __enter__(self) -> None:
        self.started = time.perf_counter(), time.process_time()

    def __exit__(self, *exc: object) -> None:
        self.wall_s += time.perf_counter() - self.started[0]
        self.cpu_s += time.process_time() - self.started[1]


def megabytes(path: Path) -> int:
    """Size of a file."""
    return round(path.stat().st_size / 1e6)


def run_stage(arguments: argparse.Namespace, stage: str, count: int) -> None:
    """Runs a stage in this process and prints a row: the process is of this stage alone, so its peak is the stage's."""
    watch, folder = Watch(), arguments.folder / str(count)
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder, count, lambda: Places(arguments.features, arguments.keypoints), watch)
    before = peak_mb()
    figures = ", ".join(f"{value} {name}".strip() for name, value in getattr(bench, stage)().items())
    print(
        f"{stage:16} {count:7} photos {watch.wall_s:8.1f} s {watch.cpu_s:8.1f} s CPU "
        f"{1000 * watch.cpu_s / count:8.2f} ms/photo {peak_mb():6.0f} MB ({before:.0f} at start)  {figures}",
        flush=True,
    )


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    """Each stage of each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", type=Path, help="features file of a finished run")
    parser.add_argument("--folder", type=Path, required=True, help="for the files; needs 75 kB per photo and more")
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--keypoints", type=int, default=256, help="of each photo")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--clean", action="store_true", help="delete the files at the end")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # one stage, in this process
    arguments = parser.parse_args()
    if arguments.here:
        run_stage(arguments, arguments.stages[0], arguments.images[0])
        return
    for count in arguments.images:
        for stage in arguments.stages:
            command = [sys.executable, __file__, str(arguments.features), "--folder", str(arguments.folder)]
            command += ["--images", str(count), "--keypoints", str(arguments.keypoints), "--stages", stage, "--here"]
            # a thread for products: with more, the time depends on what else the machine does
            subprocess.run(command, check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
        if arguments.clean:
            shutil.rmtree(arguments.folder / str(count))


if __name__ == "__main__":
    main()
