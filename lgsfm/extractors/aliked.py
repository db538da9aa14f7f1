"""ALIKED features (BSD-3-Clause weights); see `lgsfm.models.aliked` for the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..options import option
from . import ExtractorOptions
from .network import NetworkExtractor

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..models.keypoints import Keypoints

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


class AlikedExtractor(NetworkExtractor):
    """ALIKED with the published weights."""

    kind: ClassVar[str] = "aliked"
    options_class: ClassVar[type[AlikedOptions]] = AlikedOptions
    options: AlikedOptions

    @property
    def model(self) -> str:
        """The variant."""
        return f"aliked-{self.options.variant}"

    def loaded(self) -> nn.Module:
        """The fast form of the network with the weights."""
        from .. import weights
        from ..models.aliked import Aliked
        from ..models.aliked_fast import FastAliked

        network = Aliked(self.model)
        weights.load_into(network, self.weight_file)
        return FastAliked(network)

    def detect(self, image: Tensor, visible: Tensor | None) -> Keypoints:
        """Keypoints, the best first (ranked before refinement, which moves scores a little)."""
        from ..models.keypoints import Keypoints

        options = self.options
        found, descriptors = self.network(image, options.max_keypoints, options.detection_threshold, visible)
        return Keypoints(found.keypoints, found.scores, descriptors)
