"""PoseLib's LO-RANSAC with non-linear refinement: an optional extra, ``pip install 'lgsfm[poselib]'``.

V. Larsson and contributors: "PoseLib - Minimal Solvers for Camera Pose Estimation", https://github.com/PoseLib/PoseLib.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError
from . import RelativePose, View

__all__ = ["PoselibEstimator"]

CONFIDENCE = 0.9999
MIN_TRIALS, MAX_TRIALS = 1000, 100_000


class PoselibEstimator:
    """LO-RANSAC as PoseLib offers it.

    Raises:
        InputError: PoseLib is not installed.
    """

    def __init__(self) -> None:
        try:
            import poselib
        except ImportError as exc:
            raise InputError(
                "The estimator 'poselib' needs the package poselib: pip install 'lgsfm[poselib]'. "
                "Or choose another --estimator."
            ) from exc
        self.poselib: Any = poselib

    def relative_pose(self, view0: View, view1: View, max_error_px: float, seed: int) -> RelativePose | None:
        """See `lgsfm.estimators.Estimator`."""
        options = {"max_epipolar_error": max_error_px, **_trials(seed)}
        sides = view0.points, view1.points, _pinhole(view0), _pinhole(view1)
        pose, report = self.poselib.estimate_relative_pose(*sides, options, {})
        length = float(np.linalg.norm(pose.t))
        if not report["num_inliers"] or not length > 0:
            return None
        return RelativePose(np.asarray(pose.R), np.asarray(pose.t) / length)

    def fundamental(
        self, points0: np.ndarray, points1: np.ndarray, max_error_px: float, seed: int
    ) -> np.ndarray | None:
        """See `lgsfm.estimators.Estimator`."""
        options = {"max_epipolar_error": max_error_px, **_trials(seed)}
        found, report = self.poselib.estimate_fundamental(points0, points1, options, {})
        return np.asarray(found) if report["num_inliers"] else None

    def homography(self, points0: np.ndarray, points1: np.ndarray, max_error_px: float, seed: int) -> np.ndarray | None:
        """See `lgsfm.estimators.Estimator`."""
        options = {"max_reproj_error": max_error_px, **_trials(seed)}
        found, report = self.poselib.estimate_homography(points0, points1, options, {})
        return np.asarray(found) if report["num_inliers"] else None


def _trials(seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "success_prob": CONFIDENCE,
        "min_iterations": MIN_TRIALS,
        "max_iterations": MAX_TRIALS,
    }


def _pinhole(view: View) -> dict[str, Any]:
    size = 1 + 2 * int(np.abs(view.points).max(initial=1))
    return {"model": "SIMPLE_PINHOLE", "width": size, "height": size, "params": [view.focal_px, 0, 0]}
