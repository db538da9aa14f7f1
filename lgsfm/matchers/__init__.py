"""Matchers: the features of two images -> correspondences.

A matcher is one file here and one line in `lgsfm.registry`; it is made with ``(options, device, fetch)`` like an
extractor. Work that depends on one image alone belongs in `prepare`, which the matching stage calls once per image.
One that works faster on many pairs at once has two members more, which others may leave out: ``batch_size``, how many
it likes best, and ``match_batch``, which takes a list of prepared pairs and gives for each what `match_prepared` does;
where it raises `MemoryShortageError`, it gets half of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from ..errors import InputError
from ..extractors import Fetch
from ..options import Options
from ..types import Features, Matches

__all__ = ["Matcher", "best_batch", "check_kind", "match", "match_batch"]


class Matcher(Protocol):
    """What the matching stage needs to know of a matcher."""

    options_class: ClassVar[type[Options]]
    options: Any

    def __init__(self, options: Any, device: str, fetch: Fetch, kind: str) -> None: ...

    @property
    def identity(self) -> dict[str, Any]:
        """All that the matches depend on but the features: name, version, options, sha256 of the weights."""
        ...

    def prepare(self, features: Features) -> Any:
        """Whatever of the work depends on one image alone. Raises `InputError` for foreign features."""
        ...

    def match_prepared(self, prepared0: Any, prepared1: Any) -> Matches:
        """Matches of two images from what `prepare` gave for each; ascending in the index of image 0."""
        ...


def match(matcher: Matcher, features0: Features, features1: Features) -> Matches:
    """Matches of two images."""
    return matcher.match_prepared(matcher.prepare(features0), matcher.prepare(features1))


def best_batch(matcher: Matcher) -> int:
    """How many pairs a matcher likes best to get at once."""
    return max(1, int(getattr(matcher, "batch_size", 1) or 1))


def match_batch(matcher: Matcher, pairs: Sequence[tuple[Any, Any]]) -> list[Matches]:
    """Matches of prepared pairs, in their order."""
    several = getattr(matcher, "match_batch", None)
    if several is not None:
        return list(several(pairs))
    return [matcher.match_prepared(first, second) for first, second in pairs]


def check_kind(features: Features, kind: str, matcher: str) -> None:
    """Raises `InputError` unless the features are of the kind that the matcher was made for."""
    if features.extractor != kind:
        raise InputError(
            f"This {matcher} matcher was made for {kind} features but got {features.extractor} features. "
            "Extract and match with the same --features."
        )
