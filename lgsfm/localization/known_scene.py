"""A finished model as photos are located in it: which images look like a photo, what their keypoints show, whose camera
it has."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..camera_groups import camera_key
from ..cameras import PIXEL_CENTRE, Camera
from ..errors import InputError
from ..finished import FinishedRun
from ..images import ImageHeader, Photo, read_header, read_photo
from ..poses import read_reconstruction
from ..retrievers import Retriever, looks_at_photos, similarities
from ..store import orientation_of
from ..types import Features, Matches

if TYPE_CHECKING:
    import pycolmap

__all__ = ["KnownScene"]

SAME_PX = 0.01  # keypoints of the model and of the features that are the same
NO_POINT = -1

ReadPhoto = Callable[[str, int], Photo]


class KnownScene:
    """The best model of a finished run, with the features that it was made of.

    Args:
        run: the output folder.

    Raises:
        InputError: there is no model, or it is not of these features.
    """

    def __init__(self, run: FinishedRun) -> None:
        self.run = run
        self.folder = run.workspace.sparse / "0"
        if not self.folder.is_dir():
            raise InputError(
                f"There is no model in {run.workspace.root} to locate photos in. Run `{run.workspace.command()}`."
            )
        self.model: pycolmap.Reconstruction = read_reconstruction(self.folder)
        images = [self.model.image(number) for number in self.model.reg_image_ids()]
        self.images = {image.name: image for image in sorted(images, key=lambda image: image.name)}
        missing = [name for name in self.images if name not in run.features]
        if missing:
            raise self._other_features(missing[0])
        self._point_ids: dict[str, np.ndarray] = {}
        self._descriptors: np.ndarray | None = None

    @property
    def names(self) -> list[str]:
        """The registered images, sorted."""
        return list(self.images)

    def point_ids(self, name: str) -> np.ndarray:
        """(N,) int64: the 3D point that each keypoint of an image shows, -1 for none.

        Raises:
            InputError: the model was made of other features.
        """
        if name not in self._point_ids:
            points = self.images[name].points2D
            keypoints = self.run.features[name].keypoints
            # behind the keypoints of the first look may come those of a finer one, see `lgsfm.layers`
            pixels = np.array([point.xy for point in points]).reshape(-1, 2)[: len(keypoints)] - PIXEL_CENTRE
            if pixels.shape != keypoints.shape or (np.abs(pixels - keypoints) > SAME_PX).any():
                raise self._other_features(name)
            ids = [point.point3D_id if point.has_point3D() else NO_POINT for point in points[: len(keypoints)]]
            self._point_ids[name] = np.array(ids, np.int64)
        return self._point_ids[name]

    def _other_features(self, name: str) -> InputError:
        return InputError(
            f"The model in {self.folder} was not made of the features of the last command there: they differ for "
            f"{name}. Run `{self.run.workspace.command()}` again."
        )

    def observed(self, matches: Mapping[str, Matches]) -> tuple[np.ndarray, np.ndarray]:
        """What the keypoints of a photo show, by its matches (keypoint of the photo, of the image) with images.

        Returns:
            (M, 2) int64 different rows (keypoint, 3D point), and (M,) int, how many images say so.
        """
        rows = [np.zeros((0, 2), np.int64)]
        for name, found in matches.items():
            points = self.point_ids(name)[found.indices[:, 1]]
            rows.append(np.column_stack([found.indices[:, 0], points])[points != NO_POINT].astype(np.int64))
        pairs, votes = np.unique(np.concatenate(rows), axis=0, return_counts=True)
        return pairs, votes

    def positions(self, point_ids: np.ndarray) -> np.ndarray:
        """(M, 3) float64 [model units]: where 3D points are."""
        return np.array([self.model.point3D(int(number)).xyz for number in point_ids], np.float64).reshape(-1, 3)

    # ---------------------------------------------------------------------------- look-alikes
    def look_alikes(
        self, photos: Mapping[str, Features], make_retriever: Callable[[], Retriever], neighbors: int, read: ReadPhoto
    ) -> dict[str, list[str]]:
        """The registered images that look most like each photo, the best first; all of them where they are few.

        A retriever that looks at photos describes the images once, and each photo by itself. One that looks at features
        learns its words from the images and all photos of the call, so that it describes the images anew in each call,
        and candidates may depend a little on the other photos.

        Args:
            photos: features under names that no image has.
            make_retriever: gives what compares them; the same one each time.
            neighbors: the most for each photo.
            read: gives an upright photo, for a retriever that looks at it: name, px of its longer edge at least.
        """
        if len(self.images) <= neighbors or not photos:
            return dict.fromkeys(photos, self.names)
        names, keys, retriever = self.names, list(photos), make_retriever()
        if looks_at_photos(retriever):
            names = self._names_with_photo
            rows = retriever.describe_photos(keys, read) @ self._described(retriever).T  # type: ignore[attr-defined]
        else:
            features = ChainMap(dict(photos), self.run.features)  # type: ignore[arg-type]
            described = retriever.describe([*names, *keys], features)
            rows = similarities(retriever, described, len(names), len(names) + len(keys))[:, : len(names)]
        order = np.argsort(-rows, axis=1, kind="stable")[:, :neighbors]
        return {key: [names[i] for i in best if row[i] > 0] for key, row, best in zip(keys, rows, order, strict=True)}

    @cached_property
    def _names_with_photo(self) -> list[str]:
        """The registered images whose files are still there."""
        return [name for name in self.images if self.run.photo(name).is_file()]

    def _described(self, retriever: Any) -> np.ndarray:
        """(N, D) what a retriever that looks at photos makes of the images that are there, made once."""
        if self._descriptors is None:
            self._descriptors = retriever.describe_photos(self._names_with_photo, self._photo)
        return self._descriptors

    def _photo(self, name: str, max_edge_px: int) -> Photo:
        """The photo of an image, upright as its features have seen it."""
        orientation = orientation_of(self.run.features, name)
        return read_photo(self.run.photo(name), max_edge_px, orientation=orientation)

    # ---------------------------------------------------------------------------- cameras
    @cached_property
    def _camera_ids(self) -> dict[tuple[object, ...], set[int]]:
        """The cameras of the registered photos of one make, model, focal length and size."""
        found: dict[tuple[object, ...], set[int]] = {}
        for name, image in self.images.items():
            try:
                header = read_header(self.run.photo(name))
            except InputError:  # the photo is gone; its camera is left to others
                continue
            found.setdefault(camera_key(header), set()).add(image.camera_id)
        return found

    def camera_id(self, header: ImageHeader) -> int | None:
        """The camera of the model that took a photo, by its EXIF data and size; None if none or several may have."""
        ids = self._camera_ids.get(camera_key(header), set())
        return next(iter(ids)) if len(ids) == 1 else None

    def camera(self, camera_id: int) -> Camera:
        """A refined camera of the model."""
        found = self.model.cameras[camera_id]
        params = tuple(map(float, found.params))
        return Camera(found.model_name, (found.width, found.height), params, f"camera {camera_id} of the model")
