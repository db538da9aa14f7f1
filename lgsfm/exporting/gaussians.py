"""The folder that 3D Gaussian splatting is trained on: undistorted pictures in images/, PINHOLE model in sparse/0/.

Read by the code of the paper (graphdeco-inria/gaussian-splatting), gsplat's examples, and what descends from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..model_files import write_model
from ..observer import Observer
from ..options import Options, option
from .scene import Scene
from .undistortion import undistort

__all__ = ["GaussiansOptions", "write_gaussians"]


@dataclass(frozen=True, kw_only=True)
class GaussiansOptions(Options):
    """Options of the format."""

    max_edge_px: int = option(0, "gaussians: longer edge of the pictures; 0 leaves their size", minimum=0)


def write_gaussians(scene: Scene, folder: Path, options: GaussiansOptions, observer: Observer) -> list[str]:
    """Writes pictures and model. The pictures lie side by side: the code of the paper takes no sub-folders."""
    model = undistort(scene, folder, max_edge_px=options.max_edge_px)
    (folder / "sparse" / "0").mkdir(parents=True)
    write_model(model, folder / "sparse" / "0")
    return []
