"""What the extractors share whose keypoints a network finds: the weight file, the identity, from photo to features.

Such an extractor derives from `NetworkExtractor`, and says how its network is loaded and how it is asked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from ..images import Photo
from ..types import Features
from . import ExtractorOptions, Fetch

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..models.keypoints import Keypoints

__all__ = ["NetworkExtractor"]


class NetworkExtractor(ABC):
    """An `Extractor` with published weights, located when it is made and loaded when the first photo comes."""

    kind: ClassVar[str]  # also its name in the identity
    options_class: ClassVar[type[ExtractorOptions]]
    matcher: ClassVar[str] = "lightglue"
    is_rotation_invariant: ClassVar[bool] = False
    heeds_masks: ClassVar[bool] = True

    def __init__(self, options: Any, device: str, fetch: Fetch) -> None:
        self.options = options
        self.device = device
        self.weight_file = fetch(self.model)

    @property
    def model(self) -> str:
        """The name of the model whose weights it has, see `lgsfm.weights`."""
        return self.kind

    @property
    def identity(self) -> dict[str, Any]:
        """All that the features depend on but the photo."""
        weights = self.weight_file.sha256
        return {"extractor": self.kind, "version": 1, "options": self.options.to_dict(), "weights": weights}

    @cached_property
    def network(self) -> nn.Module:
        """The network on its device, loaded at first use."""
        from ..models import resolve_device

        return self.loaded().to(resolve_device(self.device))

    @abstractmethod
    def loaded(self) -> nn.Module:
        """The network with the weights of ``weight_file``, on the CPU."""

    @abstractmethod
    def detect(self, image: Tensor, visible: Tensor | None) -> Keypoints:
        """The keypoints that the network finds in a photo, the best first.

        Args:
            image: (1, C, H, W) float32 in [0, 1], see `image_tensor`.
            visible: (H, W) bool, where keypoints are welcome; None is everywhere.
        """

    def image_tensor(self, photo: Photo, device: torch.device) -> Tensor:
        """What the network sees of a photo: (1, 3, H, W) RGB float32 in [0, 1]."""
        from ..models import photo_tensor

        return photo_tensor(photo.rgb, device)

    def extract(self, photo: Photo) -> Features:
        """Local features of a photo, the best first."""
        from ..models import explained_memory_errors, mask_tensor, resolve_device

        with explained_memory_errors():
            device = resolve_device(self.device)
            found = self.detect(self.image_tensor(photo, device), mask_tensor(photo.mask, device))
        return Features(
            keypoints=photo.to_stored(found.keypoints.cpu().numpy()),
            descriptors=found.descriptors.cpu().numpy(),
            scores=found.scores.cpu().numpy(),
            image_size=photo.size,
            extractor=self.kind,
            orientation=photo.orientation,
            source=photo.digest,
        )
