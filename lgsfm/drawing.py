"""Pictures for people: two photos side by side, their keypoints and matches."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont

from . import __version__
from .errors import InputError
from .exif import stored_to_upright, turn_upright
from .types import Features

__all__ = ["MAX_LINES", "check_picture_name", "draw_matches", "is_drawing", "save_picture"]

GAP_PX = 8  # between the photos
BAR_PX = 34  # height of the strip with the text
PAPER, INK = (255, 255, 255), (30, 30, 30)
KEYPOINT, OUTLIER = (150, 160, 170), (215, 40, 40)
LINE_OPACITY = 0.7
CELLS = 16  # along each side of the grid from which lines are picked
MAX_LINES = 120  # more hide the photos
FORMATS = (".png", ".jpg", ".jpeg", ".webp")
MARK = "lgsfm show"  # how the name of the software in the EXIF data begins


def draw_matches(
    images: tuple[np.ndarray, np.ndarray],
    features: tuple[Features, Features],
    indices: np.ndarray,
    scores: np.ndarray,
    inliers: np.ndarray | None = None,
    *,
    title: str = "",
    edge_px: int = 1000,
    max_lines: int = MAX_LINES,
) -> np.ndarray:
    """Two photos side by side, upright, with their keypoints and matches.

    Keypoints are grey dots; matches are dots, and of some of them lines, coloured by their confidence from violet (low)
    to yellow (high). Where ``inliers`` are given, the outliers are red.

    Args:
        images: the stored photos, (H, W, 3) uint8 RGB, at any scale.
        features: of both photos.
        indices: (K, 2) matches of the keypoints.
        scores: (K,) confidence in [0, 1].
        inliers: (K,) bool.
        title: one line above the photos.
        edge_px: the long edge of each photo in the picture.
        max_lines: so many matches are drawn as lines, spread over the photo; 0 draws all.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    panels, points = [], []
    for image, found in zip(images, features, strict=True):
        panel, scale = _panel(turn_upright(image, found.orientation), found.upright_size, edge_px)
        panels.append(panel)
        upright = stored_to_upright(found.keypoints, found.image_size, found.orientation)
        points.append((upright + 0.5) * scale - 0.5)
    height = max(panel.shape[0] for panel in panels)
    shift = panels[0].shape[1] + GAP_PX
    sheet = np.full((height, shift + panels[1].shape[1], 3), 255, np.uint8)
    for panel, left in zip(panels, (0, shift), strict=True):
        sheet[: panel.shape[0], left : left + panel.shape[1]] = panel
    points[1] = points[1] + np.array([shift, 0])
    for place in points:
        for point in place:
            _dot(sheet, point, KEYPOINT, 1)
    _lines(sheet, points[0][indices[:, 0]], points[1][indices[:, 1]], scores, inliers, max_lines)
    return np.vstack((_title_bar(sheet.shape[1], title, has_outliers=inliers is not None), sheet))


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Writes (H, W, 3) uint8 RGB as PNG, JPEG or WebP, as a whole, marked as `is_drawing` knows it.

    Raises `InputError` if that fails.
    """
    check_picture_name(path)
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")  # the suffix tells Pillow the format
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = f"{MARK} ({__version__})"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(partial, exif=exif)
        os.replace(partial, path)
    except OSError as exc:
        with suppress(OSError):
            partial.unlink()
        raise InputError(
            f"The picture {path} cannot be written: {exc.strerror or exc}. Choose another with -o."
        ) from exc


def is_drawing(path: Path) -> bool:
    """Whether a picture is one that `save_picture` wrote, by its EXIF data. Raises OSError if it cannot be read."""
    exif = Image.Exif()
    try:
        with Image.open(path) as picture:  # reads no pixels
            exif.load(picture.info.get("exif", b""))
        return str(exif.get(ExifTags.Base.Software, "")).startswith(MARK)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):  # no picture, no EXIF data
        return False


def check_picture_name(path: Path) -> None:
    """Raises `InputError` for a name whose ending is of no format that pictures are written in."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"A picture cannot be written as '{path}': its name must end in {', '.join(FORMATS)}.")


