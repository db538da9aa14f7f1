"""Attention within and between sets of tokens that lie behind each other in one tensor, each of its own size.

``q`` (T, heads, c), ``k`` and ``v`` (S, heads, c) hold sets one after the other; set i of ``q`` attends to set i of
``k`` and ``v``. Nothing is padded, so nothing needs a mask. Each set is a call of its own; but on a CUDA GPU all sets
are one call: of the kernel for sets of different sizes in half precision, else of PyTorch's jagged tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["attend", "attend_flash", "attend_jagged", "attend_one_by_one"]

Attend = Callable[[Tensor, Tensor, Tensor, Sequence[int], Sequence[int]], Tensor]


def attend(q: Tensor, k: Tensor, v: Tensor, sizes_q: Sequence[int], sizes_k: Sequence[int], out: Tensor) -> None:
    """Writes to ``out`` (T, heads * c) what the tokens of each set read.

    Args:
        q: (T, heads, c).
        k: (S, heads, c).
        v: (S, heads, c).
        sizes_q: tokens of each set of ``q``, none 0.
        sizes_k: tokens of each set of ``k`` and ``v``, none 0.
        out: any (T, heads * c) tensor, a slice of columns say.
    """
    if q.device.type != "cuda" or len(sizes_q) == 1:
        attend_one_by_one(q, k, v, sizes_q, sizes_k, out)
    elif q.dtype in (torch.float16, torch.bfloat16) and has_flash(q.device, q.dtype):
        out.copy_(attend_flash(q, k, v, sizes_q, sizes_k).flatten(1))
    else:
        out.copy_(attend_jagged(q, k, v, sizes_q, sizes_k).flatten(1))


def attend_one_by_one(
    q: Tensor, k: Tensor, v: Tensor, sizes_q: Sequence[int], sizes_k: Sequence[int], out: Tensor
) -> None:
    """`attend`, one set after the other."""
    start_q = start_k = 0
    for size_q, size_k in zip(sizes_q, sizes_k, strict=True):
        rows, columns = slice(start_q, start_q + size_q), slice(start_k, start_k + size_k)
        parts = (t.transpose(0, 1)[None] for t in (q[rows], k[columns], v[columns]))
        out[rows] = F.scaled_dot_product_attention(*parts)[0].transpose(0, 1).flatten(1)
        start_q, start_k = start_q + size_q, start_k + size_k


def attend_jagged(q: Tensor, k: Tensor, v: Tensor, sizes_q: Sequence[int], sizes_k: Sequence[int]) -> Tensor:
    """`attend` through jagged tensors, on any device: (T, heads, c)."""

    def jagged(values: Tensor, sizes: Sequence[int]) -> Tensor:
        return torch.nested.nested_tensor_from_jagged(
            values.contiguous(), offsets(sizes, values.device).long(), min_seqlen=min(sizes), max_seqlen=max(sizes)
        ).transpose(1, 2)

    found = F.scaled_dot_product_attention(jagged(q, sizes_q), jagged(k, sizes_k), jagged(v, sizes_k))
    return found.transpose(1, 2).values()


def attend_flash(q: Tensor, k: Tensor, v: Tensor, sizes_q: Sequence[int], sizes_k: Sequence[int]) -> Tensor:
    """`attend` through the flash kernel for sets of different sizes, on a GPU in half precision: (T, heads, c)."""
    from torch.nn.attention.varlen import varlen_attn

    ends = offsets(sizes_q, q.device), offsets(sizes_k, q.device)
    found = varlen_attn(q.contiguous(), k.contiguous(), v.contiguous(), *ends, max(sizes_q), max(sizes_k))
    assert isinstance(found, Tensor)  # no statistics were asked for
    return found


@cache
def has_flash(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `attend_flash` works here and gives what `attend_one_by_one` gives."""
    sizes_q, sizes_k = (3, 40, 17), (25, 1, 30)
    generator = torch.Generator().manual_seed(0)  # the caller's random numbers are not ours to draw
    q, k, v = (
        torch.randn(sum(sizes), 4, 64, generator=generator).to(device, dtype) for sizes in (sizes_q, sizes_k, sizes_k)
    )
    expected = torch.empty(len(q), 256, device=device, dtype=dtype)
    attend_one_by_one(q, k, v, sizes_q, sizes_k, expected)
    try:
        found = attend_flash(q, k, v, sizes_q, sizes_k).flatten(1)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # no such kernel for this GPU or in this PyTorch; each says so in its own way
        return False
    return torch.allclose(found, expected, atol=2e-2)


def offsets(sizes: Sequence[int], device: torch.device) -> Tensor:
    """Where each set begins, and the last one ends: (sets + 1,) int32."""
    ends = torch.zeros(len(sizes) + 1, dtype=torch.int32)
    ends[1:] = torch.tensor(sizes, dtype=torch.int32).cumsum(0)
    return ends.to(device)
