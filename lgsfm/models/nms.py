"""Non-maximum suppression on dense score maps, shared by the detectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["suppress_non_maxima", "window_max"]


def suppress_non_maxima(scores: Tensor, radius: int) -> Tensor:
    """The scores (..., H, W) at local maxima within ``radius`` [px], else 0; two rounds let maxima re-appear."""
    is_max = scores == window_max(scores, radius)
    for _ in range(2):
        suppressed = window_max(is_max.to(scores.dtype), radius) > 0
        rest = scores.masked_fill(suppressed, 0)
        is_max |= (rest == window_max(rest, radius)) & ~suppressed
    return scores.masked_fill(~is_max, 0)


def window_max(scores: Tensor, radius: int) -> Tensor:
    """Maximum of (..., H, W) in the square of ``2 * radius + 1`` pixels around each pixel.

    The square is two one-dimensional passes, and a pass doubles its reach with each shifted maximum.
    """
    size = 2 * radius + 1
    best = F.pad(scores, (radius,) * 4, value=-torch.inf)
    for dim in (-1, -2):
        length = best.shape[dim] - 2 * radius
        reach = 1
        while reach < size:
            step = min(reach, size - reach)
            reach += step
            count = length + size - reach
            best = torch.maximum(best.narrow(dim, 0, count), best.narrow(dim, step, count))
    return best
