"""Seconds, registered images and AUC of `lgsfm reconstruct` beside pycolmap's own SIFT, whole processes in turn.

    python tests/benchmarks/against_sift.py IMAGES [REFERENCE] [--rounds 2] [--flags --max-keypoints 1024 ...]

pycolmap: SIFT extraction, exhaustive matching and incremental mapping with the default options. lgsfm: the default
options with ALIKED and all pairs, or other ``--flags``. REFERENCE is a model or a text file as `lgsfm evaluate` takes.
Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIFT = """
import sys, pathlib, pycolmap
images, output = sys.argv[1], pathlib.Path(sys.argv[2])
pycolmap.extract_features(output / "database.db", images)
pycolmap.match_exhaustive(output / "database.db")
models = pycolmap.incremental_mapping(output / "database.db", images, output)
best = max(models.values(), key=lambda model: model.num_reg_images())
(output / "best").mkdir()
best.write(output / "best")
"""


def seconds(command: list[str]) -> float:
    """How long a process takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def quality(model: Path, reference: Path | None) -> str:
    """What `lgsfm evaluate` says, in a line; without a reference the number of registered images."""
    if reference is None:
        import pycolmap

        return f"registered {pycolmap.Reconstruction(model).num_reg_images()}"
    command = [sys.executable, "-m", "lgsfm", "evaluate", str(model), str(reference), "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return ", ".join(f"{key} {value}" for key, value in found.items() if "reg" in key or "auc" in key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("reference", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[])
    arguments = parser.parse_args()
    ratios = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as scratch:
            ours, theirs = Path(scratch, "lgsfm"), Path(scratch, "sift")
            theirs.mkdir()
            command = [sys.executable, "-m", "lgsfm", "reconstruct", str(arguments.folder), "-o", str(ours), "--quiet"]
            command += ["--features", "aliked", "--pairs", "exhaustive", *arguments.flags]
            times = seconds(command), seconds([sys.executable, "-c", SIFT, str(arguments.folder), str(theirs)])
            ratios.append(times[0] / times[1])
            stages = json.loads((ours / "summary.json").read_text())["seconds"]
            print(f"lgsfm  {times[0]:6.1f} s  {quality(ours / 'sparse' / '0', arguments.reference)}  {stages}")
            print(f"SIFT   {times[1]:6.1f} s  {quality(theirs / 'best', arguments.reference)}", flush=True)
    print(f"lgsfm takes {statistics.median(ratios):.2f} (median), {max(ratios):.2f} (most) times as long as SIFT")


if __name__ == "__main__":
    main()
