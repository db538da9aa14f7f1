"""Retrievers: one global descriptor per image, so that similar images can be found without matching.

A retriever is one file here and one line in `lgsfm.registry`. One whose similarity is no dot product may describe
images as it likes and has a member more, which others may leave out: ``similarities(described, start, stop)`` gives
the (stop - start, N) similarities of these images to all. One that looks at the photos and not at their features says
so by ``looks_at_photos = True``: it is made with ``(options, device=, offline=)``, has ``describe_photos(names, read)``
for `describe`, and may have ``notes()``, lines for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from ..options import Options
from ..types import Features

__all__ = ["Retriever", "looks_at_photos", "similarities"]


class Retriever(Protocol):
    """What the pair stage needs to know of a retriever."""

    options_class: ClassVar[type[Options]]
    options: Any

    def __init__(self, options: Any) -> None: ...

    def describe(self, names: Sequence[str], features: Mapping[str, Features]) -> Any:
        """(len(names), D) float32 L2-normalised global descriptors; the dot product is the similarity."""
        ...


def looks_at_photos(retriever: Any) -> bool:
    """Whether a retriever, or its class, wants the photos and not their features."""
    return bool(getattr(retriever, "looks_at_photos", False))


def similarities(retriever: Retriever, described: Any, start: int, stop: int) -> np.ndarray:
    """(stop - start, N): how similar these images are to all, of what `Retriever.describe` gave for all."""
    own = getattr(retriever, "similarities", None)
    return own(described, start, stop) if own is not None else described[start:stop] @ described.T
