"""What the LightGlue of transformers 5.24 computes, faults included: for moving over without a change of results.

The parameters are those of the model; only the way through them is another one: all pairs in one padded batch. It is
held against theirs in float32.

Kept on purpose, and right without ``legacy``:

- with early stopping, pairs come out in an order made of the order in which they stop
- with pruning, the last keypoint of an image can get the match of a padded one
- without early stopping and pruning, ``matches`` and ``matching_scores`` are (2 B, N) instead of (B, 2, N)
- keypoints at the right and lower border are kept
- hidden states and attentions are those of the pairs that still run, (2 b, n, C) and (2 b, heads, n, n); theirs gives
  attentions only with ``attn_implementation="eager"``, and else None for each

Where theirs breaks down (one of the two adaptivities alone; a batch in which some pairs stop early and others run
all layers), `InputError` says so.
"""

# mypy: disable-error-code="arg-type, operator"

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import InputError
from ..models.lightglue import Attention, FeedForward, confidence_threshold, normalize_keypoints
from .outputs import LightGlueKeypointMatchingOutput

if TYPE_CHECKING:
    from .model import LightGlueForKeypointMatching

__all__ = ["forward"]


def forward(
    model: LightGlueForKeypointMatching, pixel_values: Tensor, states: bool, attentions: bool, image_sizes: Any
) -> LightGlueKeypointMatchingOutput:
    """The output of transformers' model; arguments as for the model's own ``forward``, all of them given."""
    config = model.config
    if image_sizes is not None:
        raise InputError("A legacy model knows no image_sizes: its images fill their tensors. Use legacy=False.")
    if (config.depth_confidence > 0) != (config.width_confidence > 0):
        raise InputError(
            "transformers fails where only one of depth_confidence and width_confidence is positive, and a legacy "
            "model does what it does. Set both or neither, or use legacy=False."
        )
    batch, _, _, height, width = pixel_values.shape
    detect = model.keypoint_detector.compiled(legacy=True)
    found = [detect(image[None].float()) for image in pixel_values.flatten(0, 1)]
    mask = pad_sequence([torch.ones_like(f.scores, dtype=torch.int32) for f in found], batch_first=True)
    relative = [f.keypoints / f.keypoints.new_tensor([width, height]) for f in found]
    keypoints = pad_sequence(relative, batch_first=True).to(model.dtype)
    descriptors = pad_sequence([f.descriptors for f in found], batch_first=True).to(model.dtype)
    run = Run(model, mask, states, attentions)
    if mask.shape[1] == 0:
        zeros = keypoints.new_zeros(batch, 2, 0)
        matches, scores, prune = zeros.int() - 1, zeros, zeros
    else:
        position = torch.stack((keypoints[..., 0] * width, keypoints[..., 1] * height), -1)
        run.start(descriptors, normalize_keypoints(position, width, height))
        matches, scores, prune = run.adaptive() if config.depth_confidence > 0 else run.full()
    return LightGlueKeypointMatchingOutput(
        matches=matches,
        matching_scores=scores,
        keypoints=keypoints.view(batch, 2, -1, 2),
        prune=prune,
        mask=mask.view(batch, 2, -1),
        hidden_states=tuple(run.hidden_states) if states else None,
        attentions=tuple(run.attentions) if attentions else None,
    )


