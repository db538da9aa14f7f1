"""Two-view geometry: the relative pose of two photos, and what kind of geometry their matches show.

The estimators (`lgsfm.estimators`) only propose; inliers, kind and trust are judged here, in one way for all:

- an inlier lies within ``max_error_px`` of its epipolar line (Sampson error) and in front of both cameras;
- a pose is reliable if it has enough inliers and that many would not come about by chance: the expected number of
  poses with as good a support among random matches is below `MAX_FALSE_ALARMS` (L. Moisan, P. Moulon, P. Monasse:
  "Automatic Homographic Registration of a Pair of Images, with A Contrario Elimination of Outliers", IPOL 2012);
- the kind follows COLMAP's rules: homography and fundamental matrix against essential matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cameras import Camera
from .errors import InputError, PoseError, unknown_name
from .estimators import Estimator, View
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
CALIBRATED_SHARE = 0.9  # of the inliers of a fundamental matrix that a right focal length explains
MAX_FALSE_ALARMS = 1e-4  # expected number of poses as good by chance


@dataclass(frozen=True, kw_only=True)
class TwoViewOptions(Options):
    """How two-view geometry is estimated."""

    estimator: str = option(
        "magsac", "robust estimator: magsac and ransac (OpenCV), colmap (LO-RANSAC), poselib (an optional package)"
    )
    max_error_px: float = option(
        0.0, "largest epipolar error of an inlier, in pixels of the photo; 0 is 0.1 % of its long edge", minimum=0
    )
    min_inliers: int = option(15, "a pose with fewer is not reliable", minimum=5)
    seed: int = option(0, "of the random numbers", minimum=0)

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
        unknown, and of a panoramic pair so is its direction
    configuration: one of `CONFIGURATIONS`
    inliers: (K,) bool, which of the matches agree with the pose
    cameras: the intrinsics that were used, of both photos
    max_error_px: largest epipolar error of an inlier [px]
    median_angle_deg: median angle between the rays of an inlier; near 0 the translation is uncertain
    estimator: its name
    """

    rotation: np.ndarray
    translation: np.ndarray
    configuration: str
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
        camera0: intrinsics of photo 0.
        camera1: intrinsics of photo 1.
        options: see `TwoViewOptions`.

    Raises:
        PoseError: there is no reliable pose; the message says how many inliers of how many matches there are.
    """
    options = options or TwoViewOptions()
    points0, points1 = _checked(points0, points1)
    view0 = View(camera0.ideal_points(points0), camera0.focal_px)
    view1 = View(camera1.ideal_points(points1), camera1.focal_px)
    known = np.isfinite(view0.points).all(1) & np.isfinite(view1.points).all(1)  # a lens model may end before the image
    view0, view1 = view0._replace(points=view0.points[known]), view1._replace(points=view1.points[known])
    error_px = options.error_px(camera0.size, camera1.size)
    estimator = make_estimator(options.estimator)
    if len(view0.points) < MIN_POINTS:
        raise PoseError(0, len(points0))
    pose = estimator.relative_pose(view0, view1, error_px, options.seed)
    if pose is None:
        raise PoseError(0, len(points0))
    rays0, rays1 = _rays(view0), _rays(view1)
    error = error_px / ((view0.focal_px + view1.focal_px) / 2)
    agree = pose_inliers(pose.rotation, pose.translation, rays0, rays1, error)
    inliers = np.zeros(len(points0), bool)
    inliers[known] = agree
    count = int(agree.sum())
    chance = chance_of_line(camera1.size, error_px)
    if count < options.min_inliers or log_false_alarms(len(agree), count, chance) > math.log10(MAX_FALSE_ALARMS):
        raise PoseError(count, len(points0))
    angles = _angles(rays0[agree] @ pose.rotation.T, rays1[agree])
    return TwoViewPose(
        rotation=pose.rotation,
        translation=pose.translation,
        configuration=_configuration(estimator, view0, view1, agree, error_px, options.seed),
        inliers=inliers,
        cameras=(camera0, camera1),
        max_error_px=error_px,
        median_angle_deg=float(np.degrees(np.median(angles))),
        estimator=options.estimator,
    )


def estimate_fundamental(
    points0: np.ndarray, points1: np.ndarray, error_px: float, options: TwoViewOptions | None = None
) -> TwoViewMatrix:
    """The fundamental matrix of matched points (K, 2) [px], to an error of ``error_px`` [px].

    Raises:
        PoseError: fewer matches than ``min_inliers`` agree on one.
    """
    options = options or TwoViewOptions()
    points0, points1 = _checked(points0, points1)
    estimator = make_estimator(options.estimator)
    found = estimator.fundamental(points0, points1, error_px, options.seed) if len(points0) >= MIN_POINTS else None
    inliers = np.zeros(len(points0), bool) if found is None else _sampson(found, points0, points1) <= error_px
    return _matrix(found, inliers, options, "fundamental matrix")


def estimate_homography(
    points0: np.ndarray, points1: np.ndarray, error_px: float, options: TwoViewOptions | None = None
) -> TwoViewMatrix:
    """The homography of matched points (K, 2) [px], to a transfer error of ``error_px`` [px] in both photos.

    Raises:
        PoseError: fewer matches than ``min_inliers`` agree on one.
    """
    options = options or TwoViewOptions()
    points0, points1 = _checked(points0, points1)
    estimator = make_estimator(options.estimator)
    found = estimator.homography(points0, points1, error_px, options.seed) if len(points0) >= MIN_POINTS else None
    inliers = np.zeros(len(points0), bool) if found is None else _transfer(found, points0, points1) <= error_px
    return _matrix(found, inliers, options, "homography")


def make_estimator(name: str) -> Estimator:
    """The estimator of a name. Raises `InputError` if it is unknown or its package is not installed."""
    return component_class("estimator", name)()


def _checked(points0: np.ndarray, points1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points0, points1 = np.asarray(points0, np.float64), np.asarray(points1, np.float64)
    if points0.shape != points1.shape or points0.ndim != 2 or points0.shape[1] != 2:
        raise InputError(f"Matched points must be two arrays (K, 2), not {points0.shape} and {points1.shape}.")
    return points0, points1


def _matrix(found: np.ndarray | None, inliers: np.ndarray, options: TwoViewOptions, name: str) -> TwoViewMatrix:
    if found is None or inliers.sum() < options.min_inliers:
        raise PoseError(int(inliers.sum()), len(inliers), name)
    scale = found[2, 2] if abs(found[2, 2]) > 1e-12 * np.abs(found).max() else np.abs(found).max()
    return TwoViewMatrix(found / scale, inliers)


# --------------------------------------------------------------------------------- judgement
def _configuration(
    estimator: Estimator, view0: View, view1: View, agree: np.ndarray, error_px: float, seed: int
) -> str:
    """What kind of geometry the matches show; ``agree`` are the inliers of the pose."""
    count = int(agree.sum())
    focal = (view0.focal_px + view1.focal_px) / 2
    points0, points1 = view0.points * (focal / view0.focal_px), view1.points * (focal / view1.focal_px)
    H = estimator.homography(points0[agree], points1[agree], 2 * error_px, seed)
    explained = 0 if H is None else int((_transfer(H, points0[agree], points1[agree]) <= 2 * error_px).sum())
    if explained >= HOMOGRAPHY_SHARE * count:
        turned = rotation_inliers(_rays(view0)[agree], _rays(view1)[agree], 2 * error_px / focal)
        return "panoramic" if turned.sum() >= HOMOGRAPHY_SHARE * count else "planar"
    F = estimator.fundamental(points0, points1, error_px, seed)
    possible = 0 if F is None else int((_sampson(F, points0, points1) <= error_px).sum())
    return "calibrated" if count >= CALIBRATED_SHARE * possible else "uncalibrated"


def chance_of_line(size: tuple[int, int], error_px: float) -> float:
    """Largest probability that a random point of an image lies within ``error_px`` of a line."""
    width, height = size
    return min(0.5, 2 * error_px * math.hypot(width, height) / (width * height))


def log_false_alarms(matches: int, inliers: int, chance: float) -> float:
    """Decimal logarithm of the expected number of essential matrices with so many inliers among random matches."""
    sample, solutions = 5, 10
    if inliers <= sample:
        return math.inf
    tests = math.log10(solutions * (matches - sample)) + _log_binomial(matches, inliers)
    return tests + _log_binomial(inliers, sample) + (inliers - sample) * math.log10(chance)


def _log_binomial(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(10)


# --------------------------------------------------------------------------------- geometry
def quaternion_wxyz(R: np.ndarray) -> np.ndarray:
    """(4,) unit quaternion of a rotation (3, 3), w >= 0; exact for all angles (I. Bar-Itzhack, 2000)."""
    K = np.array(
        [
            [R[0, 0] + R[1, 1] + R[2, 2], R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]],
            [R[2, 1] - R[1, 2], R[0, 0] - R[1, 1] - R[2, 2], R[0, 1] + R[1, 0], R[0, 2] + R[2, 0]],
            [R[0, 2] - R[2, 0], R[0, 1] + R[1, 0], R[1, 1] - R[0, 0] - R[2, 2], R[1, 2] + R[2, 1]],
            [R[1, 0] - R[0, 1], R[0, 2] + R[2, 0], R[1, 2] + R[2, 1], R[2, 2] - R[0, 0] - R[1, 1]],
        ]
    )
    q = np.linalg.eigh(K)[1][:, -1]
    return q if q[0] >= 0 else -q


def _rays(view: View) -> np.ndarray:
    """(N, 3) unit rays."""
    rays = np.column_stack((view.points / view.focal_px, np.ones(len(view.points))))
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles [rad] between unit rays, exact near 0."""
    return 2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=1) / 2, 0, 1))


