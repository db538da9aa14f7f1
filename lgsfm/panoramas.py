"""Panoramas all around (equirectangular, 360 by 180 degrees) as what COLMAP can use: perspective views, in a rig.

No mapper knows such pictures, but each is as good as several cameras that look in all directions from one place. The
views of a panorama look along the horizon; what is above and below, mostly sky and tripod, is in none of them. Their
cameras are exact: a pinhole each, turned against the first one by a known angle.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from .disk import remedy
from .errors import CacheError, InputError, in_short
from .files import fits, read_json, write_bytes, write_json, write_text
from .images import file_digest, image_path, list_images, read_header, read_photo
from .options import Options, option
from .types import Progress

__all__ = ["PanoramaOptions", "Views", "is_panorama", "panorama_hint", "render_view", "split_panoramas"]

FORMAT = 1
FIELD_DEG = 90.0  # of a view, both ways
ASPECT, TOLERANCE = 2.0, 0.01
SAMPLE = 10  # photos that are looked at, to see whether they may be panoramas
JPEG_QUALITY = 95
RECORD, RIG, CAMERAS = "views.json", "rig.json", "cameras.json"


@dataclass(frozen=True, kw_only=True)
class PanoramaOptions(Options):
    """How panoramas are split."""

    panoramas: bool = option(
        False, "the photos are panoramas all around (equirectangular, 2:1): split into views that share a pose"
    )
    panorama_views: int = option(6, "panoramas: views along the horizon, each 90 degrees wide", minimum=4, maximum=36)


@dataclass(frozen=True)
class Views:
    """The views of panoramas, and what is known of their cameras."""

    folder: Path
    rig: Path  # COLMAP's rig_config.json
    cameras: Path  # rules for --cameras
    num_panoramas: int
    rendered: int  # how many panoramas were split now


def is_panorama(size: tuple[int, int]) -> bool:
    """Whether a picture of this (width, height) may show all around: it is twice as wide as high."""
    return abs(size[0] / size[1] / ASPECT - 1) <= TOLERANCE


def panorama_hint(image_dir: Path, names: Sequence[str]) -> str:
    """What people should hear who may have forgotten to say that their photos are panoramas, else ""; looks at some."""
    some = names[:: max(1, math.ceil(len(names) / SAMPLE))]
    sizes = []
    for name in some:
        with suppress(InputError):  # the run will name it
            sizes.append(read_header(image_path(image_dir, name)).size)
    if 2 * sum(map(is_panorama, sizes)) <= len(some):  # of none too
        return ""
    return "Photos are twice as wide as high. If they are panoramas all around, say --panoramas."


def split_panoramas(image_dir: Path, folder: Path, options: PanoramaOptions, progress: Progress | None = None) -> Views:
    """Writes the views of all panoramas of a folder, but those that are there.

    Args:
        image_dir: panoramas of one size.
        folder: of nothing else.
        options: see `PanoramaOptions`.
        progress: called with (done, total) panoramas.

    Raises:
        InputError: a photo is no panorama, cannot be read, or they are of several sizes.
        CacheError: the folder cannot be written.
    """
    names = list_images(image_dir)
    width, height = _common_size(image_dir, names)
    targets = _targets(names)
    made_of = {"format": FORMAT, "options": options.to_dict(), "size": [width, height]}
    record, known = folder / RECORD, read_json(folder / RECORD)
    before: Any = known.get("panoramas") if {key: known.get(key) for key in made_of} == made_of else {}
    done: dict[str, str] = {}
    if fits(before, dict[str, str]):
        done = {name: digest for name, digest in before.items() if name in targets}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise CacheError(f"The folder {folder} cannot be made: {exc.strerror}. {remedy(exc)}") from exc
    if done != before:
        write_json(record, {**made_of, "panoramas": done}, is_checked=True)  # before a view takes the name of another
    yaws = [360.0 * i / options.panorama_views for i in range(options.panorama_views)]
    _remove_others(folder, {f"{_prefix(yaw)}{target}" for yaw in yaws for target in targets.values()})
    rendered = 0
    for count, name in enumerate(names, start=1):
        path = image_path(image_dir, name)
        views = {folder / f"{_prefix(yaw)}{targets[name]}": yaw for yaw in yaws}
        digest = file_digest(path)
        if done.get(name) != digest or not all(view.is_file() for view in views):
            rgb = read_photo(path).rgb
            for view, yaw in views.items():
                _write_view(view, render_view(rgb, yaw))
            done, rendered = {**done, name: digest}, rendered + 1
            write_json(record, {**made_of, "panoramas": done}, is_checked=True)
        if progress:
            progress(count, len(names))
    _write_list(folder / RIG, [{"cameras": [_mounted(yaw) for yaw in yaws]}])
    _write_list(folder / CAMERAS, [_rule(yaw, width) for yaw in yaws])
    return Views(folder, folder / RIG, folder / CAMERAS, len(names), rendered)


def render_view(rgb: np.ndarray, yaw_deg: float) -> np.ndarray:
    """The view (e, e, 3) of a panorama (h, w, 3) uint8 that looks along the horizon, turned right by an angle.

    At its middle it is as fine as the panorama. The middle column of the panorama is at angle 0.
    """
    height, width = rgb.shape[:2]
    focal, edge = _focal_px(width), _edge_px(width)
    across = (np.arange(edge) + 0.5 - edge / 2) / focal
    x, y = np.meshgrid(across, across)
    right = np.arctan(x) + math.radians(yaw_deg)
    down = np.arctan2(y, np.hypot(x, 1))
    columns = (right / (2 * np.pi) + 0.5) * width - 0.5
    rows = (down / np.pi + 0.5) * height - 0.5
    # a column from the other end on both sides, so that nothing is made up at the seam
    wrapped = cv2.copyMakeBorder(rgb, 0, 0, 1, 1, cv2.BORDER_WRAP)
    return cv2.remap(
        wrapped,
        ((columns + 0.5) % width + 0.5).astype(np.float32),
        rows.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _focal_px(width: int) -> float:
    return width / (2 * math.pi)


def _edge_px(width: int) -> int:
    return round(2 * _focal_px(width) * math.tan(math.radians(FIELD_DEG / 2)))


def _prefix(yaw_deg: float) -> str:
    return f"yaw{round(yaw_deg):03}/"


def _mounted(yaw_deg: float) -> dict[str, Any]:
    """A camera of the rig: what lies to the right of the first one is straight ahead of it."""
    if not yaw_deg:
        return {"image_prefix": _prefix(yaw_deg), "ref_sensor": True}
    half = -math.radians(yaw_deg) / 2  # cam_from_rig, about the axis that points down
    return {
        "image_prefix": _prefix(yaw_deg),
        "cam_from_rig_rotation": [math.cos(half), 0.0, math.sin(half), 0.0],
        "cam_from_rig_translation": [0.0, 0.0, 0.0],
    }


def _rule(yaw_deg: float, width: int) -> dict[str, Any]:
    middle = _edge_px(width) / 2
    model = {"model": "SIMPLE_PINHOLE", "params": [_focal_px(width), middle, middle]}
    return {"images": _prefix(yaw_deg).rstrip("/"), **model, "shared": True}


def _write_list(path: Path, content: list[dict[str, Any]]) -> None:
    """Writes what COLMAP and lgsfm read as a list, without a hash in it."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def _write_view(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    write_bytes(path, bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]))


