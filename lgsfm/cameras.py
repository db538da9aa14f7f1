"""The camera of one photo: model and parameters as COLMAP writes them, where they came from, and the rays of pixels.

Parameters count pixels as COLMAP does, the centre of the top-left pixel being (0.5, 0.5); points are lgsfm's, where it
is (0, 0). `Camera.ideal_points` converts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pycolmap

from .errors import InputError, unknown_name
from .exif import Exif
from .poses import read_reconstruction

__all__ = [
    "DEFAULT_FOCAL_FACTOR",
    "ESTIMATED",
    "PIXEL_CENTRE",
    "Camera",
    "camera_of_exif",
    "camera_of_model",
    "parse_camera",
]

PIXEL_CENTRE = 0.5  # of COLMAP's top-left pixel, in both axes
DEFAULT_FOCAL_FACTOR = 1.2  # guessed focal length per long image edge, as COLMAP does
GUESS, ESTIMATED = "a guess", "estimated from the matches"
MODELS = tuple(name for name in pycolmap.CameraModelId.__members__ if name != "INVALID")


@dataclass(frozen=True)
class Camera:
    """Intrinsics of one photo.

    model: COLMAP's name of the camera model
    size: (width, height) [px] of the stored image
    params: in COLMAP's order and pixels
    source: where they came from, in words: "EXIF", "given", "model PATH", "a guess", "estimated from the matches"
    """

    model: str
    size: tuple[int, int]
    params: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise unknown_name("camera model", self.model, MODELS)
        names = pycolmap.Camera(model=self.model).params_info.split(",")
        if len(self.params) != len(names):
            raise InputError(
                f"The camera model {self.model} has the parameters {','.join(names)}, not {len(self.params)} numbers."
            )
        if not all(math.isfinite(value) for value in self.params) or self.focal_px <= 0:
            raise InputError(f"The parameters of a camera must be finite, its focal length positive: {self.params}.")
        principal = self.colmap.principal_point_idxs()
        if any(not 0 <= self.params[i] <= edge for i, edge in zip(principal, self.size, strict=False)):
            point = ", ".join(f"{self.params[i]:g}" for i in principal)
            raise InputError(
                f"The principal point ({point}) of a camera must lie in its photo, which has "
                f"{self.size[0]}x{self.size[1]} pixels."
            )

    @property
    def colmap(self) -> pycolmap.Camera:
        """The same as COLMAP's object."""
        return pycolmap.Camera(model=self.model, width=self.size[0], height=self.size[1], params=list(self.params))

    @property
    def focal_px(self) -> float:
        """Mean focal length [px]."""
        return float(self.colmap.mean_focal_length())

    @property
    def is_guess(self) -> bool:
        """Whether the focal length is a guess."""
        return self.source == GUESS

    def ideal_points(self, points: np.ndarray) -> np.ndarray:
        """(N, 2) float64 [px]: where a camera without distortion, of the same mean focal length and with the principal
        point at (0, 0), would see what this one sees at ``points`` (N, 2) [px] of the stored image."""
        if not len(points):
            return np.zeros((0, 2))
        rays = self.colmap.cam_from_img(np.asarray(points, np.float64) + PIXEL_CENTRE)
        return np.asarray(rays, np.float64) * self.focal_px

    def scaled_to(self, size: tuple[int, int]) -> Camera:
        """The camera of the same photo at another size. Raises `InputError` if the aspect ratio differs."""
        if size == self.size:
            return self
        if abs(size[0] * self.size[1] - size[1] * self.size[0]) > max(*size, *self.size):
            raise InputError(
                f"The camera is of an image of {self.size[0]}x{self.size[1]} px, the photo has {size[0]}x{size[1]}."
            )
        camera = self.colmap
        camera.rescale(*size)
        return Camera(self.model, size, tuple(map(float, camera.params)), self.source)


def camera_of_exif(exif: Exif, size: tuple[int, int]) -> Camera:
    """The camera that the EXIF data tells, else a guess: no distortion, principal point at the centre."""
    focal, source = exif.focal_px(size), "EXIF"
    if focal is None:
        focal, source = DEFAULT_FOCAL_FACTOR * max(size), GUESS
    return Camera("SIMPLE_PINHOLE", size, (focal, size[0] / 2, size[1] / 2), source)


def camera_of_model(folder: Path, image_name: str, size: tuple[int, int]) -> Camera:
    """The camera that a COLMAP model has for an image, found by its name or by the end of it.

    Raises:
        InputError: there is no such model, or no such image in it.
    """
    model = read_reconstruction(folder)
    wanted = PurePosixPath(image_name.replace("\\", "/"))
    found = [image for image in model.images.values() if image.name == wanted.as_posix()] or [
        image for image in model.images.values() if _ends_alike(PurePosixPath(image.name), wanted)
    ]
    if len(found) != 1:
        problem = "has no image" if not found else f"has {len(found)} images"
        raise InputError(f"The model in '{folder}' {problem} named '{image_name}'. Give the camera as numbers.")
    camera = model.cameras[found[0].camera_id]
    params = tuple(map(float, camera.params))
    return Camera(camera.model_name, (camera.width, camera.height), params, f"model {folder}").scaled_to(size)


def _ends_alike(name0: PurePosixPath, name1: PurePosixPath) -> bool:
    count = min(len(name0.parts), len(name1.parts))
    return name0.parts[-count:] == name1.parts[-count:]


def parse_camera(text: str, image_name: str, size: tuple[int, int]) -> Camera:
    """The camera that a user describes: ``FOCAL``, ``MODEL,PARAMS...`` or the folder of a COLMAP model.

    >>> parse_camera("1200", "a.jpg", (1600, 1200)).params
    (1200.0, 800.0, 600.0)

    Raises:
        InputError: it is none of these.
    """
    if text and Path(text).is_dir():
        return camera_of_model(Path(text), image_name, size)
    first, *rest = (part.strip() for part in text.split(","))
    try:
        if not rest:
            return Camera("SIMPLE_PINHOLE", size, (float(first), size[0] / 2, size[1] / 2), "given")
        return Camera(first.upper(), size, tuple(float(part) for part in rest), "given")
    except ValueError as exc:
        raise InputError(
            f"'{text}' is no camera. Give a focal length in pixels (1200), a COLMAP camera model with its parameters "
            "(PINHOLE,fx,fy,cx,cy), or the folder of a COLMAP model that holds the photo."
        ) from exc
