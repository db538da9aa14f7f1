"""ALIKED features (BSD-3-Clause weights); see `lgsfm.models.aliked` for the paper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from ..images import Photo
from ..options import option
from ..types import Features
from . import ExtractorOptions, Fetch

if TYPE_CHECKING:
    from ..models.aliked_fast import FastAliked

__all__ = ["AlikedExtractor", "AlikedOptions"]


@dataclass(frozen=True, kw_only=True)
class AlikedOptions(ExtractorOptions):
    """Options of ALIKED."""

    variant: str = option(
        "n16",
        "network: n16 (default), n16rot (trained with rotations), n32 (finer descriptors), t16 (tiny)",
        choices=("n16", "n16rot", "n32", "t16"),
    )
    detection_threshold: float = option(
        0.2, "least keypoint score; lower finds more in weak texture", minimum=0, maximum=1
    )


class AlikedExtractor:
    """ALIKED with the published weights."""

    kind: ClassVar[str] = "aliked"
    options_class: ClassVar[type[AlikedOptions]] = AlikedOptions
    matcher: ClassVar[str] = "lightglue"
    is_rotation_invariant: ClassVar[bool] = False
    heeds_masks: ClassVar[bool] = True

    def __init__(self, options: AlikedOptions, device: str, fetch: Fetch) -> None:
        self.options = options
        self.device = device
        self.weight_file = fetch(f"aliked-{options.variant}")

    @property
    def identity(self) -> dict[str, Any]:
        """All that the features depend on but the photo."""
        weights = self.weight_file.sha256
        return {"extractor": "aliked", "version": 1, "options": self.options.to_dict(), "weights": weights}

    @cached_property
    def network(self) -> FastAliked:
        """The network on its device, loaded at first use."""
        from .. import weights
        from ..models import resolve_device
        from ..models.aliked import Aliked
        from ..models.aliked_fast import FastAliked

        network = Aliked(f"aliked-{self.options.variant}")
        weights.load_into(network, self.weight_file)
        return FastAliked(network).to(resolve_device(self.device))

    def extract(self, photo: Photo) -> Features:
        """Local features of a photo, the best first (ranked before refinement, which moves scores a little)."""
        from ..models import explained_memory_errors, mask_tensor, photo_tensor, resolve_device

        options = self.options
        with explained_memory_errors():
            device = resolve_device(self.device)
            image, visible = photo_tensor(photo.rgb, device), mask_tensor(photo.mask, device)
            found, descriptors = self.network(image, options.max_keypoints, options.detection_threshold, visible)
        return Features(
            keypoints=photo.to_stored(found.keypoints.cpu().numpy()),
            descriptors=descriptors.cpu().numpy(),
            scores=found.scores.cpu().numpy(),
            image_size=photo.size,
            extractor=self.kind,
            orientation=photo.orientation,
            source=photo.digest,
        )
