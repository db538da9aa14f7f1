"""One rotation per image from the relative rotations of pairs, when some of these are wrong.

The surest pairs speak first: as in Kruskal's maximum spanning tree, clusters of images are joined by their surest tie,
but only where the ties between the two clusters agree on how one is turned against the other (a vote over loops as in
Zach, Klopschitz and Pollefeys, "Disambiguating Visual Relations Using Loop Constraints", CVPR 2010). The rotations are
then averaged over the pairs that agree with them (Hartley, Aftab and Trumpf, "L1 Rotation Averaging Using the Weiszfeld
Algorithm", CVPR 2011). Near-linear in the number of pairs; nothing but numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Consensus", "angles_deg", "find_consensus"]

MAX_VOTES = 8  # ties between two clusters that are asked, the surest first
AGREEING_DEG = 20.0  # votes that differ by less are for the same turn
ENOUGH_SUPPORT = 0.25  # share of the votes, squared trust, that the surest tie needs with at least one other
MAJORITY = 0.5  # share that a turn needs against the surest tie
FEW_VOTES = 3  # with fewer ties between two clusters there is no majority, and the surest decides
SWEEPS = 40  # of averaging; drift along a chain spreads by one image in each
SOFTNESS_DEG = 5.0  # errors below this weigh as in least squares


@dataclass(frozen=True, eq=False)
class Consensus:
    """Rotations of N images that most of E pairs of them agree on.

    rotations: (N, 3, 3) float64, cam_from_world, where each cluster has a world of its own
    clusters: (N,) int64, the number of the cluster that an image belongs to
    errors_deg: (E,) float64 angle between what a pair says and what the rotations say; NaN between clusters
    is_outvoted: (E,) bool, a tie between two clusters; they are apart because their ties contradict each other
    """

    rotations: np.ndarray
    clusters: np.ndarray
    errors_deg: np.ndarray
    is_outvoted: np.ndarray


def angles_deg(rotations: np.ndarray) -> np.ndarray:
    """The angles (...,) [degrees] of rotations (..., 3, 3)."""
    cosines = (np.trace(rotations, axis1=-2, axis2=-1) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def find_consensus(num_images: int, pairs: np.ndarray, relative: np.ndarray, trust: np.ndarray) -> Consensus:
    """The rotations that the surest pairs agree on.

    Args:
        num_images: N.
        pairs: (E, 2) int64 numbers of the images.
        relative: (E, 3, 3) float64 rotations cam1_from_cam0.
        trust: (E,) float64, greater is surer; only the order and ratios count.
    """
    joining = _Joining(num_images, pairs, relative, trust)
    for edge in np.argsort(-trust, kind="stable"):
        joining.join(int(edge))
    clusters = joining.clusters
    inside = clusters[pairs[:, 0]] == clusters[pairs[:, 1]]
    errors = np.full(len(pairs), np.nan)
    rotations = _averaged(joining.rotations, pairs[inside], relative[inside], trust[inside])
    errors[inside] = _errors(rotations, pairs[inside], relative[inside])
    return Consensus(rotations, clusters, errors, ~inside)  # every pair was asked once: what did not join was outvoted


class _Joining:
    """Clusters of images that grow together; small ones are turned into the frame of great ones."""

    def __init__(self, num_images: int, pairs: np.ndarray, relative: np.ndarray, trust: np.ndarray) -> None:
        self.pairs, self.relative, self.trust = pairs, relative, trust
        self.rotations = np.repeat(np.eye(3)[None], num_images, axis=0)
        self.clusters = np.arange(num_images)
        self.members = [[i] for i in range(num_images)]
        # Cluster -> the pairs that lead there and have a vote, the surest first; both clusters share the list.
        self.ties: list[dict[int, list[int]]] = [{} for _ in range(num_images)]
        self.outvoted: set[tuple[int, int]] = set()  # clusters whose ties contradict each other, the lower number first
        for edge in np.argsort(-trust, kind="stable").tolist():
            a, b = pairs[edge].tolist()
            ties = self.ties[a].setdefault(b, [])
            self.ties[b][a] = ties
            if len(ties) < MAX_VOTES:
                ties.append(edge)

    def join(self, edge: int) -> None:
        """Joins the two clusters of a pair if their ties agree."""
        great, small = (int(self.clusters[i]) for i in self.pairs[edge])
        if great == small:
            return
        if len(self.members[great]) < len(self.members[small]):
            great, small = small, great
        couple = min(great, small), max(great, small)
        if couple in self.outvoted:
            return
        chosen = np.array(self.ties[small][great])
        turns = self._turns(chosen, small)
        agree = angles_deg(np.swapaxes(turns, 1, 2)[:, None] @ turns[None]) < AGREEING_DEG
        votes = self.trust[chosen] ** 2
        support = agree @ votes / votes.sum()
        best = 0  # the surest; look-alikes agree with each other too, so numbers alone must not overrule it
        if agree[0].sum() < 2 or support[0] < ENOUGH_SUPPORT:
            best = int(np.argmax(support))
            if len(chosen) >= FEW_VOTES and support[best] < MAJORITY:
                self.outvoted.add(couple)
                return
        weights = votes * agree[best]
        self._merge(great, small, _nearest_rotations(np.tensordot(weights, turns, axes=1)))

    def _turns(self, edges: np.ndarray, small: int) -> np.ndarray:
        """(K, 3, 3) small_from_great by each tie: what turns the rotations of ``small`` into the world of the other."""
        first, second = self.pairs[edges].T
        relative = self.relative[edges]
        is_second = (self.clusters[second] == small)[:, None, None]
        wanted = np.where(
            is_second, relative @ self.rotations[first], np.swapaxes(relative, 1, 2) @ self.rotations[second]
        )
        own = np.where(is_second, self.rotations[second], self.rotations[first])
        return np.asarray(np.swapaxes(own, 1, 2) @ wanted)

    def _merge(self, great: int, small: int, turn: np.ndarray) -> None:
        moved = self.members[small]
        self.rotations[moved] = self.rotations[moved] @ turn
        self.clusters[moved] = great
        self.members[great] += moved
        self.members[small] = []
        for other, ties in self.ties[small].items():
            del self.ties[other][small]
            if other != great:
                together = sorted(self.ties[great].get(other, []) + ties, key=lambda tie: -self.trust[tie])[:MAX_VOTES]
                self.ties[great][other] = self.ties[other][great] = together
                self.outvoted.discard((min(great, other), max(great, other)))
        self.ties[small] = {}


def _averaged(rotations: np.ndarray, pairs: np.ndarray, relative: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) moved towards what their pairs say, the surer and the better fitting the more."""
    first, second = pairs.T
    for _ in range(SWEEPS if len(pairs) else 0):
        weights = trust / np.maximum(_errors(rotations, pairs, relative), SOFTNESS_DEG) ** 2
        sums = 1e-9 * rotations
        np.add.at(sums, second, weights[:, None, None] * (relative @ rotations[first]))
        np.add.at(sums, first, weights[:, None, None] * (np.swapaxes(relative, 1, 2) @ rotations[second]))
        rotations = _nearest_rotations(sums)
    return rotations


def _errors(rotations: np.ndarray, pairs: np.ndarray, relative: np.ndarray) -> np.ndarray:
    first, second = pairs.T
    return angles_deg(np.swapaxes(relative @ rotations[first], 1, 2) @ rotations[second])


def _nearest_rotations(matrices: np.ndarray) -> np.ndarray:
    """The rotations nearest to matrices (..., 3, 3) (Frobenius)."""
    u, _, vt = np.linalg.svd(matrices)
    u[..., :, 2] *= np.linalg.det(u @ vt)[..., None]
    return np.asarray(u @ vt)
