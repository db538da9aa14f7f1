"""Neighbours in a sequence: frames of a video, photos taken on a walk.

Names are in natural order (``img2`` before ``img10``), each folder is a sequence of its own. A camera that comes back
to a place needs `sequential+retrieval`: names do not tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ..types import Pair, canonical_pair
from .collection import Collection

if TYPE_CHECKING:
    from . import PairOptions

__all__ = ["natural_key", "natural_pattern", "sequences", "sequential_pairs"]

_NUMBER = re.compile("([0-9]+)")


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sorts names as people do: the numbers in them by their value; the name itself decides between 1 and 01."""
    parts = _NUMBER.split(name)  # text, number, text, number ...: like meets like
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def natural_pattern(name: str) -> tuple[str, tuple[int, ...]]:
    """The text of a name with # for each number, and the numbers."""
    return _NUMBER.sub("#", name), tuple(int(number) for number in _NUMBER.findall(name))


def sequences(names: Iterable[str]) -> list[list[str]]:
    """The images of each folder in natural order."""
    folders: dict[str, list[str]] = {}
    for name in sorted(names, key=natural_key):
        folders.setdefault(str(PurePosixPath(name).parent), []).append(name)
    return list(folders.values())


def sequential_pairs(collection: Collection, options: PairOptions) -> set[Pair]:
    """Each image with the next ``overlap`` ones of its folder or, if ``quadratic``, with those 1, 2, 4, 8 ... on."""
    steps = [1 << i if options.quadratic else i + 1 for i in range(options.overlap)]
    return {
        canonical_pair(sequence[i], sequence[i + step])
        for sequence in sequences(collection.names)
        for step in steps
        for i in range(len(sequence) - step)
    }
