"""The pairs that are worth a look: the surest, the weakest, those on which everything hangs, the best of the failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from ..database_reading import VerifiedPair, open_inlier_matches
from ..errors import LgsfmError
from ..image_files import image_path
from ..store import FeatureStore, MatchStore
from ..types import Pair
from .collect import Collected
from .pictures import Picture, matches_picture

__all__ = ["ShownPair", "choose_pairs", "draw_pairs"]

MOST_BRIDGES = 2


@dataclass(frozen=True)
class ShownPair:
    """One of the pairs that are drawn.

    title: why it is shown
    pair: names of the photos
    found: what verification made of it
    picture: None where the photos or their matches are not there any more
    """

    title: str
    pair: Pair
    found: VerifiedPair
    picture: Picture | None = None


def choose_pairs(collected: Collected) -> list[ShownPair]:
    """The pairs to show, without pictures; none twice."""
    chosen: dict[Pair, str] = {}
    for title, pair in _candidates(collected):
        chosen.setdefault(pair, title)
    return [ShownPair(title, pair, collected.pairs[pair]) for pair, title in chosen.items()]


def _candidates(collected: Collected) -> Iterator[tuple[str, Pair]]:
    graph, scenes = collected.graph, collected.scenes
    by_inliers = sorted(graph.pairs, key=lambda pair: (graph.pairs[pair].num_inliers, pair))
    bridges = set(graph.bridges)
    if by_inliers:
        yield "Most inliers", by_inliers[-1]
    for number in range(1, min(len(scenes), 3)):
        apart = [name for name in scenes[number].cameras if name not in scenes[0].cameras]
        for pair in graph.between(apart, list(scenes[0].cameras))[:1]:
            yield f"Best tie of model {number} to the best model", pair
    for pair in [pair for pair in by_inliers if pair in bridges][:MOST_BRIDGES]:
        yield "Bridge between two parts", pair
    if by_inliers:
        yield "Fewest inliers that passed", by_inliers[0]
    failed = [pair for pair, found in collected.pairs.items() if not found.is_verified]
    if failed:
        yield "Most matches that failed verification", max(failed, key=lambda pair: collected.pairs[pair].num_matches)


def draw_pairs(collected: Collected, chosen: list[ShownPair]) -> list[ShownPair]:
    """The same with pictures, as far as photos, features and matches are there."""
    features_path, matches_path = collected.features_path, collected.matches_path
    if not chosen or not features_path or not matches_path or not features_path.is_file() or not matches_path.is_file():
        return chosen
    with ExitStack() as opened:
        features = opened.enter_context(FeatureStore(features_path))
        matches = opened.enter_context(MatchStore(matches_path))
        inliers = opened.enter_context(open_inlier_matches(collected.workspace.database))

        def drawn(shown: ShownPair) -> ShownPair:
            first, second = shown.pair
            try:
                paths = image_path(collected.image_dir, first), image_path(collected.image_dir, second)
                found = matches[shown.pair]
                verified = {tuple(row) for row in inliers.get(shown.pair, np.zeros((0, 2), np.int64)).tolist()}
                keep = np.array([tuple(row) in verified for row in found.indices.tolist()], bool)
                picture = matches_picture(paths, (features[first], features[second]), found, keep)
            except (LgsfmError, KeyError):  # of a pair of a finer look, or of a photo that is gone
                return shown
            return ShownPair(shown.title, shown.pair, shown.found, picture)

        return [drawn(shown) for shown in chosen]
