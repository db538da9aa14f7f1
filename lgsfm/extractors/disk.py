"""DISK features (Apache-2.0 weights): many and evenly spread, slow on a CPU; see `lgsfm.models.disk` for the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..options import option
from . import ExtractorOptions
from .network import NetworkExtractor

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..models.keypoints import Keypoints

__all__ = ["DiskExtractor", "DiskOptions"]


@dataclass(frozen=True, kw_only=True)
class DiskOptions(ExtractorOptions):
    """Options of DISK."""

    detection_threshold: float = option(
        0.5, "least keypoint score; lower finds more in weak texture", minimum=0, maximum=1
    )


class DiskExtractor(NetworkExtractor):
    """DISK with the published weights of the depth-supervised network."""

    kind: ClassVar[str] = "disk"
    options_class: ClassVar[type[DiskOptions]] = DiskOptions
    options: DiskOptions

    def loaded(self) -> nn.Module:
        """The network with the weights."""
        from .. import weights
        from ..models.disk import network_from_weights

        return network_from_weights(weights.load(self.weight_file))

    def detect(self, image: Tensor, visible: Tensor | None) -> Keypoints:
        """Keypoints, the best first; their scores are probabilities, the network's are logits."""
        import torch

        options = self.options
        least = float(torch.logit(torch.tensor(options.detection_threshold)))
        found = self.network(image, options.max_keypoints, least, visible)
        return found._replace(scores=found.scores.sigmoid())
