"""Epipolar geometry in plain numpy: errors of matches, rotations, and what chance would give.

A pose is cam1_from_cam0. Rays are (N, 3), of unit length, in the frames of their cameras; errors of rays are shares of
the focal length (or radians), errors of points are pixels.
"""

from __future__ import annotations

import math

import numpy as np

from .estimators import RelativePose, View

__all__ = [
    "best_rotation",
    "chance_of_line",
    "epipolar_errors",
    "homography_of",
    "log_false_alarms",
    "pose_inliers",
    "quaternion_wxyz",
    "ray_angles",
    "sampson_errors",
    "transfer_errors",
    "unit_rays",
    "width_of",
]


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


def unit_rays(view: View) -> np.ndarray:
    """(N, 3) unit rays."""
    rays = np.column_stack((view.points / view.focal_px, np.ones(len(view.points))))
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def ray_angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles [rad] between unit rays, exact near 0."""
    return 2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=1) / 2, 0, 1))


def pose_inliers(
    pose: RelativePose, rays0: np.ndarray, rays1: np.ndarray, error: float, *, is_far_allowed: bool = True
) -> np.ndarray:
    """(N,) bool: rays (N, 3) within ``error`` (of a focal length) of their epipolar lines, in front of both cameras.

    Points so far that their rays are parallel within the error have no side; ``is_far_allowed`` lets them pass.
    """
    turned = rays0 @ pose.rotation.T
    normal = np.cross(rays1, turned)
    depth0 = np.sum(np.cross(pose.translation, rays1) * normal, axis=1)
    depth1 = np.sum(np.cross(pose.translation, turned) * normal, axis=1)
    is_far = np.linalg.norm(normal, axis=1) <= error
    return (epipolar_errors(pose, rays0, rays1) <= error) & ((is_far & is_far_allowed) | ((depth0 > 0) & (depth1 > 0)))


def epipolar_errors(pose: RelativePose, rays0: np.ndarray, rays1: np.ndarray) -> np.ndarray:
    """(N,) Sampson errors of rays (N, 3), as shares of the focal length."""
    E = np.cross(np.eye(3), pose.translation) @ pose.rotation  # np.cross(I, t) @ v == cross(t, v)
    return sampson_of_rays(E, rays0 / rays0[:, 2:], rays1 / rays1[:, 2:])


def homography_of(pose: RelativePose, rays0: np.ndarray, rays1: np.ndarray) -> np.ndarray:
    """(3, 3) H = R + t n^T of rays (N, 3) on a plane that a pose explains, n being the normal over the distance."""
    turned, across = rays0 @ pose.rotation.T, np.cross(rays1, pose.translation)
    left = (across[:, :, None] * rays0[:, None, :]).reshape(-1, 3)  # ray1 x (R ray0 + t (n . ray0)) = 0
    normal = np.linalg.lstsq(left, -np.cross(rays1, turned).ravel(), rcond=None)[0]
    return pose.rotation + np.outer(pose.translation, normal)


def best_rotation(H: np.ndarray, rays0: np.ndarray, rays1: np.ndarray, error: float) -> tuple[np.ndarray, np.ndarray]:
    """The rotation (3, 3) that explains most rays (N, 3) to ``error`` [rad], and which (N,) bool.

    It begins with the rotation next to a homography of rays, and is refitted to its own.
    """
    R = _nearest_rotation(H * np.sign(np.linalg.det(H)))
    keep = ray_angles(rays0 @ R.T, rays1) <= error
    for _ in range(10):
        if not keep.any():
            break
        R = _nearest_rotation(rays1[keep].T @ rays0[keep])
        before, keep = keep, ray_angles(rays0 @ R.T, rays1) <= error
        if np.array_equal(before, keep):
            break
    return R, keep


def _nearest_rotation(M: np.ndarray) -> np.ndarray:
    U, _, Vt = np.linalg.svd(M)
    return U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt


def sampson_errors(F: np.ndarray, points0: np.ndarray, points1: np.ndarray) -> np.ndarray:
    """(N,) Sampson error [px] of points (N, 2)."""
    ones = np.ones((len(points0), 1))
    return sampson_of_rays(F, np.hstack((points0, ones)), np.hstack((points1, ones)))


def sampson_of_rays(E: np.ndarray, x0: np.ndarray, x1: np.ndarray) -> np.ndarray:
    line1, line0 = x0 @ E.T, x1 @ E
    slope = (line1[:, :2] ** 2).sum(1) + (line0[:, :2] ** 2).sum(1)
    return np.abs(np.sum(x1 * line1, axis=1)) / np.sqrt(np.maximum(slope, 1e-300))


def transfer_errors(H: np.ndarray, points0: np.ndarray, points1: np.ndarray) -> np.ndarray:
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


# --------------------------------------------------------------------------------- chance
def chance_of_line(size: tuple[int, int], points: np.ndarray, error_px: float) -> float:
    """Largest probability that a random point lies within ``error_px`` of a line.

    Random means anywhere in the image of this (width, height), or anywhere where the ``points`` (N, 2) are: matches
    that lie in a narrow band agree with the line along it, whatever they are.
    """
    width, height = size
    extent = math.sqrt(12) * width_of(points) if len(points) else 0.0  # of a uniform distribution
    in_image = 2 * error_px * math.hypot(width, height) / (width * height)
    in_band = 2 * error_px / extent if extent > 0 else 1.0
    return min(0.5, max(in_image, in_band))


def log_false_alarms(matches: int, inliers: int, chance: float) -> float:
    """Decimal logarithm of the expected number of essential matrices with so many inliers among random matches."""
    sample, solutions = 5, 10
    if inliers <= sample:
        return math.inf
    tests = math.log10(solutions * (matches - sample)) + _log_binomial(matches, inliers)
    return tests + _log_binomial(inliers, sample) + (inliers - sample) * math.log10(chance)


def _log_binomial(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(10)


def width_of(points: np.ndarray) -> float:
    """Standard deviation [px] of points (N, 2) across the line that fits them best: 0 for points on one line."""
    return float(np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[-1]) / math.sqrt(len(points))
