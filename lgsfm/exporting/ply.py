"""The 3D points as a PLY file: position and colour, binary."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..observer import Observer
from ..options import Options
from .scene import Scene

__all__ = ["write_points"]


def write_points(scene: Scene, path: Path, options: Options, observer: Observer) -> list[str]:
    """Writes the points in the frame of the model."""
    if not scene.model.points3D:
        raise InputError(f"The model {scene.number} has no 3D points.")
    scene.model.export_PLY(path)
    first, form, rest = path.read_bytes().split(b"\n", 2)
    path.write_bytes(b"\n".join([first, form, b"comment lgsfm", rest]))  # so that it is known as ours
    return []
