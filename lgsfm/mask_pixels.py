"""Masks at another size: what a network that sees a reduced photo may look at."""

from __future__ import annotations

import numpy as np

__all__ = ["fitted", "lies_across"]

_ROUNDING = 1e-6  # px


def lies_across(mask: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether a mask (h, w) stands upright where the image of (width, height) ``size`` lies, or the reverse."""
    height, width = mask.shape
    return (width - height) * (size[0] - size[1]) < 0


def fitted(mask: np.ndarray, size: tuple[int, int], target: tuple[int, int], scale: tuple[float, float]) -> np.ndarray:
    """A mask of an image at the size to which the image was reduced: true where all below it is true.

    So a point in a true pixel lies in a true pixel of the mask that was given, whatever the sizes.

    Args:
        mask: (h, w) bool, of the whole image at any size.
        size: (width, height) px of the image.
        target: (width, height) px of the reduced image.
        scale: px of the image per px of the reduced one, in x and y.

    Returns:
        Bool, (height, width) of ``target``.
    """
    for axis, across in ((0, 1), (1, 0)):
        mask = _all_below(mask, axis, target[across], scale[across] * mask.shape[axis] / size[across])
    return mask


def _all_below(mask: np.ndarray, axis: int, count: int, step: float) -> np.ndarray:
    """Along an axis ``count`` pixels, each ``step`` of the old ones long: true where all that it touches are."""
    length = mask.shape[axis]
    start = np.minimum(np.floor(np.arange(count) * step + _ROUNDING).astype(int), length - 1)
    stop = np.ceil(np.arange(1, count + 1) * step - _ROUNDING).astype(int).clip(start + 1, length)
    padded = np.concatenate((mask, np.ones_like(mask.take([0], axis))), axis)  # `reduceat` wants ends inside
    ends = np.stack((start, stop), 1).ravel()  # of what lies between two stretches nothing is kept
    return np.logical_and.reduceat(padded, ends, axis).take(np.arange(0, 2 * count, 2), axis)
