"""Exact nearest-neighbour matching for descriptors of any kind: ratio test, mutual check."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..extractors import Fetch
from ..options import Options, option
from ..types import Features, Matches
from . import check_kind

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NearestMatcher", "NearestOptions"]

BLOCK = 1 << 22  # similarities held at once, in float32


@dataclass(frozen=True, kw_only=True)
class NearestOptions(Options):
    """Options of nearest-neighbour matching; distances are Euclidean, between descriptors of length 1."""

    ratio: float = option(
        0.8, "largest distance, as a share of that to the second nearest; 1 is no limit", minimum=0, maximum=1
    )
    mutual: bool = option(True, "keep a match only if each is the nearest of the other, and test both ratios")
    max_distance: float = option(2.0, "largest distance, 0 to 2; 2 is no limit", minimum=0, maximum=2)


class PreparedImage(NamedTuple):
    """One image, ready to be matched with any other: (N, D) float32 descriptors of length 1."""

    descriptors: Tensor
    digest: str


class Neighbours(NamedTuple):
    """For each of N0 descriptors its nearest in the other image; similarities are cosines.

    nearest: (N0,) int64 index into image 1
    best: (N0,) similarity to it
    second: (N0,) highest similarity to any other in image 1
    column_second: (N0,) highest similarity of the nearest to any other in image 0
    is_first: (N0,) whether no other with the same nearest is more similar to it
    """

    nearest: Tensor
    best: Tensor
    second: Tensor
    column_second: Tensor
    is_first: Tensor


class NearestMatcher:
    """Exact nearest neighbours.

    The score of a match is 1 - (distance / distance to the second nearest): 1 for a perfect and unique one, 0 for one
    that is no better than the next. The second nearest is that of the keypoint in image 0 and, if ``mutual``, the
    nearer of those on both sides. It is never taken to be further than an orthogonal descriptor, which also stands
    in for it where an image has one keypoint only.
    """

    options_class: ClassVar[type[NearestOptions]] = NearestOptions

    def __init__(self, options: NearestOptions, device: str, fetch: Fetch, kind: str) -> None:
        self.options = options
        self.device = device
        self.kind = kind

    @property
    def identity(self) -> dict[str, Any]:
        """All that the matches depend on but the features."""
        return {"matcher": "nearest", "version": 1, "options": self.options.to_dict()}

    def prepare(self, features: Features) -> PreparedImage:
        """Descriptors of one image on the device; normalised again, for half precision on disk leaves errors."""
        import torch
        import torch.nn.functional as F

        from ..models import explained_memory_errors, resolve_device

        check_kind(features, self.kind, "nearest")
        device = resolve_device(self.device)
        with explained_memory_errors():
            descriptors = torch.from_numpy(features.descriptors.astype(np.float32)).to(device)
            return PreparedImage(F.normalize(descriptors, dim=1), features.digest)

    def match_prepared(self, prepared0: PreparedImage, prepared1: PreparedImage) -> Matches:
        """Matches of two prepared images."""
        from ..models import explained_memory_errors

        with explained_memory_errors():
            return self._match(prepared0, prepared1)

    def _match(self, prepared0: PreparedImage, prepared1: PreparedImage) -> Matches:
        import torch

        sources = (prepared0.digest, prepared1.digest)
        if not len(prepared0.descriptors) or not len(prepared1.descriptors):
            return Matches.empty(sources)
        options = self.options
        found = nearest_neighbours(prepared0.descriptors, prepared1.descriptors)
        second = found.second
        keep = torch.ones_like(found.is_first)
        if options.mutual:
            keep = found.is_first & (found.best >= found.column_second)
            second = torch.maximum(second, found.column_second)
        distance, limit = to_distance(found.best), to_distance(second.clamp(min=0))
        if options.ratio < 1:
            keep &= distance < options.ratio * limit
        if options.max_distance < 2:
            keep &= distance <= options.max_distance
        index = keep.nonzero()[:, 0]
        scores = (1 - distance[index] / limit[index].clamp(min=1e-12)).clamp(0, 1)
        indices = torch.stack((index, found.nearest[index]), 1)
        return Matches(indices.cpu().numpy().astype(np.int32), scores.cpu().numpy(), sources)


def to_distance(similarity: Tensor) -> Tensor:
    """Euclidean distance of vectors of length 1 from their cosine."""
    return (2 - 2 * similarity).clamp(min=0).sqrt()


def nearest_neighbours(descriptors0: Tensor, descriptors1: Tensor) -> Neighbours:
    """Nearest and second nearest in both directions, from one pass over blocks of the similarity matrix.

    Each row's best entry is taken out of its block; the highest entry left in a column is then the column's
    second best, unless two rows have their best in the same column, which `rank_in_column` adds. So no position is
    ever searched along columns, which is ten times as slow as along rows.
    """
    import torch

    columns = len(descriptors1)
    column_rest = torch.full((columns,), -math.inf, device=descriptors0.device)
    parts = []
    for block in descriptors0.split(max(1, BLOCK // columns)):
        similarity = block @ descriptors1.T
        nearest = row_argmax(similarity)[:, None]
        best = similarity.gather(1, nearest)
        similarity.scatter_(1, nearest, -math.inf)
        parts.append((nearest[:, 0], best[:, 0], similarity.amax(1)))
        column_rest = torch.maximum(column_rest, similarity.amax(0))
    nearest, best, second = (torch.cat(part) for part in zip(*parts, strict=True))
    is_first, rival = rank_in_column(nearest, best, columns)
    return Neighbours(nearest, best, second, torch.maximum(column_rest, rival)[nearest], is_first)


def rank_in_column(nearest: Tensor, best: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Among rows with the same nearest column: which is the best (N0,), and per column the second value (N1,)."""
    import torch

    order = best.argsort(descending=True, stable=True)
    order = order[nearest[order].argsort(stable=True)]  # by column, the best row first
    column = nearest[order]
    rank_one = torch.ones_like(column, dtype=torch.bool)
    rank_one[1:] = column[1:] != column[:-1]
    rank_two = torch.zeros_like(rank_one)
    rank_two[1:] = rank_one[:-1] & ~rank_one[1:]
    is_first = torch.zeros_like(rank_one)
    is_first[order] = rank_one
    rival = torch.full((columns,), -math.inf, device=best.device)
    rival[column[rank_two]] = best[order][rank_two]
    return is_first, rival


def row_argmax(values: Tensor) -> Tensor:
    """Position of the (first) maximum of each row; on a CPU through numpy, which is eight times as fast."""
    import torch

    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy().argmax(axis=1))
    return values.argmax(1)
