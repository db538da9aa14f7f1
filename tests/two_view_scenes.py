"""Correspondences with exactly known geometry, for the tests of poses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lgsfm.cameras import Camera

SIZE = (1600, 1200)


class Scene(NamedTuple):
    """Points of two photos and the pose between them; the first ``num_true`` rows are right, the rest random."""

    points0: np.ndarray
    points1: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    camera0: Camera
    camera1: Camera
    num_true: int


def turn(axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    """(3, 3) rotation about an axis."""
    unit = np.array(axis, float) / np.linalg.norm(axis)
    K = np.cross(np.eye(3), unit)
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


def camera(focal: float, size: tuple[int, int] = SIZE) -> Camera:
    return Camera("SIMPLE_PINHOLE", size, (focal, size[0] / 2, size[1] / 2), "given")


def scene(
    kind: str = "relief",
    *,
    num_true: int = 300,
    num_false: int = 100,
    noise_px: float = 0.3,
    focals: tuple[float, float] = (1500.0, 1300.0),
    seed: int = 0,
) -> Scene:
    """A "relief", a "plane", a "turn" on the spot, or "nothing" (random points) seen by two cameras."""
    rng = np.random.default_rng(seed)
    R = turn((0.2, 1.0, 0.1), 12)
    t = np.zeros(3) if kind == "turn" else np.array([-1.0, 0.1, 0.2])
    cameras = camera(focals[0]), camera(focals[1])
    found: list[tuple[np.ndarray, np.ndarray]] = []
    while sum(len(a) for a, _ in found) < num_true:
        pixels = rng.uniform((0, 0), SIZE, (1000, 2))
        depth = rng.uniform(4, 9, 1000)
        rays = np.column_stack(((pixels + 0.5 - np.divide(SIZE, 2)) / focals[0], np.ones(1000)))
        if kind == "plane":
            depth = 6 / (rays @ np.array([0.3, -0.1, 1.0]))
        world = (rays * depth[:, None]) @ R.T + t
        seen = world[:, :2] / world[:, 2:] * focals[1] + np.divide(SIZE, 2) - 0.5
        inside = (world[:, 2] > 0) & (seen > 0).all(1) & (seen < SIZE).all(1)
        found.append((pixels[inside], seen[inside]))
    true0, true1 = (np.concatenate(side)[:num_true] for side in zip(*found, strict=True))
    false = rng.uniform((0, 0), SIZE, (2, num_false, 2))
    points0 = np.vstack((true0, false[0])) + rng.normal(0, noise_px, (num_true + num_false, 2))
    points1 = np.vstack((true1, false[1])) + rng.normal(0, noise_px, (num_true + num_false, 2))
    if kind == "nothing":
        points1 = rng.uniform((0, 0), SIZE, points1.shape)
        num_true = 0
    length = np.linalg.norm(t)
    return Scene(points0, points1, R, t / length if length else t, *cameras, num_true)


def angle_deg(R0: np.ndarray, R1: np.ndarray) -> float:
    """Angle between two rotations."""
    return float(np.degrees(2 * np.arcsin(min(1.0, np.linalg.norm(R0 - R1) / 8**0.5))))


def direction_deg(a: np.ndarray, b: np.ndarray) -> float:
    """Angle between two directions."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))
