"""LightGlue: sparse feature matching that adapts its depth and width to the pair.

P. Lindenberger, P.-E. Sarlin, M. Pollefeys: "LightGlue: Local Feature Matching at Light Speed", ICCV 2023,
arXiv:2306.13643.

`LightGlue` is the readable path; `lgsfm.models.lightglue_fast` computes the same sooner. Parameters carry the names of
the Hugging Face checkpoints; `from_original` renames those of the authors' ``.pth`` files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError

__all__ = ["ACTIVATIONS", "Adaptivity", "Assignment", "LightGlue", "network_from_weights", "normalize_keypoints"]

DIM = 256
HEADS = 4
LAYERS = 9
DOUBTS = (
    1,
    2,
)  # layers after which a pair may be given up: earlier ones know too little, later ones have done the work

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {  # by the names of Hugging Face configurations
    "elu": F.elu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "leaky_relu": F.leaky_relu,
    "mish": F.mish,
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


class Adaptivity(NamedTuple):
    """When to stop and what to keep.

    depth: stop once this share of the points is confident; -1 runs all layers.
    width: drop points that are unmatchable with this confidence; -1 keeps all.
    threshold: least score of a match.
    hopeless: give a pair up, without matches, if the second or third layer expects fewer than so many; 0 never does.
    """

    depth: float = 0.95
    width: float = 0.99
    threshold: float = 0.1
    hopeless: float = 0.0

    def doubts(self, layer: int) -> bool:
        """Whether a pair may be given up after a layer."""
        return self.hopeless > 0 and layer in DOUBTS


class Assignment(NamedTuple):
    """Result of matching: indices (K, 2) int64, scores (K,) in [0, 1], number of layers that ran."""

    indices: Tensor
    scores: Tensor
    layers: int

    @property
    def expected(self) -> float:
        """How many of the matches are to be expected to be right: a score is the probability of its match."""
        return float(self.scores.sum())


# --------------------------------------------------------------------------------- shared, exact pieces
def normalize_keypoints(keypoints: Tensor, width: float, height: float) -> Tensor:
    """(N, 2) [px] -> the network's coordinates: origin at the centre, long edge from -1 to 1."""
    half = torch.tensor([width / 2, height / 2], dtype=keypoints.dtype, device=keypoints.device)
    return (keypoints - half) / (max(width, height) / 2)


def confidence_threshold(layer: int, layers: int) -> float:
    """Confidence from which a point counts as decided after a layer (equation 8)."""
    return 0.8 + 0.1 * math.exp(-4.0 * layer / layers)


def are_decided(undecided: Tensor, points: Tensor, depth: float) -> Tensor:
    """Whether so few of the ``points`` are undecided (pruned ones are decided) that the pair can stop; any shape."""
    return 1.0 - undecided.float() / points > depth


def is_kept(matchability: Tensor, confidences: Tensor | None, layer: int, layers: int, width: float) -> Tensor:
    """Mask of the points that stay: matchable ones and, of the others, those not yet decided."""
    keep = matchability > 1 - width
    if confidences is not None:
        keep |= confidences <= confidence_threshold(layer, layers)
    return keep


def mutual_best(similarity: Tensor, matchable0: Tensor, matchable1: Tensor, threshold: float) -> Assignment:
    """Mutual best matches of the double softmax (equations 5 and 6); consumes ``similarity``.

    Args:
        similarity: (M, N) logits.
        matchable0: (M,) logits.
        matchable1: (N,) logits.
        threshold: least score.
    """
    side0 = F.logsigmoid(matchable0) - similarity.logsumexp(1)
    side1 = F.logsigmoid(matchable1) - similarity.logsumexp(0)
    score = similarity.mul_(2).add_(side0[:, None]).add_(side1)
    best0, index0 = score.max(1)
    index1 = score.argmax(0)
    score0 = best0.exp()
    rows = torch.arange(len(index0), device=index0.device)
    rows = rows[(index1[index0] == rows) & (score0 > threshold)]
    return Assignment(torch.stack((rows, index0[rows]), 1), score0[rows].clamp(max=1), 0)


