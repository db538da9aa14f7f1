"""Which of several ways to make the models is the better one, and whether another is worth trying.

The number of registered images alone is no measure: a model that collapsed into a point may hold them all. So images
count that stand firm: those that see `MIN_FIRM_POINTS` firm points, which are points that three or more images see
under an angle and within an error that COLMAP's incremental mapper asks for, whichever mapper made the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pycolmap

if TYPE_CHECKING:
    from ..view_graph import ViewGraph  # and networkx, which takes longer to load than a small model to make

__all__ = ["MIN_FIRM_POINTS", "MIN_PAIR_INLIERS", "Missing", "Score", "missing_images", "objection", "score"]

MIN_PAIR_INLIERS = 15  # of a pair, for COLMAP's mappers to use it
MIN_FIRM_POINTS = 15  # that an image sees, for its pose to stand firm
MIN_FIRM_VIEWS = 3  # of a point: two views triangulate any match that lies on the epipolar line
MAX_ERROR_PX = 4.0  # of a firm point; this and the next are the incremental mapper's filters
MIN_ANGLE_DEG = 1.5
MUCH = 0.1  # of the images that hang together: if fewer are missing, only what is cheap is tried


@dataclass(frozen=True)
class Score:
    """What all models of one way hold that stands firm; an image in two models counts once."""

    firm_images: int
    firm_images_of_largest: int  # in the model that has most of them
    firm_points: int
    firm_observations: int  # of these points in the images
    mean_track_length: float  # images per firm point
    mean_reprojection_error_px: float  # of the firm points


@dataclass(frozen=True)
class Missing:
    """What the view graph ties together and the models do not.

    images: in no model, though verified pairs tie them to enough others for a model; sorted
    num_split: sets of images that hang together and fell into several models
    num_possible: images that could be in a model
    """

    images: tuple[str, ...]
    num_split: int
    num_possible: int

    @property
    def is_any(self) -> bool:
        """Whether another way might do better."""
        return bool(self.images or self.num_split)

    @property
    def is_much(self) -> bool:
        """Whether it is worth a mapping from the start."""
        return bool(self.num_split) or len(self.images) >= MUCH * max(self.num_possible, 1)


def missing_images(graph: ViewGraph, models: Iterable[Sequence[str]], min_model_size: int) -> Missing:
    """What the models, given by the names of their registered images, lack of the view graph."""
    registered: list[set[str]] = []
    for names in sorted(map(set, models), key=len, reverse=True):
        if not any(names <= larger for larger in registered):  # a model within another one tells of no split
            registered.append(names)
    everywhere = set().union(*registered)
    components = [set(names) for names in graph.components if len(names) >= max(min_model_size, MIN_FIRM_VIEWS)]
    return Missing(
        images=tuple(sorted(name for component in components for name in component - everywhere)),
        num_split=sum(sum(bool(component & names) for names in registered) > 1 for component in components),
        num_possible=sum(map(len, components)),
    )


def score(models: Sequence[pycolmap.Reconstruction]) -> Score:
    """What the models hold that stands firm; they are not changed."""
    firm: list[set[str]] = []
    points = observations = 0
    error = 0.0
    for model in models:
        copy = pycolmap.Reconstruction(model)
        pycolmap.ObservationManager(copy).filter_all_points3D(MAX_ERROR_PX, MIN_ANGLE_DEG)
        copy.update_point_3d_errors()
        sees: Counter[int] = Counter()
        for point in copy.points3D.values():
            viewers = {element.image_id for element in point.track.elements}
            if len(viewers) >= MIN_FIRM_VIEWS:
                sees.update(viewers)
                points += 1
                observations += len(viewers)
                error += point.error
        firm.append({copy.images[number].name for number, count in sees.items() if count >= MIN_FIRM_POINTS})
    return Score(
        firm_images=len(set().union(*firm)),
        firm_images_of_largest=max(map(len, firm), default=0),
        firm_points=points,
        firm_observations=observations,
        mean_track_length=round(observations / max(points, 1), 4),
        mean_reprojection_error_px=round(error / max(points, 1), 4),
    )


def objection(new: Score, old: Score) -> str:
    """Why ``new`` may not take the place of ``old``; "" if it may.

    It must have more firm images, in all models or in the largest, and lose nothing: neither in all, nor in the
    largest, nor of the observations of firm points, which fall where a model bends to take in what does not fit.
    """
    if new.firm_images < old.firm_images or new.firm_images_of_largest < old.firm_images_of_largest:
        return "fewer photos stand firm"
    if (new.firm_images, new.firm_images_of_largest) == (old.firm_images, old.firm_images_of_largest):
        return "no more photos stand firm"
    if new.firm_observations < old.firm_observations:
        return "more photos stand firm, but fewer matches are explained"
    return ""
