"""XFeat features (Apache-2.0 weights), made for CPUs; see `lgsfm.models.xfeat` for the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..options import option
from . import ExtractorOptions
from .network import NetworkExtractor

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..models.keypoints import Keypoints

__all__ = ["XFeatExtractor", "XFeatOptions"]


@dataclass(frozen=True, kw_only=True)
class XFeatOptions(ExtractorOptions):
    """Options of XFeat."""

    detection_threshold: float = option(
        0.05, "least keypoint score; lower finds more in weak texture", minimum=0, maximum=1
    )


class XFeatExtractor(NetworkExtractor):
    """XFeat with the published weights."""

    kind: ClassVar[str] = "xfeat"
    options_class: ClassVar[type[XFeatOptions]] = XFeatOptions
    options: XFeatOptions

    def loaded(self) -> nn.Module:
        """The network with the weights."""
        from .. import weights
        from ..models.xfeat import network_from_weights

        return network_from_weights(weights.load(self.weight_file))

    def detect(self, image: Tensor, visible: Tensor | None) -> Keypoints:
        """Keypoints, the best first, found in the image at a size that suits the network."""
        from ..models.xfeat import resized

        options = self.options
        small = resized(image)
        if visible is not None:
            visible = resized(visible[None, None].float())[0, 0] > 0.5
        found = self.network(small, options.max_keypoints, options.detection_threshold, visible)
        scale = found.keypoints.new_tensor([image.shape[3] / small.shape[3], image.shape[2] / small.shape[2]])
        return found._replace(keypoints=(found.keypoints + 0.5) * scale - 0.5)