def pose_inliers(R: np.ndarray, t: np.ndarray, rays0: np.ndarray, rays1: np.ndarray, error: float) -> np.ndarray:
    """(N,) bool: rays (N, 3) within ``error`` (of a focal length) of their epipolar lines, in front of both cameras.

    Points so far that their rays are parallel within the error have no side and pass.
    """
    flat0, flat1 = rays0 / rays0[:, 2:], rays1 / rays1[:, 2:]
    E = np.cross(np.eye(3), t) @ R  # its rows: x1^T [t]x R x0
    near = _sampson_rays(E, flat0, flat1) <= error
    turned = rays0 @ R.T
    normal = np.cross(rays1, turned)
    depth0 = np.sum(np.cross(t, rays1) * normal, axis=1)
    depth1 = np.sum(np.cross(t, turned) * normal, axis=1)
    is_far = np.linalg.norm(normal, axis=1) <= error
    return near & (is_far | ((depth0 > 0) & (depth1 > 0)))


def rotation_inliers(rays0: np.ndarray, rays1: np.ndarray, error: float) -> np.ndarray:
    """(N,) bool: rays that a rotation alone explains to ``error`` [rad]; the least-squares one, refitted to its own."""
    keep = np.ones(len(rays0), bool)
    for _ in range(10):
        U, _, Vt = np.linalg.svd(rays1[keep].T @ rays0[keep])
        R = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
        angles = _angles(rays0 @ R.T, rays1)
        before, keep = keep, angles <= max(error, float(np.median(angles)))
        if np.array_equal(before, keep):
            break
    return angles <= error


