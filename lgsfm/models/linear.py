"""Linear layers of inference networks: on a CPU through oneDNN, with the weights in its own layout."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ROWS", "InferenceLinear", "with_room"]

ROWS = 64  # oneDNN prepares itself for each new number of rows, for half a millisecond: so many multiples are enough


class InferenceLinear(nn.Module):
    """``x @ weight.T + bias`` with frozen float32 parameters.

    PyTorch multiplies through MKL on CPUs; oneDNN with reordered weights is 10 to 20 % faster for the sizes that
    matter here (on AVX2 and AVX-512 alike), and gives the same to float precision. Where it is missing, `F.linear`
    works.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().float().clone(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach().float().clone(), requires_grad=False)
        self._reordered: Tensor | None = None

    @classmethod
    def of(cls, layer: nn.Linear) -> InferenceLinear:
        """A copy of a layer."""
        bias = layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
        return cls(layer.weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in) -> (N, out)."""
        functions = onednn() if len(x) and x.device.type == "cpu" and x.dtype == torch.float32 else None
        if functions is None:
            return F.linear(x, self.weight, self.bias)
        reorder, multiply = functions
        if self._reordered is None:
            self._reordered = reorder(self.weight.detach())
        return multiply(with_room(x), self._reordered, self.bias, "none", [], "")[: len(x)]

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self._reordered = None
        super()._load_from_state_dict(*args, **options)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._reordered = None  # the parameters are about to move, or to change their type
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reordered": None}


def with_room(x: Tensor) -> Tensor:
    """Rows of (N, C) with as many more behind them as make a multiple of `ROWS`; what those hold has no meaning.

    A layer's output has that room already; other tensors are copied.
    """
    rows, columns = -(-len(x) // ROWS) * ROWS, x.shape[1]
    has_room = x.untyped_storage().nbytes() >= rows * columns * x.element_size()
    if has_room and x.is_contiguous() and x.storage_offset() == 0:
        return x.as_strided((rows, columns), (columns, 1))
    roomy = x.new_zeros(rows, columns)
    roomy[: len(x)] = x
    return roomy


@cache
def onednn() -> tuple[Callable[..., Tensor], Callable[..., Tensor]] | None:
    """Reordering and multiplication, or None where they do not work: they are no public part of PyTorch."""
    try:
        reorder, multiply = torch.ops.mkldnn._reorder_linear_weight, torch.ops.mkldnn._linear_pointwise
        x, weight, bias = torch.arange(12.0).view(3, 4), torch.arange(8.0).view(2, 4), torch.arange(2.0)
        found = multiply(x, reorder(weight), bias, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return None
    return (reorder, multiply) if torch.allclose(found, F.linear(x, weight, bias), atol=1e-5) else None
