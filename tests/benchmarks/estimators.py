"""Pose errors of the robust estimators over all pairs with known relative pose, as a table.

    lgsfm reconstruct DATA/reichstag/images -o out/reichstag --features aliked      # and the others
    python tests/benchmarks/estimators.py DATA out/reichstag out/redkitchen:585 --scannet

``DATA`` holds sets with ``ground_truth.txt``; each output folder has the name of its set. Cameras are those of the
finished model, or after a colon one focal length for all photos [px]. ``--scannet`` adds the 15 pairs of
``DATA/scannet15`` (ALIKED n16, detection threshold 0, 1024 px, 2048 keypoints). Pairs nearer than the reference can
tell apart (``# ... below a baseline of``) do not count. A pair without reliable pose counts as failed.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import lgsfm
from lgsfm.cameras import Camera, parse_camera
from lgsfm.errors import InputError, PoseError
from lgsfm.evaluation import pose_auc
from lgsfm.finished import FinishedRun
from lgsfm.poses import load_poses
from lgsfm.registry import available
from lgsfm.two_view import TwoViewOptions, estimate_pose

THRESHOLDS_DEG = (1, 5, 10, 20)
WRONG_DEG = 20


class Case(NamedTuple):
    """Matched points, cameras and the true pose of a pair."""

    points0: np.ndarray
    points1: np.ndarray
    camera0: Camera
    camera1: Camera
    rotation: np.ndarray
    translation: np.ndarray


def cases_of_run(output: Path, truth_file: Path, focal: str) -> Iterator[Case]:
    run, truth = FinishedRun(output), load_poses(truth_file)
    found = re.search(r"below a baseline of ([\d.]+)", truth_file.read_text(encoding="utf-8"))
    least = float(found.group(1)) if found else 0.0
    for name0, name1 in run.matches:
        if name0 not in truth or name1 not in truth:
            continue
        pose0, pose1 = truth[name0], truth[name1]
        t = pose1.rotation @ (pose0.centre - pose1.centre)
        if np.linalg.norm(t) <= least:
            continue
        pair = run.pair(name0, name1)
        sizes = [features.image_size for features in pair.features]
        cameras = [
            parse_camera(focal, name, size) if focal else run.camera(name)
            for name, size in zip((name0, name1), sizes, strict=True)
        ]
        yield Case(pair.points0, pair.points1, cameras[0], cameras[1], pose1.rotation @ pose0.rotation.T, t)


def cases_of_scannet(folder: Path) -> Iterator[Case]:
    settings = lgsfm.PairSettings.from_flags(
        {"features": "aliked", "max_edge_px": 1024, "max_keypoints": 2048, "detection_threshold": 0.0}
    )
    matcher = lgsfm.PairMatcher(settings)
    for line in (folder / "pairs_with_gt.txt").read_text().splitlines():
        name0, name1, _, _, *numbers = line.split()
        values = np.array(numbers, float)
        K0, K1, T = values[:9].reshape(3, 3), values[9:18].reshape(3, 3), values[18:].reshape(4, 4)
        pair = matcher.match(folder / "images" / name0, folder / "images" / name1)
        cameras = [
            Camera("PINHOLE", f.image_size, (K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5), "given")
            for f, K in zip(pair.features, (K0, K1), strict=True)
        ]
        yield Case(pair.points0, pair.points1, cameras[0], cameras[1], T[:3, :3], T[:3, 3])


def error_deg(case: Case, R: np.ndarray, t: np.ndarray) -> float:
    turn = np.degrees(2 * np.arcsin(min(1.0, np.linalg.norm(R - case.rotation) / 8**0.5)))
    return max(turn, np.degrees(np.arctan2(np.linalg.norm(np.cross(t, case.translation)), t @ case.translation)))


def row(cases: list[Case], options: TwoViewOptions) -> str:
    errors, reliable, start = [], 0, time.perf_counter()
    for case in cases:
        try:
            pose = estimate_pose(*case[:4], options)
        except PoseError:
            errors.append(180.0)
        else:
            reliable += 1
            errors.append(error_deg(case, pose.rotation, pose.translation))
    milliseconds = 1000 * (time.perf_counter() - start) / len(cases)
    wrong = sum(WRONG_DEG < error < 180 for error in errors)
    auc = " / ".join(f"{value:.1f}" for value in pose_auc(np.array(errors), THRESHOLDS_DEG).values())
    return f"{auc} | {reliable} of {len(cases)}, {wrong} wrong | {milliseconds:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("outputs", nargs="*", help="OUTPUT or OUTPUT:FOCAL")
    parser.add_argument("--scannet", action="store_true")
    parser.add_argument("--max-error-px", type=float, default=0.0)
    arguments = parser.parse_args()
    sets: dict[str, list[Case]] = {}
    for text in arguments.outputs:
        path, _, focal = text.partition(":")
        name = Path(path).name
        sets[name] = list(cases_of_run(Path(path), arguments.data / name / "ground_truth.txt", focal))
    if arguments.scannet:
        sets["scannet15"] = list(cases_of_scannet(arguments.data / "scannet15"))
    print("| set | estimator | AUC@1 / 5 / 10 / 20 | reliable poses, wrong by over 20° | ms |\n|---|---|---|---|---|")
    for name, cases in sets.items():
        for estimator in available("estimator"):
            try:
                options = TwoViewOptions(estimator=estimator, max_error_px=arguments.max_error_px)
                print(f"| {name} | {estimator} | {row(cases, options)} |", flush=True)
            except InputError as exc:
                print(f"{estimator}: {exc}")


if __name__ == "__main__":
    main()
