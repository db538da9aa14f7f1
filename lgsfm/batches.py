"""Batches of pairs for a matcher, made of prepared images: both ways to match many pairs go through here."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .errors import MemoryShortageError
from .matchers import Matcher, match_batch
from .types import Features, Matches, Pair

__all__ = ["Batches", "PreparedImages"]

logger = logging.getLogger(__name__)


class Batches:
    """Matches batches of pairs, in smaller ones once memory has run out."""

    def __init__(self, images: PreparedImages, limit: int) -> None:
        self.images, self.limit = images, limit

    def match(self, pairs: Sequence[Pair]) -> Iterator[tuple[Sequence[Pair], list[Matches]]]:
        """The pairs, in their order, with their matches; all at once if memory allows."""
        while pairs:
            batch = pairs[: self.limit]
            try:
                prepared = [(self.images[first], self.images[second]) for first, second in batch]
                found = match_batch(self.images.matcher, prepared)
            except MemoryShortageError as exc:
                if len(batch) == 1:
                    raise MemoryShortageError(f"{' and '.join(batch[0])}: {exc}") from exc
                self.limit = len(batch) // 2
                logger.warning("Memory is short: going on with %d pairs at once, not %d.", self.limit, len(batch))
                continue
            yield batch, found
            pairs = pairs[len(batch) :]


class PreparedImages:
    """Prepared features by image name; the latest ones are kept.

    Args:
        features: image name -> features.
        matcher: prepares them.
        count: how many are kept, in memory, on the device.
    """

    def __init__(self, features: Callable[[str], Features], matcher: Matcher, count: int) -> None:
        self.features, self.matcher, self.count = features, matcher, count
        self.prepared: OrderedDict[str, Any] = OrderedDict()
        self.taken: dict[str, Features] = {}

    def read(self, pairs: Iterable[Pair]) -> dict[str, Features]:
        """The features of those images of the pairs that are not prepared; may be called in another thread."""
        names = sorted({name for pair in pairs for name in pair})
        return {name: self.features(name) for name in names if name not in self.prepared}

    def take(self, features: dict[str, Features]) -> None:
        """Takes features that were read ahead, for images that are about to be asked for."""
        self.taken = features

    def __getitem__(self, name: str) -> Any:
        if name not in self.prepared:
            features = self.taken[name] if name in self.taken else self.features(name)  # else it was dropped meanwhile
            self.prepared[name] = self.matcher.prepare(features)
        self.prepared.move_to_end(name)
        while len(self.prepared) > self.count:
            self.prepared.popitem(last=False)
        return self.prepared[name]
