"""Stage 3: features and pairs -> matches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .matchers import Matcher
from .store import digest_of, sources_of
from .types import Features, Matches, Pair, Progress

__all__ = ["MatchingReport", "match_features"]

PREPARED_IMAGES = 64  # prepared images that are kept in memory


@dataclass(frozen=True)
class MatchingReport:
    """What the matching stage did."""

    computed: list[Pair] = field(default_factory=list)
    reused: list[Pair] = field(default_factory=list)
    skipped: list[Pair] = field(default_factory=list)  # an image of the pair has no features


def match_features(
    features: Mapping[str, Features],
    pairs: Sequence[Pair],
    matcher: Matcher,
    store: MutableMapping[Pair, Matches],
    *,
    progress: Progress | None = None,
) -> MatchingReport:
    """Fills the store with the matches of the pairs; an entry made from the same features is kept.

    Args:
        features: image name -> features.
        pairs: what to match; worked on in an order that uses each image's prepared features often.
            One with an image that has no features is skipped, and its old entry removed.
        matcher: see `lgsfm.registry`.
        store: pair -> matches.
        progress: called with (done, total) after each pair; skipped ones do not count.

    Raises:
        InputError: the features are not of the kind that the matcher was made for.
    """
    report = MatchingReport()
    digests = {name: digest_of(features, name) for name in {name for pair in pairs for name in pair}}
    todo: list[Pair] = []
    for pair in pairs:
        wanted = (digests[pair[0]], digests[pair[1]])
        if None in wanted:
            report.skipped.append(pair)
            store.pop(pair, None)
        elif sources_of(store, pair) == wanted:
            report.reused.append(pair)
        else:
            todo.append(pair)
    done, total = len(report.reused), len(report.reused) + len(todo)
    if progress and todo:
        progress(done, total)
    prepared = _Recent(lambda name: matcher.prepare(features[name]), PREPARED_IMAGES)
    for pair in in_blocks(todo, PREPARED_IMAGES - 2):
        store[pair] = matcher.match_prepared(prepared(pair[0]), prepared(pair[1]))
        report.computed.append(pair)
        done += 1
        if progress:
            progress(done, total)
    return report


def in_blocks(pairs: Sequence[Pair], size: int) -> list[Pair]:
    """The pairs ordered so that a block of ``size`` images stays in memory while their partners pass one by one."""
    number = {name: i for i, name in enumerate(sorted({name for pair in pairs for name in pair}))}

    def place(pair: Pair) -> tuple[int, int, int]:
        i, j = number[pair[0]], number[pair[1]]
        return i // size, j, i

    return sorted(pairs, key=place)


class _Recent:
    """Calls a function of a name, keeping the latest results."""

    def __init__(self, function: Callable[[str], Any], size: int) -> None:
        self.function, self.size = function, size
        self.results: OrderedDict[str, Any] = OrderedDict()

    def __call__(self, name: str) -> Any:
        if name not in self.results:
            self.results[name] = self.function(name)
        self.results.move_to_end(name)
        while len(self.results) > self.size:
            self.results.popitem(last=False)
        return self.results[name]
