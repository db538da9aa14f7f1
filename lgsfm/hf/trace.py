"""Hidden states and attentions of one pair, read off the readable network while it runs."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from ..models.lightglue import LightGlue

__all__ = ["Trace", "stack_traces"]

Both = list[Tensor]  # of image 0, of image 1


class Trace:
    """A context in which `LightGlue.forward`, called once, leaves a record of its work.

    states: seven entries per layer that ran, as `LightGlueKeypointMatchingOutput.hidden_states`; (n, C) each.
    attentions: two entries per layer that ran, (heads, n, m) each.
    """

    def __init__(self, network: LightGlue, states: bool, attentions: bool) -> None:
        self.network = network
        self.with_states, self.with_attentions = states, attentions
        self.states: list[Both] = []
        self.attentions: list[Both] = []

    def __enter__(self) -> Self:
        self.handles = []
        layer: Any
        for layer in self.network.transformer_layers:
            for name in ("self", "cross") if self.with_states else ():
                mlp = getattr(layer, f"{name}_mlp")
                self.handles.append(mlp.register_forward_hook(self._see_update(first=name == "self")))
            for attention in (layer.self_attention, layer.cross_attention) if self.with_attentions else ():
                self.handles.append(attention.register_forward_hook(self._see_attention()))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _see_update(self, first: bool) -> Any:
        seen: list[tuple[Tensor, ...]] = []

        def hook(mlp: Any, args: tuple[Tensor, Tensor], output: Tensor) -> None:
            x, message = args
            seen.append((*((x,) if first else ()), output, torch.cat((x, message), -1), mlp.update(x, message)))
            if len(seen) == 2:  # one for each image
                self.states += [list(both) for both in zip(*seen, strict=True)]

        return hook

    def _see_attention(self) -> Any:
        seen: Both = []

        def hook(attention: Any, args: tuple[Any, ...], output: Tensor) -> None:
            seen.append(attention.weights(*args))
            if len(seen) == 2:
                self.attentions.append(seen)

        return hook


def stack_traces(
    traces: list[Trace], lifetimes: list[Both], size: int
) -> tuple[tuple[Tensor, ...] | None, tuple[Tensor, ...] | None]:
    """Hidden states (B, 2, size, C) and attentions (B, 2, heads, size, size) of all pairs; 0 for what did not run.

    ``lifetimes`` say for each keypoint of a pair's images in how many layers it took part.
    """
    states, attentions = [trace.states for trace in traces], [trace.attentions for trace in traces]
    return (
        tuple(_spread_states(states, lifetimes, size)) if traces[0].with_states else None,
        tuple(_spread_attentions(attentions, lifetimes, size)) if traces[0].with_attentions else None,
    )


def _present(lifetimes: Both, layer: int) -> Both:
    """The keypoints of both images that take part in a layer."""
    return [(times > layer).nonzero()[:, 0] for times in lifetimes]


def _spread_states(states: list[list[Both]], lifetimes: list[Both], size: int) -> list[Tensor]:
    longest = max(states, key=len)
    spread = [like[0].new_zeros(len(states), 2, size, like[0].shape[1]) for like in longest]
    for pair, entries in enumerate(states):
        for step, both in enumerate(entries):
            for side, index in enumerate(_present(lifetimes[pair], step // 7)):
                spread[step][pair, side, index] = both[side]
    return spread


def _spread_attentions(attentions: list[list[Both]], lifetimes: list[Both], size: int) -> list[Tensor]:
    longest = max(attentions, key=len)
    spread = [like[0].new_zeros(len(attentions), 2, len(like[0]), size, size) for like in longest]
    for pair, entries in enumerate(attentions):
        for step, both in enumerate(entries):
            present = _present(lifetimes[pair], step // 2)
            for side in (0, 1):
                rows, columns = present[side], present[side if step % 2 == 0 else 1 - side]
                spread[step][pair, side][:, rows[:, None], columns] = both[side]
    return spread
