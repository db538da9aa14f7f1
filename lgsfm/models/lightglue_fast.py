"""The fast path of LightGlue: the same matches as `lgsfm.models.lightglue.LightGlue`, sooner.

What makes it fast, exactly:
- the tokens of both images go through each matrix product together;
- queries, keys and values are one product; the channels of queries and keys are permuted once, so that the rotary
  encoding works on contiguous halves;
- the output projection of an attention is folded into the layer behind it;
- input projection, positional encoding and the first self-attention depend on one image alone: `prepare` computes
  them once per image, not once per pair;
- the double softmax is two log-sum-exps over the logits, not two full matrices.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .lightglue import (
    Adaptivity,
    Assignment,
    Attention,
    FeedForward,
    Layer,
    LightGlue,
    is_decided,
    is_kept,
    mutual_best,
    no_matches,
)

__all__ = ["FastLightGlue", "Prepared"]


class Prepared(NamedTuple):
    """One image, ready to be matched with any other: tokens (N, dim), cosines and sines (N, head_dim / 2)."""

    tokens: Tensor
    cos: Tensor
    sin: Tensor


class FoldedFeedForward(nn.Module):
    """A `FeedForward` that takes the attention's context before its output projection."""

    def __init__(self, attention: Attention, mlp: FeedForward) -> None:
        super().__init__()
        dim = attention.o_proj.in_features
        own, message = mlp.fc1.weight.double().split(dim, dim=1)
        out = attention.o_proj
        weight = torch.cat((own, message @ out.weight.double()), 1)
        bias = mlp.fc1.bias.double()
        if out.bias is not None:
            bias = bias + message @ out.bias.double()
        self.fc1 = _linear(weight, bias)
        self.layer_norm = mlp.layer_norm
        self.fc2 = mlp.fc2
        self.activation = mlp.activation

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(N, dim), (N, dim) -> (N, dim)."""
        hidden = self.layer_norm(self.fc1(torch.cat((x, context), 1)))
        return torch.add(x, self.fc2(self.activation(hidden)))


class FastLayer(nn.Module):
    """`Layer` on the tokens of both images in one tensor."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        within, across = layer.self_attention, layer.cross_attention
        self.heads = within.heads
        (q, q_bias), (k, k_bias), (v, v_bias) = _projections(within)
        halves = _even_then_odd(len(q), self.heads)
        self.qkv = _stacked((q[halves], k[halves], v), (q_bias[halves], k_bias[halves], v_bias))
        self.within_mlp = FoldedFeedForward(within, layer.self_mlp)
        (q, q_bias), (k, k_bias), (v, v_bias) = _projections(across)
        self.is_shared = torch.equal(q, k) and torch.equal(q_bias, k_bias)
        self.qvk = (
            _stacked((q, v), (q_bias, v_bias)) if self.is_shared else _stacked((q, v, k), (q_bias, v_bias, k_bias))
        )
        self.across_mlp = FoldedFeedForward(across, layer.cross_mlp)

    def look_within(self, x: Tensor, cos: Tensor, sin: Tensor, sizes: list[int]) -> Tensor:
        """Self-attention in each of the images whose tokens lie behind each other in ``x``."""
        n, dim = x.shape
        qkv = self.qkv(x).view(n, 3, self.heads, dim // self.heads)
        qk, v = _rotated(qkv[:, :2], cos, sin), qkv[:, 2]
        context = torch.empty_like(x)
        start = 0
        for size in sizes:
            part = slice(start, start + size)
            context[part] = _attend(qk[part, 0], qk[part, 1], v[part])
            start += size
        return self.within_mlp(x, context)

    def look_across(self, x: Tensor, m: int) -> Tensor:
        """Cross-attention between the first ``m`` tokens and the rest."""
        n, dim = x.shape
        parts = self.qvk(x).view(n, -1, self.heads, dim // self.heads)
        q, v, k = parts[:, 0], parts[:, 1], parts[:, 0 if self.is_shared else 2]
        context = torch.empty_like(x)
        context[:m] = _attend(q[:m], k[m:], v[m:])
        context[m:] = _attend(q[m:], k[:m], v[:m])
        return self.across_mlp(x, context)


class FastLightGlue(nn.Module):
    """LightGlue for inference, made from a loaded `LightGlue`."""

    def __init__(self, network: LightGlue) -> None:
        super().__init__()
        with torch.no_grad():
            self.input_projection = network.input_projection
            self.positional_encoder = network.positional_encoder
            self.layers = nn.ModuleList(FastLayer(layer) for layer in network.transformer_layers)
            self.assignments = network.match_assignment_layers
            decisions = zip(network.token_confidence, network.match_assignment_layers, strict=False)
            self.decisions = nn.ModuleList(  # confidence and matchability of a token in one product
                _stacked((c.token.weight, a.matchability.weight), (c.token.bias, a.matchability.bias))
                for c, a in decisions
            )
        self.eval()

    @torch.inference_mode()
    def prepare(self, keypoints: Tensor, descriptors: Tensor) -> Prepared:
        """The work that depends on one image alone; arguments as for `LightGlue.forward`, one image."""
        cos, sin = self.positional_encoder(keypoints)
        x = self.input_projection(descriptors)
        if len(x):
            x = self.layers[0].look_within(x, cos, sin, [len(x)])
        return Prepared(x, cos, sin)

    @torch.inference_mode()
    def forward(
        self, image0: Prepared, image1: Prepared, adaptivity: Adaptivity, lifetimes: Tensor | None = None
    ) -> Assignment:
        """Matches of two prepared images; ``lifetimes`` as for `LightGlue.forward`."""
        m, points = len(image0.tokens), len(image0.tokens) + len(image1.tokens)
        x = torch.cat((image0.tokens, image1.tokens))
        cos, sin = torch.cat((image0.cos, image1.cos)), torch.cat((image0.sin, image1.sin))
        index = torch.arange(points, device=x.device)
        first_of_1 = m
        count = len(self.layers)
        for i, layer in enumerate(self.layers):
            if m == 0 or m == len(x):
                return no_matches(x, i)
            if lifetimes is not None:
                lifetimes[index] += 1
            if i > 0:
                x = layer.look_within(x, cos, sin, [m, len(x) - m])
            x = layer.look_across(x, m)
            if i == count - 1 or (adaptivity.depth <= 0 and adaptivity.width <= 0):
                continue
            confidence, matchability = self.decisions[i](x).sigmoid().unbind(1)
            if adaptivity.depth > 0 and is_decided(confidence, i, count, points, adaptivity.depth):
                break
            if adaptivity.width > 0:
                sure = confidence if adaptivity.depth > 0 else None
                keep = is_kept(matchability, sure, i, count, adaptivity.width)
                m = int(keep[:m].sum())
                x, cos, sin, index = x[keep], cos[keep], sin[keep], index[keep]
        if m == 0 or m == len(x):
            return no_matches(x, i + 1)
        found = self.assign(i, x, m, adaptivity.threshold)
        pair = (index[found.indices[:, 0]], index[found.indices[:, 1] + m] - first_of_1)
        return Assignment(torch.stack(pair, 1), found.scores, i + 1)

    def assign(self, layer: int, x: Tensor, m: int, threshold: float) -> Assignment:
        """Mutual best matches between the first ``m`` tokens and the rest, after a layer."""
        assignment = self.assignments[layer]
        projected = assignment.final_projection(x)
        matchable = assignment.matchability(x)[:, 0]
        similarity = (projected[:m] / x.shape[1] ** 0.5) @ projected[m:].T
        return mutual_best(similarity.float(), matchable[:m].float(), matchable[m:].float(), threshold)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of (N, heads, c) queries to (M, heads, c) keys: (N, heads * c)."""
    q, k, v = (t.transpose(0, 1)[None] for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).flatten(1)


def _rotated(qk: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary encoding of (N, 2, heads, c), whose first half pairs with its second half."""
    first, second = qk.chunk(2, dim=-1)
    cos, sin = cos[:, None, None], sin[:, None, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def _projections(attention: Attention) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of queries, keys and values, with a copy for each of the heads that share one."""
    parts = []
    for layer in (attention.q_proj, attention.k_proj, attention.v_proj):
        bias = layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
        repeats = layer.in_features // layer.out_features
        rows = torch.arange(layer.out_features).view(-1, layer.in_features // attention.heads)
        rows = rows.repeat_interleave(repeats, 0).flatten()
        parts.append((layer.weight[rows], bias[rows]))
    return parts


def _even_then_odd(dim: int, heads: int) -> Tensor:
    """Row numbers that bring the even channels of each head before its odd ones."""
    rows = torch.arange(dim).view(heads, -1)
    return torch.cat((rows[:, 0::2], rows[:, 1::2]), 1).flatten()


def _stacked(weights: list[Tensor] | tuple[Tensor, ...], biases: list[Tensor] | tuple[Tensor, ...]) -> nn.Linear:
    return _linear(torch.cat(tuple(weights)), torch.cat(tuple(biases)))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight.detach().float().clone())
    layer.bias = nn.Parameter(bias.detach().float().clone())
    return layer
