"""The cameras of a run: what was known of them before, and what the mapper made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..cameras import DEFAULT_FOCAL_FACTOR
from .collect import Collected
from .scene import SceneCamera

__all__ = ["CameraRow", "camera_rows"]


@dataclass(frozen=True)
class CameraRow:
    """One camera, of some photos.

    label: make and model, or what made the group
    model: COLMAP's name of the camera model
    width, height: [px] of the stored photos
    source: of the focal length before: EXIF, given or guess
    before_px, after_px: focal length before and after refinement; None where the camera is in no model
    params: refined, in COLMAP's order
    num_images, num_registered: photos of it, and how many of them are in a model
    """

    label: str
    model: str
    width: int
    height: int
    source: str
    before_px: float
    after_px: float | None
    params: tuple[float, ...]
    num_images: int
    num_registered: int

    @property
    def change(self) -> float | None:
        """Relative change of the focal length."""
        return None if self.after_px is None else self.after_px / self.before_px - 1


def camera_rows(collected: Collected) -> list[CameraRow]:
    """The cameras, in the order of the summary."""
    refined = {name: camera for scene in reversed(collected.scenes) for name, camera in scene.cameras.items()}
    return [_row(row, refined) for row in collected.summary.get("cameras", [])]


def _row(row: Mapping[str, Any], refined: Mapping[str, SceneCamera]) -> CameraRow:
    found = [refined[name] for name in row["images"] if name in refined]
    source = "guess" if not row["focal_px"] else "given" if row.get("is_given") else "EXIF"
    return CameraRow(
        label=row.get("label", ""),
        model=found[0].model if found else row["model"],
        width=row["width"],
        height=row["height"],
        source=source if row.get("is_trusted", True) else f"{source}, not trusted",
        before_px=row["focal_px"] or DEFAULT_FOCAL_FACTOR * max(row["width"], row["height"]),
        after_px=found[0].focal_px if found else None,
        params=found[0].params if found else (),
        num_images=row["num_images"],
        num_registered=len(found),
    )