@dataclass
class Run:
    """All images of a batch on their way through the network; rows 2 i and 2 i + 1 are a pair."""

    model: LightGlueForKeypointMatching
    mask: Tensor  # (images, n) int, 0 for padding
    with_states: bool
    with_attentions: bool
    hidden_states: list[Tensor] = field(default_factory=list)
    attentions: list[Tensor] = field(default_factory=list)

    def start(self, descriptors: Tensor, positions: Tensor) -> None:
        """Takes in (images, n, D) descriptors and (images, n, 2) normalised positions."""
        self.points = self.mask.shape[1]
        self.x = self.model.input_projection(descriptors)
        angles = self.model.positional_encoder.projector(positions).repeat_interleave(2, -1)
        self.cos, self.sin = angles.cos(), angles.sin()
        self.rows = torch.arange(len(self.x), device=self.x.device)
        self.index = torch.arange(self.points, device=self.x.device).expand(len(self.x), -1)
        self.prune = torch.ones_like(self.index)
        self.counts = self.mask.view(-1, 2 * self.points).sum(1)  # keypoints per pair

    def full(self) -> tuple[Tensor, Tensor, Tensor]:
        """All layers for all keypoints."""
        layers = len(self.model.transformer_layers)
        for number in range(layers):
            self.layer(number)
        matches, scores = assign(self.model, layers - 1, self.x, self.mask)
        return matches, scores, (torch.ones_like(scores) * layers).view(-1, 2, self.points)

    def adaptive(self) -> tuple[Tensor, Tensor, Tensor]:
        """Early stopping and pruning."""
        order: list[Tensor] = []
        done: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # index, prune, matches, scores of an image
        layers = len(self.model.transformer_layers)
        for number in range(layers):
            self.layer(number)
            if number == layers - 1 and order:
                raise InputError(
                    "transformers fails on a batch in which some pairs stop early and others run all layers, and a "
                    "legacy model does what it does. Give it fewer pairs at a time, or use legacy=False."
                )
            confidence = None
            stop = torch.ones(len(self.x) // 2, dtype=torch.bool, device=self.x.device)
            if number < layers - 1:
                confidence = self.model.token_confidence[number].token(self.x)[..., 0].sigmoid()
                decided = confidence.masked_fill(self.mask == 0, 1).view(len(stop), -1)
                undecided = (decided < confidence_threshold(number, layers)).float().sum(1)
                stop = 1.0 - undecided / self.counts > self.model.config.depth_confidence
            stops = stop.repeat_interleave(2)
            if stop.any():
                found = assign(self.model, number, self.x[stops], self.mask[stops])
                done += zip(self.index[stops], self.prune[stops], *found, strict=True)
                order += self.rows[stops]
                self.keep_rows(~stops)
            if stop.all():
                break
            assert confidence is not None
            self.drop_points(number, confidence[~stops])
        return collect(order, done, self.points)

    def keep_rows(self, keep: Tensor) -> None:
        """Removes images whose pair has stopped."""
        self.counts = self.counts[keep[::2]]
        for name in ("x", "cos", "sin", "mask", "rows", "index", "prune"):
            setattr(self, name, getattr(self, name)[keep])

    def drop_points(self, number: int, confidence: Tensor) -> None:
        """Removes keypoints after a layer."""
        matchability = self.model.match_assignment_layers[number].matchability(self.x)[..., 0].sigmoid()
        keep = matchability > 1 - self.model.config.width_confidence
        keep |= confidence <= confidence_threshold(number, len(self.model.transformer_layers))
        keep &= self.mask != 0
        for name in ("x", "cos", "sin"):
            rows = getattr(self, name)
            setattr(self, name, pad_sequence([row[k] for row, k in zip(rows, keep, strict=True)], batch_first=True))
        index = [row[k] for row, k in zip(self.index, keep, strict=True)]
        for row, kept in zip(self.prune, index, strict=True):
            row[kept] += 1
        self.index = pad_sequence(index, batch_first=True, padding_value=-1)
        self.mask = pad_sequence([k[k] for k in keep], batch_first=True)

    def layer(self, number: int) -> None:
        """One transformer layer."""
        layer = self.model.transformer_layers[number]
        mask = self.mask.bool()[:, None, None]
        if self.with_states:
            self.hidden_states.append(self.x)
        self.x = self.update(layer.self_attention, layer.self_mlp, self.x, mask, is_self=True)
        swapped = self.x.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        mask = mask.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        self.x = self.update(layer.cross_attention, layer.cross_mlp, swapped, mask, is_self=False)

    def update(self, attention: Attention, mlp: FeedForward, other: Tensor, mask: Tensor, *, is_self: bool) -> Tensor:
        """The tokens after an attention to ``other``."""
        q = self.heads(attention.q_proj(self.x), attention)
        k = self.heads(attention.k_proj(other), attention)
        v = self.heads(attention.v_proj(other), attention)
        if is_self:
            q, k = self.rotated(q), self.rotated(k)
        groups = attention.heads // attention.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        if self.with_attentions:
            logits = (q @ k.transpose(2, 3)) * q.shape[-1] ** -0.5
            self.attentions.append(logits.masked_fill(~mask, torch.finfo(q.dtype).min).softmax(-1))
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        message = attention.o_proj(context)
        change = mlp.update(self.x, message)
        if self.with_states:
            self.hidden_states += [self.x + change, torch.cat((self.x, message), -1), change]
        return self.x + change

    def heads(self, x: Tensor, attention: Attention) -> Tensor:
        """(images, n, heads * c) -> (images, heads, n, c)."""
        return x.unflatten(2, (-1, attention.q_proj.out_features // attention.heads)).transpose(1, 2)

    def rotated(self, x: Tensor) -> Tensor:
        """Rotary encoding of (images, heads, n, c)."""
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
        return (x.float() * self.cos[:, None] + turned.float() * self.sin[:, None]).to(x.dtype)


def assign(model: LightGlueForKeypointMatching, number: int, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Matches and scores (images, n), in which padded keypoints can match each other."""
    layer = model.match_assignment_layers[number]
    projected = (layer.final_projection(x) / x.new_tensor(x.shape[2]) ** 0.25).unflatten(0, (-1, 2))
    similarity = projected[:, 0] @ projected[:, 1].transpose(1, 2)
    valid = mask.bool().unflatten(0, (-1, 2))
    similarity = similarity.masked_fill(~(valid[:, 0, :, None] & valid[:, 1, None]), torch.finfo(similarity.dtype).min)
    matchable = F.logsigmoid(layer.matchability(x)).unflatten(0, (-1, 2))
    certainty = matchable[:, 0] + matchable[:, 1].transpose(1, 2)
    score = similarity.log_softmax(2) + similarity.transpose(1, 2).contiguous().log_softmax(2).transpose(1, 2)
    score = score + certainty
    best0, match0 = score.max(2)
    match1 = score.argmax(1)
    own = torch.arange(score.shape[1], device=x.device)
    mutual0, mutual1 = own == match1.gather(1, match0), own == match0.gather(1, match1)
    score0 = best0.exp().where(mutual0, 0)
    score1 = score0.gather(1, match1).where(mutual1, 0)
    valid0 = mutual0 & (score0 > model.config.filter_threshold)
    valid1 = mutual1 & valid0.gather(1, match1)
    matches = torch.stack((match0.where(valid0, -1), match1.where(valid1, -1)), 1)
    return matches.flatten(0, 1), torch.stack((score0, score1), 1).flatten(0, 1)


def collect(
    order: list[Tensor], done: list[tuple[Tensor, Tensor, Tensor, Tensor]], points: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Matches, scores and lifetimes (B, 2, points) of images that stopped in this ``order``."""
    stopped = torch.stack(order)
    shuffled = stopped[stopped]  # theirs; the order of the batch would be the argsort
    index, prune, matches, scores = (
        pad_sequence(list(parts), batch_first=True, padding_value=fill)[shuffled]
        for parts, fill in zip(zip(*done, strict=True), (-1, 0, -1, 0), strict=True)
    )
    all_matches = matches.new_full((len(stopped), points), -1)
    all_scores = scores.new_zeros(len(stopped), points)
    for row in range(len(stopped)):
        other = index[row ^ 1]
        # an index of -1, which pads, is the last keypoint
        all_matches[row, index[row]] = other[matches[row].clamp(min=0)].where(matches[row] != -1, -1)
        all_scores[row, index[row]] = scores[row]
    return all_matches.view(-1, 2, points), all_scores.view(-1, 2, points), prune.view(-1, 2, points)
