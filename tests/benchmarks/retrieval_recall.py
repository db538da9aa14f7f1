"""How many of the pairs that matter a choice of pairs finds, and how many it has to match for them.

    python tests/benchmarks/retrieval_recall.py out/fox out/redkitchen

Each argument is the output folder of a finished run over all pairs (`lgsfm reconstruct IMAGES --pairs exhaustive`).
What matters: the pairs that share at least 50 points in its best model. The features are those of the run, and so is
the matcher that `prematch` asks. COLMAP's sequential pairs are those of pycolmap on the run's database; its
vocabulary tree is a download of its own and is not compared.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pycolmap

from lgsfm.finished import FinishedRun
from lgsfm.pairing import PairOptions, select_pairs
from lgsfm.pairing.ranking import partner_pairs
from lgsfm.poses import count_shared_points
from lgsfm.settings import Settings
from lgsfm.types import canonical_pair

SHARED_POINTS = 50  # that make a pair matter
CHOICES = {
    "retrieval by vlad, 20": {"pairs": "retrieval", "retriever": "vlad"},
    "retrieval, 10": {"pairs": "retrieval", "neighbors": 10},
    "retrieval, 20": {"pairs": "retrieval"},
    "retrieval, 20, mutual": {"pairs": "retrieval", "mutual": True},
    "sequential, 10": {"pairs": "sequential"},
    "sequential, 10, quadratic": {"pairs": "sequential", "quadratic": True},
    "retrieval+sequential": {"pairs": "retrieval+sequential"},
    "sequential+transitive": {"pairs": "sequential+transitive"},
    "prematch": {"pairs": "prematch"},
}


def colmap_sequential(database: Path) -> set[tuple[str, str]]:
    """The pairs of COLMAP's sequential matcher with its defaults."""
    pycolmap.logging.minloglevel = pycolmap.logging.WARNING.value
    with pycolmap.Database.open(database) as opened:
        names = {image.image_id: image.name for image in opened.read_all_images()}
        generator = pycolmap.SequentialPairGenerator(pycolmap.SequentialPairingOptions(), opened)
        return {canonical_pair(names[a], names[b]) for a, b in generator.all_pairs() if a != b}


def measure(output: Path, choices: list[str]) -> None:
    """Prints a row for each choice."""
    run = FinishedRun(output)
    settings = Settings.from_flags(dict(run.options["flags"]) | {"pairs": "auto"})
    extractor = settings.make_extractor(run.options["extractor"]["extractor"])
    matcher = settings.make_matcher(settings.run.matcher, extractor)
    images, shared = count_shared_points(output / "sparse")
    truth = {canonical_pair(images[i], images[j]) for i, j in np.argwhere(np.triu(shared) >= SHARED_POINTS)}
    names = sorted(run.features)
    total = len(names) * (len(names) - 1) // 2
    print(f"{output.name}: {len(names)} images, {total} pairs, {len(truth)} share {SHARED_POINTS} points")

    def show(choice: str, pairs: set[tuple[str, str]], seconds: float) -> None:
        found = len(truth & pairs)
        print(
            f"  {choice:26} {len(pairs):6} pairs {len(pairs) / total:6.1%}  of the pairs that matter "
            f"{found / max(len(truth), 1):6.1%}  of the selected {found / max(len(pairs), 1):6.1%}  {seconds:6.1f} s",
            flush=True,
        )

    # what no choice of 20 partners can surpass: those that share most points
    best = partner_pairs(images, lambda start, stop: shared[start:stop].astype(float), 20)
    show("(best 20 by the model)", best, 0.0)
    for choice in choices:
        flags = dict(CHOICES[choice])
        retriever = settings.changed({"retriever": flags.pop("retriever", "asmk")}).make_retriever()
        start = time.perf_counter()
        known = {"features": run.features, "retriever": retriever, "matcher": matcher, "matches": run.matches}
        pairs = select_pairs(names, PairOptions(**flags), **known)
        show(choice, set(pairs), time.perf_counter() - start)
    show("COLMAP sequential", colmap_sequential(run.workspace.database), 0.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("outputs", type=Path, nargs="+")
    parser.add_argument("--choices", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    arguments = parser.parse_args()
    for folder in arguments.outputs:
        measure(folder, arguments.choices)
