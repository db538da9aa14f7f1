"""What the detectors of the networks share: the keypoints of an image, and the choice of the best."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Keypoints", "best_first"]


class Keypoints(NamedTuple):
    """Keypoints of one image, best first: positions (N, 2) float32 [px], scores (N,), descriptors (N, dim)."""

    keypoints: Tensor
    scores: Tensor
    descriptors: Tensor


def best_first(scores: Tensor, max_keypoints: int) -> tuple[Tensor, Tensor]:
    """The highest of (N,) scores and their indices, the highest first, equal ones as they came; 0 keeps all."""
    scores, order = scores.sort(descending=True, stable=True)
    return (scores[:max_keypoints], order[:max_keypoints]) if max_keypoints > 0 else (scores, order)
