"""The formats, one line each: what it is, where it goes by default, who reads it, and the function that writes it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import unknown_name
from ..options import Options

__all__ = ["FORMATS", "Format", "format_named"]


@dataclass(frozen=True)
class Format:
    """A format.

    text: what it is, in a line
    place: name of the file or folder in ``OUT/export``; a file has a suffix
    opened_by: the command that reads it, with {path} for its place
    writer: "module:function" in this package, called with scene, path, options and observer; gives notes in words
    options: name of the options class in the same module; "" if there are none
    """

    text: str
    place: str
    opened_by: str
    writer: str
    options: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, not a single file."""
        return not Path(self.place).suffix

    def options_class(self) -> type[Options]:
        """The options that the format has."""
        return getattr(self._module(), self.options) if self.options else Options

    def write(self, *arguments: Any) -> list[str]:
        """Writes it; arguments as ``writer`` has them."""
        return getattr(self._module(), self.writer.partition(":")[2])(*arguments)

    def _module(self) -> Any:
        return import_module(f".{self.writer.partition(':')[0]}", __package__)


FORMATS = {
    "bundler": Format(
        "bundle.out, list.txt and photos: Bundler's files",
        "bundler",
        "meshlab (File > Open project: {path}/bundle.out, then list.txt)",
        "bundler:write_bundler",
    ),
    "colmap": Format(
        "cameras, images and points as COLMAP's text files, or binary",
        "colmap",
        "colmap gui --import_path {path}; pycolmap.Reconstruction('{path}')",
        "colmap_files:write_model",
        "ColmapOptions",
    ),
    "gaussians": Format(
        "undistorted pictures and model in the folder layout of 3D Gaussian splatting and gsplat",
        "gaussians",
        "python train.py -s {path}; gsplat: python simple_trainer.py default --data_dir {path} --data_factor 1",
        "gaussians:write_gaussians",
        "GaussiansOptions",
    ),
    "geo": Format(
        "the model in metres on the earth (ENU) by the GPS of the photos, and the cameras as GeoJSON",
        "geo",
        "{path}/cameras.geojson: QGIS, geojson.io; {path}: lgsfm export {path} glb --up z",
        "geo:write_geo",
        "GeoOptions",
    ),
    "glb": Format(
        "points and cameras as one glTF file, y up",
        "model.glb",
        "Blender (File > Import > glTF 2.0), https://gltf-viewer.donmccurdy.com, trimesh.load('{path}')",
        "glb:write_glb",
        "GlbOptions",
    ),
    "hloc": Format(
        "features, matches and model in hloc's own files",
        "hloc",
        "hloc.localize_sfm.main('{path}/sfm', queries, pairs, '{path}/features.h5', matches, results)",
        "hloc:write_hloc",
    ),
    "nerfstudio": Format(
        "transforms.json, photos and points for nerfstudio",
        "nerfstudio",
        "ns-train splatfacto --data {path}",
        "nerfstudio:write_nerfstudio",
        "NerfstudioOptions",
    ),
    "ply": Format(
        "the points, coloured, as one PLY file",
        "points.ply",
        "meshlab {path}; CloudCompare; trimesh.load('{path}')",
        "ply:write_points",
    ),
    "rerun": Format(
        "points, cameras and photos for the rerun viewer (needs rerun-sdk)",
        "recording.rrd",
        "rerun {path}",
        "rerun:write_recording",
        "RerunOptions",
    ),
}


def format_named(name: str) -> Format:
    """The format of a name. Raises `InputError`, which lists those there are."""
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[name]
