"""DISK: a U-Net that gives every pixel a score and a descriptor, trained by reinforcement.

M. J. Tyszkiewicz, P. Fua, E. Trulls: "DISK: Learning local features with policy gradient", NeurIPS 2020,
arXiv:2006.13566.

Of its last convolution, which costs more than all others together, 128 of 129 channels are descriptors: they are
computed at the keypoints alone. `Disk.dense` is the readable path, which computes them everywhere.

Coordinates in this file: pixels of the input image, centre of the top-left pixel at (0, 0); keypoints lie on whole
pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from .keypoints import Keypoints, best_first
from .nms import window_max

__all__ = ["DIM", "Disk", "network_from_weights"]

DIM = 128  # of a descriptor
DOWN, UP = (16, 32, 64, 64, 64), (64, 64, 64)  # channels on the way down and, but for the last, up
KERNEL = 5
REACH = KERNEL // 2
STRIDE = 2 ** (len(DOWN) - 1)  # edges are padded to multiples of it
NMS_RADIUS = 2  # pixels; at least REACH, so that no kernel at a keypoint leaves the image
EPS = 1e-5  # of the instance normalisation
STEPS = {"1": "gate", "3": "conv"}  # of a block, in the authors' names


class GatedConv(nn.Module):
    """Instance normalisation, a parametric ReLU and a 5x5 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.gate = nn.PReLU(inputs)
        self.conv = nn.Conv2d(inputs, outputs, KERNEL, padding=REACH)

    def gated(self, x: Tensor) -> Tensor:
        """What the convolution sees: (1, inputs, H, W)."""
        return self.gate(normalized(x))

    def forward(self, x: Tensor) -> Tensor:
        """(1, inputs, H, W) -> (1, outputs, H, W)."""
        return self.conv(self.gated(x))


class Disk(nn.Module):
    """The network."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, DOWN[0], KERNEL, padding=REACH)
        self.down = nn.ModuleList(GatedConv(*channels) for channels in pairwise(DOWN))
        across = DOWN[-2::-1]
        below = (DOWN[-1], *UP)
        above = (*UP, DIM + 1)
        self.up = nn.ModuleList(GatedConv(b + a, o) for b, a, o in zip(below, across, above, strict=True))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def forward(
        self, image: Tensor, max_keypoints: int = 0, threshold: float = 0.0, visible: Tensor | None = None
    ) -> Keypoints:
        """Keypoints of an image.

        Args:
            image: (1, 3, H, W) RGB in [0, 1].
            max_keypoints: the best so many are kept; 0 keeps all.
            threshold: least score, a logit.
            visible: (H, W) bool, where keypoints are welcome; None is everywhere.
        """
        height, width = image.shape[-2:]
        features = self.features(image)
        weight, bias = self.up[-1].conv.parameters()  # type: ignore[union-attr]
        heat = F.conv2d(features, weight[DIM:], bias[DIM:], padding=REACH)[0, 0, :height, :width]
        keypoints, scores = detect(heat, threshold, visible)
        scores, order = best_first(scores, max_keypoints)
        keypoints = keypoints[order]
        patches = patches_at(features, keypoints)
        rows = weight[:DIM].permute(0, 2, 3, 1).reshape(DIM, -1)
        descriptors = F.normalize(F.linear(patches, rows, bias[:DIM]), dim=1)
        return Keypoints(keypoints.to(heat.dtype), scores, descriptors)

    @torch.inference_mode()
    def dense(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Score (H, W) and descriptor (128, H, W), L2-normalised, of each pixel of a (1, 3, H, W) image."""
        height, width = image.shape[-2:]
        found = self.up[-1].conv(self.features(image))[0, :, :height, :width]
        return found[DIM], F.normalize(found[:DIM], dim=0)

    def features(self, image: Tensor) -> Tensor:
        """What the last convolution sees of a (1, 3, H, W) image, padded with zeros: (1, 80, H', W')."""
        height, width = image.shape[-2:]
        x = F.pad(image, (0, -width % STRIDE, 0, -height % STRIDE)).contiguous(memory_format=torch.channels_last)
        levels = [self.first(x)]
        for block in self.down:
            levels.append(block(F.avg_pool2d(levels[-1], 2)))
        x = levels.pop()
        for block in self.up[:-1]:  # type: ignore[index]
            x = block(joined(x, levels.pop()))
        return self.up[-1].gated(joined(x, levels.pop()))


def normalized(x: Tensor) -> Tensor:
    """`instance_norm` of (1, C, H, W) in channels_last, which torch's own would turn around and back."""
    rows = x[0].permute(1, 2, 0)
    centred = rows - rows.flatten(0, 1).mean(0)
    variance = centred.flatten(0, 1).square().mean(0)
    return centred.mul_((variance + EPS).rsqrt()).permute(2, 0, 1)[None]


def joined(below: Tensor, across: Tensor) -> Tensor:
    """(1, C, H / 2, W / 2) and (1, D, H, W) -> (1, C + D, H, W)."""
    return torch.cat((F.interpolate(below, scale_factor=2, mode="bilinear", align_corners=False), across), 1)


def detect(heat: Tensor, threshold: float, visible: Tensor | None) -> tuple[Tensor, Tensor]:
    """Maxima of an (H, W) map in the square around them, which has no other: positions (N, 2) int64 [px], scores (N,).

    None are closer to the border than the square reaches.
    """
    height, width = heat.shape
    is_peak = (heat == window_max(heat[None], NMS_RADIUS)[0]) & (heat > threshold)
    if visible is not None:
        is_peak &= visible
    r = NMS_RADIUS
    y, x = is_peak[r : max(height - r, r), r : max(width - r, r)].nonzero(as_tuple=True)
    steps = torch.arange(2 * r + 1, device=heat.device)
    around = heat[(y[:, None, None] + steps[:, None]), (x[:, None, None] + steps)]
    is_alone = (around == around[:, r : r + 1, r : r + 1]).sum((1, 2)) == 1  # not a plateau
    keypoints = torch.stack((x[is_alone] + r, y[is_alone] + r), 1)
    return keypoints, heat[keypoints[:, 1], keypoints[:, 0]]


def patches_at(features: Tensor, keypoints: Tensor) -> Tensor:
    """(N, 25 * C): what lies under the kernel, row by row, at (N, 2) int64 positions inside of a (1, C, H, W) map."""
    rows = features[0].permute(1, 2, 0)
    steps = torch.arange(KERNEL, device=features.device) - REACH
    x, y = keypoints.unbind(1)
    return rows[y[:, None, None] + steps[:, None], x[:, None, None] + steps].flatten(1)


# --------------------------------------------------------------------------------- weights
def network_from_weights(state: Mapping[str, Tensor]) -> Disk:
    """A `Disk` with the authors' weights.

    Raises:
        WeightsError: the weights are not DISK's.
    """
    network = Disk()
    try:
        network.load_state_dict({renamed(key): value for key, value in state.items()}, strict=True)
    except RuntimeError as exc:
        raise WeightsError(f"These are not the weights of a DISK network: {exc}") from exc
    return network.eval()


def renamed(key: str) -> str:
    """The name here of a parameter in the authors' file."""
    found = re.fullmatch(r"unet\.path_(down|up)\.(\d+)\.(?:1|conv)\.([13])\.(weight|bias)", key)
    if found is None:
        return key
    way, level, step, parameter = found.groups()
    if way == "down" and level == "0":
        return f"first.{parameter}"
    return f"{way}.{int(level) - (way == 'down')}.{STEPS[step]}.{parameter}"
