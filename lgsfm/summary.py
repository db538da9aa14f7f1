"""What came out of a run: the content of ``summary.json``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .files import read_json, write_json

__all__ = ["Summary"]


@dataclass
class Summary:
    """What came out of a run, stage by stage."""

    image_dir: str
    output: str
    num_images: int = 0
    num_reg_images: int = 0  # of the best model
    num_points3D: int = 0  # noqa: N815 - COLMAP's name; of the best model
    mean_track_length: float = 0.0  # images per point, of the best model
    mean_reprojection_error_px: float = 0.0  # of the best model
    best_model: str | None = None  # relative to the output folder
    models: list[dict[str, Any]] = field(default_factory=list)
    unregistered: list[str] = field(default_factory=list)  # images that are not in the best model
    failed_images: dict[str, str] = field(default_factory=dict)  # unusable photo -> reason
    turned_deg: dict[str, int] = field(
        default_factory=dict
    )  # photo -> clockwise turn that made it upright, beyond EXIF
    features: str = ""
    features_reason: str = ""
    matcher: str = ""
    mapper: str = ""
    num_pairs: int = 0  # with matches
    num_pairs_verified: int = 0
    cameras: list[dict[str, Any]] = field(default_factory=list)
    reused: dict[str, int] = field(default_factory=dict)  # entries found finished, per stage
    computed: dict[str, int] = field(default_factory=dict)  # entries made, per stage
    weights: list[dict[str, Any]] = field(default_factory=list)  # files with sha256 and licence
    seconds: dict[str, float] = field(default_factory=dict)  # per stage and in all
    versions: dict[str, str] = field(default_factory=dict)
    finished: str = ""  # ISO 8601, local time

    def adopt(self, path: Path) -> None:
        """Takes over what an earlier command wrote about the stages that this one leaves as they are."""
        known = read_json(path)
        for item in dataclasses.fields(self):
            if item.name not in ("image_dir", "output", "num_images") and item.name in known:
                setattr(self, item.name, known[item.name])

    def set_seconds(self, stage: str, seconds: float) -> None:
        """Notes the duration of a stage and the new total, which comes last."""
        stages = {name: value for name, value in self.seconds.items() if name != "total"}
        stages[stage] = round(seconds, 3)
        self.seconds = {**stages, "total": round(sum(stages.values()), 3)}

    def write(self, path: Path) -> None:
        """Writes ``summary.json``. Raises `CacheError` if that fails."""
        write_json(path, dataclasses.asdict(self))
