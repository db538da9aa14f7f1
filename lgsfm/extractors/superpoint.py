"""SuperPoint features (non-commercial weights); see `lgsfm.models.superpoint` for the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..images import Photo, to_gray
from ..options import option
from . import ExtractorOptions
from .network import NetworkExtractor

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..models.keypoints import Keypoints

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


class SuperPointExtractor(NetworkExtractor):
    """SuperPoint with the published weights, which are for non-commercial research only."""

    kind: ClassVar[str] = "superpoint"
    options_class: ClassVar[type[SuperPointOptions]] = SuperPointOptions
    options: SuperPointOptions

    def loaded(self) -> nn.Module:
        """The network with the weights."""
        from .. import weights
        from ..models.superpoint import network_from_weights

        return network_from_weights(weights.load(self.weight_file))

    def image_tensor(self, photo: Photo, device: torch.device) -> Tensor:
        """What the network sees of a photo: (1, 1, H, W) grey float32 in [0, 1]."""
        import torch

        return torch.from_numpy(to_gray(photo.rgb)).to(device)[None, None]

    def detect(self, image: Tensor, visible: Tensor | None) -> Keypoints:
        """Keypoints, the best first."""
        from ..models.superpoint import Detection

        options = self.options
        detection = Detection(options.max_keypoints, options.detection_threshold, options.nms_radius)
        return self.network(image, detection, visible)
