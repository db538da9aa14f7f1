"""Why each photo that is not in the model is not there: one reason of a closed list, the numbers behind it, and what
would help; likewise for models that came out apart.

The reasons follow the way of a photo through the stages, and the first obstacle is the one that is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .database_reading import VerifiedPair
from .remedies import command
from .types import Pair
from .view_graph import ViewGraph

__all__ = ["REASONS", "Diagnosis", "Evidence", "Split", "diagnose", "diagnose_splits"]

REASONS = (
    "unreadable",
    "masked out",
    "no features",
    "no candidate pair",
    "few matches",
    "failed verification",
    "own component",
    "rejected by the mapper",
)
SURE_INLIERS = 30  # fewer may be chance
BROKEN_ADVICE = "Save the photo again, or remove it."
FEW_KEYPOINTS = 50  # that hardly any pair can be verified with


@dataclass(frozen=True)
class Evidence:
    """What the stages know of the photos of a run.

    names: all photos
    failed: those that could not be used -> why
    masked_out: those whose masks leave no keypoint
    keypoints: image name -> number of keypoints
    pairs: those that were selected, also second looks
    verified: what came of those with matches
    models: the registered images of each model, the best one first
    min_inliers: that a pair needs to pass verification
    doubtful: pairs that passed and were left out, since they seem to mix up places that look alike
    image_dir, output, flags: of the run, for the commands that would help
    """

    names: Sequence[str]
    failed: Mapping[str, str] = field(default_factory=dict)
    masked_out: Sequence[str] = ()
    keypoints: Mapping[str, int] = field(default_factory=dict)
    pairs: Sequence[Pair] = ()
    verified: Mapping[Pair, VerifiedPair] = field(default_factory=dict)
    models: Sequence[Sequence[str]] = ()
    min_inliers: int = 15
    doubtful: frozenset[Pair] = frozenset()
    image_dir: str = ""
    output: str = ""
    flags: Mapping[str, Any] = field(default_factory=dict)

    def command(self, *remedies: str) -> str:
        """The command that tries some of `lgsfm.remedies.REMEDIES`."""
        return command(remedies, self.image_dir, self.output, self.flags, len(self.names))

    @cached_property
    def registered(self) -> frozenset[str]:
        """The images of the best model."""
        return frozenset(self.models[0]) if self.models else frozenset()

    @cached_property
    def model_of(self) -> dict[str, int]:
        """Image name -> number of the best model that it is in."""
        listed = [*enumerate(self.models)]
        return {name: number for number, names in reversed(listed) for name in names}

    @cached_property
    def hidden(self) -> frozenset[str]:
        """Those of `masked_out`."""
        return frozenset(self.masked_out)


@dataclass(frozen=True)
class Diagnosis:
    """Why a photo is not in the best model.

    image: its name
    reason: one of `REASONS`
    evidence: the numbers behind it, in words
    advice: what would help, in words
    command: to try that; "" where none would, or all was tried
    model: the number of another model that it is in, None if it is in none
    numbers: keypoints, pairs, matches and inliers of its best pair, verified neighbours, images of its component
    """

    image: str
    reason: str
    evidence: str
    advice: str
    command: str = ""
    model: int | None = None
    numbers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """Why a model is apart from the best one: what ties the two.

    model: its number
    num_images: registered in it
    num_shared: images that are in both
    num_pairs: verified pairs that lead from one to the other
    most_inliers: of the best of them
    evidence, advice, command: as of `Diagnosis`
    """

    model: int
    num_images: int
    num_shared: int
    num_pairs: int
    most_inliers: int
    evidence: str
    advice: str
    command: str = ""


def diagnose(evidence: Evidence) -> list[Diagnosis]:
    """One diagnosis for each photo that is not in the best model, in the order of the names."""
    graph = ViewGraph(evidence.keypoints, evidence.verified)
    tried = _by_image(evidence.pairs)
    found = _by_image(evidence.verified)
    joined = {graph.component_of(name) for name in evidence.registered & set(graph.names)}
    return [
        _diagnose(name, evidence, graph, joined, tried.get(name, []), found.get(name, []))
        for name in evidence.names
        if name not in evidence.registered
    ]


def _by_image(pairs: Any) -> dict[str, list[Pair]]:
    """Image name -> its pairs."""
    listed: dict[str, list[Pair]] = {}
    for pair in pairs:
        for name in pair:
            listed.setdefault(name, []).append(pair)
    return listed


def _diagnose(
    name: str, evidence: Evidence, graph: ViewGraph, joined: set[int], tried: list[Pair], found: list[Pair]
) -> Diagnosis:
    """Of one photo; ``joined`` are the components that the best model has images of."""
    if name in evidence.failed:
        text = evidence.failed[name]
        advice = "Install that, and run the same command again." if "pip install" in text else BROKEN_ADVICE
        return Diagnosis(name, "unreadable", text, advice)
    if name in evidence.hidden:
        text = "its mask leaves no keypoint"
        return Diagnosis(name, "masked out", text, "Look at its mask: black is what is ignored.")
    count = evidence.keypoints.get(name, 0)
    numbers = {"keypoints": count, "pairs": len(tried)}
    model = evidence.model_of.get(name)

    def result(reason: str, text: str, advice: str, *remedies: str) -> Diagnosis:
        return Diagnosis(name, reason, text, advice, evidence.command(*remedies), model, numbers)

    if not count:
        advice = "It may be blank, black or out of focus. If not, a larger picture may show some."
        return result("no features", "no keypoint was found in it", advice, "closer")
    if not tried:
        advice = "Nobody thought it similar. Pair it with more photos."
        return result("no candidate pair", f"{count} keypoints, but none of the pairs has it", advice, "pairs")
    best = max(found, key=lambda pair: evidence.verified[pair].num_matches, default=None)
    numbers["matches"] = evidence.verified[best].num_matches if best else 0
    numbers["verified"] = len(graph.neighbors(name))
    text = f"{len(tried)} pairs tried, "
    if numbers["matches"] < evidence.min_inliers:
        text += f"at most {numbers['matches']} matches" + (f", with {_other(best, name)}" if best else "")
        if count < FEW_KEYPOINTS:
            advice = f"It has only {count} keypoints: little texture, blur or darkness. Look closer."
        else:
            advice = "It may show something else. If not, look closer, or take photos between it and the others."
        return result("few matches", text, advice, "closer")
    if not numbers["verified"]:
        assert best is not None
        numbers["inliers"] = max(evidence.verified[pair].num_inliers for pair in found)
        most = f"at most {numbers['matches']} matches, with {_other(best, name)}"
        text += f"{most}, and no pair passed: unsure, or no one geometry"
        advice = "What looks alike there may be another thing. If it is the same, look closer."
        if left_out := sum(pair in evidence.doubtful for pair in found):
            text = (
                f"{len(tried)} pairs tried; {left_out} that agree on a geometry contradict surer ones and were left out"
            )
            advice = (
                "It seems to show a place that looks like another one. If it does not, --doppelgangers warn keeps them."
            )
            return result("failed verification", text, advice)
        return result("failed verification", text, advice, "closer")
    return _apart(name, model, evidence, graph, joined, numbers, result)


def _apart(
    name: str,
    model: int | None,
    evidence: Evidence,
    graph: ViewGraph,
    joined: set[int],
    numbers: dict[str, int],
    result: Any,
) -> Diagnosis:
    """Of an image with verified pairs that is not in the best model."""
    neighbors = graph.neighbors(name)
    inside = [other for other in neighbors if other in evidence.registered]
    component = graph.components[graph.component_of(name)]
    numbers["component"] = len(component)
    counts = [graph.inliers(name, other) for other in neighbors]
    numbers["inliers"] = max(counts)
    if model:
        text = f"it is in model {model} ({_photos(len(evidence.models[model]))}), "
        if inside:
            most = max(graph.inliers(name, other) for other in inside)
            text += f"{len(inside)} verified pairs lead to the best model, at most {most} inliers"
        else:
            text += "no verified pair leads to the best model"
        return result("own component", text, "See below what keeps the models apart.")
    if evidence.models and graph.component_of(name) not in joined:
        text = f"{_photos(len(neighbors))} tied to it, in a part of {_photos(len(component))} apart from the model"
        advice = "It may show another place. If not, pairs across are missing, or photos between."
        return result("own component", text, advice, "pairs", "closer")
    text = f"{len(neighbors)} verified pairs, {len(inside)} with registered photos, at most {max(counts)} inliers"
    if not evidence.models:
        text = f"{len(neighbors)} verified pairs, at most {max(counts)} inliers, in a part of {_photos(len(component))}"
        advice = "No pair was a good start: photos from one spot, too few matches, or places that only look alike."
        return result("rejected by the mapper", text, advice, "pairs", "closer")
    if max(counts) < SURE_INLIERS:
        advice = "It may show another place: such pairs arise by chance. If it does not, look closer."
        return result("rejected by the mapper", text, advice, "closer")
    if len(inside) < 2:
        advice = "One pair makes no 3D point that it could see: it needs matches with two photos. Look closer."
        return result("rejected by the mapper", text, advice, "pairs", "closer")
    advice = "Its points do not fit the model, or are too few. A closer look, another mapper or a better camera may do."
    return result("rejected by the mapper", text, advice, "mapper", "closer")


def _photos(count: int) -> str:
    return f"{count} photo{'' if count == 1 else 's'}"


def _other(pair: Pair, name: str) -> str:
    return pair[1] if pair[0] == name else pair[0]


def diagnose_splits(evidence: Evidence) -> list[Split]:
    """Of each model beside the best one, if it has images that the best one lacks: how the two hang together."""
    graph = ViewGraph(evidence.keypoints, evidence.verified)
    return [
        _split(number, names, evidence, graph)
        for number, names in enumerate(evidence.models)
        if not evidence.registered.issuperset(names)
    ]


def _split(number: int, names: Sequence[str], evidence: Evidence, graph: ViewGraph) -> Split:
    shared = evidence.registered & set(names)
    ties = graph.between([name for name in names if name not in shared], evidence.models[0])
    most = graph.pairs[ties[0]].num_inliers if ties else 0
    text = f"model {number} ({_photos(len(names))}) is apart from model 0 ({_photos(len(evidence.models[0]))}): "
    remedies: tuple[str, ...]
    if not ties:
        text += "no verified pair leads from one to the other"
        advice = "They may show different places. If not, pairs across are missing, or photos between."
        remedies = ("pairs", "closer")
    else:
        first = " and ".join(ties[0])
        text += f"{len(ties)} verified pairs lead across, at most {most} inliers ({first})"
        advice = "The mapper did not trust these ties: they may be of things that only look alike, or too few."
        remedies = ("mapper", "pairs", "closer")
    if shared:
        text += f"; {_photos(len(shared))} are in both"
    return Split(number, len(names), len(shared), len(ties), most, text, advice, evidence.command(*remedies))
