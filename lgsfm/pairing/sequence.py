"""Neighbours in a sequence: frames of a video, photos taken on a walk.

Names are in natural order (``img2`` before ``img10``), each folder is a sequence of its own. A camera that comes back
to a place needs `sequential+retrieval`: names do not tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from ..errors import InputError
from ..types import Pair, canonical_pair
from .collection import Collection
from .options import PairOptions

__all__ = ["check_folders", "natural_key", "natural_pattern", "sequences", "sequential_pairs"]

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
    """Each image with the next ``overlap`` ones of its folder or, if ``quadratic``, with those 1, 2, 4, 8 ... on.

    Raises:
        InputError: each image is alone in its folder, and no other method is asked for.
    """
    found = sequences(collection.names)
    check_folders(collection, options)
    longest = max(map(len, found), default=0)
    count = min(options.overlap, longest.bit_length() if options.quadratic else longest)
    steps = [1 << i if options.quadratic else i + 1 for i in range(count)]
    return {
        canonical_pair(sequence[i], sequence[i + step])
        for sequence in found
        for step in steps
        for i in range(len(sequence) - step)
    }


def check_folders(collection: Collection, options: PairOptions) -> None:
    """Notes what folders keep apart; raises `InputError` where that leaves nothing."""
    found, is_alone = sequences(collection.names), options.methods() == ["sequential"]
    if len(found) < 2:
        return
    if max(map(len, found)) == 1:
        text = f"Each of the {len(found)} folders holds one photo, and sequential pairs those of the same folder."
        if is_alone:
            raise InputError(f"{text} Choose --pairs retrieval or exhaustive, or put the photos into one folder.")
        collection.notes.append(text)
    elif is_alone:
        collection.notes.append(
            f"The photos are in {len(found)} folders, and no pair joins two of them: --pairs sequential+retrieval does."
        )
