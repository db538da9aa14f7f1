"""Extractors: image -> local features.

An extractor is one file here and one line in `lgsfm.registry`. Its class has a nested ``Options`` class and is
constructed with ``(options, device, weights)``: ``weights`` finds the files that the network needs.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from ..images import Photo
from ..options import Options
from ..types import Features

__all__ = ["Extractor"]


class Extractor(Protocol):
    """What the feature stage needs to know of an extractor."""

    kind: ClassVar[str]  # the kind of its descriptors, kept in `Features.extractor`
    options_class: ClassVar[type[Options]]
    default_matcher: ClassVar[str]

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that its output depends on but the image: name, options, sha256 of weights, version."""
        ...

    @property
    def max_edge_px(self) -> int | None:
        """The long edge to which a photo is reduced before `extract`; None keeps the size."""
        ...

    def extract(self, photo: Photo) -> Features:
        """Local features of a photo, best first, keypoints in pixels of the stored image."""
        ...
