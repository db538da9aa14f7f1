"""Which way up each image is seen: as its EXIF data says, and turned where the other images say that it lies.

Learned features and LightGlue know the world upright: a photo that lies on its side without EXIF saying so matches
nothing. But its descriptors tell: of the four views of such a photo only one has many mutual nearest neighbours in
another photo of the place (10 to 70 % of the keypoints, by chance 3 to 10 %), and that test costs a millisecond. So

1. images that agree as they are seen now are put into groups, by votes between their features, which are there already;
2. only an image that represents a group beside the largest one is looked at again in its three other views, and its
   group is turned as the majority sees it.

An upright collection costs votes only; each image that lies costs three more looks: O(N) in all.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from .errors import InputError
from .exif import turned_clockwise
from .extractors import Extractor, extract_visible
from .files import misfits, read_json, write_json
from .images import file_digest, read_header, read_photo
from .matchers.nearest import NearestMatcher, NearestOptions, PreparedImage
from .options import Options, digest, option
from .store import digest_of
from .types import Features, Pair

__all__ = ["Ballot", "Orientations", "UprightOptions", "ballot", "elect_turn", "find_turns", "vote"]

STRONGEST = 512  # keypoints of an image that vote
RATIO = 0.95  # of the distances to the nearest and the second nearest neighbour
SURE_SHARE = 0.12  # of the voting keypoints that must find a partner; chance gives 0.03 to 0.1
SURE_LEAST = 20  # votes
CLEARER = 1.5  # times the votes of the present view that another view needs
PARTNERS = 60  # settled images that a view is compared with
SPEAKERS = 20  # images of a group among which the one with most keypoints speaks for it
BALLOTS = 1024  # kept in memory, 256 kB each

Look = Callable[[str, int], Features]  # image name, quarter turns clockwise -> features of that view


@dataclass(frozen=True, kw_only=True)
class UprightOptions(Options):
    """Which way up images are seen."""

    upright: str = option(
        "auto",
        "which way up photos are seen: as EXIF says, and by quarter turns where the other photos say so (auto), "
        "as EXIF says (exif), as they are stored (off)",
        choices=("auto", "exif", "off"),
    )


class Orientations:
    """The EXIF code with which each image is seen: of its file, and turned by vote; the turns are kept in a file.

    Args:
        image_dir: folder of the photos.
        names: of the images, relative to it.
        mode: as `UprightOptions.upright`.
        record: JSON file of the turns, which may not be there yet.
        masks: mask files of the images that have any.
    """

    def __init__(
        self,
        image_dir: Path,
        names: Sequence[str],
        mode: str,
        record: Path,
        masks: Mapping[str, Sequence[Path]] | None = None,
    ) -> None:
        self.image_dir, self.record, self.masks, self.mode = image_dir, record, masks or {}, mode
        self.of_files: dict[str, int] = {}
        for name in names:
            with suppress(InputError):  # the feature stage says what is wrong with it
                self.of_files[name] = 1 if mode == "off" else read_header(image_dir / name).exif.orientation
        noted = read_json(record)
        known = noted.get("turns", {}) if mode == "auto" and are_turns(noted) else {}
        self.turns: dict[str, int] = {
            name: turn["quarters"]
            for name, turn in known.items()
            if name in self.of_files and turn["sha256"] == file_digest(image_dir / name)
        }

    @property
    def views(self) -> dict[str, int]:
        """Image name -> EXIF code of the view."""
        return {name: turned_clockwise(code, self.turns.get(name, 0)) for name, code in self.of_files.items()}

    def look(self, extractor: Extractor, name: str, turn: int) -> Features:
        """Features of an image in a view beside the present one, turned clockwise by quarters."""
        code = turned_clockwise(self.of_files[name], self.turns.get(name, 0) + turn)
        edge_px = extractor.options.max_edge_px or None
        masks = self.masks.get(name, ())
        return extract_visible(extractor, read_photo(self.image_dir / name, edge_px, orientation=code, masks=masks))

    def turn(self, turns: Mapping[str, int]) -> None:
        """Turns images further, and notes it: features of the new views are worth keeping from now on."""
        summed = {name: (self.turns.get(name, 0) + turns.get(name, 0)) % 4 for name in {*self.turns, *turns}}
        self.turns = {name: turn for name, turn in sorted(summed.items()) if turn}
        self._write("")

    def settle(self, features: Mapping[str, Features], names: Sequence[str]) -> None:
        """Notes that these features have voted."""
        self._write(_electorate(features, names))

    def are_settled(self, features: Mapping[str, Features], names: Sequence[str]) -> bool:
        """Whether just these features have voted before."""
        return read_json(self.record).get("voted") == _electorate(features, names)

    def _write(self, voted: str) -> None:
        turns = {
            name: {"quarters": turn, "sha256": file_digest(self.image_dir / name)} for name, turn in self.turns.items()
        }
        write_json(self.record, {"voted": voted, "turns": turns}, is_checked=True)


def are_turns(known: Mapping[str, Any]) -> bool:
    """Whether this, from JSON, is what `Orientations` notes."""
    if misfits(known, {"voted": str, "turns": dict[str, dict[str, Any]]}):
        return False
    turn = {"quarters": int, "sha256": str}
    return all(set(turn) <= set(each) and not misfits(each, turn) for each in known.get("turns", {}).values())


def _electorate(features: Mapping[str, Features], names: Sequence[str]) -> str:
    return digest([(name, digest_of(features, name)) for name in names])


# --------------------------------------------------------------------------------- votes
class Ballot(NamedTuple):
    """What one view of an image votes with: its strongest keypoints."""

    prepared: PreparedImage
    kind: str

    def __len__(self) -> int:
        return len(self.prepared.descriptors)


class Vote(NamedTuple):
    """Mutual nearest neighbours of two views, and how many of them would be no chance."""

    mutual: int
    sure: int

    @property
    def is_sure(self) -> bool:
        """Whether both views show one place the same way up."""
        return self.mutual >= self.sure


NO_VOTE = Vote(0, SURE_LEAST)


def ballot(features: Features) -> Ballot:
    """The ballot of a view."""
    chosen = features.subset(np.argsort(-features.scores, kind="stable")[:STRONGEST])
    return Ballot(_nearest(features.extractor).prepare(chosen), features.extractor)


def vote(ballot0: Ballot, ballot1: Ballot) -> Vote:
    """The vote of two images on whether they are seen the same way up."""
    mutual = len(_nearest(ballot0.kind).match_prepared(ballot0.prepared, ballot1.prepared))
    return Vote(mutual, max(SURE_LEAST, round(SURE_SHARE * min(len(ballot0), len(ballot1)))))


@cache
def _nearest(kind: str) -> NearestMatcher:
    return NearestMatcher(NearestOptions(ratio=RATIO), "cpu", _no_weights, kind)


def _no_weights(model: str) -> NoReturn:
    raise AssertionError(f"nearest neighbours need no weights, {model} was asked for")


# --------------------------------------------------------------------------------- turns
def find_turns(
    names: Sequence[str], features: Mapping[str, Features], candidates: Sequence[Pair], look: Look
) -> dict[str, int]:
    """Images that lie, in the eyes of the majority: name -> quarter turns clockwise (1 to 3) that make them upright.

    Args:
        names: the images.
        features: image name -> features as the image is seen now.
        candidates: pairs whose votes are taken; those likely to overlap.
        look: features of another view of an image.
    """
    views: dict[str, Ballot] = {}  # of the speakers that were turned

    @lru_cache(maxsize=BALLOTS)
    def ballot_of(name: str) -> Ballot:
        return views[name] if name in views else ballot(features[name])

    groups = _groups(names, candidates, ballot_of)
    settled = sorted(groups[0]) if groups else []
    turns: dict[str, int] = {}
    for group in groups[1:]:
        speaker = max(group[:SPEAKERS], key=lambda name: len(ballot_of(name)))
        partners = _partners(speaker, settled)
        own = [ballot_of(speaker), *(ballot(look(speaker, turn)) for turn in (1, 2, 3))]
        turn = elect_turn(own, [ballot_of(name) for name in partners])
        if turn is None:
            continue
        if turn:
            turns.update(dict.fromkeys(group, turn))
            views[speaker] = own[turn]
            ballot_of.cache_clear()
        insort(settled, speaker)
    return turns


def _partners(name: str, settled: Sequence[str]) -> Sequence[str]:
    """Of many settled images those that an image is compared with: its neighbours by name, and some from all over."""
    if len(settled) <= PARTNERS:
        return settled
    place = bisect(settled, name)
    near = settled[max(0, place - PARTNERS // 4) : place + PARTNERS // 4]
    return [*near, *settled[:: -(-len(settled) // (PARTNERS // 2))]]


def elect_turn(views: Sequence[Ballot], partners: Sequence[Ballot]) -> int | None:
    """The quarter turns with which an image agrees with others, from its four views; None if no view is sure."""
    best = [max([NO_VOTE, *(vote(view, partner) for partner in partners)]) for view in views]
    turn = max(range(4), key=lambda number: best[number].mutual)
    if not best[turn].is_sure:
        return None
    return turn if best[turn].mutual >= CLEARER * best[0].mutual else 0


def _groups(names: Sequence[str], candidates: Sequence[Pair], ballot_of: Callable[[str], Ballot]) -> list[list[str]]:
    """Images that agree on what is up, directly or through others; the largest group first."""
    leader = {name: name for name in names}

    def lead(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for name0, name1 in candidates:
        first, second = lead(name0), lead(name1)
        if first != second and vote(ballot_of(name0), ballot_of(name1)).is_sure:
            leader[max(first, second)] = min(first, second)
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(lead(name), []).append(name)
    return sorted(groups.values(), key=lambda group: (-len(group), group))
