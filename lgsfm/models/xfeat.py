"""XFeat: a small convolutional network for keypoints and descriptors, made for CPUs.

G. Potje, F. Cadar, A. Araujo, R. Martins, E. R. Nascimento: "XFeat: Accelerated Features for Lightweight Image
Matching", CVPR 2024, arXiv:2404.19174. This is its sparse form; the refinement of matches is LightGlue's affair here.

Coordinates in this file: pixels of the input image, centre of the top-left pixel at (0, 0); keypoints lie on whole
pixels. Where the authors' code places a pixel on a map of cells, see `cell_grid`, is part of what was trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from .keypoints import Keypoints, best_first
from .nms import window_max

__all__ = ["STRIDE", "XFeat", "network_from_weights", "resized"]

CELL = 8  # pixels of an edge of the cells that the maps have
STRIDE = 32  # pixels of an edge of what the deepest map sees; images have a multiple of it
NMS_RADIUS = 2  # pixels
EPS = 1e-5  # of the batch normalisation


class ConvRelu(nn.Conv2d):
    """A convolution, with its batch normalisation folded in, and ReLU; 3x3 or 1x1, padded."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel_size, stride, kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(1, inputs, H, W) -> (1, outputs, H / stride, W / stride)."""
        return F.relu_(super().forward(x))


class XFeat(nn.Module):
    """The network; its parameters carry the names of the authors' modules."""

    def __init__(self) -> None:
        super().__init__()
        self.skip1 = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(1, 24, 1))
        self.block1 = nn.Sequential(ConvRelu(1, 4), ConvRelu(4, 8, stride=2), ConvRelu(8, 8), ConvRelu(8, 24, stride=2))
        self.block2 = nn.Sequential(ConvRelu(24, 24), ConvRelu(24, 24))
        self.block3 = nn.Sequential(ConvRelu(24, 64, stride=2), ConvRelu(64, 64), ConvRelu(64, 64, 1))
        self.block4 = nn.Sequential(ConvRelu(64, 64, stride=2), ConvRelu(64, 64), ConvRelu(64, 64))
        self.block5 = nn.Sequential(
            ConvRelu(64, 128, stride=2), ConvRelu(128, 128), ConvRelu(128, 128), ConvRelu(128, 64, 1)
        )
        self.block_fusion = nn.Sequential(ConvRelu(64, 64), ConvRelu(64, 64), nn.Conv2d(64, 64, 1))
        self.heatmap_head = nn.Sequential(ConvRelu(64, 64, 1), ConvRelu(64, 64, 1), nn.Conv2d(64, 1, 1))
        self.keypoint_head = nn.Sequential(
            ConvRelu(64, 64, 1), ConvRelu(64, 64, 1), ConvRelu(64, 64, 1), nn.Conv2d(64, CELL * CELL + 1, 1)
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def forward(
        self, image: Tensor, max_keypoints: int = 0, threshold: float = 0.05, visible: Tensor | None = None
    ) -> Keypoints:
        """Keypoints of an image.

        Args:
            image: (1, 3, H, W) RGB in [0, 1]; H and W are multiples of `STRIDE`, see `resized`.
            max_keypoints: the best so many are kept; 0 keeps all.
            threshold: least probability that a pixel is a keypoint.
            visible: (H, W) bool, where keypoints are welcome; None is everywhere.
        """
        grey = F.instance_norm(255 * image.mean(1, keepdim=True))
        features = self.features(grey)
        reliability = torch.sigmoid(self.heatmap_head(features))
        heat = self.heat(grey)
        keypoints, scores = detect(heat, reliability, threshold, visible)
        scores, order = best_first(scores, max_keypoints)
        keypoints = keypoints[order]
        sampled = F.grid_sample(
            F.normalize(features, dim=1), cell_grid(keypoints, heat.shape), mode="bicubic", align_corners=False
        )
        return Keypoints(keypoints, scores, F.normalize(sampled[0, :, 0].T, dim=1))

    def features(self, grey: Tensor) -> Tensor:
        """(1, 1, H, W) normalised grey -> (1, 64, H / 8, W / 8): three levels, added up (section 3.1)."""
        x = grey.contiguous(memory_format=torch.channels_last)
        level3 = self.block3(self.block2(self.block1(x) + self.skip1(x)))
        level4 = self.block4(level3)
        size = level3.shape[-2:]
        fused = level3 + F.interpolate(level4, size, mode="bilinear")
        return self.block_fusion(fused + F.interpolate(self.block5(level4), size, mode="bilinear"))

    def heat(self, grey: Tensor) -> Tensor:
        """(H, W): the probability that a pixel is a keypoint, from the pixels of its cell alone (section 3.2)."""
        logits = self.keypoint_head(F.pixel_unshuffle(grey, CELL))
        return F.pixel_shuffle(logits.softmax(1)[:, :-1], CELL)[0, 0]  # the last class: none in this cell


def resized(image: Tensor) -> Tensor:
    """(1, C, H, W) -> the same picture with edges that are multiples of `STRIDE`, the next smaller ones, not none."""
    height, width = (max(STRIDE, edge // STRIDE * STRIDE) for edge in image.shape[-2:])
    return F.interpolate(image, (height, width), mode="bilinear", align_corners=False)


def detect(heat: Tensor, reliability: Tensor, threshold: float, visible: Tensor | None) -> tuple[Tensor, Tensor]:
    """Local maxima of (H, W) heat: positions (N, 2) [px] and scores (N,), heat times reliability."""
    is_peak = (heat == window_max(heat[None], NMS_RADIUS)[0]) & (heat > threshold)
    if visible is not None:
        is_peak &= visible
    y, x = is_peak.nonzero(as_tuple=True)
    keypoints = torch.stack((x, y), 1).to(heat.dtype)
    reliable = F.grid_sample(reliability, cell_grid(keypoints, heat.shape), mode="bilinear", align_corners=False)
    return keypoints, heat[y, x] * reliable[0, 0, 0]


def cell_grid(keypoints: Tensor, shape: torch.Size) -> Tensor:
    """(1, 1, N, 2): where positions (N, 2) [px] of an image of (H, W) lie on a map of its cells, for `grid_sample`."""
    height, width = shape
    return (keypoints / keypoints.new_tensor([width - 1, height - 1]) * 2 - 1)[None, None]


# --------------------------------------------------------------------------------- weights
def network_from_weights(state: Mapping[str, Tensor]) -> XFeat:
    """An `XFeat` with the authors' weights.

    Raises:
        WeightsError: the weights are not XFeat's.
    """
    network = XFeat()
    try:
        network.load_state_dict(folded(state), strict=True)
    except (KeyError, RuntimeError) as exc:
        raise WeightsError(f"These are not the weights of an XFeat network: {exc}") from exc
    return network.eval()


def folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' weights with each batch normalisation, which has no weights of its own, folded into its convolution.

    Those of the refinement of matches (``fine_matcher``) are left out.
    """
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if layer := re.fullmatch(r"(.+)\.layer\.0\.weight", key):
            mean, variance = (state[f"{layer[1]}.layer.1.running_{name}"] for name in ("mean", "var"))
            scale = (variance + EPS).rsqrt()
            found[f"{layer[1]}.weight"] = value * scale[:, None, None, None]
            found[f"{layer[1]}.bias"] = -mean * scale
        elif ".layer." not in key and not key.startswith("fine_matcher."):
            found[key] = value
    return found
