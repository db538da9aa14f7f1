"""What was found out about a photo that was to be located in a model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..cameras import Camera
from .absolute_pose import AbsolutePose

__all__ = ["LOCALIZED", "STATES", "Localization", "are_localizations", "best_images"]

LOCALIZED = "localized"
STATES = {  # of a photo -> what to do about it
    LOCALIZED: "",
    "unreadable": "Convert or replace the file.",
    "no features": "The photo is blank, blurred, dark or too small. Take another one.",
    "no candidate": "No photo of the model looks like it. Raise --neighbors if it shows the place all the same.",
    "few matches": "It hardly shows what the model shows. Raise --neighbors, or add photos between to the model.",
    "few 3D points": "It shows a part of the scene that the model has no points of. Add photos of it to the model.",
    "pose not reliable": "Most likely it shows another place, or its focal length is wrong: say it with --camera.",
}
BEST_IMAGES = 5  # of the model that are named


@dataclass(frozen=True, eq=False, kw_only=True)
class Localization:
    """What was found out about one photo.

    name: the path of the file, as it was given
    image_name: its name in a model, relative to the folder it was found in
    state: "localized", or why not: one of `STATES`
    detail: more about the state, for people
    pose: where it was taken, in the world of the model; None unless localized
    camera: the intrinsics, and in ``source`` where they came from; None if unreadable
    camera_id: the camera of the model that these are, or None
    turned_deg: how far clockwise the photo was turned, beyond its EXIF orientation, to be matched
    num_keypoints: of the photo
    num_images: of the model, that it was matched with
    num_matches: in all
    num_correspondences: keypoints with a 3D point, each counted once for each of its points
    num_inliers: keypoints that agree with the best pose found, though it may not be reliable
    best_images: names of the images of the model that it matches best, and the number of inliers (of matches, where
        there is no pose) with each
    keypoints: (N, 2) float32 [px] of the stored photo
    observations: (num_inliers, 2) int64, rows (keypoint, id of the 3D point in the model) of the inliers
    """

    name: str
    image_name: str
    state: str
    detail: str = ""
    pose: AbsolutePose | None = None
    camera: Camera | None = None
    camera_id: int | None = None
    turned_deg: int = 0
    num_keypoints: int = 0
    num_images: int = 0
    num_matches: int = 0
    num_correspondences: int = 0
    num_inliers: int = 0
    best_images: tuple[tuple[str, int], ...] = ()
    keypoints: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32), repr=False)
    observations: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64), repr=False)

    @property
    def is_localized(self) -> bool:
        """Whether there is a pose."""
        return self.pose is not None

    @property
    def inlier_ratio(self) -> float:
        """Inliers per correspondence."""
        return self.num_inliers / self.num_correspondences if self.num_correspondences else 0.0

    @property
    def hint(self) -> str:
        """What to do about the state."""
        return STATES[self.state]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values, without keypoints and observations."""
        skipped = ("pose", "camera", "keypoints", "observations", "best_images")
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in skipped}
        values |= {"inlier_ratio": round(self.inlier_ratio, 4), "hint": self.hint}
        values["best_images"] = [{"name": name, "inliers": count} for name, count in self.best_images]
        values["camera"] = None if self.camera is None else dataclasses.asdict(self.camera)
        if self.pose is not None:
            values |= {
                "cam_from_world": {
                    "quaternion_wxyz": self.pose.quaternion_wxyz.tolist(),
                    "translation": self.pose.translation.tolist(),
                },
                "centre": self.pose.centre.tolist(),
                "median_error_px": self.pose.median_error_px,
                "rotation_sigma_deg": self.pose.rotation_sigma_deg,
                "centre_sigma": self.pose.centre_sigma,
                "covariance": self.pose.covariance.tolist(),
            }
        return values


def are_localizations(path: Path) -> bool:
    """Whether a file holds what `Localization.to_dict` gave of some photos. Raises OSError if it cannot be read."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    if not isinstance(rows, list) or not rows:
        return False
    return all(isinstance(row, dict) and row.keys() >= FIELDS for row in rows)


FIELDS = {"name", "image_name", "state", "num_correspondences", "inlier_ratio", "hint"}  # of all versions


def best_images(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """The names of the most counted images, and their counts, most first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(item for item in ranked[:BEST_IMAGES] if item[1])
