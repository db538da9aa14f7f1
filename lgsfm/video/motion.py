"""How sharp a frame is, and how the picture has moved since the one before it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from .choice import Look

__all__ = ["Tracker"]

SHARP_EDGE_PX, FLOW_EDGE_PX = 640, 480  # long edges that sharpness and motion are looked at with
MOST_CORNERS, QUALITY, SPACING_PX = 150, 0.01, 8
FEW_CORNERS = 12  # of less no motion can be told, and nothing be reconstructed
MIN_AGREEING = 0.3  # of the corners that agree on a motion, else the thread is lost: a cut, or too fast
TOLERANCE_PX = 3.0
FLOW_WINDOW_PX, FLOW_LEVELS = 21, 4


class Tracker:
    """Looks at frames in their order."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None  # (h, w) uint8
        self._corners: np.ndarray = np.zeros((0, 1, 2), np.float32)  # (N, 1, 2) px, of that

    def look(self, bgr: np.ndarray, index: int, time_s: float) -> Look:
        """What is told of a frame, (h, w, 3) uint8 BGR."""
        sharp = cv2.cvtColor(_reduced(bgr, SHARP_EDGE_PX), cv2.COLOR_BGR2GRAY)
        grey = _reduced(sharp, FLOW_EDGE_PX)
        step = self._step(grey)
        corners = cv2.goodFeaturesToTrack(grey, MOST_CORNERS, QUALITY, SPACING_PX)
        self._before, self._corners = grey, self._corners[:0] if corners is None else np.asarray(corners)
        return Look(index, time_s, sharpness(sharp), step, bgr.shape[0] / bgr.shape[1])

    def _step(self, grey: np.ndarray) -> np.ndarray | None:
        """(2, 3) similarity from the frame before to this one, in long edges from the middle; None: not known."""
        if self._before is None or len(self._corners) < FEW_CORNERS:
            return np.eye(2, 3)
        window = (FLOW_WINDOW_PX, FLOW_WINDOW_PX)
        flow: Any = cv2.calcOpticalFlowPyrLK  # whose stub knows no None
        moved, found, _ = flow(self._before, grey, self._corners, None, winSize=window, maxLevel=FLOW_LEVELS)
        kept = found.ravel() == 1
        if kept.sum() < FEW_CORNERS:
            return None
        height, width = grey.shape
        middle, edge = np.array([(width - 1) / 2, (height - 1) / 2]), max(width, height)
        old, new = (((points.reshape(-1, 2) - middle) / edge)[kept] for points in (self._corners, moved))
        step, agreeing = cv2.estimateAffinePartial2D(old, new, ransacReprojThreshold=TOLERANCE_PX / edge)
        if step is None or agreeing.sum() < MIN_AGREEING * len(self._corners):
            return None
        return np.asarray(step)


def _reduced(image: np.ndarray, edge_px: int) -> np.ndarray:
    """The image with so long an edge, or as it is if that is shorter."""
    height, width = image.shape[:2]
    scale = edge_px / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def sharpness(grey: np.ndarray) -> float:
    """Variance of the Laplacian: it means something among frames that show the same."""
    return float(cv2.Laplacian(grey, cv2.CV_32F, ksize=3).var())
