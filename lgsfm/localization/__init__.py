"""Where new photos were taken, in a finished model.

    for found in lgsfm.localize("out", ["new/", "a.jpg"]):
        print(found.name, found.state, found.pose and found.pose.centre)

`Localizer` is the warm object behind it: model, networks and the features of the model are opened once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from ..batches import Batches, PreparedImages
from ..cameras import Camera
from ..errors import InputError, LgsfmError, PoseError
from ..exif import turned_clockwise
from ..extractors import is_rotation_invariant
from ..finished import FinishedRun
from ..images import MIN_EDGE_PX, ImageHeader, Photo, list_images, read_header, read_photo
from ..matchers import best_batch
from ..pair import camera_of
from ..retrievers import Retriever
from ..types import Features, Matches, Progress
from ..upright import Ballot, ballot, elect_turn, vote
from .absolute_pose import MIN_POINTS, AbsolutePose, Correspondences, estimate_absolute_pose
from .known_scene import KnownScene
from .options import LocalizationOptions, check_identity, settings_of
from .result import LOCALIZED, Localization, best_images

__all__ = ["Localizer", "localize"]

CHUNK = 256  # photos whose features are in memory, 1 MB each
PREPARED_IMAGES = 64  # of the model, in memory, on the device
BALLOTS = 512  # of images of the model, 256 kB each
CLEARLY_MORE = 1.2  # times the inliers, with which the focal length is not that of the camera of the same size
VOTERS = 60  # images of the model that are asked which way up a photo is


class _Choice(NamedTuple):
    """Intrinsics that a photo may have."""

    camera: Camera
    camera_id: int | None  # in the model
    is_fixed: bool  # whether its focal length is known


@dataclass(frozen=True, eq=False)
class _Query:
    """A photo that can be read, and what is known of it before it is matched."""

    key: str  # for features and matches: no image of the model and no other photo is called so
    path: Path
    found: Localization
    orientation: int
    cameras: tuple[_Choice, ...]  # that it may have, the likeliest first


class Localizer:
    """A finished model in which any number of photos can be located.

        with Localizer("out") as localizer:
            found = localizer.localize(["new/"])

    Args:
        output: folder of `lgsfm reconstruct`; nothing in it is changed.
        image_dir: of its photos, whose EXIF data tells which camera is which; None means where they were.
        camera: of all photos to come: a `Camera`, a focal length [px], or text as for ``--camera``.
        options: see there.
        weights_progress: called with (done, total) bytes while weights are downloaded.

    Raises:
        InputError: there is no model, or it is not of the features that are there, or these cannot be made any more.
        WeightsError: the weights of a network cannot be had.
    """

    def __init__(
        self,
        output: str | Path,
        *,
        image_dir: str | Path | None = None,
        camera: Camera | str | float | None = None,
        options: LocalizationOptions | None = None,
        weights_progress: Progress | None = None,
    ) -> None:
        self.options = options or LocalizationOptions()
        self.given_camera = camera
        self.run = FinishedRun(Path(output), None if image_dir is None else Path(image_dir))
        try:
            self.scene = KnownScene(self.run)
            self.settings = settings_of(self.run, self.options)
            run = self.settings.run
            self.extractor = self.settings.make_extractor(run.features, progress=weights_progress)
            check_identity(self.run, self.settings.identity_of(self.extractor))
            self.matcher = self.settings.make_matcher(run.matcher, self.extractor, progress=weights_progress)
        except LgsfmError:
            self.close()
            raise
        self._numbers = count()  # never the same again: prepared photos are kept under them
        self._photos: dict[str, Features] = {}
        prepared = PreparedImages(self._features, self.matcher, PREPARED_IMAGES)
        self._batches = Batches(prepared, self.options.batch_size or best_batch(self.matcher))
        self._ballot = lru_cache(maxsize=BALLOTS)(lambda name: ballot(self.run.features[name]))

    def close(self) -> None:
        """Closes the files of the run."""
        if "features" in vars(self.run):  # they were opened
            self.run.features.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def localize(
        self, queries: str | Path | Iterable[str | Path], *, progress: Progress | None = None
    ) -> list[Localization]:
        """Locates photos; one that cannot be used or located says so in its `Localization.state`.

        Args:
            queries: photo files, and folders of photos.
            progress: called with (done, total) photos.

        Returns:
            Of each photo what was found, in the order of the queries, those of a folder sorted by name.

        Raises:
            InputError: a folder holds no photo, or the given camera is none of a photo.
            MemoryShortageError: there is not enough memory even for a single pair.
        """
        files = query_files([queries] if isinstance(queries, (str, Path)) else queries)
        opened = [self._open(*file) for file in files]
        results: list[Localization] = []
        with self.settings.limited_threads():
            for start in range(0, len(opened), CHUNK):
                for found in self._localize_chunk(opened[start : start + CHUNK]):
                    results.append(found)
                    if progress:
                        progress(len(results), len(opened))
        return results

    # ---------------------------------------------------------------------------- steps
    def _open(self, image_name: str, path: Path) -> _Query | Localization:
        """A photo by its header, with its camera."""
        found = Localization(name=path.as_posix(), image_name=image_name, state=LOCALIZED)
        try:
            header = read_header(path)
        except InputError as exc:
            return replace(found, state="unreadable", detail=_without(exc, f"{path}: "))
        cameras = self._cameras(path, header)
        code = 1 if self.settings.upright.upright == "off" else header.exif.orientation
        found = replace(found, camera=cameras[0].camera, camera_id=cameras[0].camera_id)
        return _Query(f"\n{next(self._numbers)}", path, found, code, cameras)

    def _cameras(self, path: Path, header: ImageHeader) -> tuple[_Choice, ...]:
        """The cameras that a photo may have. One of the model that shares no more than the size with it is not sure."""
        if self.given_camera is not None:
            return (_Choice(camera_of(str(path), header.size, self.given_camera), None, True),)
        own = _Choice(camera_of(str(path), header.size), None, False)
        camera_id = self.scene.camera_id(header)
        if camera_id is None:
            return (own,)
        known = _Choice(self.scene.camera(camera_id), camera_id, True)
        return (known, own) if own.camera.is_guess else (known,)

    def _localize_chunk(self, opened: Sequence[_Query | Localization]) -> Iterator[Localization]:
        """Features of some photos, then their look-alikes, then photo by photo the rest."""
        self._photos = {}
        seen = [one if isinstance(one, Localization) else self._see(one) for one in opened]
        queries = {one.key: one for one in seen if isinstance(one, _Query)}
        alikes = self._look_alikes(queries, {})
        turns = self._turn(queries, alikes)
        for one in seen:
            if isinstance(one, Localization):
                yield one
            else:
                yield self._locate(one, alikes[one.key], turns.get(one.key, 0))

    def _see(self, query: _Query) -> _Query | Localization:
        """Takes the features of a photo into `_photos`."""
        try:
            features = self._look(query, 0)
        except InputError as exc:
            return replace(query.found, state="unreadable", detail=_without(exc, f"{query.path}: "))
        if len(features) < MIN_POINTS:
            return replace(query.found, state="no features", detail=f"{len(features)} keypoints")
        self._photos[query.key] = features
        return query

    def _features(self, name: str) -> Features:
        return self._photos[name] if name in self._photos else self.run.features[name]

    def _look(self, query: _Query, turn: int) -> Features:
        """Features of a photo, seen turned clockwise by quarters."""
        edge_px = self.extractor.options.max_edge_px or None
        photo = read_photo(query.path, edge_px, orientation=turned_clockwise(query.orientation, turn))
        if min(photo.rgb.shape[:2]) < MIN_EDGE_PX:
            raise InputError(f"{query.path}: smaller than {MIN_EDGE_PX} pixels, perhaps after it was reduced.")
        return self.extractor.extract(photo)

    @cached_property
    def _retriever(self) -> Retriever:
        """What finds the look-alikes, made where there are more images than each photo is matched with."""
        return self.settings.make_retriever()

    def _look_alikes(self, queries: Mapping[str, _Query], turns: Mapping[str, int]) -> dict[str, list[str]]:
        def read(key: str, max_edge_px: int) -> Photo:
            orientation = turned_clockwise(queries[key].orientation, turns.get(key, 0))
            return read_photo(queries[key].path, max_edge_px, orientation=orientation)

        photos = {key: self._photos[key] for key in queries}
        return self.scene.look_alikes(photos, lambda: self._retriever, self.options.neighbors, read)

    def _turn(self, queries: Mapping[str, _Query], alikes: dict[str, list[str]]) -> dict[str, int]:
        """Turns photos that lie in the eyes of the model, and updates their look-alikes; key -> quarters clockwise."""
        if self.settings.upright.upright != "auto" or is_rotation_invariant(self.extractor):
            return {}
        turns: dict[str, int] = {}
        names = self.scene.names
        spread = names[:: -(-len(names) // VOTERS)]
        for key, query in queries.items():
            own = ballot(self._photos[key])
            if any(vote(own, self._ballot(name)).is_sure for name in alikes[key]):
                continue
            views = [self._photos[key], *(self._look(query, turn) for turn in (1, 2, 3))]
            ballots: list[Ballot] = [own, *map(ballot, views[1:])]
            turn = elect_turn(ballots, [self._ballot(name) for name in spread])
            if turn:
                turns[key], self._photos[key] = turn, views[turn]
        if turns:
            alikes |= self._look_alikes({key: queries[key] for key in turns}, turns)
        return turns

    def _locate(self, query: _Query, candidates: Sequence[str], turn: int) -> Localization:
        """Matches, correspondences and pose of one photo."""
        features = self._photos[query.key]
        found = replace(query.found, turned_deg=90 * turn, keypoints=features.keypoints, num_keypoints=len(features))
        if not candidates:
            return replace(found, state="no candidate")
        matches = self._match(query.key, candidates)
        pairs, votes = self.scene.observed(matches)
        found = replace(
            found,
            num_images=len(matches),
            num_matches=sum(map(len, matches.values())),
            num_correspondences=len(pairs),
            best_images=best_images({name: len(one) for name, one in matches.items()}),
        )
        if found.num_matches < self.options.min_inliers:
            return replace(found, state="few matches", detail=f"{found.num_matches} matches")
        if len(np.unique(pairs[:, 0])) < self.options.min_inliers:
            return replace(found, state="few 3D points", detail=f"{len(pairs)} of {found.num_matches} matches have one")
        points = self.scene.positions(pairs[:, 1])
        guesses = Correspondences(features.keypoints[pairs[:, 0]], points, pairs[:, 0], votes)
        try:
            pose, camera_id = self._pose(guesses, query.cameras)
        except PoseError as exc:
            return replace(
                found,
                state="pose not reliable",
                detail=_without(exc, "no reliable pose: "),
                num_inliers=exc.num_inliers,
            )
        observations = pairs[pose.inliers]
        return replace(
            found,
            pose=pose,
            camera=pose.camera,
            camera_id=camera_id,
            num_inliers=len(observations),
            observations=observations,
            best_images=best_images(self._inliers_by_image(matches, observations)),
        )

    def _pose(self, guesses: Correspondences, choices: Sequence[_Choice]) -> tuple[AbsolutePose, int | None]:
        """The pose by the likeliest camera, or by one with which clearly more fits, and the number of that camera.

        Raises:
            PoseError: there is none with any of them; of the likeliest one.
        """
        best: tuple[AbsolutePose, int | None] | None = None
        first_error: PoseError | None = None
        for camera, camera_id, is_fixed in choices:
            try:
                pose = estimate_absolute_pose(guesses, camera, self.options, is_fixed=is_fixed)
            except PoseError as exc:
                first_error = first_error or exc
                continue
            if best is None or pose.inliers.sum() > CLEARLY_MORE * best[0].inliers.sum():
                best = pose, camera_id
        if best is None:
            raise first_error or PoseError(0, len(guesses.pixels))
        return best

    def _match(self, key: str, candidates: Sequence[str]) -> dict[str, Matches]:
        """The matches of a photo with images of the model."""
        pairs = [(key, name) for name in candidates]
        return {
            name: matches
            for batch, found in self._batches.match(pairs)
            for (_, name), matches in zip(batch, found, strict=True)
        }

    def _inliers_by_image(self, matches: Mapping[str, Matches], observations: np.ndarray) -> dict[str, int]:
        """How many inliers each image has a part in."""
        agreed = dict(observations.tolist())
        return {
            name: sum(
                agreed.get(keypoint) == point
                for keypoint, point in zip(
                    found.indices[:, 0].tolist(), self.scene.point_ids(name)[found.indices[:, 1]].tolist(), strict=True
                )
            )
            for name, found in matches.items()
        }


def localize(
    output: str | Path,
    queries: str | Path | Iterable[str | Path],
    *,
    image_dir: str | Path | None = None,
    camera: Camera | str | float | None = None,
    progress: Progress | None = None,
    **flags: Any,
) -> list[Localization]:
    """Locates photos in a finished model; arguments as for `Localizer`.

    Args:
        output: folder of `lgsfm reconstruct`.
        queries: photo files, and folders of photos.
        image_dir: of the photos of the model; None means where they were.
        camera: of the queries: a `Camera`, a focal length [px], or text as for ``--camera``; None takes the refined
            camera of the model if the photo is of the same one, else EXIF, else a guess; these two are refined.
        progress: called with (done, total) photos.
        flags: fields of `LocalizationOptions`, for example ``neighbors=40``.

    Returns:
        Of each photo what was found; one that is not localized says why in ``state``, and what to do in ``hint``.

    Raises:
        InputError: there is no usable model, a flag or the camera is wrong, or a folder holds no photo.
        WeightsError: the weights of a network cannot be had.
        CacheError: a file of the run cannot be read.
    """
    options = LocalizationOptions.from_dict(flags)
    with Localizer(output, image_dir=image_dir, camera=camera, options=options) as localizer:
        return localizer.localize(queries, progress=progress)


def query_files(queries: Iterable[str | Path]) -> list[tuple[str, Path]]:
    """Names in a model and paths of the photos in files and folders; each path once."""
    found: dict[Path, str] = {}
    for query in map(Path, queries):
        if query.is_dir():
            for name in list_images(query):
                found.setdefault(query / name, name)
        else:
            found.setdefault(query, query.name)
    return [(name, path) for path, name in found.items()]


def _without(exc: LgsfmError, prefix: str) -> str:
    """What an error says, without what is said elsewhere."""
    return str(exc).removeprefix(prefix).rstrip(".")
