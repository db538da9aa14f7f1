"""Two photos: their matches and their relative pose, without a folder of results.

    pair = lgsfm.match_pair("a.jpg", "b.jpg")
    pose = lgsfm.estimate_relative_pose("a.jpg", "b.jpg")

`PairMatcher` is the warm object behind both: it keeps the networks, so that the second pair costs no loading.
`FrameMatcher` keeps the features of the last frame and of a keyframe too, for video and SLAM front ends.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .cameras import Camera, camera_of_exif, parse_camera
from .errors import InputError
from .exif import Exif, turned_clockwise
from .extractors import Extractor, is_rotation_invariant
from .images import MIN_EDGE_PX, photo_from_array, read_header, read_photo
from .matchers import Matcher
from .settings import PairSettings, choose_features
from .two_view import TwoViewPose, estimate_pose
from .types import Features, Matches, Progress
from .upright import find_turns

__all__ = ["FrameMatcher", "Image", "MatchedPair", "PairMatcher", "estimate_relative_pose", "match_pair"]

Image = str | os.PathLike[str] | np.ndarray | Features  # a file, RGB pixels (H, W, 3) uint8, or stored features
WARM = 4  # sets of networks that `match_pair` and `estimate_relative_pose` keep


@dataclass(frozen=True, eq=False)
class MatchedPair(Matches):
    """Matches that know the features they connect.

    features: of both images
    points0: (K, 2) float32 [px] of the stored image 0
    points1: (K, 2) float32 [px] of the stored image 1
    """

    features: tuple[Features, Features] = field(kw_only=True)

    @cached_property
    def points0(self) -> np.ndarray:
        """(K, 2) float32 [px]: where the matches are in image 0."""
        return self.features[0].keypoints[self.indices[:, 0]]

    @cached_property
    def points1(self) -> np.ndarray:
        """(K, 2) float32 [px]: where the matches are in image 1."""
        return self.features[1].keypoints[self.indices[:, 1]]


class PairMatcher:
    """Extractor and matcher, loaded once, for any number of pairs.

    Args:
        settings: all choices; None takes the defaults.
        progress: called with (done, total) bytes while weights are downloaded.

    Raises:
        WeightsError: the weights of a network cannot be had.
        InputError: the choices do not fit each other.
    """

    def __init__(self, settings: PairSettings | None = None, *, progress: Progress | None = None) -> None:
        self.settings = settings or PairSettings.from_flags({})
        self.features_name, self.features_reason = choose_features(self.settings.run)
        self.extractor: Extractor = self.settings.make_extractor(self.features_name, progress=progress)
        self.matcher: Matcher = self.settings.make_matcher(self.settings.run.matcher, self.extractor, progress=progress)

    def extract(self, image: Image, *, orientation: int | None = None) -> Features:
        """Features of an image; stored features come back as they are.

        Args:
            image: a file, (H, W, 3) RGB or (H, W) grey uint8 pixels, or features.
            orientation: EXIF code of the view to look at; None means what ``--upright`` and the file say.

        Raises:
            InputError: the image cannot be used.
        """
        if isinstance(image, Features):
            return image
        edge_px = self.extractor.options.max_edge_px or None
        if isinstance(image, (str, os.PathLike)):
            if orientation is None and self.settings.upright.upright == "off":
                orientation = 1
            photo = read_photo(Path(image), edge_px, orientation=orientation)
        else:
            photo = photo_from_array(_pixels(image), edge_px, orientation=orientation or 1)
        if min(photo.rgb.shape[:2]) < MIN_EDGE_PX:
            where = f"{image}: " if isinstance(image, (str, os.PathLike)) else ""
            raise InputError(f"{where}an image must have {MIN_EDGE_PX} pixels along each edge to be matched.")
        with self.settings.limited_threads():
            return self.extractor.extract(photo)

    def match(self, image0: Image, image1: Image, *, known: dict[str, Features] | None = None) -> MatchedPair:
        """Matches of two images; with ``--upright auto`` image 1 is turned if only so the two agree.

        Args:
            image0: a file, pixels, or features.
            image1: likewise.
            known: features of files, path -> features; what is not there yet is added, as it is seen unturned.

        Raises:
            InputError: an image cannot be used, or features are of another kind than the matcher's.
        """
        features0, features1 = (self._known(image, known) for image in (image0, image1))
        turn = self._turn(features0, features1, image1)
        if turn is not None:
            features1 = turn
        return self.match_features(features0, features1)

    def _known(self, image: Image, known: dict[str, Features] | None) -> Features:
        if known is None or not isinstance(image, (str, os.PathLike)):
            return self.extract(image)
        key = os.fspath(image)
        if key not in known:
            known[key] = self.extract(image)
        return known[key]

    def match_features(self, features0: Features, features1: Features) -> MatchedPair:
        """Matches of the features of two images."""
        with self.settings.limited_threads():
            found = self.matcher.match_prepared(self.matcher.prepare(features0), self.matcher.prepare(features1))
        return MatchedPair(found.indices, found.scores, found.sources, features=(features0, features1))

    def _turn(self, features0: Features, features1: Features, image1: Image) -> Features | None:
        """Features of image 1 as it lies, if it lies in the eyes of image 0."""
        if self.settings.upright.upright != "auto" or is_rotation_invariant(self.extractor):
            return None
        if isinstance(image1, Features):  # no pixels to look at again
            return None
        views: dict[int, Features] = {}

        def look(name: str, turn: int) -> Features:
            views[turn] = self.extract(image1, orientation=turned_clockwise(features1.orientation, turn))
            return views[turn]

        turns = find_turns(("0", "1"), {"0": features0, "1": features1}, [("0", "1")], look)
        return views[turns["1"]] if "1" in turns else None


class FrameMatcher:
    """Matches each frame of a video with the one before it and with a keyframe.

        frames = FrameMatcher(PairMatcher(settings))
        for image in video:
            pair = frames.next(image)         # with the frame before; None for the first
            pair = frames.with_keyframe()     # the latest frame with the keyframe
            if len(pair) < 100:
                frames.set_keyframe()         # the latest frame is the keyframe from now on

    Each frame is extracted once, and prepared for matching once.
    """

    def __init__(self, matcher: PairMatcher | None = None) -> None:
        self.pairs = matcher or PairMatcher()
        self.latest: _Prepared | None = None
        self.keyframe: _Prepared | None = None
        self._pair: tuple[_Prepared, _Prepared, MatchedPair] | None = None  # the last one that was matched

    def next(self, image: Image) -> MatchedPair | None:
        """Takes the next frame; its matches with the frame before (image 0), None for the first frame, which becomes
        the keyframe."""
        before, self.latest = self.latest, _Prepared.of(self.pairs, image)
        if before is None:
            self.keyframe = self.latest
            return None
        return self._match(before, self.latest)

    def with_keyframe(self) -> MatchedPair:
        """Matches of the keyframe (image 0) with the latest frame. Raises `InputError` before the first frame."""
        if self.keyframe is None or self.latest is None:
            raise InputError("There is no frame yet: give the first one to FrameMatcher.next.")
        return self._match(self.keyframe, self.latest)

    def set_keyframe(self) -> None:
        """Makes the latest frame the keyframe. Raises `InputError` before the first frame."""
        if self.latest is None:
            raise InputError("There is no frame yet: give the first one to FrameMatcher.next.")
        self.keyframe = self.latest

    def _match(self, frame0: _Prepared, frame1: _Prepared) -> MatchedPair:
        if self._pair and self._pair[0] is frame0 and self._pair[1] is frame1:  # the keyframe was the frame before
            return self._pair[2]
        with self.pairs.settings.limited_threads():
            found = self.pairs.matcher.match_prepared(frame0.prepared, frame1.prepared)
        features = (frame0.features, frame1.features)
        pair = MatchedPair(found.indices, found.scores, found.sources, features=features)
        self._pair = (frame0, frame1, pair)
        return pair


@dataclass(frozen=True)
class _Prepared:
    """One frame, ready to be matched."""

    features: Features
    prepared: Any

    @classmethod
    def of(cls, pairs: PairMatcher, image: Image) -> _Prepared:
        features = pairs.extract(image)
        with pairs.settings.limited_threads():
            return cls(features, pairs.matcher.prepare(features))


# --------------------------------------------------------------------------------- functions
def match_pair(image0: Image, image1: Image, **flags: Any) -> MatchedPair:
    """Matches of two images.

    The networks stay in memory for the next call with the same flags.

    Args:
        image0: a file, (H, W, 3) RGB or (H, W) grey uint8 pixels, or features.
        image1: likewise.
        flags: any option of ``lgsfm pose``, for example ``features="aliked"``, ``max_keypoints=4096``.

    Returns:
        The matches with the points they connect: ``points0``, ``points1`` (K, 2) [px] of the stored images.

    Raises:
        InputError: an image or a flag cannot be used.
        WeightsError: the weights of a network cannot be had.
    """
    return _warm(_as_key(flags)).match(image0, image1)


def estimate_relative_pose(
    image0: Image,
    image1: Image,
    *,
    camera0: Camera | str | float | None = None,
    camera1: Camera | str | float | None = None,
    matches: Matches | None = None,
    **flags: Any,
) -> TwoViewPose:
    """The pose cam1_from_cam0 of two images.

    Args:
        image0: a file, (H, W, 3) RGB or (H, W) grey uint8 pixels, or features.
        image1: likewise.
        camera0: intrinsics of image 0: a `Camera`, the focal length [px], or text as for ``--camera0``; None takes
            EXIF data, else a guess (see ``cameras`` of the result).
        camera1: likewise for image 1.
        matches: of the two images, if they are known: a `MatchedPair`, or `Matches` of features.
        flags: any option of ``lgsfm pose``, for example ``estimator="poselib"``, ``max_error_px=2``.

    Raises:
        PoseError: there is no reliable pose.
        InputError: an image, a camera or a flag cannot be used.
        WeightsError: the weights of a network cannot be had.
    """
    pair = _with_features(matches, image0, image1) if matches is not None else match_pair(image0, image1, **flags)
    size0, size1 = (features.image_size for features in pair.features)
    return estimate_pose(
        pair.points0,
        pair.points1,
        camera_of(image0, size0, camera0),
        camera_of(image1, size1, camera1),
        PairSettings.from_flags(flags).two_view,
    )


def _with_features(matches: Matches, image0: Image, image1: Image) -> MatchedPair:
    if isinstance(matches, MatchedPair):
        return matches
    if not isinstance(image0, Features) or not isinstance(image1, Features):
        raise InputError("Matches mean nothing without their keypoints: give the features as images, or a MatchedPair.")
    if len(matches) and (
        matches.indices.min() < 0 or (matches.indices.max(axis=0) >= (len(image0), len(image1))).any()
    ):
        raise InputError("The matches are not of these features: they count more keypoints than there are.")
    return MatchedPair(matches.indices, matches.scores, matches.sources, features=(image0, image1))


def camera_of(image: Image, size: tuple[int, int], given: Camera | str | float | None = None) -> Camera:
    """The camera of an image of (width, height) ``size`` [px]: what is given, else EXIF, else a guess.

    Raises:
        InputError: what is given describes no camera of such an image.
    """
    if isinstance(given, Camera):
        return given.scaled_to(size)
    name = Path(image).as_posix() if isinstance(image, (str, os.PathLike)) else ""
    if given is not None:
        return parse_camera(str(given), name, size)
    return camera_of_exif(read_header(Path(name)).exif if name else Exif(), size)


def _pixels(image: Any) -> np.ndarray:
    """The pixels of an array, or of a picture of Pillow."""
    if isinstance(image, np.ndarray):
        return image
    if hasattr(image, "convert") and hasattr(image, "mode"):
        return np.asarray(image.convert("RGB"))
    raise InputError(
        f"An image is a path, an array (H, W, 3) of type uint8, a picture of Pillow or Features, not "
        f"{type(image).__name__}."
    )


def _as_key(flags: dict[str, Any]) -> str:
    """Flags of the networks as a text that is equal for equal choices."""
    PairSettings.from_flags(flags)  # a misspelt one shows here
    return json.dumps(flags, sort_keys=True)


@lru_cache(maxsize=WARM)
def _warm(key: str) -> PairMatcher:
    return PairMatcher(PairSettings.from_flags(json.loads(key)))
