"""COLMAP's own model files, binary or text."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ..observer import Observer
from ..options import Options, option
from .scene import Scene

__all__ = ["ColmapOptions", "write_model"]


@dataclass(frozen=True, kw_only=True)
class ColmapOptions(Options):
    """Options of the format."""

    encoding: str = option(
        "text", "colmap: files that people read, or that are small and quick", choices=("text", "binary")
    )


def write_model(scene: Scene, folder: Path, options: ColmapOptions, observer: Observer) -> list[str]:
    """Writes cameras, images and points. COLMAP cuts the names in images.txt at the first space; that is said."""
    if options.encoding == "binary":
        for path in (scene.workspace.sparse / str(scene.number)).glob("*.bin"):
            shutil.copyfile(path, folder / path.name)
        return []
    scene.model.write_text(folder)
    spaces = sum(" " in name for name in scene.names)
    cut = f"Warning: {spaces} names have spaces, at which COLMAP cuts them when it reads images.txt; --encoding binary."
    return [cut] if spaces else []
