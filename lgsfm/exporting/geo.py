"""The model on the earth, by the GPS positions of its photos: COLMAP files in metres, and a map of the cameras."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from ..files import write_json
from ..model_files import write_model
from ..observer import Observer
from ..options import Options, option
from .alignment import Alignment, align
from .scene import Scene

__all__ = ["GeoOptions", "feature_collection", "write_geo"]


@dataclass(frozen=True, kw_only=True)
class GeoOptions(Options):
    """Options of the format."""

    gps_error_m: float = option(10.0, "geo: how far off half of the GPS positions may be, in metres", minimum=0.01)
    gps_altitude: bool = option(True, "geo: believe the altitudes, too; without, all photos count as of one height")


def write_geo(scene: Scene, folder: Path, options: GeoOptions, observer: Observer) -> list[str]:
    """Writes sparse/0 (ENU, metres), cameras.geojson, alignment.json; and where the photos are, so that what is
    exported of a run can be exported of this, too."""
    alignment = align(scene, gps_error_m=options.gps_error_m, has_altitude=options.gps_altitude)
    model = copy.deepcopy(scene.model)
    model.transform(alignment.enu_from_model)
    (folder / "sparse" / "0").mkdir(parents=True)
    write_model(model, folder / "sparse" / "0")
    images = [model.image(image.image_id) for image in scene.images]
    write_json(folder / "cameras.geojson", feature_collection(alignment, images))
    write_json(folder / "alignment.json", record(alignment))
    write_json(folder / "summary.json", {"image_dir": str(scene.image_dir.resolve())})
    return alignment.lines()


def feature_collection(alignment: Alignment, images: list[pycolmap.Image]) -> dict[str, Any]:
    """GeoJSON (RFC 7946): of each camera of an aligned model a point: longitude, latitude [deg], altitude [m]."""
    places = alignment.geodetic(np.array([image.projection_center() for image in images]))
    errors = dict(zip(alignment.names, np.linalg.norm(alignment.residuals, axis=1).tolist(), strict=True))
    features = []
    for image, (latitude, longitude, altitude) in zip(images, places.tolist(), strict=True):
        view = image.cam_from_world().rotation.matrix()[2]
        properties = {
            "image": image.name,
            "heading_deg": round(float(np.degrees(np.arctan2(view[0], view[1]))) % 360, 3),  # clockwise from north
            "pitch_deg": round(float(np.degrees(np.arcsin(np.clip(view[2], -1, 1)))), 3),  # above the horizon
            "gps_residual_m": round(errors[image.name], 3) if image.name in errors else None,
        }
        point = {"type": "Point", "coordinates": [round(longitude, 9), round(latitude, 9), round(altitude, 3)]}
        features.append({"type": "Feature", "geometry": point, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def record(alignment: Alignment) -> dict[str, Any]:
    """The alignment as JSON."""
    latitude, longitude, altitude = alignment.origin
    rows = zip(alignment.names, alignment.residuals.tolist(), alignment.agrees.tolist(), strict=True)
    return {
        "frame": "ENU [m]: x east, y north, z up",
        "origin": {"latitude_deg": latitude, "longitude_deg": longitude, "altitude_m": altitude},
        "enu_from_model": np.vstack([alignment.enu_from_model.matrix(), [0, 0, 0, 1]]).tolist(),
        "is_tilt_from_photos": alignment.is_tilt_from_photos,
        "residuals_m": {name: {"east_north_up": error, "agrees": agrees} for name, error, agrees in rows},
    }
