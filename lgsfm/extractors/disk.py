"""DISK features (Apache-2.0 weights): many and evenly spread, slow on a CPU; see `lgsfm.models.disk` for the paper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from ..images import Photo
from ..options import option
from ..types import Features
from . import ExtractorOptions, Fetch

if TYPE_CHECKING:
    from ..models.disk import Disk

__all__ = ["DiskExtractor", "DiskOptions"]


@dataclass(frozen=True, kw_only=True)
class DiskOptions(ExtractorOptions):
    """Options of DISK."""

    detection_threshold: float = option(
        0.5, "least keypoint score; lower finds more in weak texture", minimum=0, maximum=1
    )


class DiskExtractor:
    """DISK with the published weights of the depth-supervised network."""

    kind: ClassVar[str] = "disk"
    options_class: ClassVar[type[DiskOptions]] = DiskOptions
    matcher: ClassVar[str] = "lightglue"
    is_rotation_invariant: ClassVar[bool] = False
    heeds_masks: ClassVar[bool] = True

    def __init__(self, options: DiskOptions, device: str, fetch: Fetch) -> None:
        self.options = options
        self.device = device
        self.weight_file = fetch("disk")

    @property
    def identity(self) -> dict[str, Any]:
        """All that the features depend on but the photo."""
        weights = self.weight_file.sha256
        return {"extractor": "disk", "version": 1, "options": self.options.to_dict(), "weights": weights}

    @cached_property
    def network(self) -> Disk:
        """The network on its device, loaded at first use."""
        from .. import weights
        from ..models import resolve_device
        from ..models.disk import network_from_weights

        return network_from_weights(weights.load(self.weight_file)).to(resolve_device(self.device))

    def extract(self, photo: Photo) -> Features:
        """Local features of a photo, the best first."""
        import torch

        from ..models import explained_memory_errors, mask_tensor, photo_tensor, resolve_device

        options = self.options
        with explained_memory_errors():
            device = resolve_device(self.device)
            image, visible = photo_tensor(photo.rgb, device), mask_tensor(photo.mask, device)
            least = float(torch.logit(torch.tensor(options.detection_threshold)))
            found = self.network(image, options.max_keypoints, least, visible)
        return Features(
            keypoints=photo.to_stored(found.keypoints.cpu().numpy()),
            descriptors=found.descriptors.cpu().numpy(),
            scores=found.scores.sigmoid().cpu().numpy(),
            image_size=photo.size,
            extractor=self.kind,
            orientation=photo.orientation,
            source=photo.digest,
        )
