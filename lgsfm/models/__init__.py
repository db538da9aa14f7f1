"""Networks in plain torch, one file each: no files, no COLMAP, no weights of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

__all__ = ["explained_memory_errors", "photo_tensor", "resolve_device"]


@cache
def resolve_device(name: str) -> torch.device:
    """The device of a name; "auto" is the first GPU there is, else the CPU.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as exc:
        reason = str(exc).splitlines()[0]
        raise InputError(f"Device '{name}' cannot be used here ({reason}). Use --device cpu, or auto.") from exc
    return device


@contextmanager
def explained_memory_errors() -> Iterator[None]:
    """Turns whatever torch raises for want of memory into an `InputError` that says what to do."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as exc:
        text = str(exc).lower()
        is_memory = not isinstance(exc, RuntimeError) or "out of memory" in text or "allocate memory" in text
        if not is_memory:
            raise
        raise InputError(
            "Not enough memory for a network. What is finished is kept: go on with a smaller --max-edge-px or "
            f"--max-keypoints, or with --device cpu. ({str(exc).splitlines()[0] if str(exc) else type(exc).__name__})"
        ) from exc


def photo_tensor(rgb: np.ndarray, device: torch.device) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [0, 1], channels_last."""
    return torch.from_numpy(rgb).to(device).permute(2, 0, 1)[None].float().div_(255)
