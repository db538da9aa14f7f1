"""Extractors: photo -> local features.

An extractor is one file here and one line in `lgsfm.registry`; it is made with ``(options, device, fetch)``, where
``fetch`` gives the weight files that its network needs. Weights are located (and hashed) when an extractor is made,
but loaded when the first photo comes, so that a run that finds everything done never loads a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..errors import InputError
from ..images import MIN_EDGE_PX, Photo
from ..options import Options, option
from ..types import Features

if TYPE_CHECKING:
    from ..weights import WeightFile

__all__ = ["Extractor", "ExtractorOptions", "Fetch", "extract_visible", "heeds_masks", "is_rotation_invariant"]

Fetch = Callable[[str], "WeightFile"]  # name of a model -> its weight file, see `lgsfm.weights`


@dataclass(frozen=True, kw_only=True)
class ExtractorOptions(Options):
    """What all extractors have in common; subclasses add their own and say what the quality presets mean."""

    presets: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "low": {"max_edge_px": 768, "max_keypoints": 1024},
        "medium": {"max_edge_px": 1024, "max_keypoints": 2048},
        "high": {"max_edge_px": 1600, "max_keypoints": 4096},
        "extreme": {"max_edge_px": 2400, "max_keypoints": 8192},
    }

    max_keypoints: int = option(
        2048, "keypoints kept per image, the best ones; 0 keeps all; by default as --quality says", minimum=0
    )
    max_edge_px: int = option(
        1024, "long edge to which photos are reduced; 0 keeps their size; by default as --quality says", minimum=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.max_edge_px < MIN_EDGE_PX:
            raise InputError(
                f"Option max_edge_px must be at least {MIN_EDGE_PX}, or 0 for the full size, not {self.max_edge_px}."
            )


class Extractor(Protocol):
    """What the feature stage needs to know of an extractor."""

    kind: ClassVar[str]  # of its descriptors; travels in `Features.extractor`, matchers check it
    options_class: ClassVar[type[ExtractorOptions]]
    matcher: ClassVar[str]  # the matcher that fits it best
    is_rotation_invariant: ClassVar[bool]  # whether it describes a lying photo like an upright one; may be left out
    heeds_masks: ClassVar[bool]  # whether `extract` looks for its best keypoints outside of masks; may be left out
    options: ExtractorOptions

    def __init__(self, options: Any, device: str, fetch: Fetch) -> None: ...

    @property
    def identity(self) -> dict[str, Any]:
        """All that the features depend on but the photo: name, version, options, sha256 of the weights."""
        ...

    def extract(self, photo: Photo) -> Features:
        """Local features of a photo, the best first; keypoints in pixels of the stored image.

        `Photo.mask` says where keypoints are welcome. Who heeds it before the best ones are chosen gets as many as
        the options ask for; who does not loses those that it hides, see `extract_visible`.
        """
        ...


def is_rotation_invariant(extractor: Extractor) -> bool:
    """Whether an extractor need not see photos upright; False if it does not say."""
    return bool(getattr(extractor, "is_rotation_invariant", False))


def heeds_masks(extractor: Extractor) -> bool:
    """Whether an extractor finds no keypoints under masks; False if it does not say."""
    return bool(getattr(extractor, "heeds_masks", False))


def extract_visible(extractor: Extractor, photo: Photo) -> Features:
    """The features of a photo without any under its mask, whether or not the extractor knows of masks."""
    features = extractor.extract(photo)
    if photo.mask is None or heeds_masks(extractor):
        return features
    return features.subset(photo.shows(features.keypoints))