def no_matches(like: Tensor, layers: int) -> Assignment:
    """The assignment without matches."""
    indices = torch.zeros((0, 2), dtype=torch.long, device=like.device)
    return Assignment(indices, like.new_zeros(0), layers)


# --------------------------------------------------------------------------------- network
class PositionalEncoder(nn.Module):
    """Rotary encoding of keypoint positions with learned frequencies."""

    def __init__(self, inputs: int, head_dim: int) -> None:
        super().__init__()
        self.projector = nn.Linear(inputs, head_dim // 2, bias=False)

    def forward(self, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (N, head_dim / 2) at (N, 2) normalised keypoints; angles are float32 in any network."""
        weight = self.projector.weight
        angles = F.linear(keypoints.float(), weight.float())
        return angles.cos().to(weight.dtype), angles.sin().to(weight.dtype)


def rotate(x: Tensor, encoding: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates channel pairs (2j, 2j + 1) of (heads, N, head_dim) by the encoding's angle j."""
    cos, sin = encoding
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).flatten(-2)


class Attention(nn.Module):
    """Multi-head attention between two sets of tokens (N, dim).

    Groups of ``heads / kv_heads`` heads share their keys and values.
    """

    def __init__(self, dim: int, heads: int, kv_heads: int | None = None, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.kv_heads = kv_heads or heads
        shared = self.kv_heads * (dim // heads)
        self.q_proj = nn.Linear(dim, dim, bias=bias)
        self.k_proj = nn.Linear(dim, shared, bias=bias)
        self.v_proj = nn.Linear(dim, shared, bias=bias)
        self.o_proj = nn.Linear(dim, dim, bias=bias)

    def split(self, x: Tensor, heads: int) -> Tensor:
        """(N, heads * head_dim) -> (all heads, N, head_dim)."""
        return x.view(len(x), heads, -1).transpose(0, 1).repeat_interleave(self.heads // heads, 0)

    def weights(self, x: Tensor, other: Tensor, encoding: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """How much each of ``x`` (N, dim) attends to each of ``other`` (M, dim): (heads, N, M)."""
        q, k = self.split(self.q_proj(x), self.heads), self.split(self.k_proj(other), self.kv_heads)
        if encoding is not None:
            q, k = rotate(q, encoding), rotate(k, encoding)
        return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)

    def forward(self, x: Tensor, other: Tensor, encoding: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """What ``x`` (N, dim) reads from ``other`` (M, dim): (N, dim)."""
        v = self.split(self.v_proj(other), self.kv_heads)
        return self.o_proj((self.weights(x, other, encoding) @ v).transpose(0, 1).reshape(len(x), -1))


class FeedForward(nn.Module):
    """Updates tokens with a message."""

    def __init__(self, dim: int, activation: Callable[[Tensor], Tensor] = F.gelu) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2 * dim, 2 * dim)
        self.layer_norm = nn.LayerNorm(2 * dim)
        self.fc2 = nn.Linear(2 * dim, dim)
        self.activation = activation

    def update(self, x: Tensor, message: Tensor) -> Tensor:
        """By how much a message (N, dim) changes the tokens ``x`` (N, dim)."""
        return self.fc2(self.activation(self.layer_norm(self.fc1(torch.cat((x, message), -1)))))

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        """(N, dim), (N, dim) -> (N, dim)."""
        return x + self.update(x, message)


class Layer(nn.Module):
    """Self-attention in each image, then cross-attention between the images."""

    def __init__(
        self,
        dim: int,
        heads: int,
        kv_heads: int | None = None,
        bias: bool = True,
        activation: Callable[[Tensor], Tensor] = F.gelu,
    ) -> None:
        super().__init__()
        self.self_attention = Attention(dim, heads, kv_heads, bias)
        self.self_mlp = FeedForward(dim, activation)
        self.cross_attention = Attention(dim, heads, kv_heads, bias)
        self.cross_mlp = FeedForward(dim, activation)

    def look_within(self, x: Tensor, encoding: tuple[Tensor, Tensor]) -> Tensor:
        """The self-attention half for one image."""
        return self.self_mlp(x, self.self_attention(x, x, encoding))

    def look_across(self, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        """The cross-attention half for both images."""
        message0, message1 = self.cross_attention(x0, x1), self.cross_attention(x1, x0)
        return self.cross_mlp(x0, message0), self.cross_mlp(x1, message1)


class AssignmentLayer(nn.Module):
    """Turns the tokens of both images into matches."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.final_projection = nn.Linear(dim, dim)
        self.matchability = nn.Linear(dim, 1)

    def forward(self, x0: Tensor, x1: Tensor, threshold: float) -> Assignment:
        """Mutual best matches above the threshold."""
        p0, p1 = self.final_projection(x0), self.final_projection(x1)
        similarity = p0 @ p1.T / p0.shape[-1] ** 0.5
        matchable0, matchable1 = self.matchability(x0)[:, 0], self.matchability(x1)[:, 0]
        return mutual_best(similarity.float(), matchable0.float(), matchable1.float(), threshold)


class TokenConfidence(nn.Module):
    """How sure a token is of its own match."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Linear(dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim) -> (N,) in [0, 1]."""
        return self.token(x)[:, 0].sigmoid()


class LightGlue(nn.Module):
    """The readable network for one pair of images.

    The published networks have the default sizes. ``kv_heads``, ``bias`` and ``activation`` are those of the
    attentions (projections without bias, keys and values shared by several heads) and of the updates behind them.
    """

    def __init__(
        self,
        input_dim: int = DIM,
        dim: int = DIM,
        heads: int = HEADS,
        layers: int = LAYERS,
        *,
        kv_heads: int | None = None,
        bias: bool = True,
        activation: Callable[[Tensor], Tensor] = F.gelu,
    ) -> None:
        super().__init__()
        self.input_projection = nn.Linear(input_dim, dim) if input_dim != dim else nn.Identity()
        self.positional_encoder = PositionalEncoder(2, dim // heads)
        self.transformer_layers = nn.ModuleList(Layer(dim, heads, kv_heads, bias, activation) for _ in range(layers))
        self.match_assignment_layers = nn.ModuleList(AssignmentLayer(dim) for _ in range(layers))
        self.token_confidence = nn.ModuleList(TokenConfidence(dim) for _ in range(layers - 1))
        self.heads = heads

    @torch.inference_mode()
    def forward(
        self,
        keypoints: tuple[Tensor, Tensor],
        descriptors: tuple[Tensor, Tensor],
        adaptivity: Adaptivity,
        lifetimes: Tensor | None = None,
    ) -> Assignment:
        """Matches of two images.

        Args:
            keypoints: (M, 2) and (N, 2) float32, from `normalize_keypoints`.
            descriptors: (M, D) and (N, D) float32, L2-normalised.
            adaptivity: when to stop, what to prune, what to return.
            lifetimes: (M + N,) integers, to which the number of layers is added that each point took part in.
        """
        x = [self.input_projection(d) for d in descriptors]
        encoding = [self.positional_encoder(k) for k in keypoints]
        index = [torch.arange(len(d), device=d.device) for d in descriptors]
        points = sum(map(len, index))
        layers = len(self.transformer_layers)
        for i, layer in enumerate(self.transformer_layers):
            if min(map(len, x)) == 0:
                return no_matches(x[0], i)
            if lifetimes is not None:
                lifetimes[torch.cat((index[0], index[1] + len(descriptors[0])))] += 1
            x = [layer.look_within(tokens, e) for tokens, e in zip(x, encoding, strict=True)]
            x = list(layer.look_across(*x))
            if i == layers - 1:
                break
            confidence = None
            if adaptivity.depth > 0:
                confidence = [self.token_confidence[i](tokens) for tokens in x]
                undecided = (torch.cat(confidence) < confidence_threshold(i, layers)).sum()
                if are_decided(undecided, torch.tensor(points), adaptivity.depth):
                    break
            if adaptivity.doubts(i):
                candidates = self.match_assignment_layers[i](x[0], x[1], 0.0)
                if candidates.expected < adaptivity.hopeless:
                    return no_matches(x[0], i + 1)
            if adaptivity.width > 0:
                for side in (0, 1):
                    matchability = self.match_assignment_layers[i].matchability(x[side])[:, 0].sigmoid()
                    sure = confidence[side] if confidence else None
                    keep = is_kept(matchability, sure, i, layers, adaptivity.width)
                    x[side], index[side] = x[side][keep], index[side][keep]
                    cos, sin = encoding[side]
                    encoding[side] = (cos[keep], sin[keep])
        if min(map(len, x)) == 0:
            return no_matches(x[0], i + 1)
        found = self.match_assignment_layers[i](x[0], x[1], adaptivity.threshold)
        indices = torch.stack((index[0][found.indices[:, 0]], index[1][found.indices[:, 1]]), 1)
        return Assignment(indices, found.scores, i + 1)


# --------------------------------------------------------------------------------- weights
def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the authors' layout, with the parameter names of `LightGlue`.

    Handles the names of the releases (``self_attn.0...``) and of the code (``transformers.0.self_attn...``), also of a
    checkpoint that holds the extractor beside the matcher.
    """
    if any(key.startswith("matcher.") for key in state):
        state = {key.removeprefix("matcher."): value for key, value in state.items() if key.startswith("matcher.")}
    renamed: dict[str, Tensor] = {}
    head_dim = 2 * len(state["posenc.Wr.weight"]) if "posenc.Wr.weight" in state else DIM // HEADS
    for key, value in state.items():
        key = re.sub(r"^(self_attn|cross_attn)\.(\d+)\.", r"transformers.\2.\1.", key)
        key = key.replace("transformers.", "transformer_layers.").replace("log_assignment.", "match_assignment_layers.")
        key = key.replace("input_proj.", "input_projection.").replace("final_proj.", "final_projection.")
        key = key.replace("posenc.Wr.", "positional_encoder.projector.").replace(".token.0.", ".token.")
        key = re.sub(r"\.(self|cross)_attn\.ffn\.0\.", r".\1_mlp.fc1.", key)
        key = re.sub(r"\.(self|cross)_attn\.ffn\.1\.", r".\1_mlp.layer_norm.", key)
        key = re.sub(r"\.(self|cross)_attn\.ffn\.3\.", r".\1_mlp.fc2.", key)
        key = re.sub(r"\.(self|cross)_attn\.", r".\1_attention.", key)
        if ".Wqkv." in key:  # rows are (head, channel, q/k/v)
            parts = value.reshape(-1, head_dim, 3, *value.shape[1:]).unbind(2)
            for name, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                renamed[key.replace("Wqkv", name)] = part.reshape(-1, *value.shape[1:])
        elif ".to_qk." in key:  # the original shares the projection of queries and keys across images
            renamed[key.replace("to_qk", "q_proj")] = renamed[key.replace("to_qk", "k_proj")] = value
        elif key.rpartition(".")[2] not in ("confidence_thresholds", "r"):  # that of DISK has a number left of training
            renamed[re.sub(r"\.(out_proj|to_out)\.", ".o_proj.", key).replace("to_v", "v_proj")] = value
    return renamed


def network_from_weights(state: Mapping[str, Tensor]) -> LightGlue:
    """A `LightGlue` with the given weights, in the original or the Hugging Face layout; sizes follow the weights.

    Raises:
        WeightsError: the weights are not LightGlue's.
    """
    if not any(key.startswith("transformer_layers.") for key in state):
        state = from_original(state)
    state = {key: value for key, value in state.items() if not key.startswith("keypoint_detector.")}
    try:
        projector = state["positional_encoder.projector.weight"]
        head_dim = 2 * projector.shape[0]
        dim = state["match_assignment_layers.0.final_projection.weight"].shape[0]
        kv_dim = state["transformer_layers.0.self_attention.k_proj.weight"].shape[0]
        bias = "transformer_layers.0.self_attention.k_proj.bias" in state
        projection = state.get("input_projection.weight")
        layers = sum(key.endswith("final_projection.weight") for key in state)
        input_dim = dim if projection is None else projection.shape[1]
        network = LightGlue(input_dim, dim, dim // head_dim, layers, kv_heads=kv_dim // head_dim, bias=bias)
        network.load_state_dict(state, strict=True)
    except (KeyError, RuntimeError) as exc:
        raise WeightsError(f"These are not the weights of a LightGlue network: {exc}") from exc
    return network.eval()
