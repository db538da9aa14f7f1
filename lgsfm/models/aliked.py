"""ALIKED: keypoints and descriptors from a light network with deformable descriptors.

X. Zhao, X. Wu, W. Chen, P. C. Y. Chen, Q. Xu, Z. Li: "ALIKED: A Lighter Keypoint and Descriptor Extraction
Network via Deformable Transformation", IEEE TIM 2023, arXiv:2304.03608.

`Aliked` is the readable path: dense feature map, dense score map, everything as in the paper, and the module whose
parameters carry the names of the published weights. `lgsfm.models.aliked_fast` computes the same sooner.
Coordinates in this file: pixels of the input image, centre of the top-left pixel at (0, 0).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nms import suppress_non_maxima

__all__ = ["VARIANTS", "Aliked", "Detections", "Variant", "sample_bilinear"]


class Variant(NamedTuple):
    """Sizes of one published network."""

    channels: tuple[int, int, int, int]  # of the four encoder blocks
    dim: int  # of feature map and descriptors
    samples: int  # deformable sample positions per descriptor


VARIANTS = {
    "aliked-t16": Variant((8, 16, 32, 64), 64, 16),
    "aliked-n16": Variant((16, 32, 64, 128), 128, 16),
    "aliked-n16rot": Variant((16, 32, 64, 128), 128, 16),
    "aliked-n32": Variant((16, 32, 64, 128), 128, 32),
}
STRIDE = 32  # of the deepest block: the input is padded to a multiple
PATCH = 3  # edge of the patch that predicts the sample positions of a descriptor
NMS_RADIUS = 2
SOFT_TEMPERATURE = 0.1  # of the soft-argmax that refines a keypoint


class Detections(NamedTuple):
    """Keypoints of one image: positions (N, 2) float32 [px], scores (N,) float32; best first."""

    keypoints: Tensor
    scores: Tensor


# --------------------------------------------------------------------------------- sampling
def sample_bilinear(rows: Tensor, height: int, width: int, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear samples of a map that is stored as one row per pixel; zero outside.

    Args:
        rows: (height * width, C), row-major pixels.
        height: of the map [px].
        width: of the map [px].
        x: (P,) positions [px].
        y: (P,) positions [px].

    Returns:
        (P, C) samples.
    """
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    corner_x = torch.stack((x0, x0 + 1, x0, x0 + 1), 1)
    corner_y = torch.stack((y0, y0, y0 + 1, y0 + 1), 1)
    weight = torch.stack(((1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy), 1)
    inside = (corner_x >= 0) & (corner_x < width) & (corner_y >= 0) & (corner_y < height)
    index = (corner_y * width + corner_x).long().masked_fill_(~inside, 0)
    return F.embedding_bag(index, rows, per_sample_weights=weight * inside, mode="sum")


def pixel_rows(image_map: Tensor) -> Tensor:
    """(1, C, H, W) -> (H * W, C), one contiguous row per pixel; no copy if the map is channels_last."""
    return image_map[0].permute(1, 2, 0).reshape(-1, image_map.shape[1]).contiguous()


# --------------------------------------------------------------------------------- encoder
class DeformableConv2d(nn.Module):
    """A 3x3 convolution whose taps are moved by offsets predicted from the input (Dai et al., 2017)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.offset_conv = nn.Conv2d(in_channels, 2 * 9, 3, padding=1)
        self.regular_conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) -> (1, out, H, W)."""
        return deform_conv(x, self.offset_conv(x), self.regular_conv.weight)


def deform_conv(x: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution of (1, C, H, W) with 3x3 taps moved by ``offsets`` (1, 18, H, W), (dy, dx) per tap [px]."""
    _, channels, height, width = x.shape
    limit = max(height, width) / 4.0
    moves = offsets[0].clamp(-limit, limit).view(9, 2, height, width)
    tap = torch.arange(3, device=x.device) - 1
    dy, dx = torch.meshgrid(tap, tap, indexing="ij")
    row = torch.arange(height, device=x.device)[:, None]
    column = torch.arange(width, device=x.device)
    y = (moves[:, 0] + dy.reshape(9, 1, 1) + row).permute(1, 2, 0).reshape(-1)  # pixel-major, tap-minor
    x_ = (moves[:, 1] + dx.reshape(9, 1, 1) + column).permute(1, 2, 0).reshape(-1)
    taps = sample_bilinear(pixel_rows(x), height, width, x_, y).view(height * width, 9 * channels)
    kernel = weight.permute(0, 2, 3, 1).reshape(weight.shape[0], 9 * channels)
    out = F.linear(taps, kernel, bias)
    return out.view(1, height, width, -1).permute(0, 3, 1, 2)


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and SELU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, H, W)."""
        return F.selu(self.bn2(self.conv2(F.selu(self.bn1(self.conv1(x))))))


class ResBlock(nn.Module):
    """A residual block of two (deformable) 3x3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int, deformable: bool) -> None:
        super().__init__()
        if deformable:
            self.conv1: nn.Module = DeformableConv2d(in_channels, out_channels)
            self.conv2: nn.Module = DeformableConv2d(out_channels, out_channels)
        else:
            self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
            self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) -> (1, out, H, W)."""
        out = F.selu(self.bn1(self.conv1(x)))
        return F.selu(self.bn2(self.conv2(out)) + self.downsample(x))


# --------------------------------------------------------------------------------- descriptors
class DescriptorHead(nn.Module):
    """Sparse deformable descriptor head (SDDH, section III-C): samples around a keypoint, then aggregates."""

    def __init__(self, dim: int, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.offset_conv = nn.Sequential(
            nn.Conv2d(dim, 2 * samples, PATCH), nn.SELU(), nn.Conv2d(2 * samples, 2 * samples, 1)
        )
        self.sf_conv = nn.Conv2d(dim, dim, 1, bias=False)
        self.agg_weights = nn.Parameter(torch.rand(samples, dim, dim))

    def sample_positions(self, patches: Tensor, keypoints: Tensor, height: int, width: int) -> Tensor:
        """(N, samples, 2) positions [px] from the (N, C, 3, 3) patches of the feature map at the keypoints."""
        limit = max(height, width) / 4.0
        offsets = self.offset_conv(patches).clamp(-limit, limit)
        return keypoints[:, None] + offsets.view(-1, 2, self.samples).transpose(1, 2)

    def aggregate(self, sampled: Tensor) -> Tensor:
        """(N, samples, C) sampled features -> (N, C) L2-normalised descriptors."""
        features = F.selu(F.linear(sampled, self.sf_conv.weight[:, :, 0, 0]))
        return F.normalize(features.flatten(1) @ self.agg_weights.flatten(0, 1), dim=1)

    def no_descriptors(self, keypoints: Tensor) -> Tensor:
        """(0, C), for an image without keypoints."""
        return keypoints.new_zeros(0, self.agg_weights.shape[-1])

    def forward(self, feature_map: Tensor, keypoints: Tensor) -> Tensor:
        """Descriptors (N, C) at ``keypoints`` (N, 2) [px] of a dense, normalised (1, C, H, W) feature map."""
        _, channels, height, width = feature_map.shape
        if not len(keypoints):
            return self.no_descriptors(keypoints)
        rows = pixel_rows(feature_map)
        corner = patch_corners(keypoints, height, width)
        index = patch_pixels(corner, width)
        patches = rows[index].view(-1, PATCH, PATCH, channels).permute(0, 3, 1, 2)
        positions = self.sample_positions(patches, keypoints, height, width).flatten(0, 1)
        sampled = sample_bilinear(rows, height, width, positions[:, 0], positions[:, 1])
        return self.aggregate(sampled.view(-1, self.samples, channels))


def patch_corners(keypoints: Tensor, height: int, width: int) -> Tensor:
    """(N, 2) int64 top-left pixels of the 3x3 patches around the keypoints, moved into the image."""
    corner = (keypoints.long() - PATCH / 2 + 1).long()
    return torch.stack((corner[:, 0].clamp(0, width - 1 - PATCH), corner[:, 1].clamp(0, height - 1 - PATCH)), 1)


def patch_pixels(corner: Tensor, width: int) -> Tensor:
    """(N * 9,) row-major pixel numbers of the patches with the given top-left pixels."""
    step = torch.arange(PATCH, device=corner.device)
    inner = step[:, None] * width + step
    return ((corner[:, 1] * width + corner[:, 0])[:, None] + inner.flatten()).flatten()


# --------------------------------------------------------------------------------- detection
def detect(score_map: Tensor, max_keypoints: int, threshold: float, visible: Tensor | None = None) -> Detections:
    """Differentiable keypoint detection (DKD, section III-B) without the gradient.

    Args:
        score_map: (1, 1, H, W) in [0, 1].
        max_keypoints: the best so many are kept; 0 keeps all.
        threshold: least score; if nothing reaches it, the mean of the map is the threshold.
        visible: (H, W) bool, where keypoints are welcome; None is everywhere. It is applied to maxima, so that slopes
            that end at its edge become none, and to refined positions, which may lie beyond that edge.

    Returns:
        Keypoints refined by a soft-argmax in a 5x5 window, best first.
    """
    width = score_map.shape[-1]
    peaks = suppress_non_maxima(score_map, NMS_RADIUS)[0, 0]
    r = NMS_RADIUS
    peaks[:r] = 0
    peaks[-r:] = 0
    peaks[:, :r] = 0
    peaks[:, -r:] = 0
    if visible is not None:
        peaks = peaks.masked_fill(~visible, 0)
    peaks = peaks.flatten()
    index = (peaks > threshold).nonzero()[:, 0]
    if len(index) == 0:
        index = (peaks > score_map.mean()).nonzero()[:, 0]
    index = index[peaks[index].sort(descending=True, stable=True).indices]
    count = max_keypoints if max_keypoints > 0 else len(index)
    if visible is None:
        index = index[:count]
        return refine(score_map[0, 0], index % width, index // width)
    found = refine(score_map[0, 0], index % width, index // width)
    x, y = (found.keypoints + 0.5).floor().long().unbind(1)
    kept = visible[y, x].nonzero()[:count, 0]
    return Detections(found.keypoints[kept], found.scores[kept])


def refine(scores: Tensor, x: Tensor, y: Tensor) -> Detections:
    """Soft-argmax around integer maxima at least `NMS_RADIUS` from the border of an (H, W) score map."""
    height, width = scores.shape
    reach = torch.arange(-NMS_RADIUS, NMS_RADIUS + 1, device=scores.device)
    window = (y[:, None, None] + reach[:, None]) * width + x[:, None, None] + reach
    values = scores.flatten()[window.flatten(1)]
    weight = ((values - values.amax(1, keepdim=True)) / SOFT_TEMPERATURE).exp()
    weight = weight / weight.sum(1, keepdim=True)
    offset_y, offset_x = torch.meshgrid(reach.float(), reach.float(), indexing="ij")
    keypoints = torch.stack((x + weight @ offset_x.flatten(), y + weight @ offset_y.flatten()), 1)
    value = sample_bilinear(scores.reshape(-1, 1), height, width, keypoints[:, 0], keypoints[:, 1])
    return Detections(keypoints, value[:, 0])


# --------------------------------------------------------------------------------- network
class Aliked(nn.Module):
    """The readable network; `load_state_dict(strict=True)` takes the published weights as they are."""

    def __init__(self, variant: str = "aliked-n16") -> None:
        super().__init__()
        self.variant = variant
        (c1, c2, c3, c4), dim, samples = VARIANTS[variant]
        self.block1 = ConvBlock(3, c1)
        self.block2 = ResBlock(c1, c2, deformable=False)
        self.block3 = ResBlock(c2, c3, deformable=True)
        self.block4 = ResBlock(c3, c4, deformable=True)
        self.conv1 = nn.Conv2d(c1, dim // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(c2, dim // 4, 1, bias=False)
        self.conv3 = nn.Conv2d(c3, dim // 4, 1, bias=False)
        self.conv4 = nn.Conv2d(c4, dim // 4, 1, bias=False)
        self.score_head = nn.Sequential(
            nn.Conv2d(dim, 8, 1, bias=False),
            nn.SELU(),
            nn.Conv2d(8, 4, 3, padding=1, bias=False),
            nn.SELU(),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.SELU(),
            nn.Conv2d(4, 1, 3, padding=1, bias=False),
        )
        self.desc_head = DescriptorHead(dim, samples)

    def dense_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Feature map (1, dim, H, W), normalised over channels, and score map (1, 1, H, W) in [0, 1].

        Args:
            image: (1, 3, H, W) float32 RGB in [0, 1].
        """
        height, width = image.shape[-2:]
        left, right, top, bottom = padding(height, width)
        x1 = self.block1(F.pad(image, (left, right, top, bottom), mode="replicate"))
        x2 = self.block2(F.avg_pool2d(x1, 2))
        x3 = self.block3(F.avg_pool2d(x2, 4))
        x4 = self.block4(F.avg_pool2d(x3, 4))
        levels = [F.selu(conv(x)) for conv, x in zip(self.level_convs, (x1, x2, x3, x4), strict=True)]
        full = tuple(x1.shape[-2:])
        features = torch.cat(
            [levels[0], *(F.interpolate(x, full, mode="bilinear", align_corners=True) for x in levels[1:])], 1
        )
        scores = torch.sigmoid(self.score_head(features))
        crop = (..., slice(top, top + height), slice(left, left + width))
        return F.normalize(features, dim=1)[crop], scores[crop]

    @property
    def level_convs(self) -> tuple[nn.Module, ...]:
        """The 1x1 convolutions that bring the four levels to the same number of channels."""
        return self.conv1, self.conv2, self.conv3, self.conv4

    @torch.inference_mode()
    def forward(
        self, image: Tensor, max_keypoints: int, threshold: float, visible: Tensor | None = None
    ) -> tuple[Detections, Tensor]:
        """Keypoints and their descriptors (N, dim) of a (1, 3, H, W) float32 RGB image in [0, 1]; see `detect`."""
        feature_map, score_map = self.dense_maps(image)
        found = detect(score_map, max_keypoints, threshold, visible)
        return found, self.desc_head(feature_map, found.keypoints)


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) pixels that bring an image to a multiple of the stride, evenly spread."""
    across, down = -width % STRIDE, -height % STRIDE
    return across // 2, across - across // 2, down // 2, down - down // 2
