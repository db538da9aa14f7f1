"""Peak memory of each command for 100, 1,000 and 5,000 photos: what grows with their number.

    python tests/benchmarks/memory.py --images 100 1000 5000 --folder /tmp/memory

Each command of `lgsfm` runs in a process of its own, whose peak (that of the largest, where it starts others) is what
the system tells when it has ended. The photos are a walk over a rendered wall, all of one size; those of more than
one count are the same ones. Each is matched with the next ``--overlap``. Mapping is COLMAP's and is left out: for what
reads models, one is made up, of nine photos in ten, each of which sees ``SEEN`` points. The last column is the growth
from one count to the next, in kB for each further photo.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycolmap

from lgsfm.mapping.folder import record_models
from lgsfm.rendering import render_wall

SIZE = (320, 240)  # (width, height) [px]
WALL_PX = 3600  # width and height
STEP_PX = 24  # from one photo to the next
NOISE = 3.0  # standard deviation, of 255: no two photos are the same where the walk begins anew
FOCAL_PX = 384.0
SEEN, TRACK = 200, 5  # 3D points that a photo of the model sees, and photos that see a point
STAGES = ("extract", "retrieve", "pairs", "match", "database", "doctor", "report", "manifest", "verify")
READING = ("doctor", "report", "manifest", "verify")  # what a finished run left


@dataclass(frozen=True)
class Peak:
    """What a command took.

    mb: peak of resident memory
    seconds: of all its threads
    """

    mb: float
    seconds: float


def name_of(number: int) -> str:
    """Name of a photo; all are in one folder."""
    return f"{number:06}.jpg"


def write_photos(folder: Path, count: int) -> None:
    """Writes those photos of the walk that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    wall = render_wall(np.random.default_rng(0), WALL_PX)
    columns = (WALL_PX - SIZE[0]) // STEP_PX
    for number in range(count):
        if (folder / name_of(number)).exists():
            continue
        row, column = divmod(number, columns)
        x = STEP_PX * (column if row % 2 == 0 else columns - 1 - column)
        y = STEP_PX * row % (WALL_PX - SIZE[1])
        view = wall[y : y + SIZE[1], x : x + SIZE[0]]
        noise = np.random.default_rng((1, number)).normal(0, NOISE, (*view.shape[:2], 1))
        cv2.imwrite(str(folder / name_of(number)), np.clip(view + noise, 0, 255).astype(np.uint8))


def write_model(folder: Path, count: int) -> None:
    """Writes a COLMAP model of a walk, without every tenth photo."""
    rng, model = np.random.default_rng(2), pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", FOCAL_PX, *SIZE))
    numbers = [number for number in range(count) if number % 10]
    for place, number in enumerate(numbers):
        image = pycolmap.Image(name_of(number), rng.uniform(0, 240, (SEEN, 2)), 1, number + 1)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([-0.1 * place, 0.0, 0.0]))
        model.add_image_with_trivial_frame(image, pose)
    new = SEEN // TRACK  # points that each photo is the first to see
    for place in range(len(numbers) - TRACK + 1):
        for point in range(new):
            track = pycolmap.Track()
            for later in range(TRACK):
                track.add_element(numbers[place + later] + 1, later * new + point)
            model.add_point3D(np.array([0.1 * place, 0.0, 4.0]) + rng.normal(0, 0.3, 3), track)
    folder.mkdir(parents=True, exist_ok=True)
    model.write(folder)


# --------------------------------------------------------------------------------- measuring
def command_of(stage: str, photos: Path, output: Path, arguments: argparse.Namespace) -> list[str]:
    """The command line of a stage."""
    flags = ["--features", arguments.features, "--max-keypoints", str(arguments.keypoints), "--quiet"]
    flags += ["--upright", "exif", "--overlap", str(arguments.overlap)]
    at_work = [str(photos), "-o", str(output), *flags]
    lines = {
        "extract": ["extract", *at_work],
        "retrieve": ["pairs", *at_work, "--pairs", "retrieval", "--retriever", "asmk"],
        "pairs": ["pairs", *at_work, "--pairs", "sequential"],
        "match": ["match", *at_work, "--pairs", "sequential"],
        "database": ["database", *at_work, "--pairs", "sequential"],
        "doctor": ["doctor", str(output)],
        "report": ["report", str(output)],
        "manifest": ["manifest", str(output)],
        "verify": ["cache", "verify", str(output)],
    }
    return [sys.executable, "-m", "lgsfm", *lines[stage]]


def measured(command: Sequence[str], log: Path) -> Peak:
    """Runs a command; raises `SystemExit` with the end of what it said if it fails."""
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text(encoding='utf-8')[-2000:]}")
    return Peak(used.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10), used.ru_utime + used.ru_stime)


def run_count(arguments: argparse.Namespace, count: int, before: tuple[int, dict[str, Peak]]) -> dict[str, Peak]:
    """All stages of a number of photos, each with a row; ``before`` are the peaks of the last number."""
    photos, output = arguments.folder / f"photos-{count}", arguments.folder / f"{arguments.features}-{count}"
    write_photos(photos, count)
    if "extract" in arguments.stages:
        shutil.rmtree(output, ignore_errors=True)  # or it would be a run over finished stages
    peaks: dict[str, Peak] = {}
    for stage in arguments.stages:
        if stage in READING and not (output / "sparse" / "0").exists():
            write_model(output / "sparse" / "0", count)
            record_models(output / "sparse")
        if stage == "verify":
            (output / "manifest.json").unlink(missing_ok=True)  # it tells of the model that was not made up
        begun = time.monotonic()
        peaks[stage] = peak = measured(command_of(stage, photos, output, arguments), arguments.folder / "said.txt")
        growth = ""
        if stage in before[1] and count > before[0]:
            growth = f"{1024 * (peak.mb - before[1][stage].mb) / (count - before[0]):8.1f} kB per photo"
        wall_s = time.monotonic() - begun
        row = f"{arguments.features:8} {stage:9} {count:6} photos {peak.mb:7.0f} MB {peak.seconds:7.0f} s CPU"
        print(f"{row} {wall_s:6.0f} s {growth}", flush=True)
    return peaks


def main() -> None:
    """Each stage of each number of photos."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--features", default="sift")
    parser.add_argument("--keypoints", type=int, default=128, help="of each photo")
    parser.add_argument("--overlap", type=int, default=2, help="next photos that each is matched with")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--folder", type=Path, required=True, help="for photos and outputs; 0.2 MB per photo")
    parser.add_argument("--clean", action="store_true", help="delete the files at the end")
    arguments = parser.parse_args()
    if sys.platform == "win32":
        parser.error("needs os.wait4, which Windows lacks")
    before: tuple[int, dict[str, Peak]] = (0, {})
    for count in sorted(arguments.images):
        before = count, run_count(arguments, count, before)
    if arguments.clean:
        shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()
