"""Why photos are not in the model: each reason of the closed list from the evidence that stands for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from lgsfm.database_reading import VerifiedPair
from lgsfm.diagnosis import REASONS, Evidence, diagnose, diagnose_splits
from lgsfm.extractors import ExtractorOptions
from lgsfm.registry import available, component_class
from lgsfm.remedies import REMEDIES, command
from lgsfm.types import Pair

MODEL = "abcd"


def verified(inliers: int, matches: int | None = None) -> VerifiedPair:
    kind = "calibrated" if inliers else "undefined"
    return VerifiedPair(matches if matches is not None else inliers + 10, inliers, kind)


INSIDE: dict[Pair, VerifiedPair] = {pair: verified(100) for pair in combinations(MODEL, 2)}


def evidence_of(found: dict[Pair, VerifiedPair] | None = None, tried: tuple[Pair, ...] = (), **more: Any) -> Evidence:
    """A model of a, b, c, d and one more image, x."""
    pairs = {**INSIDE, **(found or {})}
    evidence = Evidence(
        names=(*MODEL, "x"),
        keypoints={name: 500 for name in (*MODEL, "x")},
        pairs=sorted({*pairs, *tried}),
        verified=pairs,
        models=[MODEL],
        image_dir="photos",
        output="out",
        flags={"pairs": "exhaustive"},
    )
    return replace(evidence, **more)


CASES = {
    "unreadable": evidence_of(failed={"x": "truncated"}, keypoints={name: 500 for name in MODEL}),
    "masked out": evidence_of(masked_out=["x"], keypoints={**{name: 500 for name in MODEL}, "x": 0}),
    "no features": evidence_of(keypoints={**{name: 500 for name in MODEL}, "x": 0}),
    "no candidate pair": evidence_of(),
    "few matches": evidence_of({("a", "x"): verified(0, 9)}, tried=(("b", "x"),)),
    "failed verification": evidence_of({("a", "x"): verified(0, 30), ("b", "x"): verified(0, 12)}),
    "own component": evidence_of(
        {("x", "y"): verified(80)}, names=(*MODEL, "x", "y"), keypoints={name: 500 for name in "abcdxy"}
    ),
    "rejected by the mapper": evidence_of({("a", "x"): verified(40), ("b", "x"): verified(17)}),
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_its_evidence(reason: str) -> None:
    found = {each.image: each for each in diagnose(CASES[reason])}
    assert set(found) == set(CASES[reason].names) - set(MODEL)
    assert found["x"].reason == reason
    assert found["x"].evidence
    assert found["x"].advice


def test_the_first_obstacle_is_the_one_that_is_told() -> None:
    evidence = replace(CASES["failed verification"], masked_out=["x"])
    assert [each.reason for each in diagnose(evidence)] == ["masked out"]


def test_the_numbers_are_those_of_the_best_pair() -> None:
    (found,) = diagnose(CASES["rejected by the mapper"])
    numbers = {"keypoints": 500, "pairs": 2, "matches": 50, "verified": 2, "component": 5, "inliers": 40}
    assert found.numbers == numbers
    assert "2 verified pairs, 2 with registered photos, at most 40 inliers" in found.evidence
    (found,) = diagnose(CASES["failed verification"])
    assert found.evidence.startswith("2 pairs tried, at most 30 matches, with a")


def test_a_limit_that_was_lowered_is_heeded() -> None:
    few = CASES["few matches"]
    assert [each.reason for each in diagnose(replace(few, min_inliers=8))] == ["failed verification"]


def test_a_photo_in_another_model_is_not_rejected() -> None:
    found = {("x", "y"): verified(80), ("x", "z"): verified(80), ("y", "z"): verified(80), ("a", "x"): verified(20)}
    names = (*MODEL, "x", "y", "z")
    evidence = evidence_of(found, names=names, keypoints=dict.fromkeys(names, 500), models=[MODEL, "xyz"])
    assert [(each.image, each.reason, each.model) for each in diagnose(evidence)] == [
        (name, "own component", 1) for name in "xyz"
    ]
    (split,) = diagnose_splits(evidence)
    assert (split.model, split.num_images, split.num_pairs, split.most_inliers, split.num_shared) == (1, 3, 1, 20, 0)
    assert "a and x" in split.evidence
    nested = replace(evidence, models=[MODEL, "abc"])
    assert diagnose_splits(nested) == []  # all of its photos are in the best model


def test_pairs_left_out_as_look_alikes_are_told_of() -> None:
    evidence = evidence_of({("a", "x"): verified(0, 300)}, doubtful=frozenset([("a", "x")]))
    (found,) = diagnose(evidence)
    assert found.reason == "failed verification"
    assert "contradict surer ones and were left out" in found.evidence
    assert "--doppelgangers warn" in found.advice


def test_few_inliers_with_the_model_may_be_another_place() -> None:
    (found,) = diagnose(evidence_of({("a", "x"): verified(16), ("b", "x"): verified(17)}))
    assert found.reason == "rejected by the mapper"
    assert "another place" in found.advice


def test_models_without_any_tie_are_told_apart_from_those_that_were_not_trusted() -> None:
    found = {("x", "y"): verified(80)}
    names = (*MODEL, "x", "y")
    evidence = evidence_of(found, names=names, keypoints=dict.fromkeys(names, 500), models=[MODEL, "xy"])
    (split,) = diagnose_splits(evidence)
    assert split.num_pairs == 0
    assert "no verified pair" in split.evidence


def test_without_a_model_every_photo_has_a_reason() -> None:
    evidence = evidence_of(models=[])
    assert [each.reason for each in diagnose(evidence)] == ["rejected by the mapper"] * 4 + ["no candidate pair"]


class Listed(tuple[str, ...]):
    """Names that count how often somebody goes through them."""

    passes = 0

    def __iter__(self) -> Iterator[str]:
        self.passes += 1
        return super().__iter__()

    def __contains__(self, name: object) -> bool:
        self.passes += 1
        return super().__contains__(name)


def test_the_names_of_a_model_are_not_gone_through_for_each_photo() -> None:
    names = [f"{i:02d}.jpg" for i in range(60)]
    found = {pair: verified(100) for pair in combinations(names, 2)}
    best, second, masked = Listed(names[:20]), Listed(names[20:40]), Listed(["none.jpg"])
    evidence = evidence_of(
        found, names=names, keypoints=dict.fromkeys(names, 500), models=[best, second], masked_out=masked
    )
    assert [each.model for each in diagnose(evidence)] == [1] * 20 + [None] * 20
    assert [each.num_pairs for each in diagnose_splits(evidence)] == [400]
    assert max(best.passes, second.passes, masked.passes) < 10


def test_a_photo_in_several_models_is_told_of_the_best_of_them() -> None:
    found = {pair: verified(80) for pair in combinations("wxyz", 2)}
    names = (*MODEL, *"wxyz")
    evidence = evidence_of(found, names=names, keypoints=dict.fromkeys(names, 500), models=[MODEL, "wxy", "xyz"])
    assert [each.model for each in diagnose(evidence)] == [1, 1, 1, 2]
    assert replace(evidence, models=["wxyz"]).registered == set("wxyz")  # nothing is kept from before


# --------------------------------------------------------------------------------- commands
@pytest.mark.parametrize(
    ("remedy", "flags", "num_images", "added"),
    [
        ("closer", {}, 10, "--quality high"),
        ("closer", {"quality": "high"}, 10, "--quality extreme"),
        ("closer", {"quality": "extreme"}, 10, ""),
        ("closer", {"max_keypoints": 1000}, 10, "--max-keypoints 2000 --max-edge-px 2048"),
        ("closer", {"max_keypoints": 0, "max_edge_px": 0}, 10, ""),
        ("closer", {"quality": "extreme", "max_keypoints": 4000}, 10, "--max-keypoints 8000 --max-edge-px 4800"),
        ("closer", {"quality": "low", "max_edge_px": 900}, 10, "--max-edge-px 1800 --max-keypoints 2048"),
        (
            "closer",
            {"features": "sift", "quality": "high", "max_keypoints": 9000},
            10,
            "--max-keypoints 18000 --max-edge-px 4800",
        ),
        ("closer", {"features": "sift", "max_edge_px": 1700}, 10, "--max-edge-px 3400 --max-keypoints 8192"),
        ("pairs", {}, 10, ""),
        ("pairs", {"pairs": "exhaustive"}, 10_000, ""),
        ("pairs", {"pairs": "sequential"}, 100, "--pairs exhaustive"),
        ("pairs", {"pairs": "sequential"}, 1000, "--pairs sequential+retrieval"),
        ("pairs", {"pairs": "my exhaustive pairs.txt"}, 1000, "--pairs 'my exhaustive pairs.txt+retrieval'"),
        ("pairs", {"pairs": "sequential+spatial"}, 1000, "--neighbors 40"),
        ("pairs", {}, 1000, "--neighbors 40"),
        ("pairs", {"neighbors": 50}, 1000, "--neighbors 100"),
        ("mapper", {"mapper": "global"}, 10, "--mapper incremental"),
        ("mapper", {"mapper": "hierarchical"}, 10, "--mapper incremental"),
        ("mapper", {"mapper": "incremental"}, 10, "--mapper global"),
        ("mapper", {"mapper": "auto"}, 10, ""),
        ("mapper", {}, 10, ""),
    ],
)
def test_what_is_advised_was_not_done_already(remedy: str, flags: dict[str, Any], num_images: int, added: str) -> None:
    found = command([remedy], "photos", "out", flags, num_images)
    assert found.endswith(added)
    assert bool(found) == bool(added)


@pytest.mark.parametrize("features", ["auto", *sorted({*available("extractor")} - {"imported"})])
@pytest.mark.parametrize("quality", ExtractorOptions.presets)
@pytest.mark.parametrize("given", [{}, {"max_keypoints": 500}, {"max_edge_px": 5000}, {"max_edge_px": 0}])
def test_a_closer_look_is_never_at_less(features: str, quality: str, given: dict[str, int]) -> None:
    flags = {"features": features, "quality": quality, **given}
    options = ExtractorOptions if features == "auto" else component_class("extractor", features).options_class
    used = {**options.presets[quality], **given}
    new = {**flags, **REMEDIES["closer"](flags, 10)}
    seen = {**options.presets[new["quality"]], **{name: new[name] for name in used if name in new}}
    for name, value in used.items():
        assert seen[name] == 0 if value == 0 else seen[name] >= value
    assert seen != used or quality == "extreme"


def test_imported_features_and_matches_are_all_there_is() -> None:
    flags = {"features": "imported", "matcher": "imported", "imported": "f00", "pairs": "out/pairs.txt"}
    assert command(["closer", "pairs"], "photos", "out", flags, 100) == ""
    assert command(["closer", "pairs"], "photos", "out", {**flags, "matcher": "nearest"}, 100).endswith("exhaustive")


def test_the_command_keeps_what_was_asked_for_and_quotes_names() -> None:
    flags = {"features": "sift", "masks": "my masks", "strict": True, "quadratic": False}
    found = command(["closer"], "my photos", "out", flags, 10)
    expected = "lgsfm reconstruct 'my photos' -o out --features sift --masks 'my masks' --strict --no-quadratic"
    assert found == f"{expected} --quality high"


def test_every_remedy_gives_flags_that_exist() -> None:
    from lgsfm.settings import Settings

    for remedy in REMEDIES.values():
        for flags in ({}, {"pairs": "sequential"}, {"max_keypoints": 99}):
            Settings.from_flags({**flags, **remedy(flags, 1000)})
