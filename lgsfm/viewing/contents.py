"""What is there to be looked at in an output folder, read when it is asked for."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np

from ..database_reading import VerifiedPair
from ..drawing import draw_matches
from ..errors import InputError
from ..finished import FinishedRun
from ..images import read_photo
from ..report.collect import Collected, PhotoRow, collect
from ..report.scene import Frame, Scene, upright_frame

__all__ = ["Contents", "Neighbour"]

THUMBNAIL_PX = 256
PHOTO_PX = 800
PAIR_PX = 640  # of each photo of a pair
DEPTH = (0.02, 0.15)  # of a camera as it is drawn; most of a scene is within 1


@dataclass(frozen=True)
class Neighbour:
    """A photo that another one was matched with.

    name: of the photo
    found: what verification made of the pair
    """

    name: str
    found: VerifiedPair


class Contents:
    """What is shown of an output folder. Several threads may ask; to be closed, or used in a ``with`` block.

    Args:
        output: folder of a run.
        image_dir: of the photos; None means where they were. Without them there are no pictures.

    Raises:
        InputError: it is no output folder of lgsfm, or there is no model in it.
    """

    def __init__(self, output: Path, image_dir: Path | None = None) -> None:
        self.collected: Collected = collect(output, image_dir=image_dir)
        if not self.scenes:
            reasons = " ".join(self.collected.notes)
            raise InputError(f"There is no model in '{output}' to look at. Run `lgsfm reconstruct`. {reasons}".rstrip())
        self._image_dir = image_dir
        self._opened = ExitStack()
        self._lock = Lock()  # of the stores

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the stores."""
        self._opened.close()

    @property
    def scenes(self) -> list[Scene]:
        """The models, the best one first."""
        return self.collected.scenes

    @cached_property
    def frames(self) -> list[Frame]:
        """How each model is shown: upright, in the middle, of unit size."""
        orientations = {name: row.orientation for name, row in self.photos.items()}
        return [upright_frame(scene, orientations) for scene in self.scenes]

    @cached_property
    def photos(self) -> dict[str, PhotoRow]:
        """Image name -> what became of it; those in no model as well."""
        return {row.name: row for row in self.collected.photos}

    def depth(self, number: int) -> float:
        """How deep the cameras of a model are drawn: less than half of the way to the next one."""
        centres = self.frames[number](np.array([camera.centre for camera in self.scenes[number].cameras.values()]))
        if len(centres) < 2:
            return DEPTH[1]
        some = centres[:: max(1, len(centres) // 500)]
        apart = np.linalg.norm(some[:, None] - centres[None], axis=2)
        nearest = np.partition(apart, 1, axis=1)[:, 1]
        return float(np.clip(0.4 * np.median(nearest), *DEPTH))

    def neighbours(self, name: str) -> list[Neighbour]:
        """The photos that one was matched with, those of most inliers first."""
        found = [
            Neighbour(second if first == name else first, pair)
            for (first, second), pair in self.collected.pairs.items()
            if name in (first, second)
        ]
        return sorted(found, key=lambda each: (-each.found.num_inliers, -each.found.num_matches, each.name))

    def picture(self, name: str, edge_px: int = PHOTO_PX, *, is_upright: bool = True) -> np.ndarray | None:
        """A photo as (H, W, 3) uint8 RGB; None if it cannot be read.

        Args:
            name: of the photo.
            edge_px: of its longer side.
            is_upright: turned as people see it; otherwise as it is stored, which is how its camera sees it.
        """
        try:
            orientation = self.photos[name].orientation if is_upright else 1
            return read_photo(self._run.photo(name), edge_px, orientation=orientation).rgb
        except (InputError, KeyError):
            return None

    def matches(self, name0: str, name1: str) -> tuple[str, np.ndarray | None]:
        """What a pair has in common, in words, and (H, W, 3) uint8 RGB of both photos with it; None if that is gone."""
        try:
            with self._lock:
                pair = self._run.pair(name0, name1)
                inliers = self._run.inliers(name0, name1, pair)
            images = [read_photo(self._run.photo(name), PAIR_PX, orientation=1).rgb for name in (name0, name1)]
        except InputError as exc:
            return str(exc), None
        sheet = draw_matches(
            (images[0], images[1]), pair.features, pair.indices, pair.scores, inliers, title="", edge_px=PAIR_PX
        )
        verified = "not verified" if inliers is None else f"{int(inliers.sum())} of them agree with one geometry"
        return f"{len(pair)} matches, {verified}", sheet

    @cached_property
    def _run(self) -> FinishedRun:
        run = FinishedRun(self.collected.output, self._image_dir)
        self._opened.callback(_close_stores, run)
        return run


def _close_stores(run: FinishedRun) -> None:
    for name in ("features", "matches"):
        if name in vars(run):
            vars(run)[name].close()