def _panel(image: np.ndarray, size: tuple[int, int], edge_px: int) -> tuple[np.ndarray, np.ndarray]:
    """The image with its long edge ``edge_px``, and its pixels per pixel of the upright photo of ``size``, per axis."""
    shrink = min(1.0, edge_px / max(size))
    target = max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))
    panel = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
    return panel, np.divide(target, size)


def _lines(
    sheet: np.ndarray, starts: np.ndarray, ends: np.ndarray, scores: np.ndarray, inliers: np.ndarray | None, most: int
) -> None:
    """Draws the matches: translucent lines of some that are spread over the photo, dots of all; the surest last."""
    keep = np.ones(len(scores), bool) if inliers is None else inliers
    order = np.lexsort((scores, keep))
    colors = [confidence_color(float(scores[i])) if keep[i] else OUTLIER for i in range(len(scores))]
    lined = set(spread(starts, scores, most))
    layer = sheet.copy()
    for i in order:
        if i in lined:
            cv2.line(layer, _fixed(starts[i]), _fixed(ends[i]), colors[i], 1, cv2.LINE_AA, SHIFT)
    cv2.addWeighted(layer, LINE_OPACITY, sheet, 1 - LINE_OPACITY, 0, dst=sheet)
    for i in order:
        for point in (starts[i], ends[i]):
            _dot(sheet, point, colors[i], 3 if keep[i] else 2)


def spread(points: np.ndarray, scores: np.ndarray, most: int) -> list[int]:
    """Up to ``most`` of (N, 2) points, from all over: the best of each cell of a grid, then the second best ..."""
    if most <= 0 or len(points) <= most:
        return list(range(len(points)))
    span = np.maximum(np.ptp(points, axis=0), 1)
    cells = np.minimum(((points - points.min(axis=0)) / span * CELLS).astype(int), CELLS - 1)
    number = cells[:, 0] * CELLS + cells[:, 1]
    best_first = np.lexsort((-scores, number))
    _, first, counts = np.unique(number[best_first], return_index=True, return_counts=True)
    rank = np.arange(len(points)) - np.repeat(first, counts)  # within its cell
    return best_first[np.argsort(rank, kind="stable")][:most].tolist()


SHIFT = 4  # binary places of the coordinates that OpenCV draws at


def _fixed(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0]) * 2**SHIFT), round(float(point[1]) * 2**SHIFT)


def _dot(sheet: np.ndarray, point: np.ndarray, color: tuple[int, int, int], radius: int) -> None:
    cv2.circle(sheet, _fixed(point), radius * 2**SHIFT, color, -1, cv2.LINE_AA, SHIFT)


def confidence_color(score: float) -> tuple[int, int, int]:
    """RGB of a confidence in [0, 1]: a scale that people with any colour vision can order."""
    value = np.array([[round(255 * min(max(score, 0.0), 1.0))]], np.uint8)
    blue, green, red = cv2.applyColorMap(value, cv2.COLORMAP_VIRIDIS)[0, 0].tolist()
    return red, green, blue


def _title_bar(width: int, title: str, *, has_outliers: bool) -> np.ndarray:
    """The strip above the photos: a line of text and, where there is room, the colours explained."""
    bar = Image.new("RGB", (width, BAR_PX), PAPER)
    draw = ImageDraw.Draw(bar)
    font = ImageFont.load_default(16)
    draw.text((8, 7), title, INK, font=font)
    legend = [(confidence_color(0.1), "0.1"), (confidence_color(0.5), "0.5"), (confidence_color(1.0), "1 confidence")]
    legend += [(OUTLIER, "outlier")] if has_outliers else []
    need = sum(34 + int(draw.textlength(text, font=font)) for _, text in legend)
    left = width - need - 8
    if left > 16 + draw.textlength(title, font=font):
        for color, text in legend:
            draw.rectangle((left, 11, left + 18, 23), fill=color)
            draw.text((left + 23, 7), text, INK, font=font)
            left += 34 + int(draw.textlength(text, font=font))
    return np.asarray(bar)
