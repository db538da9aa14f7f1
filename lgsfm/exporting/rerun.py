"""A recording for the rerun viewer: the points, the cameras, and photo after photo with its keypoints.

Needs the package rerun-sdk. Pictures are undistorted, since the cameras of rerun know no distortion. Coordinates are
COLMAP's: x right, y down, z forward; the centre of the first pixel is (0.5, 0.5) for rerun, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pycolmap

from ..errors import InputError
from ..images import read_photo
from ..observer import Observer
from ..options import Options, option
from .directions import frusta_size, mean_up
from .scene import Scene
from .undistortion import undistort

__all__ = ["RerunOptions", "write_recording"]

TIMELINE = "photo"
MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}  # that the viewer decodes


@dataclass(frozen=True, kw_only=True)
class RerunOptions(Options):
    """Options of the format."""

    pictures: bool = option(True, "rerun: hold the photos, too")
    picture_edge_px: int = option(1024, "rerun: longer edge of the pictures", minimum=16)


def write_recording(scene: Scene, path: Path, options: RerunOptions, observer: Observer) -> list[str]:
    """Writes the .rrd file. Raises `InputError` without rerun-sdk."""
    rr = _rerun()
    recording = rr.RecordingStream("lgsfm", recording_id=f"{scene.workspace.root.resolve()}/{scene.number}")
    recording.save(path)
    _log_scene(rr, recording, scene)
    size = frusta_size(scene)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True) as work:
        folder = Path(work)
        pictures = undistort(scene, folder, max_edge_px=options.picture_edge_px) if options.pictures else None
        progress = observer.progress("export")
        for number, image in enumerate(scene.images):
            recording.set_time(TIMELINE, sequence=number)
            shown = pictures.image(image.image_id) if pictures else image
            camera = (pictures or scene.model).camera(shown.camera_id)
            _log_camera(rr, recording, "world/photo", shown, camera, size)
            seen = shown.points2D if pictures else ()
            keypoints = [point.xy for point in seen if point.has_point3D()]
            if pictures:
                file = folder / "images" / shown.name
                recording.log("world/photo", _picture(rr, file))
            recording.log("world/photo/keypoints", rr.Points2D(np.array(keypoints).reshape(-1, 2)))
            recording.log("world/photo", rr.AnyValues(image=image.name))
            if progress:
                progress(number + 1, len(scene.images))
    recording.flush()
    recording.disconnect()
    return []


def _rerun() -> Any:
    try:
        return import_module("rerun")
    except ImportError as exc:
        raise InputError(f"The format rerun needs the package rerun-sdk ({exc}): pip install rerun-sdk") from exc


def _picture(rr: Any, file: Path) -> Any:
    """An image file as it is, where the viewer reads its format."""
    media_type = MEDIA_TYPES.get(file.suffix.lower())
    if media_type:
        return rr.EncodedImage(contents=file.read_bytes(), media_type=media_type)
    return rr.Image(read_photo(file, orientation=1).rgb).compress(jpeg_quality=90)


def _log_scene(rr: Any, recording: Any, scene: Scene) -> None:
    """What holds for all photos."""
    up = mean_up(scene)
    main = int(np.argmax(np.abs(up)))
    name = f"RIGHT_HAND_{'XYZ'[main]}_{'UP' if up[main] > 0 else 'DOWN'}"
    recording.log("world", getattr(rr.ViewCoordinates, name), static=True)
    points = list(scene.model.points3D.values())
    positions = np.array([point.xyz for point in points]).reshape(-1, 3)
    colours = np.array([point.color for point in points], np.uint8).reshape(-1, 3)
    recording.log("world/points", rr.Points3D(positions, colors=colours), static=True)
    size = frusta_size(scene) / 2
    for image in scene.images:
        place = f"world/cameras/{rr.escape_entity_path_part(image.name)}"
        _log_camera(rr, recording, place, image, scene.model.camera(image.camera_id), size, static=True)


def _log_camera(
    rr: Any,
    recording: Any,
    place: str,
    image: pycolmap.Image,
    camera: pycolmap.Camera,
    size: float,
    *,
    static: bool = False,
) -> None:
    """A camera without its distortion, drawn so deep [world units]."""
    pose = image.cam_from_world().inverse()
    pinhole = rr.Pinhole(
        image_from_camera=np.array(
            [
                [camera.focal_length_x, 0, camera.principal_point_x],
                [0, camera.focal_length_y, camera.principal_point_y],
                [0, 0, 1],
            ]
        ),
        resolution=[camera.width, camera.height],
        camera_xyz=rr.ViewCoordinates.RDF,
        image_plane_distance=size,
    )
    transform = rr.Transform3D(translation=pose.translation, mat3x3=pose.rotation.matrix())
    recording.log(place, transform, static=static)
    recording.log(place, pinhole, static=static)
