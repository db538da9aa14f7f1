"""Seconds per image of SuperPoint beside transformers, in one process, in turn, as ratios.

    python tests/benchmarks/superpoint.py [IMAGES] [--rounds 5]

Both have the same random weights; with the published ones the convolutions take as long. The photos, or pictures of
noise, are reduced to each size; reading them is not timed. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

SIZES = ((640, 480), (1024, 683))
MAX_KEYPOINTS = 2048


def pictures(folder: Path | None, size: tuple[int, int], count: int) -> list[np.ndarray]:
    """RGB uint8 pictures of (width, height)."""
    import cv2

    import lgsfm

    if folder is None:
        random = np.random.default_rng(0)
        return [random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8) for _ in range(count)]
    names = lgsfm.list_images(folder)[:count]
    return [cv2.resize(lgsfm.read_photo(folder / name, None).rgb, size, interpolation=cv2.INTER_AREA) for name in names]


def main() -> None:
    from transformers import SuperPointConfig, SuperPointForKeypointDetection

    from lgsfm.images import to_gray
    from lgsfm.models.superpoint import Detection, network_from_weights

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="a folder of photos")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=4)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    theirs = SuperPointForKeypointDetection(SuperPointConfig(max_keypoints=MAX_KEYPOINTS)).eval()
    ours = network_from_weights(theirs.state_dict())
    for size in SIZES:
        images = pictures(arguments.folder, size, arguments.photos)
        grey = [torch.from_numpy(to_gray(image))[None, None] for image in images]
        colour = [image.expand(1, 3, -1, -1).contiguous() for image in grey]  # transformers takes the first channel
        seconds: dict[str, list[float]] = {"lgsfm": [], "transformers": []}
        with torch.inference_mode():
            for number in range(arguments.rounds + 1):  # the first one warms up
                start = time.perf_counter()
                found = [ours(image, Detection(MAX_KEYPOINTS)) for image in grey]
                middle = time.perf_counter()
                peers = [theirs(image) for image in colour]
                end = time.perf_counter()
                if number:
                    seconds["lgsfm"].append((middle - start) / len(images))
                    seconds["transformers"].append((end - middle) / len(images))
        ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
        counts = sum(len(item.keypoints) for item in found), sum(int(item.mask.sum()) for item in peers)
        print(
            f"{size[0]}x{size[1]}  lgsfm {min(seconds['lgsfm']):.3f} s, "
            f"transformers {min(seconds['transformers']):.3f} s"
            f" an image: {statistics.median(ratios):.2f}x (median), {min(ratios):.2f}x (least)   keypoints {counts}"
        )


if __name__ == "__main__":
    main()
