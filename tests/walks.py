"""A video whose camera is known at each frame: a walk past panels that stand at several depths."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from conftest import textured

__all__ = ["FPS", "SIZE", "Walk", "turn", "write_video"]

SIZE = (480, 360)
FOCAL_PX = 420.0
FPS = 30
# (left, top, width, height, depth) of each panel, the far ones first
PANELS = [
    *((-9.0, -4.0, 18.0, 8.0, 7.0), (-4.5, -1.6, 2.2, 3.2, 5.5), (-1.2, -0.4, 1.8, 2.4, 4.6)),
    *((1.4, -1.5, 1.6, 2.0, 5.0), (3.4, -0.8, 1.5, 2.6, 4.2), (-3.0, 0.6, 1.4, 1.4, 4.0), (0.5, 0.9, 1.5, 1.2, 3.9)),
]


class Walk:
    """The scene, and the camera on its way: ``position(i)`` is how far along it is at frame i [m]."""

    def __init__(self, position: Callable[[int], float] = lambda i: 0.03 * i) -> None:
        self.position = position
        self.textures = [textured(round(70 * w), round(70 * h), seed=i) for i, (_, _, w, h, _) in enumerate(PANELS)]

    def pose(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """(3, 3) rotation cam_from_world and (3,) centre at a frame; x right, y down, z forward."""
        at = self.position(i)
        yaw, pitch = 0.06 * np.sin(at), 0.03 * np.sin(1.7 * at)
        around_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
        around_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        return around_x @ around_y, np.array([at - 1.2, 0.25 * np.sin(2 * at), 0.3 * np.sin(at)])

    def frame(self, i: int) -> np.ndarray:
        """(h, w, 3) uint8 BGR."""
        return self.seen_from(*self.pose(i))

    def seen_from(self, rotation: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """(h, w, 3) uint8 of a camera, see `pose`."""
        camera = np.array([[FOCAL_PX, 0, SIZE[0] / 2 - 0.5], [0, FOCAL_PX, SIZE[1] / 2 - 0.5], [0, 0, 1]])
        picture = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
        for (left, top, width, height, depth), texture in zip(PANELS, self.textures, strict=True):
            rows, columns = texture.shape[:2]
            plane = np.array([[width / columns, 0, left], [0, height / rows, top], [0, 0, depth]])
            plane[:, 2] -= centre
            cv2.warpPerspective(
                texture,
                camera @ rotation @ plane,
                SIZE,
                dst=picture,
                flags=cv2.INTER_AREA,
                borderMode=cv2.BORDER_TRANSPARENT,
            )
        return picture

    def truth(self, frames: dict[str, int]) -> str:
        """The poses of some frames, name -> number, as `lgsfm evaluate` reads them."""
        lines = []
        for name, i in frames.items():
            rotation, centre = self.pose(i)
            w = np.sqrt(max(1 + np.trace(rotation), 1e-12)) / 2
            x, y, z = (rotation[a, b] - rotation[b, a] for a, b in ((2, 1), (0, 2), (1, 0)))
            numbers = (w, x / (4 * w), y / (4 * w), z / (4 * w), *centre)
            lines.append(f"{name} {' '.join(f'{number:.12f}' for number in numbers)}\n")
        return "".join(lines)


def write_video(path: Path, frames: Sequence[np.ndarray], fourcc: str = "mp4v", fps: float = FPS) -> Path:
    """The frames, (h, w, 3) uint8 BGR each, as a video."""
    height, width = frames[0].shape[:2]
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*fourcc), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame))
    writer.release()
    return path


def turn(path: Path, degrees: int) -> None:
    """Has an MP4 say that it is to be turned clockwise, as phones do that are held upright."""
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags; times, number, duration; layer and volume
    struct.pack_into(">9i", data, matrix, a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
