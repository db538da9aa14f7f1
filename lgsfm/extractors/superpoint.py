"""SuperPoint features (non-commercial weights); see `lgsfm.models.superpoint` for the paper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from ..images import Photo, to_gray
from ..options import option
from ..types import Features
from . import ExtractorOptions, Fetch

if TYPE_CHECKING:
    from ..models.superpoint import SuperPoint

__all__ = ["SuperPointExtractor", "SuperPointOptions"]


@dataclass(frozen=True, kw_only=True)
class SuperPointOptions(ExtractorOptions):
    """Options of SuperPoint."""

    detection_threshold: float = option(
        0.005, "least keypoint score; lower finds more in weak texture", minimum=0, maximum=1
    )
    nms_radius: int = option(
        4, "least distance of two keypoints along x or y, in pixels of the reduced photo", minimum=0, maximum=32
    )


class SuperPointExtractor:
    """SuperPoint with the published weights, which are for non-commercial research only."""

    kind: ClassVar[str] = "superpoint"
    options_class: ClassVar[type[SuperPointOptions]] = SuperPointOptions
    matcher: ClassVar[str] = "lightglue"
    is_rotation_invariant: ClassVar[bool] = False
    heeds_masks: ClassVar[bool] = True

    def __init__(self, options: SuperPointOptions, device: str, fetch: Fetch) -> None:
        self.options = options
        self.device = device
        self.weight_file = fetch("superpoint")

    @property
    def identity(self) -> dict[str, Any]:
        """All that the features depend on but the photo."""
        weights = self.weight_file.sha256
        return {"extractor": "superpoint", "version": 1, "options": self.options.to_dict(), "weights": weights}

    @cached_property
    def network(self) -> SuperPoint:
        """The network on its device, loaded at first use."""
        from .. import weights
        from ..models import resolve_device
        from ..models.superpoint import network_from_weights

        return network_from_weights(weights.load(self.weight_file)).to(resolve_device(self.device))

    def extract(self, photo: Photo) -> Features:
        """Local features of a photo, the best first."""
        import torch

        from ..models import explained_memory_errors, mask_tensor, resolve_device
        from ..models.superpoint import Detection

        options = self.options
        detection = Detection(options.max_keypoints, options.detection_threshold, options.nms_radius)
        with explained_memory_errors():
            device = resolve_device(self.device)
            image = torch.from_numpy(to_gray(photo.rgb)).to(device)[None, None]
            found = self.network(image, detection, mask_tensor(photo.mask, device))
        return Features(
            keypoints=photo.to_stored(found.keypoints.cpu().numpy()),
            descriptors=found.descriptors.cpu().numpy(),
            scores=found.scores.cpu().numpy(),
            image_size=photo.size,
            extractor=self.kind,
            orientation=photo.orientation,
            source=photo.digest,
        )
