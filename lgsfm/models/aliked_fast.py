"""The fast path of ALIKED: the same numbers as `lgsfm.models.aliked.Aliked`, sooner.

What makes it fast, exactly:
- batch normalisation is folded into the convolutions, which run in channels_last;
- the first layer of the score head is 1x1 and linear, so it commutes with the bilinear upsampling: 8 channels are
  upsampled, not 128;
- the 128-channel, full-resolution feature map is never made: a descriptor needs it at the pixels around its sample
  positions only, and there it is put together from the four levels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from .aliked import (
    PATCH,
    Aliked,
    DeformableConv2d,
    Detections,
    deform_conv,
    detect,
    padding,
    patch_corners,
    patch_pixels,
    pixel_rows,
)

__all__ = ["FastAliked"]


class Level(NamedTuple):
    """One level of the feature pyramid: (height * width, C) rows, one per pixel."""

    rows: Tensor
    height: int
    width: int


class Frame(NamedTuple):
    """Where the image lies inside the padded input [px]."""

    left: int
    top: int
    height: int
    width: int
    padded_height: int
    padded_width: int


class FusedConv(nn.Module):
    """A (deformable) 3x3 convolution with its batch normalisation folded in."""

    def __init__(self, conv: nn.Module, bn: nn.BatchNorm2d) -> None:
        super().__init__()
        self.offsets = conv.offset_conv if isinstance(conv, DeformableConv2d) else None
        if isinstance(conv, DeformableConv2d):
            conv = conv.regular_conv
            stats = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
            self.weight, self.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *stats)  # type: ignore[arg-type]
        else:
            self.plain = fuse_conv_bn_eval(conv, bn)  # type: ignore[type-var]

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) -> (1, out, H, W)."""
        if self.offsets is None:
            return self.plain(x)
        return deform_conv(x, self.offsets(x), self.weight, self.bias)


