"""How many of the pairs that matter a choice of pairs finds, and how many it has to match for them.

    python tests/benchmarks/retrieval_recall.py out/fox out/redkitchen --vocabulary out/other/features-aliked-*.h5

Each argument is the output folder of a finished run over all pairs (`lgsfm reconstruct IMAGES --pairs exhaustive`).
What matters: the pairs that share at least 50 points in its best model. The features are those of the run, and so is
the matcher that `prematch` asks. COLMAP's sequential pairs are those of pycolmap on the run's database. Its published
vocabulary trees are of other features, so `pycolmap.VisualIndex` is trained here: on the images themselves, and on the
features of other photos (``--vocabulary``).
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pycolmap

from lgsfm import codebook
from lgsfm.finished import FinishedRun
from lgsfm.pairing import PairOptions, select_pairs
from lgsfm.pairing.ranking import partner_pairs
from lgsfm.poses import count_shared_points
from lgsfm.settings import Settings
from lgsfm.store import FeatureStore
from lgsfm.types import canonical_pair

SHARED_POINTS = 50  # that make a pair matter
TRAINING_DESCRIPTORS = 50_000  # of a vocabulary
DESCRIPTORS_PER_WORD = 20  # of those; COLMAP's own trees have 65536 words, of many more photos
EMBEDDING = 64  # dimension of the signatures, as in COLMAP's own trees
KIND = pycolmap.FeatureExtractorType.ALIKED_N16ROT  # of the descriptors, for COLMAP: 128 floats
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


def visual_index(trained_on: FeatureStore) -> pycolmap.VisualIndex:
    """A vocabulary tree of COLMAP, trained on features."""
    sample = codebook.sample(sorted(trained_on), trained_on, TRAINING_DESCRIPTORS)
    index = pycolmap.VisualIndex.create(sample.shape[1], EMBEDDING)
    options = pycolmap.VisualIndex.BuildOptions()
    options.num_visual_words = len(sample) // DESCRIPTORS_PER_WORD
    options.num_iterations, options.num_rounds, options.num_threads = 12, 1, 1  # 100 and 3: minutes for each tree
    index.build(options, pycolmap.FeatureDescriptorsFloat(KIND, sample))
    return index


def colmap_tree(run: FinishedRun, index: pycolmap.VisualIndex, num_verified: int) -> set[tuple[str, str]]:
    """The pairs of COLMAP's vocabulary tree matcher: 20 partners of each, if wanted after spatial verification."""
    pycolmap.logging.minloglevel = pycolmap.logging.WARNING.value
    with tempfile.TemporaryDirectory() as folder:
        tree, path = Path(folder, "tree.bin"), Path(folder, "database.db")
        index.write(tree)
        names = sorted(run.features)
        with pycolmap.Database.open(path) as database:
            camera = pycolmap.Camera.create(0, pycolmap.CameraModelId.SIMPLE_PINHOLE, 1000.0, 1000, 1000)
            camera_id = database.write_camera(camera)
            for number, name in enumerate(names, start=1):
                features = run.features[name]
                image = pycolmap.Image(name=name, camera_id=camera_id, image_id=number)
                database.write_image(image, use_image_id=True)
                database.write_keypoints(number, features.keypoints)
                descriptors = pycolmap.FeatureDescriptorsFloat(KIND, features.descriptors)
                database.write_descriptors(number, descriptors.to_bytes())
            options = pycolmap.VocabTreePairingOptions()
            options.vocab_tree_path, options.num_images = tree, 21  # one of them is the image itself
            options.num_images_after_verification = num_verified
            found = pycolmap.VocabTreePairGenerator(options, database).all_pairs()
        return {canonical_pair(names[a - 1], names[b - 1]) for a, b in found if a != b}


def measure(output: Path, choices: list[str], vocabulary: Path | None) -> None:
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

    # what no choice of 20 partners can surpass: those that share most points
    best = partner_pairs(images, lambda start, stop: shared[start:stop].astype(float), 20)
    ceiling = len(truth & best) / max(len(truth), 1)

    def show(choice: str, pairs: set[tuple[str, str]], seconds: float) -> None:
        recall = len(truth & pairs) / max(len(truth), 1)
        print(
            f"  {choice:34} {len(pairs):6} pairs {len(pairs) / total:6.1%}  of the pairs that matter "
            f"{recall:6.1%} ({recall / ceiling:6.1%} of the best 20)  of the selected "
            f"{len(truth & pairs) / max(len(pairs), 1):6.1%}  {seconds:6.1f} s",
            flush=True,
        )

    show("(best 20 by the model)", best, 0.0)
    for choice in choices:
        flags = dict(CHOICES[choice])
        retriever = settings.changed({"retriever": flags.pop("retriever", "asmk")}).make_retriever()
        start = time.perf_counter()
        known = {"features": run.features, "retriever": retriever, "matcher": matcher, "matches": run.matches}
        pairs = select_pairs(names, PairOptions(**flags), **known)
        show(choice, set(pairs), time.perf_counter() - start)
    show("COLMAP sequential", colmap_sequential(run.workspace.database), 0.0)
    for words, path in (("own words", run.features.path), ("other photos' words", vocabulary)):
        if path is None:
            continue
        start = time.perf_counter()
        with FeatureStore(path) as trained_on:
            index = visual_index(trained_on)
        for how, num_verified in (("", 0), (", verified", 21)):
            pairs = colmap_tree(run, index, num_verified)
            show(f"COLMAP tree, {words}{how}", pairs, time.perf_counter() - start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("outputs", type=Path, nargs="+")
    parser.add_argument("--choices", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    parser.add_argument(
        "--vocabulary", type=Path, help="features of other photos, to train COLMAP's vocabulary tree on"
    )
    arguments = parser.parse_args()
    for folder in arguments.outputs:
        measure(folder, arguments.choices, arguments.vocabulary)
