"""A model in metres on the earth: the similarity that brings its cameras nearest to the GPS positions of the photos.

The frame is ENU: x east, y north, z up, in metres about an origin on WGS84. GPS is off by metres, and some positions
by far more; altitudes of phones above all. So: what most of them agree on, then least squares over these.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from ..errors import InputError
from ..evaluation import Similarity, robust_similarity
from ..exif import GpsPosition
from ..image_files import image_path
from ..images import read_header
from .directions import mean_up
from .scene import Scene

__all__ = ["Alignment", "align", "gps_positions"]

LINE_SHARE = 0.02  # cameras lie on a line if they stray from it by less than this share of their extent


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where a model is on the earth.

    enu_from_model: the similarity; the target is in metres about ``origin``
    origin: (latitude [deg], longitude [deg], altitude [m]) on WGS84
    names: of the images with a position, sorted
    residuals: (N, 3) float64 [m] east, north, up: aligned camera minus GPS
    agrees: (N,) bool: which of them the similarity rests on
    is_tilt_from_photos: the cameras lie on a line, about which the photos' own up decides
    """

    enu_from_model: pycolmap.Sim3d
    origin: tuple[float, float, float]
    names: list[str]
    residuals: np.ndarray
    agrees: np.ndarray
    is_tilt_from_photos: bool

    def lines(self) -> list[str]:
        """The alignment in words."""
        level = np.linalg.norm(self.residuals[:, :2], axis=1)
        up = np.abs(self.residuals[:, 2])
        tilt = " The cameras lie on a line: the tilt about it is from the photos' own up." * self.is_tilt_from_photos
        far = [name for name, agrees in zip(self.names, self.agrees, strict=True) if not agrees]
        apart = f" Left out as wrong: {', '.join(far[:10])}{f' and {len(far) - 10} more' * (len(far) > 10)}."
        return [
            f"{self.agrees.sum()} of {len(self.names)} GPS positions agree. Off by, level: median "
            f"{np.median(level):.2f}, most {level.max():.2f} m; in height: median {np.median(up):.2f}, most "
            f"{up.max():.2f} m."
            f"{apart if far else ''}{tilt}"
        ]

    def geodetic(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) latitude [deg], longitude [deg], altitude [m] of points (N, 3) in ENU [m]."""
        return _transform().enu_to_ellipsoid(points, *self.origin)


def gps_positions(names: list[str], image_dir: Path) -> dict[str, GpsPosition]:
    """Image -> position, of those whose EXIF data has one."""
    paths = {name: image_path(image_dir, name) for name in names}
    found = {name: read_header(path).exif.position for name, path in paths.items() if path.is_file()}
    return {name: position for name, position in found.items() if position}


def align(scene: Scene, *, gps_error_m: float, has_altitude: bool) -> Alignment:
    """The similarity from a model to the earth.

    Args:
        scene: the model; positions are in the EXIF data of its photos.
        gps_error_m: how far off half of the positions may be [m].
        has_altitude: whether altitudes are believed; else all photos count as of one height.

    Raises:
        InputError: fewer than three photos have a position, they are too near each other, or they contradict the model.
    """
    known = gps_positions(scene.names, scene.image_dir)
    if len(known) < 3:
        raise InputError(
            f"{len(known)} of {len(scene.names)} photos in the model have a GPS position in their EXIF data (in "
            f"'{scene.image_dir}'); three are needed to place it on the earth."
        )
    wanted = _filled(list(known.values()), has_altitude)
    transform = _transform()
    origin = _median_place(wanted, transform)
    targets = transform.ellipsoid_to_enu(wanted, *origin)
    centres = np.array([image.projection_center() for image in scene.images if image.name in known])
    motion, agrees = _robust(centres, targets, gps_error_m)
    on_line = _is_line(targets[agrees])
    if on_line:
        motion = _levelled(motion, centres[agrees], mean_up(scene))
    residuals = motion(centres) - targets
    enu_from_model = pycolmap.Sim3d(motion.scale, pycolmap.Rotation3d(motion.rotation), motion.translation)
    return Alignment(enu_from_model, origin, list(known), residuals, agrees, on_line)


def _filled(positions: list[GpsPosition], has_altitude: bool) -> np.ndarray:
    """(N, 3) latitude, longitude, altitude; one that is unknown or not wanted is the median of the others."""
    altitudes = [position.altitude_m for position in positions if position.altitude_m is not None]
    middle = float(np.median(altitudes)) if altitudes else 0.0
    rows = [
        (
            each.latitude_deg,
            each.longitude_deg,
            each.altitude_m if has_altitude and each.altitude_m is not None else middle,
        )
        for each in positions
    ]
    return np.array(rows, float)


def _robust(sources: np.ndarray, targets: np.ndarray, gps_error_m: float) -> tuple[Similarity, np.ndarray]:
    """The similarity targets_from_sources, and which rows (N,) bool agree with it."""
    spread = float(np.median(np.linalg.norm(targets - np.median(targets, axis=0), axis=1)))
    found, agrees = robust_similarity(sources, targets)
    error = float(np.median(np.linalg.norm(found(sources) - targets, axis=1)))
    figures = f"half of them are within {spread:.1f} m of their middle, and more than {error:.1f} m off at best"
    heights = "If it is the heights that are wrong: --no-gps-altitude."
    if error > spread / 2 or not found.scale > 0 or not spread:
        raise InputError(f"The GPS positions are too coarse to place this model on the earth: {figures}. {heights}")
    if error > gps_error_m:
        raise InputError(
            f"The GPS positions do not fit the model within --gps-error-m {gps_error_m:g}: {figures}. {heights}"
        )
    return found, agrees


def _is_line(points: np.ndarray) -> bool:
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return bool(spread[1] < LINE_SHARE * spread[0])


def _levelled(motion: Similarity, sources: np.ndarray, up: np.ndarray) -> Similarity:
    """The motion, turned about the line on which the cameras lie until ``up`` of the model is as near z as it gets."""
    moved = motion(sources)
    centre = moved.mean(0)
    axis = np.linalg.svd(moved - centre)[2][0]
    current, z = motion.rotation @ up, np.array([0.0, 0.0, 1.0])
    here, there = current - axis * (axis @ current), z - axis * (axis @ z)
    angle = float(np.arctan2(axis @ np.cross(here, there), here @ there))
    turn = pycolmap.Rotation3d(angle * axis).matrix()
    return Similarity(motion.scale, turn @ motion.rotation, turn @ (motion.translation - centre) + centre)


def _transform() -> pycolmap.GPSTransform:
    """On GRS80, which is WGS84 to 0.1 mm; the name of the choice is not the same in all versions of pycolmap."""
    return pycolmap.GPSTransform()


def _median_place(places: np.ndarray, transform: pycolmap.GPSTransform) -> tuple[float, float, float]:
    """The one of these places (N, 3) latitude, longitude, altitude that is nearest to their median in space, where
    there is no date line."""
    points = transform.ellipsoid_to_ecef(places)
    nearest = np.argmin(np.linalg.norm(points - np.median(points, axis=0), axis=1))
    latitude, longitude, altitude = places[nearest].tolist()
    return latitude, longitude, altitude
