"""LightGlue matching (Apache-2.0 weights); see `lgsfm.models.lightglue` for the paper."""

from __future__ import annotations

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
    from ..models.lightglue_fast import FastLightGlue, Prepared

__all__ = ["LightGlueMatcher", "LightGlueOptions"]

KINDS = ("aliked", "superpoint")  # features for which LightGlue weights are published


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
        weights = self.weight_file.sha256
        return {"matcher": "lightglue", "version": 1, "options": self.options.to_dict(), "weights": weights}

    @cached_property
    def network(self) -> FastLightGlue:
        """The network on its device, loaded at first use."""
        from .. import weights
        from ..models import resolve_device
        from ..models.lightglue import network_from_weights
        from ..models.lightglue_fast import FastLightGlue

        network = network_from_weights(weights.load(self.weight_file))
        return FastLightGlue(network).to(resolve_device(self.device))

    def prepare(self, features: Features) -> PreparedImage:
        """Tokens of one image, in its upright view: LightGlue is not made for turned images."""
        import torch

        from ..models import resolve_device
        from ..models.lightglue import normalize_keypoints

        check_kind(features, self.kind, "lightglue")
        device = resolve_device(self.device)
        keypoints = torch.from_numpy(features.upright_keypoints).to(device)
        descriptors = torch.from_numpy(features.descriptors.astype(np.float32)).to(device)
        tokens = self.network.prepare(normalize_keypoints(keypoints, *features.upright_size), descriptors)
        return PreparedImage(tokens, features.digest)

    def match_prepared(self, prepared0: PreparedImage, prepared1: PreparedImage) -> Matches:
        """Matches of two prepared images."""
        from ..models import explained_memory_errors
        from ..models.lightglue import Adaptivity

        options = self.options
        adaptivity = Adaptivity(options.depth_confidence, options.width_confidence, options.filter_threshold)
        with explained_memory_errors():
            found = self.network(prepared0.tokens, prepared1.tokens, adaptivity)
        indices = found.indices.to("cpu").numpy().astype(np.int32)
        return Matches(indices, found.scores.cpu().numpy(), (prepared0.digest, prepared1.digest))
