"""Focal lengths from the matches of two photos, where neither EXIF data nor the user tells them.

A wrong focal length bends the pose: on photos from the internet the usual guess of 1.2 long edges leaves every second
pose wrong by over 50 degrees. But the matches fit a right one better. So focal lengths from half to three long edges,
and those that the fundamental matrix implies, are tried for each photo, and rated by how well their best pose explains
the matches (the MSAC score), with a mild preference for usual lenses and, for photos of one size, for one camera. Where
lengths that fit nearly as well give other poses (a zoom looks like a step forward), the matches leave the pose open,
and the search says by how much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .cameras import ESTIMATED, Camera
from .epipolar import best_rotation, epipolar_errors, pose_inliers, unit_rays
from .estimators import RelativePose, View
from .estimators.opencv import MagsacEstimator

__all__ = ["FocalSearch", "search_focals"]

GRID = (0.5, 0.68, 0.9, 1.2, 1.6, 2.15, 2.9)  # focal lengths that are tried first, in long edges
STEPS = (1.16, 1.08, 1.04)  # factors by which the best ones are then changed
FEW = 300  # matches that rate the grid
USUAL = 0.1  # share of the matches that a focal length loses at e times, or 1/e of, one long edge
ONE_CAMERA = 0.5  # likewise for focal lengths whose ratio is e, if the photos are of one size
ZOOMS = (0.2, 5.0)  # that are recognised as such
SAME_ZOOM = 1.01  # up to which two photos have one focal length
ZOOM_SHARE = 0.8  # of the matches that a zoom and a rotation explain
NEARLY = 0.96  # of the best score
SEED = 0


class FocalSearch(NamedTuple):
    """Cameras with the focal lengths that fit best, by how much [deg] others that nearly fit turn the pose, and how
    many were tried."""

    camera0: Camera
    camera1: Camera
    open_deg: float
    trials: int


class _Trial(NamedTuple):
    rating: float
    score: float
    factors: tuple[float, float]
    pose: RelativePose | None


def search_focals(
    points0: np.ndarray, points1: np.ndarray, camera0: Camera, camera1: Camera, error_px: float
) -> FocalSearch:
    """Estimates the focal lengths that are guesses; the others stay.

    Args:
        points0: (K, 2) [px] of the stored photo 0.
        points1: (K, 2) [px] of the stored photo 1, matched row by row.
        camera0: a guess, or what is known.
        camera1: likewise.
        error_px: largest epipolar error of an inlier [px].
    """
    few = np.random.default_rng(SEED).permutation(len(points0))[:FEW]
    zoom = zoom_of(points0, points1, camera0, camera1, error_px)
    if zoom is not None and abs(math.log(zoom)) < math.log(SAME_ZOOM):  # the camera turned on the spot
        return FocalSearch(_scaled(camera0, 1.0), _scaled(camera1, 1.0), 0.0, 1)
    candidates = [*_grid(camera0, camera1), *_implied(points0, points1, camera0, camera1, error_px)]
    if zoom is not None:
        candidates += [(a, a * zoom) for a, _ in _grid(camera0, camera1)]
    coarse = [_tried(points0[few], points1[few], camera0, camera1, factors, error_px) for factors in candidates]
    start, most = max(coarse, key=lambda trial: trial.rating).factors, max(trial.score for trial in coarse)
    trials = [_tried(points0, points1, camera0, camera1, start, error_px)]
    trials += [  # what fits nearly as well tells whether the pose is open
        _tried(points0, points1, camera0, camera1, trial.factors, error_px)
        for trial in coarse
        if trial.factors != start and trial.score >= NEARLY * most
    ]
    for step in STEPS:
        best = max(trials, key=lambda trial: trial.rating)
        trials += [
            _tried(points0, points1, camera0, camera1, factors, error_px)
            for factors in _neighbours(best.factors, step, camera0, camera1)
        ]
    best = max(trials, key=lambda trial: trial.rating)
    return FocalSearch(
        _scaled(camera0, best.factors[0]), _scaled(camera1, best.factors[1]), _open_deg(best, trials), len(coarse)
    )


def _tried(
    points0: np.ndarray,
    points1: np.ndarray,
    camera0: Camera,
    camera1: Camera,
    factors: tuple[float, float],
    error_px: float,
) -> _Trial:
    """Rates the guesses times these factors."""
    cameras = _scaled(camera0, factors[0]), _scaled(camera1, factors[1])
    views = [View(c.ideal_points(p), c.focal_px) for c, p in zip(cameras, (points0, points1), strict=True)]
    score, pose = _rate(views[0], views[1], error_px)
    unusual = [math.log(_edges(camera)) ** 2 for camera in cameras if camera.source == ESTIMATED]
    loss = USUAL * sum(unusual) / len(unusual)
    if len(unusual) == 2 and camera0.size == camera1.size:
        loss += ONE_CAMERA * math.log(_edges(cameras[0]) / _edges(cameras[1])) ** 2
    return _Trial(score - loss * len(points0), score, factors, pose)


def _grid(camera0: Camera, camera1: Camera) -> list[tuple[float, float]]:
    """Factors of the guesses that are tried first; 1 for what is no guess."""
    sides = [[edges / _edges(c) for edges in GRID] if c.is_guess else [1.0] for c in (camera0, camera1)]
    return [(a, b) for a in sides[0] for b in sides[1]]


def zoom_of(
    points0: np.ndarray, points1: np.ndarray, camera0: Camera, camera1: Camera, error_px: float
) -> float | None:
    """By how much more camera 1 is zoomed than the guesses say, if nothing but zoom and rotation is to be seen."""
    ideal0, ideal1 = (
        camera0.ideal_points(points0),
        camera1.ideal_points(points1) * (camera0.focal_px / camera1.focal_px),
    )
    H = MagsacEstimator().homography(ideal0, ideal1, 2 * error_px, SEED)
    if H is None or not (camera0.is_guess and camera1.is_guess):
        return None
    focal = np.array([camera0.focal_px, camera0.focal_px, 1.0])
    H = H * focal / focal[:, None]
    zoom = math.sqrt(abs(float(np.linalg.det(H[:2, :2])))) / abs(float(H[2, 2])) if H[2, 2] else math.nan
    if not ZOOMS[0] < zoom < ZOOMS[1]:
        return None
    rays0 = unit_rays(View(ideal0, camera0.focal_px))
    rays1 = unit_rays(View(ideal1 / zoom, camera0.focal_px))
    unzoomed = H / np.array([zoom, zoom, 1.0])[:, None]
    _, turned = best_rotation(unzoomed, rays0, rays1, 2 * error_px / camera0.focal_px)
    return zoom if turned.mean() >= ZOOM_SHARE else None


def _implied(
    points0: np.ndarray, points1: np.ndarray, camera0: Camera, camera1: Camera, error_px: float
) -> list[tuple[float, float]]:
    """Factors of the guesses that the fundamental matrix implies; none where it implies no possible lens."""
    ideal0, ideal1 = camera0.ideal_points(points0), camera1.ideal_points(points1)
    F = MagsacEstimator().fundamental(ideal0, ideal1, error_px, SEED)
    if F is None:
        return []
    focals = bougnoux_focal(F), bougnoux_focal(F.T)
    factors = tuple(
        focal / camera.focal_px if camera.is_guess else 1.0
        for focal, camera in zip(focals, (camera0, camera1), strict=True)
    )
    edges = [factor * _edges(camera) for factor, camera in zip(factors, (camera0, camera1), strict=True)]
    return [(factors[0], factors[1])] if all(GRID[0] / 1.5 <= value <= 1.5 * GRID[-1] for value in edges) else []


def bougnoux_focal(F: np.ndarray) -> float:
    """Focal length [px] of camera 0 from F (x1^T F x0 = 0), points from the principal points; nan where there is none.

    S. Bougnoux: "From projective to Euclidean space under any practical situation", ICCV 1998.
    """
    epipole1 = np.linalg.svd(F)[0][:, -1]
    flat, centre = np.diag([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    row = centre @ np.cross(np.eye(3), epipole1) @ flat
    below = row @ F @ flat @ F.T @ centre
    square = -(row @ F @ centre) * (centre @ F.T @ centre) / below if below else math.nan
    return math.sqrt(square) if square > 0 else math.nan


def _edges(camera: Camera) -> float:
    """The focal length in long edges."""
    return camera.focal_px / max(camera.size)


def _scaled(camera: Camera, factor: float) -> Camera:
    """A guess with another focal length; what is no guess, as it is."""
    if not camera.is_guess:
        return camera
    return replace(camera, params=(camera.params[0] * factor, *camera.params[1:]), source=ESTIMATED)


def _neighbours(
    factors: tuple[float, float], step: float, camera0: Camera, camera1: Camera
) -> Iterator[tuple[float, float]]:
    """Factors a step away, for the cameras that are guesses: each alone, and both together."""
    a, b = factors
    for change in (step, 1 / step):
        if camera0.is_guess:
            yield a * change, b
        if camera1.is_guess:
            yield a, b * change
        if camera0.is_guess and camera1.is_guess:
            yield a * change, b * change


def _rate(view0: View, view1: View, error_px: float) -> tuple[float, RelativePose | None]:
    """The MSAC score of the best pose: each inlier counts 1 minus its squared share of the largest error."""
    pose = MagsacEstimator().relative_pose(view0, view1, error_px, SEED)
    if pose is None:
        return 0.0, None
    error = error_px / ((view0.focal_px + view1.focal_px) / 2)
    rays0, rays1 = unit_rays(view0), unit_rays(view1)
    agree = pose_inliers(pose, rays0, rays1, error)
    return float(np.sum(1 - (epipolar_errors(pose, rays0, rays1)[agree] / error) ** 2)), pose


def _open_deg(best: _Trial, trials: list[_Trial]) -> float:
    """The largest angle between the best pose and one that explains the matches nearly as well."""
    if best.pose is None:
        return 0.0
    most = max(trial.score for trial in trials)
    near = [trial.pose for trial in trials if trial.pose is not None and trial.score >= NEARLY * most]
    return max((_angle_deg(best.pose, pose) for pose in near), default=0.0)


def _angle_deg(pose0: RelativePose, pose1: RelativePose) -> float:
    """The larger of the angles between rotations and between directions of translation."""
    chord = float(np.linalg.norm(pose0.rotation - pose1.rotation)) / 8**0.5
    direction = float(np.clip(pose0.translation @ pose1.translation, -1, 1))
    return math.degrees(max(2 * math.asin(min(1.0, chord)), math.acos(direction)))
