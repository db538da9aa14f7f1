"""What a run will take: the sizes of real files, the laws of growth, the words. Nothing here is timed."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import numpy as np
import pytest

from lgsfm.database import CameraGroup, import_matches
from lgsfm.estimate import (
    GUESSED,
    MEASURED,
    STAGES,
    Rates,
    Setup,
    Work,
    count_pairs,
    database_bytes,
    duration,
    estimate,
    feature_bytes,
    guess_seconds,
    keypoints_in,
    likely_matches,
    match_bytes,
    memory_bytes,
    memory_parts,
    reference_seconds,
    size,
)
from lgsfm.pairing import PairOptions, select_pairs
from lgsfm.store import FeatureStore, MatchStore
from lgsfm.types import Features, Matches

ALIKED = Setup(extractor="aliked", matcher="lightglue", variant="n16", pixels=700_000, keypoints=2048)
NAMES = [f"photo{i:03}.jpg" for i in range(12)]
KEYPOINTS, MATCHED = 1024, 400


def rates(num_images: int = 100, **seconds: float) -> Rates:
    each = {"extract": 1.0, "match": 0.5, "verify": 0.01, "map": 0.3, **seconds}
    return Rates(seconds=each, mapped_images=num_images, sources=dict.fromkeys(STAGES, MEASURED))


def stored_features(dim: int = 128) -> Features:
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(KEYPOINTS, dim)).astype(np.float32)
    keypoints = rng.uniform(0, 1000, (KEYPOINTS, 2)).astype(np.float32)
    return Features(keypoints, descriptors, rng.random(KEYPOINTS, np.float32), (1000, 1000), "aliked", 1, "a" * 64)


def stored_matches() -> Matches:
    rng = np.random.default_rng(0)
    indices = rng.integers(0, KEYPOINTS, (MATCHED, 2)).astype(np.int32)
    return Matches(indices, rng.random(MATCHED, np.float32), ("a" * 64, "b" * 64))


# --------------------------------------------------------------------------------- disk: within 5 % of real files
@pytest.mark.parametrize("dim", [128, 256])
def test_the_feature_file_is_as_large_as_foretold(tmp_path, dim):
    with FeatureStore(tmp_path / "f.h5", {"extractor": "aliked"}) as store:
        store.update(dict.fromkeys(NAMES, stored_features(dim)))
    assert (tmp_path / "f.h5").stat().st_size == pytest.approx(feature_bytes(len(NAMES), KEYPOINTS, dim), rel=0.05)


def test_the_match_file_is_as_large_as_foretold(tmp_path):
    pairs = list(combinations(NAMES, 2))
    with MatchStore(tmp_path / "m.h5", {"matcher": "lightglue"}) as store:
        store.update(dict.fromkeys(pairs, stored_matches()))
    assert (tmp_path / "m.h5").stat().st_size == pytest.approx(match_bytes(len(pairs), MATCHED), rel=0.05)


def test_the_database_is_as_large_as_foretold(tmp_path):
    pairs = list(combinations(NAMES, 2))
    camera = CameraGroup(tuple(NAMES), (1000, 1000), None, "")
    features = dict.fromkeys(NAMES, stored_features())
    import_matches(tmp_path / "d.db", features, dict.fromkeys(pairs, stored_matches()), pairs, [camera])
    expected = database_bytes(len(NAMES), KEYPOINTS, len(pairs), MATCHED, 0)
    assert (tmp_path / "d.db").stat().st_size == pytest.approx(expected, rel=0.15)  # SQLite works in pages


def test_files_follow_the_keypoints_that_are_likely_and_memory_those_that_may_be():
    few = dataclasses.replace(ALIKED, expected=512)
    work = Work.all_of(64, 893)
    assert estimate(work, few, rates()).disk_bytes < 0.4 * estimate(work, ALIKED, rates()).disk_bytes
    assert memory_bytes(64, few) == memory_bytes(64, ALIKED)
    assert dataclasses.replace(ALIKED, expected=9999).likely_keypoints == 2048


def test_plain_photos_have_few_keypoints():
    assert keypoints_in("aliked", 0.5e6) == pytest.approx(2250, abs=128)
    assert 0 < keypoints_in("aliked", 0) < 512
    assert keypoints_in("of another package", 1e6) == 0


def test_the_more_pairs_a_photo_has_the_fewer_show_the_same():
    few, many = likely_matches(11, 55, 2048), likely_matches(100, 4950, 2048)
    assert few == pytest.approx(0.4 * 2048, abs=1)
    assert 0.08 * 2048 < many < 0.2 * 2048
    assert likely_matches(2, 0, 2048) == few


def test_a_verified_pair_needs_more_than_its_matches():
    assert database_bytes(0, 0, 1000, 100, 0) - database_bytes(0, 0, 1000, 0, 0) == 1000 * (800 + 300)
    assert database_bytes(0, 0, 1000, 100, 100) - database_bytes(0, 0, 1000, 100, 0) == 1000 * (800 + 700)


def test_a_second_database_and_other_models_lie_beside_for_a_while():
    found = estimate(Work.all_of(100, 1000), ALIKED, rates())
    assert 0 < found.beside_bytes < found.disk_bytes


# --------------------------------------------------------------------------------- memory
def test_memory_is_told_by_stage():
    parts = memory_parts(Work.all_of(5_000, 100_000), ALIKED)
    assert parts["extract"] < parts["match"] < parts["map"]
    assert memory_parts(Work.all_of(11, 55), ALIKED)["map"] < memory_parts(Work.all_of(11, 55), ALIKED)["extract"]


def test_memory_is_near_what_runs_took():
    """0.94 GB for eleven photos at 1024 px with 2048 keypoints, 1.29 GB at 1600 px with 4096, 0.76 GB for SIFT."""
    high = dataclasses.replace(ALIKED, pixels=1_707_000, keypoints=4096)
    sift = Setup(extractor="sift", matcher="nearest", pixels=1_714_000, keypoints=4096)
    assert memory_bytes(11, ALIKED) == pytest.approx(0.94e9, rel=0.2)
    assert memory_bytes(5, high) == pytest.approx(1.29e9, rel=0.2)
    assert memory_bytes(12, sift) == pytest.approx(0.76e9, rel=0.25)


def test_of_a_large_collection_the_mapper_needs_the_memory():
    assert memory_bytes(10_000, ALIKED) == pytest.approx(10 * memory_bytes(1_000, ALIKED), rel=0.1)


# --------------------------------------------------------------------------------- time
def test_only_what_is_not_finished_takes_time():
    work = Work(num_images=100, num_pairs=1000, new_images=10, new_pairs=200)
    found = estimate(work, ALIKED, rates())
    assert found.seconds == pytest.approx({"extract": 10, "match": 100, "verify": 10, "map": 30})
    assert found.total_s == pytest.approx(150)
    assert estimate(dataclasses.replace(work, is_database_new=False), ALIKED, rates()).seconds["verify"] == 0


def test_second_looks_are_what_it_may_take_at_most():
    work = Work(num_images=100, num_pairs=1000, new_images=0, new_pairs=0)
    assert estimate(work, ALIKED, rates()).more_s == 0
    more = estimate(dataclasses.replace(work, more_pairs=200), ALIKED, rates())
    assert more.more_s == pytest.approx(200 * 0.51 + 30)  # matched, verified, and mapped again
    assert estimate(dataclasses.replace(work, more_s=60), ALIKED, rates()).more_s == pytest.approx(90)


@pytest.mark.parametrize(("mapper", "power"), [("incremental", 1.5), ("global", 1.3), ("hierarchical", 1.0)])
def test_mapping_grows_with_a_power_of_the_collection(mapper, power):
    setup = dataclasses.replace(ALIKED, mapper=mapper)
    small, large = (estimate(Work.all_of(n, 0), setup, rates(num_images=1000)).seconds["map"] for n in (1000, 8000))
    assert large / small == pytest.approx(8**power)
    assert small == pytest.approx(300)


@pytest.mark.parametrize("stage", ["extract", "match", "verify", "map"])
@pytest.mark.parametrize(("extractor", "matcher"), [("aliked", "lightglue"), ("sift", "nearest"), ("mine", "mine")])
def test_more_work_takes_longer(stage, extractor, matcher):
    small = Setup(extractor=extractor, matcher=matcher, pixels=400_000, keypoints=1024)
    large = dataclasses.replace(small, pixels=1_600_000, keypoints=4096)
    assert 0 < 1.5 * reference_seconds(stage, small) < reference_seconds(stage, large)


def test_all_keypoints_are_many():
    every = dataclasses.replace(ALIKED, keypoints=0)
    assert reference_seconds("match", every) > reference_seconds("match", ALIKED)
    assert memory_bytes(10, every) > memory_bytes(10, ALIKED)


def test_the_guess_follows_the_machine_and_a_gpu_is_not_without_end():
    slow, fast = (guess_seconds("match", ALIKED, 100, gflops, is_gpu=False) for gflops in (100, 1000))
    assert slow == pytest.approx(10 * fast)
    assert guess_seconds("match", ALIKED, 100, 1e9, is_gpu=True) == 0.01


@pytest.mark.parametrize(
    ("guessed", "words"),
    [
        ([], "as measured on this machine"),
        (["map"], "as measured on this machine, but map is a rough guess"),
        (["verify", "map"], "as measured on this machine, but verify and map are rough guesses"),
        (["match"], "a rough guess; `lgsfm bench IMAGES` measures it"),
    ],
)
def test_the_origin_of_the_speeds_is_said(guessed, words):
    found = dataclasses.replace(rates(), sources={stage: GUESSED if stage in guessed else MEASURED for stage in STAGES})
    assert found.origin() == words
    assert found.origin(["extract"]) == "as measured on this machine"


# --------------------------------------------------------------------------------- pairs
@pytest.mark.parametrize("count", [2, 3, 12])
@pytest.mark.parametrize(
    ("method", "overlap"), [("exhaustive", 10), ("sequential", 2), ("sequential", 20), ("auto", 1)]
)
def test_pairs_are_counted_as_they_are_selected(count, method, overlap):
    options = PairOptions(pairs=method, overlap=overlap)
    assert count_pairs(count, options) == len(select_pairs(NAMES[:count], options))


def test_retrieval_selects_about_so_many_pairs_and_never_more_than_there_are():
    assert 1_200 < count_pairs(100, PairOptions()) < 2_200
    assert count_pairs(5, PairOptions(pairs="retrieval+sequential", neighbors=1000)) == 10


# --------------------------------------------------------------------------------- words
@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (99.6, "2 min"), (5900, "98 min"), (12_600, "3.5 h"), (8e5, "9 days")],
)
def test_durations_are_for_people(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(4e6, "4 MB"), (999e6, "999 MB"), (999.9e6, "1.0 GB"), (28.8e9, "28.8 GB"), (115e9, "115 GB")]
)
def test_sizes_are_for_people(count, words):
    assert size(count) == words
