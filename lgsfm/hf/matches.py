"""From the output of a model to matches in pixels, and to pictures of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import InputError
from .pixels import channels_first

__all__ = ["post_process", "visualize"]

LINE_PX = 3
DOT_PX = 2  # radius


def post_process(outputs: Any, target_sizes: Any, threshold: float, legacy: bool) -> list[dict[str, Tensor]]:
    """See `lgsfm.hf.LightGlueImageProcessor.post_process_keypoint_matching`."""
    mask = outputs.mask > 0
    sizes = _sizes(target_sizes, mask)
    if legacy:
        if outputs.matches.ndim != 3:
            raise InputError(
                "transformers cannot read the matches of a model without early stopping and pruning, and neither does "
                "a legacy processor. Use legacy=False."
            )
        keypoints = (outputs.keypoints * sizes.flip(-1)[:, :, None]).int()
    else:
        keypoints = to_pixels(outputs.keypoints, sizes, getattr(outputs, "image_sizes", None))
    matches = outputs.matches.reshape(mask.shape)[:, 0]
    scores = outputs.matching_scores.reshape(mask.shape)[:, 0]
    results = []
    for pair, points in enumerate(keypoints):
        count1 = mask[pair, 1].sum()
        good = mask[pair, 0] & (scores[pair] > threshold) & (matches[pair] > -1) & (matches[pair] < count1)
        results.append(
            {
                "keypoints0": points[0][good],
                "keypoints1": points[1][matches[pair][good]],
                "matching_scores": scores[pair][good],
            }
        )
    return results


def to_pixels(relative: Tensor, sizes: Tensor, seen: Tensor | None) -> Tensor:
    """Relative keypoints (B, 2, N, 2) as (x, y) px of images of ``sizes`` (B, 2, 2), float32.

    ``seen`` are the sizes of the images that the network saw; without them (in an output of transformers) the half
    pixel of the resize is unknown and left out. The centre of the top-left pixel is at (0, 0).
    """
    full = sizes.flip(-1)[:, :, None].to(relative.device, torch.float64)
    if seen is None:
        return (relative.double() * full).float()
    small = seen.flip(-1)[:, :, None].to(relative.device, torch.float64)
    return ((relative.double() * small + 0.5) * (full / small) - 0.5).float()


def visualize(pairs: list[tuple[Any, Any]], results: list[dict[str, Tensor]]) -> list[Image.Image]:
    """See `lgsfm.hf.LightGlueImageProcessor.visualize_keypoint_matching`."""
    if len(pairs) != len(results):
        raise InputError(f"There are {len(pairs)} pairs of images but the matches of {len(results)}.")
    return [
        _drawn(_as_picture(image0), _as_picture(image1), result)
        for (image0, image1), result in zip(pairs, results, strict=True)
    ]


def _drawn(image0: Image.Image, image1: Image.Image, result: dict[str, Tensor]) -> Image.Image:
    sheet = Image.new("RGB", (image0.width + image1.width, max(image0.height, image1.height)))
    sheet.paste(image0, (0, 0))
    sheet.paste(image1, (image0.width, 0))
    draw = ImageDraw.Draw(sheet)
    lists = (result[name].tolist() for name in ("keypoints0", "keypoints1", "matching_scores"))
    for (x0, y0), (x1, y1), score in zip(*lists, strict=True):
        x1 += image0.width
        draw.line((x0, y0, x1, y1), fill=(int(255 * (1 - score)), int(255 * score), 0), width=LINE_PX)
        for x, y in ((x0, y0), (x1, y1)):
            draw.ellipse((x - DOT_PX, y - DOT_PX, x + DOT_PX, y + DOT_PX), fill="black")
    return sheet


def _as_picture(picture: Any) -> Image.Image:
    array = channels_first(picture)
    array = array.cpu().numpy() if isinstance(array, Tensor) else array
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(array, 0, 2).round().clip(0, 255).astype(np.uint8)))


def _sizes(target_sizes: Any, mask: Tensor) -> Tensor:
    """(B, 2, 2) (height, width) of the images."""
    try:
        sizes = torch.as_tensor(target_sizes, device=mask.device)
    except (TypeError, ValueError) as error:
        raise InputError(f"target_sizes are no numbers of the shape (pairs, 2, 2): {error}") from error
    if sizes.shape != (len(mask), 2, 2):
        raise InputError(
            f"target_sizes must hold the (height, width) of both images of each of the {len(mask)} pairs, the shape "
            f"({len(mask)}, 2, 2); they have the shape {tuple(sizes.shape)}."
        )
    return sizes