def _sampson(F: np.ndarray, points0: np.ndarray, points1: np.ndarray) -> np.ndarray:
    """(N,) Sampson error [px] of points (N, 2)."""
    ones = np.ones((len(points0), 1))
    return _sampson_rays(F, np.hstack((points0, ones)), np.hstack((points1, ones)))


def _sampson_rays(E: np.ndarray, x0: np.ndarray, x1: np.ndarray) -> np.ndarray:
    line1, line0 = x0 @ E.T, x1 @ E
    slope = (line1[:, :2] ** 2).sum(1) + (line0[:, :2] ** 2).sum(1)
    return np.abs(np.sum(x1 * line1, axis=1)) / np.sqrt(np.maximum(slope, 1e-300))


def _transfer(H: np.ndarray, points0: np.ndarray, points1: np.ndarray) -> np.ndarray:
    """(N,) the larger of the transfer errors [px] there and back."""
    try:
        back = np.linalg.inv(H)
    except np.linalg.LinAlgError:
        return np.full(len(points0), np.inf)
    there = np.linalg.norm(_moved(H, points0) - points1, axis=1)
    return np.fmax(there, np.linalg.norm(_moved(back, points1) - points0, axis=1))


def _moved(H: np.ndarray, points: np.ndarray) -> np.ndarray:
    moved = np.hstack((points, np.ones((len(points), 1)))) @ H.T
    depth = np.where(np.abs(moved[:, 2:]) > 1e-12, moved[:, 2:], np.nan)
    return np.nan_to_num(moved[:, :2] / depth, nan=np.inf)
