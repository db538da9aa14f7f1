"""Images that were taken near each other, by the GPS positions in their EXIF data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import InputError
from ..exif import GpsPosition
from ..types import Pair
from .collection import Collection
from .options import PairOptions
from .ranking import partner_pairs
from .sequence import natural_key

__all__ = ["check_positions", "earth_centred_m", "spatial_pairs"]

EQUATOR_M, FLATTENING = 6378137.0, 1 / 298.257223563  # WGS84
NAMED = 10  # images without GPS that a note lists


def spatial_pairs(collection: Collection, options: PairOptions) -> set[Pair]:
    """Each image with the nearest ones within ``max_distance_m``; of equally near ones, those nearest by name.

    Raises:
        InputError: no image has a GPS position.
    """
    check_positions(collection)
    positions = {name: exif.position for name, exif in collection.exif.items() if exif.position}
    without = [name for name in collection.names if name not in positions]
    if without:
        some = ", ".join(without[:NAMED]) + (f" and {len(without) - NAMED} more" if len(without) > NAMED else "")
        collection.notes.append(f"{len(without)} of {len(collection.names)} photos have no GPS position: {some}.")
    names = sorted(positions, key=natural_key)
    points = _points_m([positions[name] for name in names], has_altitude=options.gps_altitude)

    def nearness(start: int, stop: int) -> np.ndarray:
        squares = sum((points[start:stop, axis, None] - points[:, axis]) ** 2 for axis in range(3))
        return np.where(squares <= options.max_distance_m**2, -squares, -np.inf)

    return partner_pairs(names, nearness, options.neighbors)


def check_positions(collection: Collection) -> None:
    """Raises `InputError` if no image has a GPS position; reads photos up to the first that has one."""
    if not any(collection.exif_of(name).position for name in collection.names):
        raise InputError(
            "No photo has a GPS position in its EXIF data, so none is near another. "
            "Choose --pairs retrieval, sequential or exhaustive."
        )


def _points_m(positions: Sequence[GpsPosition], *, has_altitude: bool) -> np.ndarray:
    """(N, 3) [m]: the positions in space; one whose altitude is unknown has the median altitude of the others."""
    known = [position.altitude_m for position in positions if position.altitude_m is not None]
    median = float(np.median(known)) if known else 0.0
    filled = [
        position if position.altitude_m is not None else replace(position, altitude_m=median) for position in positions
    ]
    return np.array([earth_centred_m(position, has_altitude=has_altitude) for position in filled])


def earth_centred_m(position: GpsPosition, *, has_altitude: bool = False) -> np.ndarray:
    """(3,) float64 [m]: a position on WGS84, in the frame that turns with the earth about its centre.

    Distances there are those of a local tangent plane as far as photos see, and there is no seam at the date line, at
    the poles, or between places far apart. An altitude that is unknown, or not wanted, is 0.
    """
    latitude, longitude = np.radians((position.latitude_deg, position.longitude_deg))
    altitude = (position.altitude_m or 0.0) if has_altitude else 0.0
    squared = FLATTENING * (2 - FLATTENING)  # eccentricity
    normal = EQUATOR_M / np.sqrt(1 - squared * np.sin(latitude) ** 2)
    flat = (normal + altitude) * np.cos(latitude)
    height = (normal * (1 - squared) + altitude) * np.sin(latitude)
    return np.array([flat * np.cos(longitude), flat * np.sin(longitude), height])
