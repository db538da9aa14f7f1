"""OpenCV's USAC with MAGSAC++ scoring; and its plain RANSAC, for comparison.

D. Barath, J. Noskova, M. Ivashechkin, J. Matas: "MAGSAC++, a fast, reliable and accurate robust estimator", CVPR 2020.
"""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np

from . import RelativePose, View

__all__ = ["MagsacEstimator", "RansacEstimator", "poses_of_homography"]

CONFIDENCE = 0.99999
MAX_TRIALS = 10_000


class MagsacEstimator:
    """USAC with MAGSAC++; its random numbers are the same at each call."""

    method: ClassVar[int] = cv2.USAC_MAGSAC

    def relative_pose(self, view0: View, view1: View, max_error_px: float, seed: int) -> RelativePose | None:
        """See `lgsfm.estimators.Estimator`."""
        focal = (view0.focal_px + view1.focal_px) / 2
        points0, points1 = view0.points * (focal / view0.focal_px), view1.points * (focal / view1.focal_px)
        K = np.diag([focal, focal, 1.0])
        cv2.setRNGSeed(seed)
        try:
            found, mask = cv2.findEssentialMat(
                points0, points1, K, method=self.method, prob=CONFIDENCE, threshold=max_error_px
            )
        except cv2.error:  # raised where no sample gives a model
            return None
        if found is None or found.size == 0:
            return None
        # plain RANSAC may return several solutions, one below the other
        candidates = [cv2.recoverPose(E, points0, points1, K, mask=mask.copy()) for E in found.reshape(-1, 3, 3)]
        _, R, t, _ = max(candidates, key=lambda candidate: candidate[0])
        return RelativePose(R, t[:, 0])

    def fundamental(
        self, points0: np.ndarray, points1: np.ndarray, max_error_px: float, seed: int
    ) -> np.ndarray | None:
        """See `lgsfm.estimators.Estimator`."""
        cv2.setRNGSeed(seed)
        method = cv2.FM_RANSAC if self.method == cv2.RANSAC else self.method
        try:
            found, _ = cv2.findFundamentalMat(points0, points1, method, max_error_px, CONFIDENCE, MAX_TRIALS)
        except cv2.error:
            return None
        return None if found is None or found.size == 0 else np.asarray(found[:3])

    def homography(self, points0: np.ndarray, points1: np.ndarray, max_error_px: float, seed: int) -> np.ndarray | None:
        """See `lgsfm.estimators.Estimator`."""
        cv2.setRNGSeed(seed)
        try:
            found, _ = cv2.findHomography(
                points0, points1, self.method, max_error_px, maxIters=MAX_TRIALS, confidence=CONFIDENCE
            )
        except cv2.error:
            return None
        return None if found is None else np.asarray(found)


class RansacEstimator(MagsacEstimator):
    """Plain RANSAC."""

    method: ClassVar[int] = cv2.RANSAC


def poses_of_homography(H: np.ndarray) -> list[RelativePose]:
    """The up to four poses that explain a homography (3, 3) of rays as the view of a plane (Malis and Vargas, 2007)."""
    _, rotations, translations, _ = cv2.decomposeHomographyMat(H, np.eye(3))
    lengths = [float(np.linalg.norm(t)) for t in translations]
    return [
        RelativePose(np.asarray(R), np.asarray(t)[:, 0] / length)
        for R, t, length in zip(rotations, translations, lengths, strict=True)
        if length > 0
    ]
