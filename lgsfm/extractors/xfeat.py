"""XFeat features (Apache-2.0 weights), made for CPUs; see `lgsfm.models.xfeat` for the paper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from ..images import Photo
from ..options import option
from ..types import Features
from . import ExtractorOptions, Fetch

if TYPE_CHECKING:
    from ..models.xfeat import XFeat

__all__ = ["XFeatExtractor", "XFeatOptions"]


@dataclass(frozen=True, kw_only=True)
class XFeatOptions(ExtractorOptions):
    """Options of XFeat."""

    detection_threshold: float = option(
        0.05, "least keypoint score; lower finds more in weak texture", minimum=0, maximum=1
    )


class XFeatExtractor:
    """XFeat with the published weights."""

    kind: ClassVar[str] = "xfeat"
    options_class: ClassVar[type[XFeatOptions]] = XFeatOptions
    matcher: ClassVar[str] = "lightglue"
    is_rotation_invariant: ClassVar[bool] = False
    heeds_masks: ClassVar[bool] = True

    def __init__(self, options: XFeatOptions, device: str, fetch: Fetch) -> None:
        self.options = options
        self.device = device
        self.weight_file = fetch("xfeat")

    @property
    def identity(self) -> dict[str, Any]:
        """All that the features depend on but the photo."""
        weights = self.weight_file.sha256
        return {"extractor": "xfeat", "version": 1, "options": self.options.to_dict(), "weights": weights}

    @cached_property
    def network(self) -> XFeat:
        """The network on its device, loaded at first use."""
        from .. import weights
        from ..models import resolve_device
        from ..models.xfeat import network_from_weights

        return network_from_weights(weights.load(self.weight_file)).to(resolve_device(self.device))

    def extract(self, photo: Photo) -> Features:
        """Local features of a photo, the best first."""
        from ..models import explained_memory_errors, mask_tensor, photo_tensor, resolve_device
        from ..models.xfeat import resized

        options = self.options
        with explained_memory_errors():
            device = resolve_device(self.device)
            picture, mask = photo_tensor(photo.rgb, device), mask_tensor(photo.mask, device)
            image = resized(picture)
            visible = None if mask is None else resized(mask[None, None].float())[0, 0] > 0.5
            found = self.network(image, options.max_keypoints, options.detection_threshold, visible)
            scale = found.keypoints.new_tensor([picture.shape[3] / image.shape[3], picture.shape[2] / image.shape[2]])
            keypoints = (found.keypoints + 0.5) * scale - 0.5
        return Features(
            keypoints=photo.to_stored(keypoints.cpu().numpy()),
            descriptors=found.descriptors.cpu().numpy(),
            scores=found.scores.cpu().numpy(),
            image_size=photo.size,
            extractor=self.kind,
            orientation=photo.orientation,
            source=photo.digest,
        )
