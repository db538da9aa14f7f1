"""Networks in plain torch, one file each: no files, no COLMAP, no weights of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, MemoryShortageError, is_memory_shortage
from ..threads import check_thread_room
from .determinism import cores_of_deterministic, deterministic

__all__ = [
    "Place",
    "deterministic",
    "explained_memory_errors",
    "limited_threads",
    "mask_tensor",
    "on_all_cores",
    "pairs_at_once",
    "photo_tensor",
    "resolve_device",
]

MOST_AT_ONCE = 8  # things at work at once on a CPU: each has its own intermediate results in memory

Item = TypeVar("Item")
Result = TypeVar("Result")


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


class Place(NamedTuple):
    """Where a network works, and with what numbers."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, device: str, precision: str) -> Place:
        """The place by its names; the precision "auto" is float16 on a CUDA GPU, else float32.

        Raises:
            InputError: there is no such device here.
        """
        resolved = resolve_device(device)
        if precision == "auto":
            precision = "float16" if resolved.type == "cuda" else "float32"
        return cls(resolved, getattr(torch, precision))


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Networks take so many CPU threads inside, and as many as before outside; 0 or less changes nothing."""
    before = torch.get_num_threads()
    if threads > 0:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pairs_at_once() -> int:
    """On how many independent things the CPU works best at once: one for each thread, while memory allows."""
    return min(cores_of_deterministic() or torch.get_num_threads(), MOST_AT_ONCE)


def on_all_cores(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results of a function for independent items, in their order, several at work at once.

    One item for each core needs no waiting between the threads of an operation: two pairs at once on two cores take
    8 % less time than one after the other on both.
    """
    at_once = min(pairs_at_once(), len(items))
    threads = max(1, torch.get_num_threads() // max(at_once, 1))  # in a deterministic context 1 in any case
    check_thread_room(at_once)
    with (
        limited_threads(threads),  # of MKL, which counts for the whole process
        ThreadPoolExecutor(max(at_once, 1), initializer=torch.set_num_threads, initargs=(threads,)) as pool,
    ):
        return list(pool.map(function, items))


@contextmanager
def explained_memory_errors() -> Iterator[None]:
    """Turns whatever torch raises for want of memory into a `MemoryShortageError` that says what to do."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as exc:
        if not isinstance(exc, torch.OutOfMemoryError) and not is_memory_shortage(exc):
            raise
        raise MemoryShortageError(
            "Not enough memory for a network. What is finished is kept: go on with a smaller --max-edge-px or "
            f"--max-keypoints, or with --device cpu. ({str(exc).splitlines()[0] if str(exc) else type(exc).__name__})"
        ) from exc


def photo_tensor(rgb: np.ndarray, device: torch.device) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [0, 1], channels_last."""
    return torch.from_numpy(rgb).to(device).permute(2, 0, 1)[None].float().div_(255)


def mask_tensor(mask: np.ndarray | None, device: torch.device) -> Tensor | None:
    """(H, W) bool on the device; None, for a photo that is not masked, stays None."""
    return None if mask is None else torch.from_numpy(mask).to(device)
