"""A small world whose keypoints are exact, as an output folder of lgsfm with photos; and cameras by the book.

What the tests compare with is written here from the formulas of the formats, not with what lgsfm exports with.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pycolmap
from PIL import ExifTags, Image

sys.path.append(str(Path(__file__).resolve().parent.parent))
from conftest import textured

SIZE = (320, 240)
NAMES = ("a/1.jpg", "b/1.jpg", "b/é # %.jpg", "c.jpg", "d e.jpg", "f.jpg")
CAMERAS = {
    "PINHOLE": [400, 390, 160, 120],
    "SIMPLE_RADIAL": [400, 160, 120, 0.05],
    "RADIAL": [400, 160, 120, 0.05, -0.02],
    "OPENCV": [400, 390, 163, 118, 0.05, -0.02, 0.003, -0.002],
    "OPENCV_FISHEYE": [250, 255, 163, 118, 0.02, -0.01, 0.003, -0.001],
    "SIMPLE_RADIAL_FISHEYE": [250, 160, 120, 0.03],
    "FULL_OPENCV": [400, 390, 163, 118, 0.05, -0.02, 0.003, -0.002, 0.01, 0.02, -0.01, 0.005],
}
GPS = ExifTags.GPS
AXIS, FLATTENING = 6378137.0, 1 / 298.257223563


@dataclass(frozen=True)
class World:
    """An output folder, its photos, and the model in it."""

    output: Path
    photos: Path
    model: pycolmap.Reconstruction

    def image(self, name: str) -> pycolmap.Image:
        return next(image for image in self.model.images.values() if image.name == name)

    def observations(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """3D points (N, 3) that an image sees, and where (N, 2) [px], in COLMAP's pixels."""
        seen = [point for point in self.image(name).points2D if point.has_point3D()]
        points = [self.model.point3D(point.point3D_id).xyz for point in seen]
        return np.array(points), np.array([point.xy for point in seen])


def make_world(folder: Path, camera: str = "SIMPLE_RADIAL", names=NAMES, *, num_cameras: int = 1, exif=None) -> World:
    """Exact observations of 60 points by one or two cameras; ``exif``: (name, image) -> the tags of its photo."""
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=num_cameras,
        num_frames_per_rig=len(names) // num_cameras,
        num_points3D=60,
        camera_width=SIZE[0],
        camera_height=SIZE[1],
        camera_model_id=pycolmap.CameraModelId.__members__[camera],
        camera_params=CAMERAS[camera],
    )
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(options)
    for image, name in zip(sorted(model.images.values(), key=lambda image: image.image_id), names, strict=True):
        image.name = name
    for number, point in enumerate(model.points3D.values()):
        point.color = np.array([number, 255 - number, 128], np.uint8)
    output, photos = folder / "out", folder / "photos"
    write_model(model, output)
    for number, name in enumerate(names):
        tags = exif(name, next(image for image in model.images.values() if image.name == name)) if exif else {}
        save_jpeg(photos / name, picture(number), **tags)
    (output / "summary.json").write_text(json.dumps({"image_dir": str(photos)}))
    (output / "options.json").write_text(json.dumps({"flags": {}}))
    return World(output, photos, model)


@cache
def picture(number: int) -> np.ndarray:
    return textured(*SIZE, seed=number)


def write_model(model: pycolmap.Reconstruction, output: Path, number: int = 0) -> None:
    folder = output / "sparse" / str(number)
    folder.mkdir(parents=True)
    model.write(folder)


def save_jpeg(path: Path, rgb: np.ndarray, orientation: int = 1, gps: dict | None = None) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x0110] = "camera"
    if gps:
        exif[ExifTags.IFD.GPSInfo] = gps
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, "JPEG", quality=92, exif=exif)


# --------------------------------------------------------------------------------- cameras
def perspective(points: np.ndarray, camera: dict[str, float]) -> np.ndarray:
    """OpenCV's camera: points (N, 3), x right, y down, z forward -> (N, 2) [px]."""
    x, y = (points[:, :2] / points[:, 2:]).T
    r2 = x * x + y * y
    radial = 1 + camera.get("k1", 0) * r2 + camera.get("k2", 0) * r2 * r2
    p1, p2 = camera.get("p1", 0), camera.get("p2", 0)
    u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return np.column_stack([camera["fl_x"] * u + camera["cx"], camera["fl_y"] * v + camera["cy"]])


def fisheye(points: np.ndarray, camera: dict[str, float]) -> np.ndarray:
    """OpenCV's fisheye camera, likewise."""
    x, y = (points[:, :2] / points[:, 2:]).T
    r = np.hypot(x, y)
    t = np.arctan(r)
    bent = t * (1 + sum(camera[f"k{i}"] * t ** (2 * i) for i in (1, 2, 3, 4)))
    scale = np.divide(bent, r, out=np.ones_like(r), where=r > 0)
    return np.column_stack([camera["fl_x"] * x * scale + camera["cx"], camera["fl_y"] * y * scale + camera["cy"]])


# --------------------------------------------------------------------------------- the earth
def earth_centred(latitude_deg: float, longitude_deg: float, altitude_m: float) -> np.ndarray:
    """WGS84 to the frame that turns with the earth [m], by the closed formula."""
    lat, lon = math.radians(latitude_deg), math.radians(longitude_deg)
    e2 = FLATTENING * (2 - FLATTENING)
    n = AXIS / math.sqrt(1 - e2 * math.sin(lat) ** 2)
    level = (n + altitude_m) * math.cos(lat)
    return np.array([level * math.cos(lon), level * math.sin(lon), (n * (1 - e2) + altitude_m) * math.sin(lat)])


def geodetic(enu: np.ndarray, origin: tuple[float, float, float]) -> tuple[float, float, float]:
    """Latitude, longitude, altitude of a point near an origin, by Newton's method on `earth_centred`."""
    lat, lon = np.radians(origin[:2])
    axes = np.array(
        [
            [-np.sin(lon), np.cos(lon), 0],
            [-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)],
            [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)],
        ]
    )
    wanted = earth_centred(*origin) + axes.T @ enu
    place = np.array(origin, float)
    steps = np.diag([1e-6, 1e-6, 1e-1])
    for _ in range(8):
        here = earth_centred(*place)
        slope = np.column_stack([(earth_centred(*(place + step)) - here) / step.sum() for step in steps])
        place = place + np.linalg.solve(slope, wanted - here)
    return float(place[0]), float((place[1] + 180) % 360 - 180), float(place[2])


def gps_tags(latitude: float, longitude: float, altitude: float) -> dict:
    def parts(degrees: float) -> tuple[float, float, float]:
        whole, minutes = divmod(abs(degrees) * 60, 60)
        return whole, math.floor(minutes), (minutes - math.floor(minutes)) * 60

    return {
        GPS.GPSLatitudeRef: "N" if latitude >= 0 else "S",
        GPS.GPSLatitude: parts(latitude),
        GPS.GPSLongitudeRef: "E" if longitude >= 0 else "W",
        GPS.GPSLongitude: parts(longitude),
        GPS.GPSAltitudeRef: b"\0",
        GPS.GPSAltitude: altitude,
    }
