"""SuperPoint: a convolutional network that finds and describes corners in one pass.

DeTone, Malisiewicz, Rabinovich, "SuperPoint: Self-Supervised Interest Point Detection and Description",
CVPR workshops 2018, arXiv:1712.07629.

Coordinates in this file: pixels of the input image, centre of the top-left pixel at (0, 0). SuperPoint places its
keypoints on whole pixels. The network sees cells of 8x8 px: of an image whose size is not a multiple of 8, the last
``width % 8`` columns and ``height % 8`` rows get no keypoint, as in the original; an image under 8 px gets none at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from .keypoints import Keypoints, best_first
from .nms import suppress_non_maxima

__all__ = ["Detection", "SuperPoint", "network_from_weights"]

CELL = 8  # px of the image per cell of the encoder's output, along each axis
STRIP_BYTES = 8 << 20  # of an intermediate map on a CPU: small enough to stay in its cache

# name here and in the original weights -> name in the Hugging Face layout
HUGGING_FACE = {
    **{f"conv{block}{half}": f"encoder.conv_blocks.{block - 1}.conv_{half}" for block in (1, 2, 3, 4) for half in "ab"},
    "convPa": "keypoint_decoder.conv_score_a",
    "convPb": "keypoint_decoder.conv_score_b",
    "convDa": "descriptor_decoder.conv_descriptor_a",
    "convDb": "descriptor_decoder.conv_descriptor_b",
}


class Detection(NamedTuple):
    """What counts as a keypoint.

    max_keypoints: the best so many are kept; 0 keeps all.
    threshold: least score.
    nms_radius: no two keypoints are closer than this along both axes [px].
    border: keypoints closer than this to the left or upper border are dropped [px].
    far_border: the same for the right and lower border (of the last whole cell). The paper's code and LightGlue's
        treat all borders alike; 0 gives what transformers gives, which keeps these.
    """

    max_keypoints: int = 0
    threshold: float = 0.005
    nms_radius: int = 4
    border: int = 4
    far_border: int = 4


# --------------------------------------------------------------------------------- network
class SuperPoint(nn.Module):
    """The network; the parameters carry the names of the original weights, and the default sizes are theirs.

    widths: channels of the four encoder blocks. hidden: channels inside the two heads. dim: of a descriptor.
    """

    def __init__(self, widths: Sequence[int] = (64, 64, 128, 128), hidden: int = 256, dim: int = 256) -> None:
        super().__init__()
        channels = 1
        for block, width in enumerate(widths, start=1):
            self.add_module(f"conv{block}a", nn.Conv2d(channels, width, 3, padding=1))
            self.add_module(f"conv{block}b", nn.Conv2d(width, width, 3, padding=1))
            channels = width
        self.convPa = nn.Conv2d(channels, hidden, 3, padding=1)
        self.convPb = nn.Conv2d(hidden, CELL * CELL + 1, 1)
        self.convDa = nn.Conv2d(channels, hidden, 3, padding=1)
        self.convDb = nn.Conv2d(hidden, dim, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, image: Tensor) -> Tensor:
        """(1, 1, H, W) -> (1, widths[3], H // 8, W // 8)."""
        x = image.contiguous(memory_format=torch.channels_last)
        for block in (1, 2, 3):
            x = pooled_block(x, *self.block(block))
        first, second = self.block(4)
        return F.relu_(second(F.relu_(first(x))))

    def block(self, number: int) -> tuple[nn.Conv2d, nn.Conv2d]:
        """The two convolutions of an encoder block, 1 to 4."""
        return getattr(self, f"conv{number}a"), getattr(self, f"conv{number}b")

    def score_map(self, encoded: Tensor) -> Tensor:
        """(1, C, h, w) -> (8 h, 8 w) probability that a pixel is a keypoint (section 3.2)."""
        logits = self.convPb(F.relu_(self.convPa(encoded)))[0].permute(1, 2, 0)
        height, width = logits.shape[:2]
        cells = logits.softmax(-1)[..., :-1]  # the last class is "no keypoint in this cell"
        return cells.reshape(height, width, CELL, CELL).transpose(1, 2).reshape(height * CELL, width * CELL)

    def describe(self, encoded: Tensor, keypoints: Tensor) -> Tensor:
        """(N, dim) descriptors at (N, 2) keypoints [px], bicubic upsampling being replaced by bilinear sampling."""
        coarse = F.normalize(self.convDb(F.relu_(self.convDa(encoded))), dim=1)
        return F.normalize(sample_cells(coarse, keypoints), dim=1)

    @torch.inference_mode()
    def forward(
        self,
        image: Tensor,
        detection: Detection = Detection(),  # noqa: B008
        visible: Tensor | None = None,
    ) -> Keypoints:
        """Keypoints of a (1, 1, H, W) grey image in [0, 1], where ``visible`` (H, W) is true; None is everywhere."""
        if min(image.shape[-2:]) < CELL:
            return Keypoints(image.new_zeros(0, 2), image.new_zeros(0), image.new_zeros(0, self.convDb.out_channels))
        encoded = self.encode(image)
        keypoints, scores = detect(self.score_map(encoded), detection, visible)
        return Keypoints(keypoints, scores, self.describe(encoded, keypoints))


def pooled_block(x: Tensor, first: nn.Conv2d, second: nn.Conv2d) -> Tensor:
    """Two convolutions with ReLU, then the maximum of each 2x2 px: (1, C, H, W) -> (1, out, H // 2, W // 2).

    On a CPU the full-resolution maps, which are never needed as a whole, are made strip by strip. The second ReLU
    comes after the pooling, with which it commutes.
    """
    height, width = x.shape[2] // 2 * 2, x.shape[3]
    rows = height
    if x.device.type == "cpu":
        rows = max(2, STRIP_BYTES // (width * first.out_channels * x.element_size()) // 2 * 2)
    padded = F.pad(x, (0, 0, 2, 2)).contiguous(memory_format=torch.channels_last)
    strips = []
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        hidden = F.relu_(across(padded[:, :, start : stop + 4], first))  # rows start - 1 to stop
        if start == 0:
            hidden[:, :, 0] = 0  # what lies outside of the image is zero for the second convolution too
        if stop == x.shape[2]:
            hidden[:, :, -1] = 0
        strips.append(F.relu_(F.max_pool2d(across(hidden, second), 2)))
    return strips[0] if len(strips) == 1 else torch.cat(strips, 2)


def across(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 3x3 convolution that pads columns but not rows."""
    return F.conv2d(x, conv.weight, conv.bias, padding=(0, 1))


# --------------------------------------------------------------------------------- detection, sampling
def detect(score_map: Tensor, detection: Detection, visible: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Local maxima of an (H, W) score map: positions (N, 2) [px], scores (N,); best first.

    ``visible`` is a mask of at least that size, applied to maxima: slopes that end at its edge become none.
    """
    height, width = score_map.shape
    peaks = suppress_non_maxima(score_map[None], detection.nms_radius)[0]
    if visible is not None:
        peaks = peaks.masked_fill(~visible[:height, :width], 0)
    near, far = detection.border, detection.far_border
    inner = peaks[near : max(height - far, 0), near : max(width - far, 0)]
    y, x = (inner > detection.threshold).nonzero(as_tuple=True)
    scores, order = best_first(inner[y, x], detection.max_keypoints)
    return torch.stack((x[order] + near, y[order] + near), 1).to(score_map.dtype), scores


def sample_cells(coarse: Tensor, keypoints: Tensor) -> Tensor:
    """(N, C) bilinear samples of a (1, C, h, w) map of cells at (N, 2) positions [px].

    The centre of the first cell, at 3.5 px, is sampled exactly. Up to the far border the positions are squeezed by
    up to half a cell: so the published networks were trained, and the matchers on top of them.
    """
    height, width = coarse.shape[-2:]
    size = keypoints.new_tensor([width, height])
    grid = (keypoints - CELL / 2 + 0.5) / (size * CELL - CELL / 2 - 0.5) * 2 - 1
    sampled = F.grid_sample(coarse, grid[None, None], mode="bilinear", align_corners=True)
    return sampled[0, :, 0].T.contiguous()


# --------------------------------------------------------------------------------- weights
def network_from_weights(state: Mapping[str, Tensor]) -> SuperPoint:
    """A `SuperPoint` with the given weights, in the original layout or in that of Hugging Face.

    The weights may be a part of a Hugging Face LightGlue checkpoint (``keypoint_detector.*``).

    Raises:
        WeightsError: the weights are not SuperPoint's.
    """
    network = SuperPoint()
    try:
        network.load_state_dict(to_original(state), strict=True)
    except RuntimeError as exc:
        raise WeightsError(f"These are not the weights of a SuperPoint network: {exc}") from exc
    return network.eval()


def to_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the original layout; names of neither layout stay as they are."""
    prefix = "keypoint_detector."
    if any(key.startswith(prefix) for key in state):
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    names = {new: old for old, new in HUGGING_FACE.items()}
    renamed = {}
    for key, value in state.items():
        module, _, parameter = key.rpartition(".")
        renamed[f"{names.get(module, module)}.{parameter}"] = value
    return renamed


def to_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the layout of Hugging Face; what is not of the original layout stays as it is."""
    if "convPa.weight" not in state:
        return dict(state)
    split = {key: key.rpartition(".") for key in state}
    return {f"{HUGGING_FACE[module]}.{name}": state[key] for key, (module, _, name) in split.items()}
