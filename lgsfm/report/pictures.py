"""Pictures in the report: thumbnails, matches, the model from above and from the side; all within a budget of bytes."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..drawing import BAR_PX, draw_matches
from ..errors import InputError
from ..image_files import image_path
from ..images import read_photo
from ..threads import check_thread_room
from ..types import Features, Matches
from .scene import Frame, Scene

__all__ = ["Picture", "matches_picture", "matrix_picture", "plan_picture", "thumbnails"]

PHOTO_BYTES = 9_000_000  # of all photos together
MOST_PHOTOS = 1000  # that get a picture
EDGES_PX = (960, 800, 640, 480, 360, 280, 200, 140)
BYTES_PER_PX = 0.16  # of a detailed photo at the first quality
QUALITIES = (76, 50)
LEAST_PX = 32  # of the long edge of a picture that is made smaller
PAIR_EDGE_PX = 1000  # of each photo of a drawn pair
PAIR_SHRINK = 0.6  # of the drawing: thinner lines, smaller dots
PLAN_PX = 640
TEAL = (15, 125, 116)  # RGB, of the page's accent
GREY = (130, 130, 130)


@dataclass(frozen=True)
class Picture:
    """A picture within the page: its data URI, its size in px."""

    uri: str
    width: int
    height: int


def thumbnails(image_dir: Path, orientations: Mapping[str, int | None]) -> dict[str, Picture]:
    """Image name -> upright picture, all together below the budget; photos that cannot be read have none.

    Args:
        image_dir: folder of the photos.
        orientations: image name -> EXIF code of its upright view, None for that of the file; the first thousand count.
    """
    names = list(orientations)[:MOST_PHOTOS]
    if not names:
        return {}
    most = PHOTO_BYTES // len(names)
    edge = next((edge for edge in EDGES_PX if 0.7 * edge**2 * BYTES_PER_PX <= most), EDGES_PX[-1])

    def make(name: str) -> Picture | None:
        try:
            rgb = read_photo(image_path(image_dir, name), edge, orientation=orientations[name]).rgb
        except InputError:
            return None
        return _jpeg(rgb, most)

    num_threads = min(8, os.cpu_count() or 1)
    check_thread_room(num_threads)
    with ThreadPoolExecutor(num_threads) as pool:  # decoders work outside of Python's lock
        found = zip(names, pool.map(make, names), strict=True)
        return {name: picture for name, picture in found if picture is not None}


def _jpeg(rgb: np.ndarray, most: int | None = None) -> Picture:
    """(H, W, 3) uint8 RGB as JPEG; coarser, then smaller, until it has no more than so many bytes."""
    for quality in QUALITIES:
        data = _encoded(rgb, quality)
        if most is None or len(data) <= most:
            break
    while most is not None and len(data) > most and max(rgb.shape[:2]) > LEAST_PX:
        shrink = min(0.9, 0.95 * math.sqrt(most / len(data)))
        rgb = cv2.resize(rgb, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        data = _encoded(rgb, quality)
    return Picture(_uri("jpeg", data), rgb.shape[1], rgb.shape[0])


def _encoded(rgb: np.ndarray, quality: int) -> bytes:
    """A JPEG: WebP would take two thirds of its bytes, and 25 times as long."""
    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _png(rgba: np.ndarray) -> Picture:
    """(H, W, 4) uint8 RGBA as PNG."""
    data = cv2.imencode(".png", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    return Picture(_uri("png", data.tobytes()), rgba.shape[1], rgba.shape[0])


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def matches_picture(
    paths: tuple[Path, Path], features: tuple[Features, Features], matches: Matches, inliers: np.ndarray
) -> Picture:
    """Two photos side by side with their matches; outliers are red. Raises `InputError` if a photo cannot be read."""
    photos = [read_photo(path, PAIR_EDGE_PX, orientation=1).rgb for path in paths]
    sheet = draw_matches(
        (photos[0], photos[1]), features, matches.indices, matches.scores, inliers, edge_px=PAIR_EDGE_PX
    )
    drawn = sheet[BAR_PX:]  # the page has a caption of its own
    return _jpeg(cv2.resize(drawn, None, fx=PAIR_SHRINK, fy=PAIR_SHRINK, interpolation=cv2.INTER_AREA))


def matrix_picture(strength: np.ndarray, failed: np.ndarray) -> Picture:
    """The match matrix, one pixel per cell: the more inliers the more opaque; grey where verification failed."""
    rgba = np.zeros((*strength.shape, 4), np.uint8)
    rgba[strength > 0, :3], rgba[failed, :3] = TEAL, GREY
    rgba[..., 3] = np.where(strength > 0, 40 + 215 * strength**2, np.where(failed, 60, 0))
    return _png(rgba)


def plan_picture(scene: Scene, frame: Frame, axes: tuple[int, int], reach: float = 1.6) -> Picture:
    """The model along an axis: its points in their colours, the cameras as dots. Transparent where there is nothing.

    Args:
        scene: the model.
        frame: how it is shown.
        axes: which of x, y, z of the frame go right and down; y, which is up, is turned.
        reach: what is shown goes from -reach to reach.
    """
    canvas = np.zeros((PLAN_PX, PLAN_PX, 4), np.uint8)
    spots = _on_canvas(frame(scene.positions), axes, reach)
    inside = ((spots >= 0) & (spots < PLAN_PX - 1)).all(axis=1)
    x, y = spots[inside].astype(int).T
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        canvas[y + dy, x + dx, :3], canvas[y + dy, x + dx, 3] = scene.colours[inside], 255
    centres = _on_canvas(frame(np.array([camera.centre for camera in scene.cameras.values()])), axes, reach)
    for spot in centres[((centres >= 0) & (centres < PLAN_PX)).all(axis=1)]:
        cv2.circle(canvas, (round(spot[0]), round(spot[1])), 4, (*TEAL, 255), -1, cv2.LINE_AA)
    return _png(canvas)


def _on_canvas(points: np.ndarray, axes: Sequence[int], reach: float) -> np.ndarray:
    """(N, 2) px on the canvas of points (N, 3) of the frame."""
    signs = np.array([-1.0 if axis == 1 else 1.0 for axis in axes])
    return (points[:, list(axes)] * signs / reach + 1) / 2 * PLAN_PX
