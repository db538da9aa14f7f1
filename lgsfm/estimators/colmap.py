"""COLMAP's LO-RANSAC, the pose refined over its inliers.

O. Chum, J. Matas, J. Kittler: "Locally optimized RANSAC", DAGM 2003.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pycolmap

from . import RelativePose, View

__all__ = ["ColmapEstimator", "refine_pose"]

CONFIDENCE = 0.9999
MIN_TRIALS, MAX_TRIALS = 100, 10_000
TAKES_CAMERAS = "camera1" in str(pycolmap.refine_relative_pose.__doc__)  # 4.0 knows rays only
MIN_REFINED = 6  # inliers: one more than a pose has degrees of freedom


class ColmapEstimator:
    """LO-RANSAC as pycolmap offers it."""

    def relative_pose(self, view0: View, view1: View, max_error_px: float, seed: int) -> RelativePose | None:
        """See `lgsfm.estimators.Estimator`."""
        cameras, options = (_pinhole(view0), _pinhole(view1)), _options(max_error_px, seed)
        if TAKES_CAMERAS:
            found = pycolmap.estimate_relative_pose(cameras[0], view0.points, cameras[1], view1.points, options)
        else:
            found = pycolmap.estimate_essential_matrix(view0.points, view1.points, *cameras, options)
        if found is None:
            return None
        motion = found["cam2_from_cam1"]
        length = float(np.linalg.norm(motion.translation))
        if not length > 0:
            return None
        pose = RelativePose(np.asarray(motion.rotation.matrix()), np.asarray(motion.translation) / length)
        return refine_pose(view0, view1, pose, np.asarray(found["inlier_mask"], bool))

    def fundamental(
        self, points0: np.ndarray, points1: np.ndarray, max_error_px: float, seed: int
    ) -> np.ndarray | None:
        """See `lgsfm.estimators.Estimator`."""
        return _matrix(pycolmap.estimate_fundamental_matrix(points0, points1, _options(max_error_px, seed)), "F")

    def homography(self, points0: np.ndarray, points1: np.ndarray, max_error_px: float, seed: int) -> np.ndarray | None:
        """See `lgsfm.estimators.Estimator`."""
        return _matrix(pycolmap.estimate_homography_matrix(points0, points1, _options(max_error_px, seed)), "H")


def refine_pose(view0: View, view1: View, pose: RelativePose, inliers: np.ndarray) -> RelativePose:
    """The pose with the least sum of squared Sampson errors over the inliers (N,) near a given one.

    With fewer than `MIN_REFINED` inliers the given one comes back.
    """
    if np.sum(inliers) < MIN_REFINED or not (np.isfinite(pose.rotation).all() and np.isfinite(pose.translation).all()):
        return pose  # COLMAP would end the process
    motion = pycolmap.Rigid3d(pycolmap.Rotation3d(pose.rotation), pose.translation)
    sides: tuple[Any, ...] = _rays(view0), _rays(view1)
    if TAKES_CAMERAS:
        sides = _pinhole(view0), view0.points, _pinhole(view1), view1.points
    found: Any = pycolmap.refine_relative_pose(motion, *sides, np.asarray(inliers, bool))  # type: ignore[call-overload]
    if found is None:
        return pose
    translation = np.asarray(found["cam2_from_cam1"].translation)
    length = float(np.linalg.norm(translation))
    if not length > 0:
        return pose
    return RelativePose(np.asarray(found["cam2_from_cam1"].rotation.matrix()), translation / length)


def _options(max_error_px: float, seed: int) -> pycolmap.RANSACOptions:
    return pycolmap.RANSACOptions(
        max_error=max_error_px,
        random_seed=seed,
        confidence=CONFIDENCE,
        min_num_trials=MIN_TRIALS,
        max_num_trials=MAX_TRIALS,
    )


def _pinhole(view: View) -> pycolmap.Camera:
    size = 1 + 2 * int(np.abs(view.points).max(initial=1))
    return pycolmap.Camera(model="SIMPLE_PINHOLE", width=size, height=size, params=[view.focal_px, 0, 0])


def _rays(view: View) -> np.ndarray:
    """(N, 3) unit vectors."""
    rays = np.c_[view.points / view.focal_px, np.ones(len(view.points))]
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def _matrix(found: dict[str, Any] | None, name: str) -> np.ndarray | None:
    return None if found is None else np.asarray(found[name])
