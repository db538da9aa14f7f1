"""Networks that compute the same bits again: on however many cores, and in whatever company.

Two things make the result of a network on a CPU depend on more than its input: how many threads share an operation,
since each sums up its part, and how many photos or pairs are at work, since that decides on the threads. So here each
photo and each pair has one thread, and the cores work on several of them. On a GPU some operations add in the order in
which their threads happen to finish: torch is told to take others, and to complain where it has none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from ..errors import InputError

__all__ = ["cores_of_deterministic", "deterministic"]

WORKSPACE, WORKSPACE_SIZE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"  # what cuBLAS asks for to be deterministic
COMPLAINT = "deterministic implementation"  # in torch's error about an operation that has none

_cores: ContextVar[int] = ContextVar("cores", default=0)


def cores_of_deterministic() -> int:
    """How many photos or pairs may be at work at once in a deterministic context; 0 outside of one."""
    return _cores.get()


@contextmanager
def deterministic(threads: int = -1) -> Iterator[None]:
    """Inside, networks give the same bits for the same input, whatever the number of threads; torch is as before after.

    The same bits on the same processor and with the same version of torch, that is: others have other instructions.

    Args:
        threads: how many photos or pairs are at work at once, each in one thread; 0 or less takes all cores.

    Raises:
        InputError: a network uses an operation that torch cannot do so (on a GPU; of other packages, say).
    """
    threads_before, workspace = torch.get_num_threads(), os.environ.get(WORKSPACE)
    is_on = torch.are_deterministic_algorithms_enabled()
    is_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn: Any = torch.backends.cudnn
    memory: Any = torch.utils.deterministic
    flags = cudnn.benchmark, cudnn.deterministic, memory.fill_uninitialized_memory
    token = _cores.set(threads if threads > 0 else threads_before)
    try:
        os.environ.setdefault(WORKSPACE, WORKSPACE_SIZE)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        # the last one finds reads of memory that was never written, for which each allocation is filled: not our task
        cudnn.benchmark, cudnn.deterministic, memory.fill_uninitialized_memory = False, True, False
        yield
    except RuntimeError as exc:
        if COMPLAINT not in str(exc):
            raise
        raise InputError(
            f"--deterministic: torch cannot do that on this device ({str(exc).partition('.')[0]}). "
            "Take --device cpu, another --features or --matcher, or go without --deterministic."
        ) from exc
    finally:
        cudnn.benchmark, cudnn.deterministic, memory.fill_uninitialized_memory = flags
        torch.use_deterministic_algorithms(is_on, warn_only=is_warning)
        torch.set_num_threads(threads_before)
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
        _cores.reset(token)
