"""Stage 3: features and pairs -> matches."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from .background import read_ahead, write_behind
from .batches import Batches, PreparedImages
from .errors import InputError, in_short
from .matchers import Matcher, best_batch
from .store import damaged_in, digest_of, sources_of, write_all
from .types import Features, Matches, Pair, Progress

__all__ = ["MatchingReport", "current_pairs", "match_features"]

_log = logging.getLogger(__name__)
PREPARED_IMAGES = 64  # prepared images that are kept in memory, on the device
MOST_PAIRS = 256  # of a batch: the features of three are in memory, and an interruption loses one


@dataclass(frozen=True)
class MatchingReport:
    """What the matching stage did."""

    computed: list[Pair] = field(default_factory=list)
    reused: list[Pair] = field(default_factory=list)
    skipped: list[Pair] = field(default_factory=list)  # an image of the pair has no features
    damaged: list[Pair] = field(default_factory=list)  # of those computed: their old entries could not be used


def match_features(
    features: Mapping[str, Features],
    pairs: Sequence[Pair],
    matcher: Matcher,
    store: MutableMapping[Pair, Matches],
    *,
    batch_size: int = 0,
    progress: Progress | None = None,
) -> MatchingReport:
    """Fills the store with the matches of the pairs; an entry made from the same features is kept.

    While the matcher works, the features of the next pairs are read, and the matches of the last ones written, in
    threads of their own.

    Args:
        features: image name -> features.
        pairs: what to match; worked on in an order that uses each image's prepared features often.
            One with an image that has no features is skipped, and its old entry removed.
        matcher: see `lgsfm.registry`.
        store: pair -> matches.
        batch_size: pairs that the matcher gets at once; 0 is as many as it likes best. Where memory runs out, it is
            halved. More than `MOST_PAIRS` are so many.
        progress: called with (done, total) after each batch of pairs; skipped ones do not count.

    Raises:
        InputError: the features are not of the kind that the matcher was made for, or the batch size is negative.
        MemoryShortageError: there is not enough memory even for a single pair.
    """
    if batch_size < 0:
        raise InputError(f"batch_size must be at least 0, not {batch_size}.")
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
    report.damaged.extend(sorted({*damaged_in(store)}.intersection(todo)))
    if report.damaged:
        _log.warning("Matches of %s were damaged and are made again.", in_short(map(" and ".join, report.damaged)))
    done, total = len(report.reused), len(report.reused) + len(todo)
    if not todo:
        return report
    if progress:
        progress(done, total)
    images = PreparedImages(features.__getitem__, matcher, PREPARED_IMAGES)
    matching = Batches(images, min(batch_size or best_batch(matcher), MOST_PAIRS))
    ordered = in_blocks(todo, PREPARED_IMAGES - 2)
    batches = [ordered[i : i + matching.limit] for i in range(0, len(ordered), matching.limit)]
    with write_behind() as write, read_ahead(batches, images.read) as read_batches:
        for batch, read in read_batches:
            images.take(read())
            for part, found in matching.match(batch):
                write(write_all, store, dict(zip(part, found, strict=True)))
                report.computed.extend(part)
                done += len(part)
                if progress:
                    progress(done, total)
    return report


def current_pairs(features: Mapping[str, Features], pairs: Iterable[Pair], store: Mapping[Pair, Matches]) -> list[Pair]:
    """Those of the pairs that have matches of the features as they are now; indices into others mean nothing."""
    digests = cache(lambda name: digest_of(features, name))
    return [pair for pair in pairs if sources_of(store, pair) == (digests(pair[0]), digests(pair[1]))]


def in_blocks(pairs: Sequence[Pair], size: int) -> list[Pair]:
    """The pairs ordered so that a block of ``size`` images stays in memory while their partners pass one by one."""
    number = {name: i for i, name in enumerate(sorted({name for pair in pairs for name in pair}))}

    def place(pair: Pair) -> tuple[int, int, int]:
        i, j = number[pair[0]], number[pair[1]]
        return i // size, j, i

    return sorted(pairs, key=place)
