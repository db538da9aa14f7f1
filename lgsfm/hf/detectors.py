"""The keypoint detectors inside of LightGlue models, with the parameter names of Hugging Face.

Detection is always done in float32, whatever the dtype of the model: positions in float16 are off by up to half a
pixel, and its coarse scores tie, so that more points pass the non-maximum suppression.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..models.aliked import Aliked
from ..models.aliked_fast import FastAliked
from ..models.keypoints import Keypoints
from ..models.superpoint import HUGGING_FACE, Detection, SuperPoint
from .config import AlikedConfig, SuperPointConfig

if TYPE_CHECKING:
    from ..models.aliked import Detections

__all__ = ["AlikedDetector", "Detect", "SuperPointDetector", "make_detector"]

Detect = Callable[[Tensor], Keypoints]  # (1, C, H, W) float32 in [0, 1] -> keypoints in px of that image


def make_detector(config: SuperPointConfig | AlikedConfig) -> SuperPointDetector | AlikedDetector:
    """The detector of a configuration, with random weights."""
    return AlikedDetector(config) if isinstance(config, AlikedConfig) else SuperPointDetector(config)


class SuperPointDetector(nn.Module):
    """SuperPoint. Only its parameters live here; `compiled` makes the function that finds keypoints."""

    def __init__(self, config: SuperPointConfig) -> None:
        super().__init__()
        self.config = config
        network = SuperPoint(config.encoder_hidden_sizes, config.decoder_hidden_size, config.descriptor_decoder_dim)
        for own, name in HUGGING_FACE.items():
            _set_module(self, name, getattr(network, own))
        self.__dict__["network"] = network  # the same convolutions once more, so not as a module of this one

    def compiled(self, legacy: bool = False) -> Detect:
        """Finds keypoints with the weights of now.

        Keypoints come row by row, or best first if there are more than ``max_keypoints``. Those at the right and lower
        border stay, as in transformers, which measures ``border_removal_distance`` from borders eight times as far
        away: so one pair has the same keypoints in both.
        """
        network = _float32(self.network)
        config, limit = self.config, self.config.max_keypoints
        # one more than wanted tells whether there are too many
        detection = Detection(
            limit + 1, config.keypoint_threshold, config.nms_radius, config.border_removal_distance, far_border=0
        )

        def detect(image: Tensor) -> Keypoints:
            found = network(image[:, :1] if legacy else to_gray(image), detection)
            if 0 <= limit < len(found.scores):
                return Keypoints(*(part[:limit] for part in found))
            x, y = found.keypoints.double().unbind(1)
            row_by_row = (y * image.shape[3] + x).argsort()
            return Keypoints(*(part[row_by_row] for part in found))

        return detect


class AlikedDetector(Aliked):
    """ALIKED, with the parameter names of its published weights."""

    def __init__(self, config: AlikedConfig) -> None:
        super().__init__(config.variant)
        self.config = config

    def compiled(self, legacy: bool = False) -> Detect:
        """Finds keypoints with the weights of now, the best first."""
        network = FastAliked(_float32(self).eval())

        def detect(image: Tensor) -> Keypoints:
            found: Detections
            found, descriptors = network(
                image.expand(-1, 3, -1, -1), max(self.config.max_keypoints, 0), self.config.keypoint_threshold
            )
            return Keypoints(found.keypoints, found.scores, descriptors)

        return detect


def to_gray(image: Tensor) -> Tensor:
    """(1, C, H, W) -> (1, 1, H, W): luma (ITU-R BT.601), or the first channel where all are equal."""
    first = image[:, :1]
    if image.shape[1] < 3 or bool((image[:, :3] == first).all()):
        return first
    return (image[:, :3] * image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _float32(network: Any) -> Any:
    """The network, or a copy of it in float32."""
    is_float32 = all(value.dtype == torch.float32 for value in network.parameters())
    return network if is_float32 else copy.deepcopy(network).float()


def _set_module(root: nn.Module, name: str, module: nn.Module) -> None:
    """Registers a module under a dotted name; what is numbered becomes a module list."""
    *path, last = name.split(".")
    for part, child in zip(path, [*path[1:], last], strict=True):
        if not hasattr(root, part):
            root.add_module(part, nn.ModuleList() if child.isdigit() else nn.Module())
        root = getattr(root, part)
    root.add_module(last, module)
