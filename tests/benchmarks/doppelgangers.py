"""Which verified pairs are doubtful, how many of them are wrong, and what becomes of the model without them.

    python tests/benchmarks/doppelgangers.py out/cup/database.db --images photos/cup --truth ground_truth.txt

Truth is a file or a model as for `lgsfm evaluate`; a pair counts as wrong if its relative rotation is off by more than
45 degrees. With ``--images`` the scene is mapped twice, with and without the doubtful pairs. The database must have
relative poses (made by this version); it is copied, not changed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from lgsfm.database_reading import read_verified_pairs
from lgsfm.evaluation import evaluate
from lgsfm.mapping import map_database
from lgsfm.poses import load_poses
from lgsfm.view_graph.consensus import angles_deg
from lgsfm.view_graph.doppelgangers import SUSPECT_DEG, DoppelgangerReport, drop_pairs, examine_database


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path)
    parser.add_argument("--images", type=Path, help="folder of the photos: map before and after")
    parser.add_argument("--truth", type=Path, help="poses that are right")
    wanted = parser.parse_args()
    start = time.perf_counter()
    report = examine_database(wanted.database)
    seconds = time.perf_counter() - start
    print(f"{report.num_pairs} verified pairs, {len(report.doubtful)} doubtful, {seconds:.2f} s")
    print(f"of all inliers {100 * sum(d.num_inliers for d in report.doubtful) / report.num_inliers:.2f} % in them")
    print("\n".join(report.lines(are_dropped=False)))
    if wanted.truth:
        print_truth(wanted.database, wanted.truth, report)
    if wanted.images:
        print_models(wanted.database, wanted.images, wanted.truth, report)


def print_truth(database: Path, truth: Path, report: DoppelgangerReport) -> None:
    """How many pairs have a wrong rotation, and how many of the doubtful."""
    poses, doubtful = load_poses(truth), set(report.pairs)
    wrong, known = set(), set()
    for pair, found in read_verified_pairs(database).items():
        if found.is_verified and found.cam1_from_cam0 is not None and poses.keys() >= set(pair):
            known.add(pair)
            true = poses[pair[1]].rotation @ poses[pair[0]].rotation.T
            if angles_deg(np.asarray(found.cam1_from_cam0).T @ true) > SUSPECT_DEG:
                wrong.add(pair)
    print(
        f"rotation wrong by over {SUSPECT_DEG:.0f} degrees: {len(wrong)} of {len(known)} pairs, "
        f"{len(wrong & doubtful)} of the {len(known & doubtful)} doubtful ones"
    )


def print_models(database: Path, images: Path, truth: Path | None, report: DoppelgangerReport) -> None:
    """Models and AUC with all pairs and without the doubtful ones."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "database.db"
        shutil.copy(database, copy)
        for label in ("all pairs", "without the doubtful"):
            output = Path(folder) / label.replace(" ", "-")
            models = map_database(copy, images, output, log_path=Path(folder) / "log")
            print(f"{label}: registered {[model.num_reg_images for model in models]}")
            if truth and models:
                print(evaluate(output, truth).table())
            drop_pairs(copy, report.pairs)


if __name__ == "__main__":
    main()
