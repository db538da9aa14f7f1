"""Places that look alike: a ring around a mug with the same print on both sides, made of points with known truth."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from lgsfm.camera_groups import CameraGroup
from lgsfm.database import build_database
from lgsfm.database_reading import VerifiedPair, open_inlier_matches, read_inlier_matches, read_verified_pairs
from lgsfm.errors import CacheError
from lgsfm.types import Features, Matches, Pair
from lgsfm.view_graph import consensus
from lgsfm.view_graph.consensus import angles_deg, find_consensus
from lgsfm.view_graph.doppelgangers import DoppelgangerReport, DoubtfulPair, drop_pairs, examine_database, find_doubtful

NUM_IMAGES = 24
STEP_DEG = 360 / NUM_IMAGES
REACH = 4  # photos up to so many steps apart see something in common
PRINT, SURROUNDINGS = 40, 12  # keypoints of the mug's print and of the table, per sector of the ring


def about_y(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


@dataclass
class Ring:
    """Verified pairs of the photos of a ring, their matches, and which of the pairs are false.

    A photo sees the sectors within `REACH` / 2 of its own, in each the print and the surroundings. With ``is_double``
    the print is the same on the other side, so that photos of opposite sides match in their prints.
    """

    is_double: bool
    names: tuple[str, ...] = tuple(f"{i:02d}.jpg" for i in range(NUM_IMAGES))

    def __post_init__(self) -> None:
        self.pairs: dict[Pair, VerifiedPair] = {}
        self.inliers: dict[Pair, np.ndarray] = {}
        self.false: set[Pair] = set()
        for i, j in combinations(range(NUM_IMAGES), 2):
            apart = min(j - i, NUM_IMAGES - j + i)
            is_false = apart >= NUM_IMAGES // 2 - REACH
            if apart > REACH and not (self.is_double and is_false):
                continue
            seen_i, seen_j = self.sees(i), self.sees(j)
            if is_false:  # the print on the other side passes for that on this one
                seen_j = {
                    (kind, (sector + NUM_IMAGES // 2) % NUM_IMAGES, k): index
                    for (kind, sector, k), index in seen_j.items()
                    if kind == "print"
                }
            common = sorted(seen_i.keys() & seen_j.keys())
            if len(common) < 15:
                continue
            pair = self.names[i], self.names[j]
            turn = STEP_DEG * (j - i) + (180 if is_false else 0)
            self.inliers[pair] = np.array([(seen_i[point], seen_j[point]) for point in common])
            self.pairs[pair] = VerifiedPair(
                len(common), len(common), "calibrated", about_y(turn), np.array([1.0, 0, 0])
            )
            if is_false:
                self.false.add(pair)

    @staticmethod
    def sees(image: int) -> dict[tuple[str, int, int], int]:
        """The points that a photo sees and the number of their keypoints."""
        sectors = [(image + offset) % NUM_IMAGES for offset in range(-REACH // 2, REACH // 2 + 1)]
        points = [("print", sector, k) for sector in sectors for k in range(PRINT)]
        points += [("table", sector, k) for sector in sectors for k in range(SURROUNDINGS)]
        return {point: index for index, point in enumerate(points)}


def doubted(pairs: dict[Pair, VerifiedPair], inliers: dict[Pair, np.ndarray]) -> set[Pair]:
    return {found.pair for found in find_doubtful(pairs, inliers)}


# --------------------------------------------------------------------------------- which pairs
def test_the_two_sides_of_a_mug_are_told_apart() -> None:
    ring = Ring(is_double=True)
    assert len(ring.false) > 50
    assert doubted(ring.pairs, ring.inliers) == ring.false


def test_a_clean_ring_has_no_doubtful_pair() -> None:
    ring = Ring(is_double=False)
    assert len(ring.pairs) > 80
    assert doubted(ring.pairs, ring.inliers) == set()


def test_noise_and_guessed_focal_lengths_are_no_doppelgangers() -> None:
    rng = np.random.default_rng(0)
    ring = Ring(is_double=True)
    for pair, found in ring.pairs.items():
        noisy = found.cam1_from_cam0 @ about_y(rng.normal(0, 6))
        ring.pairs[pair] = VerifiedPair(found.num_matches, found.num_inliers, found.kind, noisy, found.direction)
    assert doubted(ring.pairs, ring.inliers) == ring.false


def test_a_right_pair_with_a_wrong_pose_is_cleared_by_third_photos() -> None:
    ring = Ring(is_double=False)
    pair = ring.names[5], ring.names[7]
    found = ring.pairs[pair]
    ring.pairs[pair] = VerifiedPair(found.num_matches, found.num_inliers, found.kind, about_y(170), found.direction)
    assert doubted(ring.pairs, ring.inliers) == set()
    ring.inliers[pair] = np.roll(ring.inliers[pair], 1, axis=0) * [1, 0] + ring.inliers[pair] * [0, 1]  # wrong matches
    assert doubted(ring.pairs, ring.inliers) == {pair}


def test_chance_matches_between_two_scenes_are_doubtful_and_both_scenes_stay_whole() -> None:
    rng = np.random.default_rng(0)
    scenes = {
        first: Ring(is_double=False, names=tuple(f"{first}{i:02d}.jpg" for i in range(NUM_IMAGES))) for first in "ab"
    }
    pairs = scenes["a"].pairs | scenes["b"].pairs
    inliers = scenes["a"].inliers | scenes["b"].inliers
    chance = [(scenes["a"].names[i], scenes["b"].names[j]) for i, j in rng.integers(0, 8, (40, 2))]
    for pair in sorted(set(chance)):
        inliers[pair] = np.stack([rng.permutation(200)[:16], rng.permutation(200)[:16]], axis=1)
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        pairs[pair] = VerifiedPair(30, 16, "uncalibrated", turn * np.linalg.det(turn), np.array([0, 0, 1.0]))
    found = doubted(pairs, inliers)
    assert found <= set(chance)
    assert len(found) >= 0.8 * len(set(chance))  # one that agrees with another by chance may stay


def test_order_and_names_of_the_images_do_not_matter() -> None:
    ring = Ring(is_double=True)
    order = np.random.default_rng(1).permutation(NUM_IMAGES)
    renamed = {name: f"{order[i]:02d}.jpg" for i, name in enumerate(ring.names)}
    pairs, inliers, false = {}, {}, set()
    for (name0, name1), found in reversed(ring.pairs.items()):
        pair, matches, rotation = (renamed[name0], renamed[name1]), ring.inliers[name0, name1], found.cam1_from_cam0
        if pair[0] > pair[1]:
            pair, matches, rotation = pair[::-1], matches[:, ::-1], rotation.T
        pairs[pair] = VerifiedPair(found.num_matches, found.num_inliers, found.kind, rotation, found.direction)
        inliers[pair] = matches
        if (name0, name1) in ring.false:
            false.add(pair)
    assert doubted(pairs, inliers) == false


def test_pairs_without_a_pose_are_not_judged() -> None:
    unknown = {("a", "b"): VerifiedPair(50, 40, "uncalibrated"), ("b", "c"): VerifiedPair(50, 0)}
    assert find_doubtful(unknown, {("a", "b"): np.zeros((40, 2), int)}) == []


# --------------------------------------------------------------------------------- rotations
def test_a_long_chain_closes_its_ring_in_spite_of_drift() -> None:
    ends = np.array([(i, (i + 1) % 60) for i in range(60)])
    relative = np.array([about_y(6.3)] * 60)  # 18 degrees too many in all
    found = find_consensus(60, ends, relative, np.linspace(2, 1, 60))
    assert found.errors_deg.max() < 2
    assert not found.is_outvoted.any()


def test_a_majority_of_ties_joins_two_clusters() -> None:
    ends = np.array([(0, 1), (1, 2), (3, 4), (0, 3), (1, 4), (2, 3)])
    truth = [about_y(30.0 * i) for i in range(5)]
    relative = np.array([truth[b] @ truth[a].T for a, b in ends])
    relative[3] = about_y(170)  # the surest tie between {0, 1, 2} and {3, 4} is wrong, the two others agree
    found = find_consensus(5, ends, relative, np.array([9, 9, 9, 2.5, 2, 2]))
    assert len(set(found.clusters)) == 1
    assert found.errors_deg[[0, 1, 2, 4, 5]].max() < 1
    assert found.errors_deg[3] > 60
    assert angles_deg(truth[4] @ truth[0].T @ found.rotations[0] @ found.rotations[4].T) < 1


def random_turns(rng: np.random.Generator, count: int) -> np.ndarray:
    turns = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    return turns * np.linalg.det(turns)[:, None, None]


def plain_clusters(num_images: int, pairs: np.ndarray, relative: np.ndarray, trust: np.ndarray) -> list[int]:
    """What `find_consensus` joins: every pair looks for all ties between its clusters and lets them vote."""
    clusters, rotations = np.arange(num_images), np.repeat(np.eye(3)[None], num_images, axis=0)
    order = np.argsort(-trust, kind="stable")
    for edge in order:
        one, two = clusters[pairs[edge]]
        if one == two:
            continue
        ties = [i for i in order if {*clusters[pairs[i]]} == {one, two}][: consensus.MAX_VOTES]
        turns = []  # two_from_one
        for i in ties:
            a, b = pairs[i]
            turn = rotations[b].T @ relative[i] @ rotations[a]
            turns.append(turn if clusters[a] == one else turn.T)
        agree = np.array([[angles_deg(left.T @ right) < consensus.AGREEING_DEG for right in turns] for left in turns])
        votes = trust[ties] ** 2
        support = agree @ votes / votes.sum()
        best = 0
        if agree[0].sum() < 2 or support[0] < consensus.ENOUGH_SUPPORT:
            best = int(np.argmax(support))
            if len(ties) >= consensus.FEW_VOTES and support[best] < consensus.MAJORITY:
                continue
        u, _, vt = np.linalg.svd(np.tensordot(votes * agree[best], turns, axes=1))
        moved = clusters == two
        rotations[moved] = rotations[moved] @ (u @ vt)
        clusters[moved] = one
    return [int(min(np.flatnonzero(clusters == cluster))) for cluster in clusters]


@pytest.mark.parametrize("seed", range(30))
def test_clusters_are_those_of_the_plain_vote(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_images = int(rng.integers(4, 30))
    pairs = np.array(sorted({(int(a), int(b)) for a, b in rng.integers(0, num_images, (3 * num_images, 2)) if a < b}))
    truth = random_turns(rng, num_images)
    relative = truth[pairs[:, 1]] @ np.swapaxes(truth[pairs[:, 0]], 1, 2)
    is_wrong = rng.random(len(pairs)) < rng.uniform(0.2, 0.9)
    relative[is_wrong] = random_turns(rng, int(is_wrong.sum()))
    trust = rng.uniform(1, 9, len(pairs)) if seed % 2 else rng.integers(1, 5, len(pairs)).astype(float)  # ties of trust
    found = find_consensus(num_images, pairs, relative, trust)
    expected = plain_clusters(num_images, pairs, relative, trust)
    assert [int(min(np.flatnonzero(found.clusters == cluster))) for cluster in found.clusters] == expected
    is_between = np.array(expected)[pairs[:, 0]] != np.array(expected)[pairs[:, 1]]
    assert (found.is_outvoted == is_between).all()
    assert (np.isnan(found.errors_deg) == is_between).all()


def test_two_outvoted_clusters_vote_once_and_not_for_each_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    chains = [(i, i + 1) for i in range(39) if i != 19]
    ties = [(i, j) for i in range(20) for j in range(20, 40)]
    relative = np.concatenate([np.repeat(np.eye(3)[None], len(chains), axis=0), random_turns(rng, len(ties))])
    votes: list[int] = []
    turns_of = consensus._Joining._turns

    def counted(joining: consensus._Joining, edges: np.ndarray, small: int) -> np.ndarray:
        votes.append(len(edges))
        return turns_of(joining, edges, small)

    monkeypatch.setattr(consensus._Joining, "_turns", counted)
    trust = np.r_[np.full(len(chains), 9.0), rng.uniform(1, 2, len(ties))]
    found = find_consensus(40, np.array(chains + ties), relative, trust)
    assert len(set(found.clusters)) == 2
    assert found.is_outvoted.sum() == len(ties)
    assert len(votes) == len(chains) + 1


# --------------------------------------------------------------------------------- the database
SIZE = (320, 240)


def plane_database(path: Path) -> Path:
    """Three photos that match in all pairs; any pairs will do here."""
    rng = np.random.default_rng(0)
    points = np.c_[rng.uniform(-1, 1, (80, 2)), rng.uniform(3, 5, 80)]
    features, names = {}, ("a.jpg", "b.jpg", "c.jpg")
    for i, name in enumerate(names):
        seen = points @ about_y(5.0 * i).T + [0.3 * i, 0, 0]
        pixels = (seen[:, :2] / seen[:, 2:] * 300 + np.array(SIZE) / 2).astype(np.float32)
        features[name] = Features(pixels, np.zeros((80, 1), np.float32), np.ones(80, np.float32), SIZE, "toy")
    same = Matches(np.repeat(np.arange(80, dtype=np.int32)[:, None], 2, 1), np.ones(80, np.float32))
    matches = dict.fromkeys(combinations(names, 2), same)
    groups = [CameraGroup(names, SIZE, 300.0, "toy")]
    build_database(path, features, matches, sorted(matches), groups, log_path=path.with_name("log"))
    return path


def test_dropped_pairs_are_no_longer_verified_and_their_matches_stay(tmp_path: Path) -> None:
    path = plane_database(tmp_path / "é #.db")
    assert examine_database(path).doubtful == ()
    with open_inlier_matches(path) as inliers:
        assert sorted(inliers) == [("a.jpg", "b.jpg"), ("a.jpg", "c.jpg"), ("b.jpg", "c.jpg")]
        assert len(inliers) == 3
        assert np.array_equal(inliers["a.jpg", "c.jpg"], read_inlier_matches(path, "a.jpg", "c.jpg"))
        assert np.array_equal(inliers["c.jpg", "a.jpg"], inliers["a.jpg", "c.jpg"][:, ::-1])
    assert drop_pairs(path, [("b.jpg", "c.jpg")]) == 1
    left = read_verified_pairs(path)
    assert left["b.jpg", "c.jpg"].num_matches == 80
    assert {pair for pair, found in left.items() if found.is_verified} == {("a.jpg", "b.jpg"), ("a.jpg", "c.jpg")}
    assert drop_pairs(path, []) == 0
    with pytest.raises(CacheError, match="cannot be changed"):
        drop_pairs(tmp_path / "none.db", [("a.jpg", "b.jpg")])
    assert not (tmp_path / "none.db").exists()


# --------------------------------------------------------------------------------- what people hear
def report(*doubtful: tuple[Pair, int], num_inliers: int = 1000) -> DoppelgangerReport:
    found = tuple(DoubtfulPair(pair, count, 157.4, 0.021) for pair, count in doubtful)
    return DoppelgangerReport(found, 20, num_inliers)


def test_a_warning_names_pairs_and_numbers() -> None:
    some = report((("a.jpg", "k.jpg"), 90), (("b.jpg", "k.jpg"), 80))
    text = "\n".join(some.lines(are_dropped=False))
    assert "2 of 20 verified pairs" in text
    assert "k.jpg (2), a.jpg (1), b.jpg (1)" in text
    assert "a.jpg - k.jpg: 90 matches, turned wrongly by 157°, 2 % of them confirmed" in text
    assert "--doppelgangers drop" in text
    assert "--doppelgangers drop" not in "\n".join(some.lines(are_dropped=True))
    assert some.pairs == [("a.jpg", "k.jpg"), ("b.jpg", "k.jpg")]


@pytest.mark.parametrize("quiet", [report(), report((("a", "b"), 15))])
def test_few_weak_pairs_are_not_worth_a_warning(quiet: DoppelgangerReport) -> None:
    assert quiet.lines(are_dropped=False) == []
