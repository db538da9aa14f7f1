"""The fast path of LightGlue: the same matches as `lgsfm.models.lightglue.LightGlue`, sooner, for many pairs at once.

What makes it fast, exactly:
- the tokens of both images, and of all pairs of a batch, go through each matrix product together; attention takes
  each image for itself (`lgsfm.models.attention`), so nothing is padded;
- a pair leaves the batch after the layer in which it is decided, a point when it is pruned: the work shrinks;
- queries, keys and values are one product; the rotary encoding is one complex product in place;
- the output projection of an attention is folded into the layer behind it;
- input projection, positional encoding and the first self-attention depend on one image alone: `prepare` computes
  them once per image, not once per pair;
- the double softmax is two log-sum-exps over the logits, not two full matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import attend
from .lightglue import (
    Adaptivity,
    Assignment,
    Attention,
    FeedForward,
    Layer,
    LightGlue,
    are_decided,
    confidence_threshold,
    is_kept,
    mutual_best,
    no_matches,
)
from .linear import ROWS, InferenceLinear, with_room

__all__ = ["FastLightGlue", "Prepared"]


class Prepared(NamedTuple):
    """One image, ready to be matched with any other.

    tokens: (N, dim)
    rotation: (N, head_dim / 2) complex64, the rotary encoding of its keypoints
    """

    tokens: Tensor
    rotation: Tensor


class Batch(NamedTuple):
    """Pairs at work; the tokens of all images 0 come first, pair by pair, then those of all images 1.

    tokens: (T, dim)
    rotation: (T, head_dim / 2) complex64
    origin: (T,) int64, which of the tokens with which the batch began it was
    numbers: which of the caller's pairs each pair is
    sizes: tokens of image 0 of each pair, then of image 1 of each pair
    """

    tokens: Tensor
    rotation: Tensor
    origin: Tensor
    numbers: list[int]
    sizes: list[int]

    @classmethod
    def of(cls, pairs: Sequence[tuple[Prepared, Prepared]]) -> Batch:
        """All pairs, before the first layer."""
        images = [image0 for image0, _ in pairs] + [image1 for _, image1 in pairs]
        tokens = torch.cat([image.tokens for image in images])
        origin = torch.arange(len(tokens), device=tokens.device)
        rotation = torch.cat([image.rotation for image in images])
        return cls(tokens, rotation, origin, list(range(len(pairs))), [len(image.tokens) for image in images])

    @property
    def middle(self) -> int:
        """How many tokens the images 0 have."""
        return sum(self.sizes[: len(self.numbers)])

    def total(self, flags: Tensor) -> Tensor:
        """For flags (K, T), how many of each row are set in each image: (K, 2 * pairs) float32, on the CPU."""
        if len(self.numbers) == 1:
            parts = [part.sum(1, dtype=torch.float32) for part in flags.split(self.sizes, 1)]
            return torch.stack(parts, 1).cpu()
        return (
            flags.new_zeros(len(flags), len(self.sizes), dtype=torch.float32)
            .index_add_(1, self.image_of_tokens(), flags.float())
            .cpu()
        )

    def image_of_tokens(self) -> Tensor:
        """(T,) int64: which image (a position in ``sizes``) each token is of."""
        sizes = torch.tensor(self.sizes).to(self.tokens.device)
        return torch.repeat_interleave(sizes, output_size=len(self.tokens))

    def only(self, keep: Tensor | None, sizes: list[int], stays: list[bool]) -> Batch:
        """The pairs that stay, with the tokens of ``keep`` (T,), of which each image has ``sizes``; None keeps all."""
        if all(stays) and sizes == self.sizes:
            return self
        if not all(stays):
            of_staying = torch.tensor([*stays, *stays]).to(self.tokens.device)[self.image_of_tokens()]
            keep = of_staying if keep is None else keep & of_staying
        assert keep is not None
        rows = keep.nonzero()[:, 0]
        numbers = [number for number, stay in zip(self.numbers, stays, strict=True) if stay]
        sizes = [size for size, stay in zip(sizes, [*stays, *stays], strict=True) if stay]
        return Batch(self.tokens[rows], self.rotation[rows], self.origin[rows], numbers, sizes)

    def pair(self, position: int) -> tuple[slice, slice]:
        """Where the tokens of the images of a pair lie."""
        other = len(self.numbers) + position
        start0, start1 = sum(self.sizes[:position]), sum(self.sizes[:other])
        return slice(start0, start0 + self.sizes[position]), slice(start1, start1 + self.sizes[other])


class FoldedFeedForward(nn.Module):
    """A `FeedForward` that takes the attention's context before its output projection."""

    def __init__(self, attention: Attention, mlp: FeedForward) -> None:
        super().__init__()
        dim = attention.o_proj.in_features
        own, message = mlp.fc1.weight.double().split(dim, dim=1)
        out = attention.o_proj
        bias = mlp.fc1.bias.double()
        if out.bias is not None:
            bias = bias + message @ out.bias.double()
        self.fc1 = InferenceLinear(torch.cat((own, message @ out.weight.double()), 1), bias)
        self.layer_norm = mlp.layer_norm
        self.fc2 = InferenceLinear.of(mlp.fc2)
        self.activation = _gelu_in_place if mlp.activation is F.gelu else mlp.activation

    def forward(self, x: Tensor, x_and_context: Tensor) -> Tensor:
        """(N, dim), (N, 2 dim) -> (N, dim)."""
        hidden = self.activation(self.layer_norm(with_room(self.fc1(x_and_context))))
        return self.fc2(hidden)[: len(x)].add_(x)