def _common_size(image_dir: Path, names: Sequence[str]) -> tuple[int, int]:
    sizes = {name: read_header(image_path(image_dir, name)).size for name in names}
    if others := [name for name, size in sizes.items() if not is_panorama(size)]:
        raise InputError(
            f"--panoramas takes pictures that are twice as wide as high; in '{image_dir}' {in_short(others)} are not. "
            "Put them elsewhere."
        )
    counts = Counter(sizes.values())
    if len(counts) > 1:
        listed = in_short(f"{width}x{height}" for width, height in counts)
        raise InputError(
            f"--panoramas takes pictures of one size; in '{image_dir}' there are {listed}. Make them the same, or take "
            "a folder for each."
        )
    return next(iter(counts))


def _targets(names: Sequence[str]) -> dict[str, str]:
    """Panorama -> name of its views in the folder of a camera; ``a.png`` beside ``a.jpg`` keeps its suffix."""
    stems = Counter(str(PurePosixPath(name).with_suffix("")) for name in names)
    plain = {name: str(PurePosixPath(name).with_suffix("")) for name in names}
    return {name: f"{stem if stems[stem] == 1 else name}.jpg" for name, stem in plain.items()}


def _remove_others(folder: Path, wanted: set[str]) -> None:
    """Views of panoramas that are gone, or of other directions."""
    for path in [*folder.glob("yaw[0-9][0-9][0-9]/**/*.jpg")]:
        if path.is_file() and path.relative_to(folder).as_posix() not in wanted:
            path.unlink()
