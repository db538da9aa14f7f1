"""Pictures to measure with where there are no photos: a wall of shapes, seen from several places."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from .errors import CacheError

__all__ = ["render_views", "save_views"]

SIZE = (2400, 1600)  # (width, height) px: what photos of the larger presets are reduced to
WALL_SIZE = 1.5  # widths of a view
LARGEST, SMALLEST = 500, 9  # edge of a shape [px]
SHAPES_PER_MEGAPIXEL = 4000
MOST_YAW_DEG, MOST_PITCH_DEG = 25.0, 10.0
NOISE = 4.0  # standard deviation, of 255


def save_views(folder: Path, count: int, size: tuple[int, int] = SIZE) -> list[str]:
    """Writes `render_views` as JPEGs and gives their names. Raises `CacheError` if the disk is full."""
    names = [f"view{i:02}.jpg" for i in range(count)]
    for name, picture in zip(names, render_views(count, size), strict=True):
        if not cv2.imwrite(str(folder / name), picture):
            raise CacheError(f"{folder / name} cannot be written. Check the disk space.")
    return names


def render_views(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """The wall from several places, (H, W, 3) uint8 each; any two see much of the same. Always the same ones."""
    rng = np.random.default_rng(0)
    wall = render_wall(rng, wall_edge(size))
    shares = np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
    views = []
    for i, share in enumerate(shares):
        yaw, pitch = MOST_YAW_DEG * share, MOST_PITCH_DEG * (-1) ** i * (1 - abs(share))
        picture = cv2.warpPerspective(
            wall,
            wall_to_view(yaw, pitch, 1.0 + 0.1 * share, size),
            size,
            flags=cv2.INTER_AREA,
            borderMode=cv2.BORDER_REFLECT,
        )
        noisy = picture + rng.normal(0, NOISE, (*picture.shape[:2], 1))
        views.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return views


def wall_edge(size: tuple[int, int]) -> int:
    """Width and height of the wall [px] for views of a size."""
    return round(WALL_SIZE * size[0])


def render_wall(rng: np.random.Generator, width: int) -> np.ndarray:
    """(width, width, 3) uint8: boxes, discs and strokes of all sizes, the small ones on top."""
    wall = np.full((width, width, 3), 128, np.uint8)
    for edge in np.geomspace(LARGEST, SMALLEST, round(SHAPES_PER_MEGAPIXEL * width**2 / 1e6)):
        x, y = (int(value) for value in rng.integers(0, width, 2))
        w, h = (int(value) for value in rng.uniform(edge / 2, edge, 2))
        colour = [float(value) for value in rng.uniform(0, 255, 3)]
        kind = rng.integers(3)
        if kind == 0:
            cv2.rectangle(wall, (x, y), (x + w, y + h), colour, -1)
        elif kind == 1:
            cv2.ellipse(wall, (x, y), (w // 2, h // 2), float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
        else:
            cv2.line(wall, (x, y), (x + w, y - h), colour, max(1, w // 6), cv2.LINE_AA)
    return wall


def wall_to_view(yaw_deg: float, pitch_deg: float, distance: float, size: tuple[int, int]) -> np.ndarray:
    """(3, 3) homography from px of the wall to px of a view of its middle.

    The camera stands ``distance`` widths of the picture away, where one px of the wall is about 1 / ``distance`` px.
    """
    yaw, pitch = np.radians((yaw_deg, pitch_deg))
    around_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    around_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    width, height = size
    camera = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    rotation = around_x @ around_y
    edge = wall_edge(size)
    middle = np.array([[1, 0, -edge / 2], [0, 1, -edge / 2], [0, 0, 1.0]])
    plane = np.column_stack((rotation[:, 0], rotation[:, 1], (0, 0, distance * width)))
    return camera @ plane @ middle