class FastLayer(nn.Module):
    """`Layer` on the tokens of all images in one tensor."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        within, across = layer.self_attention, layer.cross_attention
        self.heads = within.heads
        self.qkv = _stacked(*_projections(within))
        self.within_mlp = FoldedFeedForward(within, layer.self_mlp)
        q, k, v = _projections(across)
        self.is_shared = torch.equal(q[0], k[0]) and torch.equal(q[1], k[1])
        self.qvk = _stacked(q, v) if self.is_shared else _stacked(q, v, k)
        self.across_mlp = FoldedFeedForward(across, layer.cross_mlp)

    def look_within(self, x: Tensor, rotation: Tensor, sizes: Sequence[int]) -> Tensor:
        """Self-attention in each of the images whose tokens lie behind each other in ``x``."""
        qkv = self.qkv(x).view(len(x), 3 * self.heads, -1)
        _rotate(qkv[:, : 2 * self.heads], rotation)
        q, k, v = qkv.split(self.heads, 1)
        both, context = _beside(x)
        attend(q, k, v, sizes, sizes, context)
        return self.within_mlp(x, both)

    def look_across(self, x: Tensor, middle: int, sizes: Sequence[int]) -> Tensor:
        """Cross-attention between the images in the first ``middle`` tokens and those in the rest, pair by pair."""
        parts = self.qvk(x).view(len(x), -1, x.shape[1] // self.heads).split(self.heads, 1)
        q, v, k = parts[0], parts[1], parts[0 if self.is_shared else 2]
        both, context = _beside(x)
        sizes0, sizes1 = sizes[: len(sizes) // 2], sizes[len(sizes) // 2 :]
        attend(q[:middle], k[middle:], v[middle:], sizes0, sizes1, context[:middle])
        attend(q[middle:], k[:middle], v[:middle], sizes1, sizes0, context[middle:])
        return self.across_mlp(x, both)


class FastLightGlue(nn.Module):
    """LightGlue for inference, made from a loaded `LightGlue`."""

    def __init__(self, network: LightGlue) -> None:
        super().__init__()
        with torch.no_grad():
            projection = network.input_projection
            self.input_projection = InferenceLinear.of(projection) if isinstance(projection, nn.Linear) else projection
            self.positional_encoder = network.positional_encoder
            self.layers = nn.ModuleList(FastLayer(layer) for layer in network.transformer_layers)
            self.assignments = network.match_assignment_layers
            decisions = zip(network.token_confidence, network.match_assignment_layers, strict=False)
            self.decisions = nn.ModuleList(  # confidence and matchability of a token in one product
                _stacked((c.token.weight, c.token.bias), (a.matchability.weight, a.matchability.bias))
                for c, a in decisions
            )
        self.eval()

    @torch.inference_mode()
    def prepare(self, keypoints: Tensor, descriptors: Tensor) -> Prepared:
        """The work that depends on one image alone; arguments as for `LightGlue.forward`, one image."""
        rotation = torch.complex(*(part.float() for part in self.positional_encoder(keypoints)))
        x = self.input_projection(descriptors)
        if len(x):
            x = self.layers[0].look_within(x, rotation, [len(x)])
        return Prepared(x, rotation)

    def forward(
        self, image0: Prepared, image1: Prepared, adaptivity: Adaptivity, lifetimes: Tensor | None = None
    ) -> Assignment:
        """Matches of two prepared images; ``lifetimes`` as for `LightGlue.forward`."""
        return self.match_pairs([(image0, image1)], adaptivity, lifetimes)[0]

    @torch.inference_mode()
    def match_pairs(
        self, pairs: Sequence[tuple[Prepared, Prepared]], adaptivity: Adaptivity, lifetimes: Tensor | None = None
    ) -> list[Assignment]:
        """Matches of pairs of prepared images, in their order: for each what `forward` gives for it alone.

        Args:
            pairs: prepared images; one may be in several pairs.
            adaptivity: when to stop, what to prune, what to return.
            lifetimes: as for `LightGlue.forward`; (tokens of all images 0, then of all images 1).
        """
        if not pairs:
            return []
        start = batch = Batch.of(pairs)
        found: dict[int, Assignment] = {}
        for i, layer in enumerate(self.layers):
            batch = self._without_empty_pairs(batch, i, found)
            if not batch.numbers:
                break
            if lifetimes is not None:
                lifetimes[batch.origin] += 1
            x = batch.tokens
            if i > 0:
                x = layer.look_within(x, batch.rotation, batch.sizes)
            batch = batch._replace(tokens=layer.look_across(x, batch.middle, batch.sizes))
            if i + 1 < len(self.layers):
                batch = self._adapted(batch, start, i, adaptivity, found)
        self._assign(batch, [True] * len(batch.numbers), start, len(self.layers) - 1, adaptivity.threshold, found)
        return [found[number] for number in range(len(pairs))]

    def _without_empty_pairs(self, batch: Batch, layer: int, found: dict[int, Assignment]) -> Batch:
        """The batch without the pairs of which an image has no tokens (left); they have no matches."""
        count = len(batch.numbers)
        stays = [min(sizes) > 0 for sizes in zip(batch.sizes[:count], batch.sizes[count:], strict=True)]
        for number, stay in zip(batch.numbers, stays, strict=True):
            if not stay:
                found[number] = no_matches(batch.tokens, layer)
        return batch.only(None, batch.sizes, stays)

    def _adapted(
        self, batch: Batch, start: Batch, layer: int, adaptivity: Adaptivity, found: dict[int, Assignment]
    ) -> Batch:
        """The batch after a layer: without the pairs that are decided, and without the points that are pruned."""
        with_depth, with_width = adaptivity.depth > 0, adaptivity.width > 0
        if not with_depth and not with_width and not adaptivity.doubts(layer):
            return batch
        count = len(self.layers)
        confidence, matchability = self.decisions[layer](batch.tokens).sigmoid().unbind(1)
        undecided = confidence < confidence_threshold(layer, count)
        sure = confidence if with_depth else None
        keep = is_kept(matchability, sure, layer, count, adaptivity.width) if with_width else None
        totals = batch.total(torch.stack((undecided, undecided if keep is None else keep)))
        stays = [True] * len(batch.numbers)
        if with_depth:
            half = len(batch.numbers)
            points = [start.sizes[number] + start.sizes[len(start.numbers) + number] for number in batch.numbers]
            decided = are_decided(totals[0, :half] + totals[0, half:], torch.tensor(points), adaptivity.depth)
            stays = [not done for done in decided.tolist()]
            self._assign(batch, decided.tolist(), start, layer, adaptivity.threshold, found)
        if adaptivity.doubts(layer):
            stays = self._hopeful(batch, stays, layer, adaptivity.hopeless, found)
        sizes = batch.sizes if keep is None else [int(size) for size in totals[1].tolist()]
        return batch.only(keep, sizes, stays)

    def _hopeful(
        self, batch: Batch, stays: list[bool], layer: int, hopeless: float, found: dict[int, Assignment]
    ) -> list[bool]:
        """Which of the pairs that stay can still expect ``hopeless`` matches; the others have none."""
        hopeful = list(stays)
        for position in (i for i, stay in enumerate(stays) if stay):
            rows0, rows1 = batch.pair(position)
            candidates = self.assign(layer, batch.tokens[rows0], batch.tokens[rows1], 0.0)
            if candidates.expected < hopeless:
                hopeful[position] = False
                found[batch.numbers[position]] = no_matches(batch.tokens, layer + 1)
        return hopeful

    def _assign(
        self,
        batch: Batch,
        wanted: list[bool],
        start: Batch,
        layer: int,
        threshold: float,
        found: dict[int, Assignment],
    ) -> None:
        """Notes the matches of the wanted pairs of a batch, after a layer."""
        for position, number in enumerate(batch.numbers):
            if not wanted[position]:
                continue
            rows0, rows1 = batch.pair(position)
            matches = self.assign(layer, batch.tokens[rows0], batch.tokens[rows1], threshold)
            begin0, begin1 = (rows.start for rows in start.pair(number))
            index0 = batch.origin[rows0][matches.indices[:, 0]] - begin0
            index1 = batch.origin[rows1][matches.indices[:, 1]] - begin1
            found[number] = Assignment(torch.stack((index0, index1), 1), matches.scores, layer + 1)

    def assign(self, layer: int, x0: Tensor, x1: Tensor, threshold: float) -> Assignment:
        """Mutual best matches of tokens (M, dim) and (N, dim) after a layer."""
        assignment = self.assignments[layer]
        p0, p1 = assignment.final_projection(x0), assignment.final_projection(x1)
        similarity = (p0 / x0.shape[1] ** 0.5) @ p1.T
        matchable0, matchable1 = assignment.matchability(x0)[:, 0], assignment.matchability(x1)[:, 0]
        return mutual_best(similarity.float(), matchable0.float(), matchable1.float(), threshold)


def _beside(x: Tensor) -> tuple[Tensor, Tensor]:
    """A (N, 2 dim) tensor with ``x`` (N, dim) in its first half, and its second half, which is still to be written."""
    n, dim = x.shape
    both = with_room(x.new_empty(n + ROWS, 2 * dim)[:n])
    both[:n, :dim] = x
    return both[:n], both[:n, dim:]


def _gelu_in_place(x: Tensor) -> Tensor:
    """`F.gelu` without a new tensor, whose fresh memory would cost as much as the function."""
    return torch.ops.aten.gelu_(x)


def _rotate(qk: Tensor, rotation: Tensor) -> None:
    """Rotates channel pairs (2j, 2j + 1) of (N, heads, c) by the angle j of (N, c / 2), in place."""
    c = qk.shape[2]
    if qk.dtype == torch.float32:
        torch.view_as_complex(qk.unflatten(2, (c // 2, 2))).mul_(rotation[:, None])
    else:
        turned = torch.view_as_complex(qk.float().unflatten(2, (c // 2, 2))) * rotation[:, None]
        qk.copy_(torch.view_as_real(turned).flatten(2))


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


def _stacked(*layers: tuple[Tensor, Tensor]) -> InferenceLinear:
    """Layers (weight, bias) of the same input as one."""
    return InferenceLinear(torch.cat([weight for weight, _ in layers]), torch.cat([bias for _, bias in layers]))
