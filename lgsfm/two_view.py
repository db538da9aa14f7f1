"""Two-view geometry: the relative pose of two photos, and what kind of geometry their matches show.

The estimators (`lgsfm.estimators`) only propose; inliers, kind and trust are judged here, in one way for all:

- an inlier lies within ``max_error_px`` of its epipolar line (Sampson error) and in front of both cameras;
- a pose is reliable if it has enough inliers and that many would not come about by chance: the expected number of
  poses with as good a support among random matches is below 10^`LOG_FALSE_ALARMS` (L. Moisan, P. Moulon, P. Monasse:
  "Automatic Homographic Registration of a Pair of Images, with A Contrario Elimination of Outliers", IPOL 2012). Wrong
  matches of real photos are not random but in rows, as facades are: of 175 pairs of photos of different places the best
  reached 10^-16, while one in a hundred right poses of an indoor sequence falls short of 10^-18;
- the kind follows COLMAP's rules: homography and fundamental matrix against essential matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .cameras import Camera
from .epipolar import (
    best_rotation,
    chance_of_line,
    epipolar_errors,
    homography_of,
    log_false_alarms,
    pose_inliers,
    quaternion_wxyz,
    ray_angles,
    sampson_errors,
    transfer_errors,
    unit_rays,
    width_of,
)
from .errors import InputError, PoseError, unknown_name
from .estimators import Estimator, RelativePose, View
from .estimators.colmap import refine_pose
from .estimators.opencv import poses_of_homography
from .focal import search_focals
from .options import Options, option
from .registry import available, component_class

__all__ = [
    "CONFIGURATIONS",
    "TwoViewMatrix",
    "TwoViewOptions",
    "TwoViewPose",
    "estimate_fundamental",
    "estimate_homography",
    "estimate_pose",
]

CONFIGURATIONS = ("calibrated", "uncalibrated", "planar", "panoramic")  # "degenerate" is an error: `PoseError`
AUTO_ERROR = 0.001  # of the long edge: one pixel of a photo that was reduced to 1000
MIN_POINTS = 8  # below this nothing is estimated
HOMOGRAPHY_SHARE = 0.8  # of the inliers that a homography explains in a planar scene; COLMAP's max_H_inlier_ratio
LEAST_CALIBRATED_SHARE = 0.75  # likewise, below which a pose is not reliable
CALIBRATED_SHARE = 0.9  # of the inliers of a fundamental matrix that a right focal length explains
MAX_OPEN_DEG = 30  # by which unknown focal lengths may turn a pose that is called reliable
LOG_FALSE_ALARMS = -18  # see above
AMBIGUOUS_SHARE = 0.95  # of the inliers of the best pose of a plane, from which another one may be right too
SAME_ROTATION = 0.02  # Frobenius norm of the difference of rotations that are one (0.8 degrees)


@dataclass(frozen=True, kw_only=True)
class TwoViewOptions(Options):
    """How two-view geometry is estimated."""

    estimator: str = option(
        "magsac", "robust estimator: magsac and ransac (OpenCV), colmap (LO-RANSAC), poselib (an optional package)"
    )
    max_error_px: float = option(
        0.0, "largest epipolar error of an inlier, in pixels of the photo; 0 is 0.1 % of its long edge", minimum=0
    )
    unknown_focal: str = option(
        "estimate",
        "where EXIF does not tell the focal length: estimate it from the matches, or take the usual guess",
        choices=("estimate", "guess"),
    )
    min_inliers: int = option(15, "a pose with fewer is not reliable", minimum=5)
    seed: int = option(0, "of the random numbers", minimum=0, maximum=2**31 - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.estimator not in available("estimator"):
            raise unknown_name("estimator", self.estimator, available("estimator"))

    def error_px(self, size0: tuple[int, int], size1: tuple[int, int]) -> float:
        """The largest error of an inlier [px] for photos of these sizes."""
        return self.max_error_px or AUTO_ERROR * (max(size0) + max(size1)) / 2


@dataclass(frozen=True, eq=False, kw_only=True)
class TwoViewPose:
    """The relative pose of two photos.

    Cameras look along +z with x right and y down in the stored (unrotated) image.

    rotation: (3, 3) float64, cam1_from_cam0
    translation: (3,) float64 of unit length, cam1_from_cam0: where camera 1 sees camera 0; its length in the scene is
        unknown. (0, 0, 0) for a panoramic pair, which does not determine it
    configuration: one of `CONFIGURATIONS`
    alternative: another pose that explains a planar pair nearly as well, or None
    inliers: (K,) bool, which of the matches agree with the pose
    cameras: the intrinsics that were used, of both photos; ``source`` says where they came from
    max_error_px: largest epipolar error of an inlier [px]
    median_angle_deg: median angle between the rays of an inlier; near 0 the translation is uncertain
    estimator: its name
    """

    rotation: np.ndarray
    translation: np.ndarray
    configuration: str
    alternative: RelativePose | None
    inliers: np.ndarray
    cameras: tuple[Camera, Camera]
    max_error_px: float
    median_angle_deg: float
    estimator: str

    @property
    def num_matches(self) -> int:
        """All matches."""
        return len(self.inliers)

    @property
    def num_inliers(self) -> int:
        """Matches that agree with the pose."""
        return int(self.inliers.sum())

    @property
    def quaternion_wxyz(self) -> np.ndarray:
        """(4,) the rotation as a unit quaternion, w >= 0."""
        return quaternion_wxyz(self.rotation)

    @property
    def rotation_angle_deg(self) -> float:
        """The angle of the rotation."""
        w, *v = self.quaternion_wxyz
        return math.degrees(2 * math.atan2(float(np.linalg.norm(v)), float(w)))

    @property
    def rotation_axis(self) -> np.ndarray:
        """(3,) the unit axis of the rotation; (0, 0, 0) without rotation."""
        v = self.quaternion_wxyz[1:]
        length = np.linalg.norm(v)
        return v / length if length > 0 else v

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return {
            "cam1_from_cam0": {
                "quaternion_wxyz": self.quaternion_wxyz.tolist(),
                "rotation": self.rotation.tolist(),
                "rotation_angle_deg": self.rotation_angle_deg,
                "rotation_axis": self.rotation_axis.tolist(),
                "translation": self.translation.tolist(),
            },
            "configuration": self.configuration,
            "alternative": self.alternative
            and {
                "quaternion_wxyz": quaternion_wxyz(self.alternative.rotation).tolist(),
                "translation": self.alternative.translation.tolist(),
            },
            "num_matches": self.num_matches,
            "num_inliers": self.num_inliers,
            "max_error_px": self.max_error_px,
            "median_angle_deg": self.median_angle_deg,
            "estimator": self.estimator,
            "cameras": [
                {
                    "model": camera.model,
                    "width": camera.size[0],
                    "height": camera.size[1],
                    "params": list(camera.params),
                    "focal_px": camera.focal_px,
                    "source": camera.source,
                }
                for camera in self.cameras
            ],
        }


@dataclass(frozen=True, eq=False)
class TwoViewMatrix:
    """A fundamental matrix (x1^T F x0 = 0) or homography (x1 ~ H x0) in pixels of the stored photos.

    matrix: (3, 3) float64; its last element is 1 if it can be
    inliers: (K,) bool, which of the matches agree
    """

    matrix: np.ndarray
    inliers: np.ndarray


# --------------------------------------------------------------------------------- estimation
def estimate_pose(
    points0: np.ndarray,
    points1: np.ndarray,
    camera0: Camera,
    camera1: Camera,
    options: TwoViewOptions | None = None,
) -> TwoViewPose:
    """The relative pose of two photos from matched points.

    Args:
        points0: (K, 2) [px] of the stored photo 0.
        points1: (K, 2) [px] of the stored photo 1, row by row the matches of ``points0``.
        camera0: intrinsics of photo 0; a guess is replaced by an estimate, see `lgsfm.focal`.
        camera1: likewise of photo 1.
        options: see `TwoViewOptions`.

    Raises:
        PoseError: there is no reliable pose; the message says how many inliers of how many matches there are.
    """
    options = options or TwoViewOptions()
    points0, points1 = _checked(points0, points1)
    error_px = options.error_px(camera0.size, camera1.size)
    estimator = make_estimator(options.estimator)
    known = _have_rays(camera0, points0) & _have_rays(camera1, points1)
    if known.sum() < MIN_POINTS:
        raise PoseError(0, len(points0))
    open_deg, trials = 0.0, 1
    if options.unknown_focal == "estimate" and (camera0.is_guess or camera1.is_guess):
        search = search_focals(points0[known], points1[known], camera0, camera1, error_px)
        camera0, camera1, open_deg, trials = search
    view0 = View(camera0.ideal_points(points0[known]), camera0.focal_px)
    view1 = View(camera1.ideal_points(points1[known]), camera1.focal_px)
    found = _judged(estimator, view0, view1, error_px, options.seed)
    count = int(found.agree.sum())
    chance = max(
        chance_of_line(camera.size, points[known][found.agree], error_px)
        for camera, points in ((camera0, points0), (camera1, points1))
    )
    alarms = log_false_alarms(len(found.agree), count, chance) + math.log10(trials)
    if count < options.min_inliers or alarms > LOG_FALSE_ALARMS:
        raise PoseError(count, len(points0))
    if min(width_of(points[known][found.agree]) for points in (points0, points1)) < 2 * error_px:
        raise PoseError(count, len(points0), reason=", but they lie on one line or point")
    if found.configuration == "uncalibrated" and count < LEAST_CALIBRATED_SHARE * found.possible:
        raise PoseError(
            count,
            len(points0),
            reason=f", but {found.possible} would agree with other focal lengths or lenses. Check the cameras",
        )
    inliers = np.zeros(len(points0), bool)
    inliers[known] = found.agree
    if open_deg > MAX_OPEN_DEG and found.configuration != "panoramic":
        raise PoseError(
            count,
            len(points0),
            reason=", but the focal lengths are unknown, and others that fit nearly as well turn the pose by up to "
            f"{open_deg:.0f} degrees. Give the focal lengths (--camera0, --camera1), or take the usual guess "
            "(--unknown-focal guess)",
            inliers=inliers,
        )
    angles = ray_angles(unit_rays(view0)[found.agree] @ found.pose.rotation.T, unit_rays(view1)[found.agree])
    return TwoViewPose(
        rotation=found.pose.rotation,
        translation=found.pose.translation,
        configuration=found.configuration,
        alternative=found.alternative,
        inliers=inliers,
        cameras=(camera0, camera1),
        max_error_px=error_px,
        median_angle_deg=float(np.degrees(np.median(angles))),
        estimator=options.estimator,
    )


def _have_rays(camera: Camera, points: np.ndarray) -> np.ndarray:
    """(K,) bool: the points that the lens model knows; some end before the image does."""
    return np.isfinite(camera.ideal_points(points)).all(axis=1)


def estimate_fundamental(
    points0: np.ndarray, points1: np.ndarray, error_px: float, options: TwoViewOptions | None = None
) -> TwoViewMatrix:
    """The fundamental matrix of matched points (K, 2) [px], to an error of ``error_px`` [px].

    Raises:
        PoseError: fewer matches than ``min_inliers`` agree on one.
    """
    options = options or TwoViewOptions()
    estimate = make_estimator(options.estimator).fundamental
    return _matrix("fundamental matrix", estimate, sampson_errors, points0, points1, error_px, options)


def estimate_homography(
    points0: np.ndarray, points1: np.ndarray, error_px: float, options: TwoViewOptions | None = None
) -> TwoViewMatrix:
    """The homography of matched points (K, 2) [px], to a transfer error of ``error_px`` [px] in both photos.

    Raises:
        PoseError: fewer matches than ``min_inliers`` agree on one.
    """
    options = options or TwoViewOptions()
    estimate = make_estimator(options.estimator).homography
    return _matrix("homography", estimate, transfer_errors, points0, points1, error_px, options)


def make_estimator(name: str) -> Estimator:
    """The estimator of a name. Raises `InputError` if it is unknown or its package is not installed."""
    return component_class("estimator", name)()


def _checked(points0: np.ndarray, points1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points0, points1 = np.asarray(points0, np.float64), np.asarray(points1, np.float64)
    if points0.shape != points1.shape or points0.ndim != 2 or points0.shape[1] != 2:
        raise InputError(f"Matched points must be two arrays (K, 2), not {points0.shape} and {points1.shape}.")
    return points0, points1


def _matrix(
    name: str,
    estimate: Callable[[np.ndarray, np.ndarray, float, int], np.ndarray | None],
    errors: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    points0: np.ndarray,
    points1: np.ndarray,
    error_px: float,
    options: TwoViewOptions,
) -> TwoViewMatrix:
    """A matrix between pixels and the matches within ``error_px`` of it."""
    points0, points1 = _checked(points0, points1)
    found = estimate(points0, points1, error_px, options.seed) if len(points0) >= MIN_POINTS else None
    inliers = np.zeros(len(points0), bool) if found is None else errors(found, points0, points1) <= error_px
    if found is None or inliers.sum() < options.min_inliers:
        raise PoseError(int(inliers.sum()), len(inliers), name)
    scale = found[2, 2] if abs(found[2, 2]) > 1e-12 * np.abs(found).max() else np.abs(found).max()
    return TwoViewMatrix(found / scale, inliers)


# --------------------------------------------------------------------------------- judgement
class _Judged(NamedTuple):
    """A pose, the matches that agree with it, and what kind of geometry they show."""

    pose: RelativePose
    agree: np.ndarray
    configuration: str
    alternative: RelativePose | None = None
    possible: int = 0  # matches that agree with the fundamental matrix, whatever the focal lengths


NO_POSE = RelativePose(np.eye(3), np.zeros(3))


def _judged(estimator: Estimator, view0: View, view1: View, error_px: float, seed: int) -> _Judged:
    """The best pose there is: of a camera that turned on the spot, of a plane, or of any scene."""
    focal = (view0.focal_px + view1.focal_px) / 2
    rays0, rays1 = unit_rays(view0), unit_rays(view1)
    points0, points1 = view0.points * (focal / view0.focal_px), view1.points * (focal / view1.focal_px)
    pose = estimator.relative_pose(view0, view1, error_px, seed)
    agree = np.zeros(len(rays0), bool) if pose is None else pose_inliers(pose, rays0, rays1, error_px / focal)
    count = int(agree.sum())
    H = estimator.homography(points0, points1, 2 * error_px, seed)
    if H is not None:
        scale = np.array([focal, focal, 1.0])
        H_rays = H * scale / scale[:, None]
        R, turned = best_rotation(H_rays, rays0, rays1, 2 * error_px / focal)
        if turned.sum() >= max(HOMOGRAPHY_SHARE * count, MIN_POINTS):
            return _Judged(RelativePose(R, np.zeros(3)), turned, "panoramic")
        on_plane = transfer_errors(H, points0, points1) <= 2 * error_px
        if pose is None or not agree.any():  # some estimators find nothing on a perfect plane
            planes = poses_of_homography(H_rays)
            agrees = [pose_inliers(plane, rays0, rays1, error_px / focal) for plane in planes]
            pose, agree = max(zip(planes, agrees, strict=True), key=lambda item: item[1].sum(), default=(pose, agree))
            count = int(agree.sum())
        if pose is not None and (on_plane & agree).sum() >= HOMOGRAPHY_SHARE * count:
            pose, alternative = _pose_of_plane(view0, view1, pose, H_rays, on_plane, error_px)
            return _Judged(pose, pose_inliers(pose, rays0, rays1, error_px / focal), "planar", alternative)
    F = estimator.fundamental(points0, points1, error_px, seed)
    possible = 0 if F is None else int((sampson_errors(F, points0, points1) <= error_px).sum())
    name = "calibrated" if count >= CALIBRATED_SHARE * possible else "uncalibrated"
    return _Judged(pose or NO_POSE, agree, name, possible=possible)


def _pose_of_plane(
    view0: View, view1: View, pose: RelativePose, H: np.ndarray, on_plane: np.ndarray, error_px: float
) -> tuple[RelativePose, RelativePose | None]:
    """The best pose for points on a plane, and another one if that is nearly as good.

    Two poses explain the view of a plane to the pixel; which is right, only points off the plane and those that would
    lie behind a camera can tell. So all of them are refined and compared.
    """
    error = error_px / ((view0.focal_px + view1.focal_px) / 2)
    rays0, rays1 = unit_rays(view0), unit_rays(view1)
    rated: list[tuple[tuple[int, float], RelativePose]] = []
    pose = refine_pose(view0, view1, pose, on_plane)
    exact = homography_of(pose, rays0[on_plane], rays1[on_plane])
    for candidate in (pose, *poses_of_homography(H), *poses_of_homography(exact)):
        refined = refine_pose(view0, view1, candidate, on_plane)
        inliers = pose_inliers(refined, rays0, rays1, error, is_far_allowed=False)
        rated.append(((int(inliers.sum()), -float(epipolar_errors(refined, rays0, rays1)[inliers].sum())), refined))
    rated.sort(key=lambda item: item[0], reverse=True)
    (most, _), best = rated[0]
    best = refine_pose(view0, view1, best, pose_inliers(best, rays0, rays1, error))  # points off the plane too
    for (count, _), other in rated[1:]:
        if count >= AMBIGUOUS_SHARE * most and np.linalg.norm(other.rotation - best.rotation) > SAME_ROTATION:
            return best, other
    return best, None
