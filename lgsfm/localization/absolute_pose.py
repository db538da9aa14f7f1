"""The absolute pose of one photo in a model: from pixels and the 3D points that they may show.

RANSAC and refinement are pycolmap's; what counts as an inlier and as a reliable pose is judged here. Enough inliers are
not enough: what two facades have in common, rows of windows, gave a photo of another place 60. A pose is reliable if
besides a fair share of the keypoints with a 3D point agrees with it (right poses of real photos: 0.78 and more, wrong
ones up to 0.16), if these determine it well, and if its focal length is one that cameras have.

A keypoint may come with several 3D points, since each image of the model that it is matched with may name another one.
All of them go to RANSAC: which one is right is for the geometry to say, since votes are wrong exactly where a scene
repeats itself. But a keypoint is one measurement: in the end it keeps one inlier, the one with most votes, and of
equals the one that fits best. So it counts once in the number of inliers, in the refinement and in the covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pycolmap

from ..cameras import ESTIMATED, PIXEL_CENTRE, Camera
from ..epipolar import quaternion_wxyz
from ..errors import PoseError
from ..options import Options, option

__all__ = ["AbsolutePose", "AbsolutePoseOptions", "Correspondences", "estimate_absolute_pose"]

AUTO_ERROR = 0.004  # of the long edge: four pixels of a photo that was reduced to 1000
MIN_POINTS = 6  # keypoints with a 3D point, below which nothing is estimated
MIN_FOR_FOCAL = 30  # inliers, below which a focal length of EXIF is not refined
MIN_SHARE = 0.2  # of the keypoints with a 3D point that agree with a reliable pose
MAX_CENTRE_SIGMA = 0.1  # of the centre of a reliable pose, per median distance of the points that it sees
MAX_ROTATION_SIGMA_DEG = 1.0
FOCAL_RANGE = (0.3, 10.0)  # times the long edge, of a focal length that is estimated
CONFIDENCE = 0.9999
MIN_TRIALS, MAX_TRIALS = 200, 20_000
ROUNDS = 2  # of refining the pose and looking again which points are inliers
LOSS_SHARE = 0.25  # of the largest error, from which on an inlier weighs less
RAYLEIGH_MEDIAN = math.sqrt(2 * math.log(2))  # of the length of a 2D error, in sigmas of one coordinate
HALF_ANGLE = 2.0  # COLMAP's covariance is of quaternion tangents, which are half of the angle


@dataclass(frozen=True, kw_only=True)
class AbsolutePoseOptions(Options):
    """How the pose of a photo in a model is estimated."""

    max_error_px: float = option(
        0.0, "largest reprojection error of an inlier, in pixels of the photo; 0 is 0.4 % of its long edge", minimum=0
    )
    min_inliers: int = option(15, "a pose with fewer keypoints that fit is not reliable", minimum=6)
    seed: int = option(0, "of the random numbers", minimum=0, maximum=2**31 - 1)

    def error_px(self, size: tuple[int, int]) -> float:
        """The largest error of an inlier [px] for a photo of this (width, height)."""
        return self.max_error_px or AUTO_ERROR * max(size)


class Correspondences(NamedTuple):
    """M guesses which 3D points the keypoints of a photo show.

    pixels: (M, 2) float64 [px] of the stored photo, the centre of the top-left pixel being (0, 0)
    points: (M, 3) float64 [model units]
    keypoints: (M,) int, the number of the keypoint; one may occur several times
    votes: (M,) int, the images of the model that say so
    """

    pixels: np.ndarray
    points: np.ndarray
    keypoints: np.ndarray
    votes: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class AbsolutePose:
    """Where a photo was taken.

    rotation: (3, 3) float64, cam_from_world
    translation: (3,) float64 [model units], cam_from_world
    covariance: (6, 6) float64 of the errors of (rotation [rad, in the camera's frame], translation [model units])
    camera: the intrinsics that it rests on
    inliers: (M,) bool, of the correspondences; at most one per keypoint
    median_error_px: of the inliers
    """

    rotation: np.ndarray
    translation: np.ndarray
    covariance: np.ndarray
    camera: Camera
    inliers: np.ndarray
    median_error_px: float

    @property
    def quaternion_wxyz(self) -> np.ndarray:
        """(4,) float64: the rotation as a unit quaternion (w, x, y, z), w >= 0."""
        return quaternion_wxyz(self.rotation)

    @property
    def centre(self) -> np.ndarray:
        """(3,) float64 [model units]: the projection centre."""
        return -self.rotation.T @ self.translation

    @property
    def rotation_sigma_deg(self) -> float:
        """Root mean square of the angle by which the rotation may be wrong, from the noise of the keypoints alone."""
        return math.degrees(math.sqrt(max(float(np.trace(self.covariance[:3, :3])), 0.0)))

    @cached_property
    def centre_sigma(self) -> float:
        """Root mean square of the distance [model units] by which the centre may be wrong, likewise."""
        x, y, z = self.translation
        # centre = -R.T @ t, and R is exp(w) @ R: its error is -R.T @ (dt + t x w)
        J = np.hstack([np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), np.eye(3)])
        return math.sqrt(max(float(np.trace(J @ self.covariance @ J.T)), 0.0))


def estimate_absolute_pose(
    found: Correspondences, camera: Camera, options: AbsolutePoseOptions, *, is_fixed: bool
) -> AbsolutePose:
    """The pose that most keypoints agree with.

    Args:
        found: the correspondences.
        camera: intrinsics of the photo; a guessed focal length is estimated together with the pose.
        options: see there.
        is_fixed: whether the focal length is left as it is; else it is refined with the pose, unless few points fit.

    Raises:
        PoseError: there is no pose, or none that is reliable.
    """
    error_px = options.error_px(camera.size)
    count = len(np.unique(found.keypoints))
    if count < MIN_POINTS:
        raise PoseError(0, count)
    colmap = camera.colmap
    pixels = np.asarray(found.pixels, np.float64) + PIXEL_CENTRE
    wanted = pycolmap.AbsolutePoseEstimationOptions()
    wanted.estimate_focal_length = camera.is_guess and not is_fixed
    wanted.ransac = pycolmap.RANSACOptions(
        max_error=error_px,
        random_seed=options.seed,
        confidence=CONFIDENCE,
        min_num_trials=MIN_TRIALS,
        max_num_trials=MAX_TRIALS,
    )
    start = pycolmap.estimate_absolute_pose(pixels, found.points, colmap, wanted)
    if start is None or not _is_finite(start["cam_from_world"]):
        raise PoseError(0, count)
    motion = start["cam_from_world"]
    inliers = _one_each(found, np.asarray(start["inlier_mask"], bool), _errors(found, motion, colmap))
    covariance = None
    for _ in range(ROUNDS):
        if inliers.sum() < MIN_POINTS:
            raise PoseError(int(inliers.sum()), count)
        refinement = pycolmap.AbsolutePoseRefinementOptions()
        refinement.loss_function_scale = LOSS_SHARE * error_px
        refinement.refine_focal_length = not is_fixed and (camera.is_guess or bool(inliers.sum() >= MIN_FOR_FOCAL))
        refined = pycolmap.refine_absolute_pose(motion, pixels, found.points, inliers, colmap, refinement, True)
        if refined is None or not _is_finite(refined["cam_from_world"]) or not colmap.mean_focal_length() > 0:
            raise PoseError(int(inliers.sum()), count)
        motion, covariance = refined["cam_from_world"], np.asarray(refined["covariance"], np.float64)
        errors = _errors(found, motion, colmap)
        inliers = _one_each(found, errors <= error_px, errors)
    fitting = int(inliers.sum())
    if covariance is None or fitting < max(options.min_inliers, MIN_POINTS):
        raise PoseError(fitting, count)
    median = float(np.median(errors[inliers]))
    scale = np.diag([HALF_ANGLE] * 3 + [1.0] * 3) * (median / RAYLEIGH_MEDIAN)
    pose = AbsolutePose(
        rotation=np.asarray(motion.rotation.matrix(), np.float64),
        translation=np.asarray(motion.translation, np.float64),
        covariance=scale @ covariance @ scale,
        camera=_refined(camera, colmap),
        inliers=inliers,
        median_error_px=median,
    )
    if doubt := _doubt(pose, found, count):
        raise PoseError(fitting, count, reason=f", {doubt}")
    return pose


def _doubt(pose: AbsolutePose, found: Correspondences, count: int) -> str:
    """Why a pose that enough of ``count`` keypoints agree with is not reliable; "" if it is."""
    focal, edge = pose.camera.focal_px, max(pose.camera.size)
    if pose.camera.source == ESTIMATED and not FOCAL_RANGE[0] <= focal / edge <= FOCAL_RANGE[1]:
        return f"with a focal length of {focal:.0f} px, which no camera has"
    if pose.inliers.sum() < MIN_SHARE * count:
        return f"less than {MIN_SHARE:.0%}"
    depths = (found.points[pose.inliers] @ pose.rotation.T + pose.translation)[:, 2]
    if not pose.centre_sigma <= MAX_CENTRE_SIGMA * float(np.median(depths)):
        return "which leave open where the camera was"
    if not pose.rotation_sigma_deg <= MAX_ROTATION_SIGMA_DEG:
        return "which leave open where the camera looked"
    return ""


def _is_finite(motion: pycolmap.Rigid3d) -> bool:
    return bool(np.isfinite(motion.matrix()).all())


def _errors(found: Correspondences, motion: pycolmap.Rigid3d, camera: pycolmap.Camera) -> np.ndarray:
    """(M,) reprojection errors [px]; infinite behind the camera."""
    seen = found.points @ motion.rotation.matrix().T + motion.translation
    errors = np.full(len(seen), np.inf)
    before = seen[:, 2] > 1e-9
    if before.any():
        projected = np.asarray(camera.img_from_cam(seen[before]), np.float64) - PIXEL_CENTRE
        distances = np.linalg.norm(projected - found.pixels[before], axis=1)
        errors[before] = np.where(np.isfinite(distances), distances, np.inf)
    return errors


def _one_each(found: Correspondences, fits: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """(M,) bool: of the correspondences of a keypoint that fit, the one with most votes, then with the least error."""
    order = np.lexsort((errors, -found.votes, found.keypoints))
    order = order[fits[order]]
    _, first = np.unique(found.keypoints[order], return_index=True)
    chosen = np.zeros(len(fits), bool)
    chosen[order[first]] = True
    return chosen


def _refined(camera: Camera, colmap: pycolmap.Camera) -> Camera:
    """The camera with the parameters that COLMAP has refined, if it has."""
    params = tuple(map(float, colmap.params))
    if params == camera.params:
        return camera
    return replace(camera, params=params, source=ESTIMATED if camera.is_guess else f"{camera.source}, refined")
