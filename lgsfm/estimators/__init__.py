"""Robust estimators: correspondences with outliers -> relative pose, fundamental matrix or homography.

An estimator is one file here and one line in `lgsfm.registry`. All of them see the same: points without lens
distortion, measured from the principal point. Which of the correspondences are inliers is not theirs to say:
`lgsfm.two_view` counts them in one way for all.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["Estimator", "RelativePose", "View"]


class View(NamedTuple):
    """What a camera without distortion sees: points (N, 2) float64 [px] from its principal point, its focal length."""

    points: np.ndarray
    focal_px: float


class RelativePose(NamedTuple):
    """Rotation (3, 3) and translation (3,) of unit length of cam1_from_cam0."""

    rotation: np.ndarray
    translation: np.ndarray


class Estimator(Protocol):
    """What `lgsfm.two_view` needs to know of an estimator; N is at least 8, ``None`` means that none was found."""

    def relative_pose(self, view0: View, view1: View, max_error_px: float, seed: int) -> RelativePose | None:
        """The pose that most correspondences agree with, to an epipolar error of ``max_error_px``."""
        ...

    def fundamental(
        self, points0: np.ndarray, points1: np.ndarray, max_error_px: float, seed: int
    ) -> np.ndarray | None:
        """(3, 3) F with x1^T F x0 = 0 for points (N, 2) [px]."""
        ...

    def homography(self, points0: np.ndarray, points1: np.ndarray, max_error_px: float, seed: int) -> np.ndarray | None:
        """(3, 3) H with x1 ~ H x0 for points (N, 2) [px]."""
        ...
