"""LightGlue matching (Apache-2.0 weights); see `lgsfm.models.lightglue` for the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..errors import InputError
from ..extractors import Fetch
from ..options import Options, option
from ..types import Features, Matches
from . import check_kind

if TYPE_CHECKING:
    from ..models import Place
    from ..models.lightglue_fast import FastLightGlue, Prepared

__all__ = ["LightGlueMatcher", "LightGlueOptions"]

PAIRS_PER_CORE = 4  # of a batch, so that no core waits long for the last one
GPU_BATCH = 32  # pairs; with 2048 keypoints each, about 1 GB in half precision
KINDS = ("aliked", "disk", "superpoint", "xfeat")  # features for which LightGlue weights are published


@dataclass(frozen=True, kw_only=True)
class LightGlueOptions(Options):
    """Options of LightGlue."""

    depth_confidence: float = option(
        0.95, "stop early once this share of points is decided; -1 runs all layers", minimum=-1, maximum=1
    )
    width_confidence: float = option(
        0.99, "drop points that are surely unmatchable; -1 keeps all", minimum=-1, maximum=1
    )
    filter_threshold: float = option(
        0.1, "least match confidence; higher gives fewer, surer matches", minimum=0, maximum=1
    )
    hopeless: float = option(
        0.0,
        "give a pair up if the second or third layer expects fewer matches; 8 saves a fifth of the time of photos that "
        "show different things; 0 never does",
        minimum=0,
    )
    precision: str = option(
        "auto",
        "numbers of the matching network: auto is float16 on a CUDA GPU, float32 elsewhere; half changes a few matches",
        choices=("auto", "float32", "float16", "bfloat16"),
    )


class PreparedImage(NamedTuple):
    """One image, ready to be matched with any other."""

    tokens: Prepared
    digest: str


class LightGlueMatcher:
    """LightGlue with the weights that were published for a kind of features."""

    options_class: ClassVar[type[LightGlueOptions]] = LightGlueOptions

    def __init__(self, options: LightGlueOptions, device: str, fetch: Fetch, kind: str) -> None:
        if kind not in KINDS:
            raise InputError(
                f"There are no LightGlue weights for {kind} features. "
                f"Use --matcher nearest, or features of {' or '.join(KINDS)}."
            )
        self.options = options
        self.device = device
        self.kind = kind
        self.weight_file = fetch(f"lightglue-{kind}")

    @property
    def identity(self) -> dict[str, Any]:
        """All that the matches depend on but the features."""
        options = self.options.to_dict()
        if options["precision"] == "auto":  # so that a folder of matches can move between machines
            del options["precision"]
        if options["hopeless"] == 0:  # what matches were made with before there was this option
            del options["hopeless"]
        return {"matcher": "lightglue", "version": 1, "options": options, "weights": self.weight_file.sha256}

    @cached_property
    def network(self) -> FastLightGlue:
        """The network on its device, loaded at first use."""
        from .. import weights
        from ..models.lightglue import network_from_weights
        from ..models.lightglue_fast import FastLightGlue

        network = network_from_weights(weights.load(self.weight_file))
        return FastLightGlue(network).to(self.place.device, self.place.dtype)

    @cached_property
    def place(self) -> Place:
        """Where the network works, and with what numbers."""
        from ..models import Place

        return Place.of(self.device, self.options.precision)

    @property
    def batch_size(self) -> int:
        """Pairs to be handed over at once: a GPU needs many to be busy, the cores of a CPU some each."""
        from ..models import pairs_at_once

        kind = self.place.device.type
        return GPU_BATCH if kind == "cuda" else PAIRS_PER_CORE * pairs_at_once() if kind == "cpu" else 1

    def prepare(self, features: Features) -> PreparedImage:
        """Tokens of one image, in its upright view: LightGlue is not made for turned images."""
        import torch

        from ..models import explained_memory_errors
        from ..models.lightglue import normalize_keypoints

        check_kind(features, self.kind, "lightglue")
        device, dtype = self.place
        with explained_memory_errors():
            keypoints = torch.from_numpy(features.upright_keypoints).to(device)
            descriptors = torch.from_numpy(features.descriptors.astype(np.float32)).to(device, dtype)
            tokens = self.network.prepare(normalize_keypoints(keypoints, *features.upright_size), descriptors)
        return PreparedImage(tokens, features.digest)

    def match_prepared(self, prepared0: PreparedImage, prepared1: PreparedImage) -> Matches:
        """Matches of two prepared images."""
        return self.match_batch([(prepared0, prepared1)])[0]

    def match_batch(self, pairs: Sequence[tuple[PreparedImage, PreparedImage]]) -> list[Matches]:
        """Matches of pairs of prepared images, in their order; on a CPU each core works on a pair of its own."""
        from ..models import explained_memory_errors, on_all_cores
        from ..models.lightglue import Adaptivity

        options = self.options
        adaptivity = Adaptivity(
            options.depth_confidence, options.width_confidence, options.filter_threshold, options.hopeless
        )
        tokens = [(first.tokens, second.tokens) for first, second in pairs]
        with explained_memory_errors():
            if self.place.device.type == "cpu" and len(pairs) > 1:
                found = on_all_cores(lambda pair: self.network(*pair, adaptivity), tokens)
            else:
                found = self.network.match_pairs(tokens, adaptivity)
            indices = [item.indices.cpu().numpy().astype(np.int32) for item in found]
            scores = [item.scores.float().cpu().numpy() for item in found]
        sources = [(first.digest, second.digest) for first, second in pairs]
        return [Matches(*parts) for parts in zip(indices, scores, sources, strict=True)]
