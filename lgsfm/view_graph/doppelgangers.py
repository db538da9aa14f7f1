"""Doppelgangers: pairs of photos that match and verify although they show different places that look the same.

Two sides of a mug with the same print, two towers of one church: such pairs have as many inliers as right ones, and
each has a fine two-view geometry. What gives them away is their company. Three steps, none of which sees the photos:

1. *Trust.* A keypoint that is matched in many photos is shared by all places that look alike, one that is matched in
   few sets a place apart; so each keypoint has one vote, divided among the pairs that it is an inlier of. (The
   distinctive tracks of Yan et al., "Distinguishing the Indistinguishable", CVPR 2017, and the bipartite clustering of
   Wilson and Snavely, "Network Principles for SfM", ICCV 2013, in their cheapest form.)
2. *Loops.* The surest pairs say how the photos are turned (`consensus`); a pair that contradicts them by far is
   suspect (Zach, Klopschitz and Pollefeys, "Disambiguating Visual Relations Using Loop Constraints", CVPR 2010).
3. *Witnesses.* A suspect may have right matches and a wrong pose, for instance by a wrong focal length. So its matches
   are followed over a third photo that is no suspect on either way: right ones are found again, those of doppelgangers
   are not (Zach, Irschara and Bischof, "What Can Missing Correspondences Tell Us about 3D Structure and Motion?",
   CVPR 2008). A suspect whose matches are not confirmed is *doubtful*.

Doubles that are turned by less than `SUSPECT_DEG` against each other, like the windows of one facade, are not seen.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..database_reading import VerifiedPair, open_inlier_matches, pair_id, read_verified_pairs
from ..errors import CacheError
from ..options import Options, option
from ..types import Pair, canonical_pair
from .consensus import find_consensus

__all__ = [
    "DoppelgangerOptions",
    "DoppelgangerReport",
    "DoubtfulPair",
    "drop_doubtful",
    "drop_pairs",
    "examine_database",
    "find_doubtful",
    "pair_trust",
]

SUSPECT_DEG = 45.0  # a pair whose rotation is off by more is suspect; guessed focal lengths make 30 degrees
WITNESS_DEG = 20.0  # a pair whose rotation is off by less may bear witness
MAX_WITNESSES = 6  # third photos that are asked, those with the surest pairs first
CONFIRMED = 0.4  # share of the matches that witnesses must confirm to clear a suspect
CONFIRMED_TIE = 0.15  # the same for a tie between sets of images: there are few witnesses, but chance confirms nothing
WORTH_SAYING = 0.05  # share of all inliers in doubtful pairs; below, they are few and weak, and the mapper copes
EXAMPLES = 3  # pairs that are named in the warning
MODES = ("auto", "drop", "warn", "off")


@dataclass(frozen=True, kw_only=True)
class DoppelgangerOptions(Options):
    """What becomes of pairs that match although they seem to show different places that look the same."""

    doppelgangers: str = option(
        "auto",
        "pairs that seem to mix up places that look alike: dropped (drop), named (warn), not looked for (off); auto: "
        f"dropped where they hold more than {WORTH_SAYING:.0%} of the inliers, since few and weak ones bend no model",
        choices=MODES,
    )


@dataclass(frozen=True)
class DoubtfulPair:
    """A verified pair that contradicts surer ones, and whose matches nobody confirms.

    pair: its images
    num_inliers: its verified matches
    error_deg: the angle by which its rotation contradicts that of the surer pairs; NaN if it is one of several ties
        between two sets of images that contradict each other
    confirmed: the share of its matches that third photos confirm, 0..1
    """

    pair: Pair
    num_inliers: int
    error_deg: float
    confirmed: float


@dataclass(frozen=True)
class DoppelgangerReport:
    """What was found in a database.

    doubtful: the doubtful pairs, those of most inliers first
    num_pairs: verified pairs
    num_inliers: of all verified pairs together
    """

    doubtful: tuple[DoubtfulPair, ...]
    num_pairs: int
    num_inliers: int

    @property
    def pairs(self) -> list[Pair]:
        """The doubtful pairs, sorted."""
        return sorted(found.pair for found in self.doubtful)

    @property
    def is_worth_saying(self) -> bool:
        """Whether the doubtful pairs are strong enough to bend a model; every collection has some weak ones."""
        return sum(found.num_inliers for found in self.doubtful) > WORTH_SAYING * self.num_inliers

    def dropped(self, mode: str) -> list[Pair]:
        """The pairs that are dropped, by `DoppelgangerOptions.doppelgangers`."""
        is_wanted = mode == "drop" or (mode == "auto" and self.is_worth_saying)
        return self.pairs if is_wanted else []

    def lines(self, *, are_dropped: bool) -> list[str]:
        """For people: how many and which; nothing where they are few and weak, and stay."""
        if not are_dropped and not self.is_worth_saying:
            return []
        images = Counter(name for found in self.doubtful for name in found.pair)
        names = [f"{name} ({count})" for name, count in images.most_common(2 * EXAMPLES)]
        more = f" and {len(images) - len(names)} more" if len(images) > len(names) else ""
        done = "left out; --doppelgangers warn keeps them"
        if not are_dropped:
            done = "kept; --doppelgangers drop leaves them out"
        return [
            f"Look-alikes: {len(self.doubtful)} of {self.num_pairs} verified pairs contradict surer ones; they seem to "
            f"show different places that look the same ({done}).",
            f"  most often in {', '.join(names)}{more}",
            *(f"  {_in_words(found)}" for found in self.doubtful[:EXAMPLES]),
        ]


def _in_words(found: DoubtfulPair) -> str:
    against = "its fellows contradict it" if np.isnan(found.error_deg) else f"turned wrongly by {found.error_deg:.0f}°"
    confirmed = f"{100 * found.confirmed:.0f} % of them confirmed by other photos"
    return f"{found.pair[0]} - {found.pair[1]}: {found.num_inliers} matches, {against}, {confirmed}"


def examine_database(path: Path) -> DoppelgangerReport:
    """Looks for doubtful pairs in a database with verified matches; nothing is changed.

    Raises:
        CacheError: the database cannot be read.
    """
    pairs = {pair: found for pair, found in read_verified_pairs(path).items() if found.is_verified}
    with open_inlier_matches(path) as inliers:
        doubtful = find_doubtful(pairs, inliers)
    return DoppelgangerReport(tuple(doubtful), len(pairs), sum(found.num_inliers for found in pairs.values()))


def drop_doubtful(path: Path, options: DoppelgangerOptions) -> tuple[list[Pair], list[str]]:
    """Looks for doubtful pairs in a database and drops them, as the options say.

    Returns:
        The pairs that were dropped, and what people should hear.

    Raises:
        CacheError: the database cannot be read or written.
    """
    if options.doppelgangers == "off":
        return [], []
    report = examine_database(path)
    dropped = report.dropped(options.doppelgangers)
    if dropped:
        drop_pairs(path, dropped)
    return dropped, report.lines(are_dropped=bool(dropped))


def drop_pairs(path: Path, pairs: Iterable[Pair]) -> int:
    """Takes pairs out of the verified ones of a database; their matches stay, so that verification brings them back.

    Returns:
        How many there were.

    Raises:
        CacheError: the database cannot be changed.
    """
    try:
        with closing(sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=rw", uri=True)) as database, database:
            ids = dict(database.execute("SELECT name, image_id FROM images"))
            rows = [(pair_id(ids[name0], ids[name1]),) for name0, name1 in pairs]
            return (
                database.executemany("DELETE FROM two_view_geometries WHERE pair_id = ?", rows).rowcount if rows else 0
            )
    except (sqlite3.Error, OSError, KeyError) as exc:
        raise CacheError(f"The database {path} cannot be changed: {exc}. Check its permissions.") from exc


def find_doubtful(pairs: Mapping[Pair, VerifiedPair], inliers: Mapping[Pair, np.ndarray]) -> list[DoubtfulPair]:
    """The doubtful pairs, those of most inliers first.

    Args:
        pairs: of images; only verified ones with a relative pose are judged.
        inliers: of each verified pair its matches, (K, 2) int, rows (i0, i1) into the keypoints of its images.
    """
    judged = sorted(pair for pair, found in pairs.items() if found.is_verified and found.cam1_from_cam0 is not None)
    if not judged:
        return []
    trust = pair_trust(judged, inliers)
    number = {name: i for i, name in enumerate(sorted({name for pair in judged for name in pair}))}
    ends = np.array([(number[name0], number[name1]) for name0, name1 in judged])
    rotations = np.array([pairs[pair].cam1_from_cam0 for pair in judged])
    consensus = find_consensus(len(number), ends, rotations, trust)
    errors = consensus.errors_deg
    witnesses = _Witnesses(inliers)
    for pair, weight, is_good, is_tie in zip(judged, trust, errors < WITNESS_DEG, consensus.is_outvoted, strict=True):
        if is_good or is_tie:  # a tie bears witness for other ties alone: where they are, there is no better one
            witnesses.add(pair, float(weight), is_tie=bool(is_tie))
    doubtful = []
    for i in np.flatnonzero((errors > SUSPECT_DEG) | consensus.is_outvoted):
        is_tie = bool(consensus.is_outvoted[i])
        confirmed = witnesses.confirmed(judged[i], is_tie=is_tie)
        if confirmed < (CONFIRMED_TIE if is_tie else CONFIRMED):
            found = pairs[judged[i]].num_inliers
            doubtful.append(DoubtfulPair(judged[i], found, float(errors[i]), confirmed))
    return sorted(doubtful, key=lambda found: (-found.num_inliers, found.pair))


def pair_trust(pairs: Sequence[Pair], inliers: Mapping[Pair, np.ndarray]) -> np.ndarray:
    """(E,) float64: how far each pair rests on keypoints that are matched in few other pairs.

    Each keypoint gives one vote to its image, divided evenly among the pairs it is an inlier of; a pair has the
    geometric mean of what it gets in its two images.
    """
    uses: dict[str, np.ndarray] = {}
    for pair in pairs:
        for name, indices in zip(pair, inliers[pair].T, strict=True):
            seen = uses.get(name, np.zeros(0, np.uint16))
            missing = int(indices.max(initial=-1)) + 1 - len(seen)
            uses[name] = seen = np.pad(seen, (0, missing)) if missing > 0 else seen
            seen[indices] += 1  # matches are one to one
    votes = [
        [(1 / uses[name][indices]).sum() for name, indices in zip(pair, inliers[pair].T, strict=True)] for pair in pairs
    ]
    return np.sqrt(np.prod(np.array(votes).reshape(-1, 2), axis=1))


class _Witnesses:
    """Pairs that may confirm the matches of others, as a graph of images."""

    def __init__(self, inliers: Mapping[Pair, np.ndarray]) -> None:
        self._inliers = inliers
        self._good: dict[str, dict[str, float]] = {}  # image -> image -> trust
        self._ties: dict[str, dict[str, float]] = {}

    def add(self, pair: Pair, trust: float, *, is_tie: bool) -> None:
        graph = self._ties if is_tie else self._good
        for name, other in (pair, pair[::-1]):
            graph.setdefault(name, {})[other] = trust

    def confirmed(self, pair: Pair, *, is_tie: bool) -> float:
        """The share of the matches of a pair that are found again on the way over a third image."""
        first, second = (self._good.get(name, {}) for name in pair)
        ways = {other: min(first[other], second[other]) for other in first.keys() & second.keys()}
        if is_tie:
            for good, ties in ((first, self._ties.get(pair[1], {})), (second, self._ties.get(pair[0], {}))):
                ways |= {other: min(good[other], ties[other]) for other in good.keys() & ties.keys()}
        matches = self._inliers[pair]
        is_confirmed = np.zeros(len(matches), bool)
        for other in sorted(ways, key=lambda other: (-ways[other], other))[:MAX_WITNESSES]:
            there, back = self._matches(pair[0], other), self._matches(other, pair[1])
            is_confirmed |= _followed(_followed(matches[:, 0], there), back) == matches[:, 1]
        return float(is_confirmed.mean()) if len(matches) else 0.0

    def _matches(self, name0: str, name1: str) -> np.ndarray:
        matches = self._inliers[canonical_pair(name0, name1)]
        return matches if name0 < name1 else matches[:, ::-1]


def _followed(indices: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """(K,) int64: where matches (M, 2) lead from keypoints ``indices`` (K,); -1 where they lead nowhere."""
    order = np.argsort(matches[:, 0], kind="stable")
    keys = matches[order, 0]
    if not len(keys):
        return np.full(len(indices), -1)
    found = np.minimum(np.searchsorted(keys, indices), len(keys) - 1)
    return np.where(keys[found] == indices, matches[order[found], 1], -1)