class FastAliked(nn.Module):
    """ALIKED for inference, made from a loaded `Aliked`."""

    def __init__(self, network: Aliked) -> None:
        super().__init__()
        network.eval()
        blocks = (network.block1, network.block2, network.block3, network.block4)
        self.convs1 = nn.ModuleList(FusedConv(block.conv1, block.bn1) for block in blocks)
        self.convs2 = nn.ModuleList(FusedConv(block.conv2, block.bn2) for block in blocks)
        self.shortcuts = nn.ModuleList(block.downsample for block in blocks[1:])
        self.level_convs = nn.ModuleList(network.level_convs)
        score_input, _, *rest = network.score_head
        self.level_scores = nn.ModuleList(_split_input(score_input, 4))
        self.score_rest = nn.Sequential(*rest)
        self.desc_head = network.desc_head
        self.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward(
        self, image: Tensor, max_keypoints: int, threshold: float, visible: Tensor | None = None
    ) -> tuple[Detections, Tensor]:
        """Keypoints and their descriptors (N, dim) of a (1, 3, H, W) float32 RGB image in [0, 1]; see `detect`."""
        height, width = image.shape[-2:]
        left, right, top, bottom = padding(height, width)
        image = image.contiguous(memory_format=torch.channels_last)
        image = F.pad(image, (left, right, top, bottom), mode="replicate")
        levels = self.levels(image)
        score_map = self.score_map(levels)[..., top : top + height, left : left + width]
        found = detect(score_map.contiguous(), max_keypoints, threshold, visible)
        frame = Frame(left, top, height, width, *image.shape[-2:])
        return found, self.describe(levels, frame, found.keypoints)

    def levels(self, image: Tensor) -> list[Tensor]:
        """The four levels (1, dim / 4, H / s, W / s) at strides s = 1, 2, 8, 32."""
        x = F.selu_(self.convs2[0](F.selu_(self.convs1[0](image))))
        levels = [F.selu_(self.level_convs[0](x))]
        for i, pool in enumerate((2, 4, 4), start=1):
            x = F.avg_pool2d(x, pool)
            inner = self.convs2[i](F.selu_(self.convs1[i](x)))
            x = F.selu_(inner.add_(self.shortcuts[i - 1](x)))
            levels.append(F.selu_(self.level_convs[i](x)))
        return levels

    def score_map(self, levels: list[Tensor]) -> Tensor:
        """(1, 1, H, W) scores in [0, 1] of the padded image."""
        hidden = self.level_scores[0](levels[0])
        full = tuple(hidden.shape[-2:])
        for conv, level in zip(list(self.level_scores)[1:], levels[1:], strict=True):
            hidden += F.interpolate(conv(level), full, mode="bilinear", align_corners=True)
        return torch.sigmoid_(self.score_rest(F.selu_(hidden)))

    def describe(self, levels: list[Tensor], frame: Frame, keypoints: Tensor) -> Tensor:
        """(N, dim) descriptors; keypoints (N, 2) [px] of the unpadded image."""
        if not len(keypoints):
            return self.desc_head.no_descriptors(keypoints)
        pyramid = [Level(pixel_rows(level), *level.shape[-2:]) for level in levels]
        head = self.desc_head
        pixels = patch_pixels(patch_corners(keypoints, frame.height, frame.width), frame.width)
        patches = feature_at(pyramid, frame, pixels % frame.width, pixels // frame.width)
        patches = patches.view(len(keypoints), PATCH, PATCH, -1).permute(0, 3, 1, 2)
        positions = head.sample_positions(patches, keypoints, frame.height, frame.width).flatten(0, 1)
        sampled = sample_features(pyramid, frame, positions[:, 0], positions[:, 1])
        return head.aggregate(sampled.view(len(keypoints), head.samples, -1))


def _split_input(conv: nn.Conv2d, parts: int) -> list[nn.Conv2d]:
    """A bias-free 1x1 convolution of a concatenation, as convolutions of its parts that are to be added."""
    pieces = []
    for weight in conv.weight.chunk(parts, dim=1):
        piece = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
        piece.weight = nn.Parameter(weight.detach().clone())
        pieces.append(piece)
    return pieces


def feature_at(pyramid: list[Level], frame: Frame, x: Tensor, y: Tensor) -> Tensor:
    """(P, dim) normalised features at whole pixels (x, y) of the unpadded image."""
    x, y = x + frame.left, y + frame.top
    parts = [pyramid[0].rows[y * frame.padded_width + x]]
    parts += [upsampled_at(level, frame, x, y) for level in pyramid[1:]]
    return F.normalize(torch.cat(parts, 1), dim=1)


def upsampled_at(level: Level, frame: Frame, x: Tensor, y: Tensor) -> Tensor:
    """(P, C): what bilinear upsampling (align_corners) of a level to full size has at whole pixels (x, y)."""
    x_level = x * ((level.width - 1) / (frame.padded_width - 1))
    y_level = y * ((level.height - 1) / (frame.padded_height - 1))
    x0, y0 = x_level.floor(), y_level.floor()
    fx, fy = x_level - x0, y_level - y0
    x1, y1 = (x0 + 1).clamp_(max=level.width - 1), (y0 + 1).clamp_(max=level.height - 1)
    row0, row1 = y0 * level.width, y1 * level.width
    index = torch.stack((row0 + x0, row0 + x1, row1 + x0, row1 + x1), 1).long()
    weight = torch.stack(((1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy), 1)
    return F.embedding_bag(index, level.rows, per_sample_weights=weight, mode="sum")


def sample_features(pyramid: list[Level], frame: Frame, x: Tensor, y: Tensor) -> Tensor:
    """(P, dim) bilinear samples of the normalised feature map at (x, y) [px]; zero outside the image."""
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    corner_x = torch.stack((x0, x0 + 1, x0, x0 + 1), 1)
    corner_y = torch.stack((y0, y0, y0 + 1, y0 + 1), 1)
    weight = torch.stack(((1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy), 1)
    inside = (corner_x >= 0) & (corner_x < frame.width) & (corner_y >= 0) & (corner_y < frame.height)
    pixel = (corner_y * frame.width + corner_x).long().masked_fill_(~inside, 0)
    used, index = pixel.unique(return_inverse=True)  # samples of neighbouring keypoints share pixels
    rows = feature_at(pyramid, frame, used % frame.width, used // frame.width)
    return F.embedding_bag(index, rows, per_sample_weights=weight * inside, mode="sum")
