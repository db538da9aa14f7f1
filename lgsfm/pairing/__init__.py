"""Stage 2: which pairs of images to match.

A method is a function ``(collection, options) -> pairs`` in a file of its own, a line in `METHODS` and its name in
`options.NAMES`; its options are fields of `PairOptions`, and what it asks of the photos is in `Collection`. Methods
are joined with +, which means their union. `lgsfm.estimate` forecasts how many pairs each gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..matchers import Matcher
from ..registry import component_class
from ..retrievers import Retriever, looks_at_photos
from ..types import Features, Matches, Pair, canonical_pair
from .auto import choose
from .collection import Collection, Method
from .covisibility import check_model, covisible_pairs
from .exhaustive import exhaustive_pairs
from .files import absolute_files, read_pairs, split_methods, write_pairs
from .options import AUTO_EXHAUSTIVE, LAST, PairOptions
from .prematch import prematch_pairs
from .ranking import Scores
from .retrieval import look_alikes, retrieval_pairs, similar_pairs
from .sequence import check_folders, natural_key, sequential_pairs
from .spatial import check_positions, spatial_pairs
from .transitive import transitive_pairs

__all__ = [
    "AUTO_EXHAUSTIVE",
    "METHODS",
    "Collection",
    "PairOptions",
    "Scores",
    "Selection",
    "absolute_files",
    "check_choice",
    "look_alikes",
    "natural_key",
    "num_rounds",
    "read_pairs",
    "select",
    "select_pairs",
    "similar_pairs",
    "split_methods",
    "voting_pairs",
    "write_pairs",
]

METHODS: dict[str, Method] = {
    "covisibility": covisible_pairs,
    "exhaustive": exhaustive_pairs,
    "prematch": prematch_pairs,
    "retrieval": retrieval_pairs,
    "sequential": sequential_pairs,
    "spatial": spatial_pairs,
    "transitive": transitive_pairs,
}
NAMED = 10  # images that one line names


@dataclass(frozen=True)
class Selection:
    """The pairs to match and how they were found."""

    pairs: list[Pair]  # sorted, without repetition
    found: dict[str, int]  # method -> number of its pairs
    without: list[str]  # images that are in no pair
    reason: str = ""  # of the automatic choice, in words
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What to tell people."""
        told = [f"Pair selection: {' + '.join(self.found)} ({self.reason})."] if self.reason else []
        counts = ", ".join(f"{method} {count}" for method, count in self.found.items())
        each = f"; {counts}" if len(self.found) > 1 else ""
        told += [*self.notes, f"Pairs: {len(self.pairs)} ({' + '.join(self.found)}{each})."]
        if self.without:
            more = f" and {len(self.without) - NAMED} more" if len(self.without) > NAMED else ""
            told.append(f"Without a pair: {len(self.without)} photos: {', '.join(self.without[:NAMED])}{more}.")
        return told


def select(collection: Collection, options: PairOptions) -> Selection:
    """The pairs to match.

    Raises:
        InputError: a pair file is unusable, or a method lacks what it needs.
    """
    methods, reason = _resolve(collection, options)
    found: dict[str, int] = {}
    for method in sorted(methods, key=lambda name: name in LAST):
        pairs = _pairs_of(method, collection, options)
        found[method] = len(pairs)
        collection.selected |= pairs
    paired = {name for pair in collection.selected for name in pair}
    without = [name for name in collection.names if name not in paired]
    return Selection(sorted(collection.selected), found, without, reason, collection.notes)


def _resolve(collection: Collection, options: PairOptions) -> tuple[list[str], str]:
    """The methods, each once, with those that "auto" stands for, and why."""
    methods, reason = options.methods(), ""
    if "auto" in methods:
        automatic, reason = choose(collection, options)
        place = methods.index("auto")
        methods[place : place + 1] = automatic
    return list(dict.fromkeys(methods)), reason


def _pairs_of(method: str, collection: Collection, options: PairOptions) -> set[Pair]:
    if method in METHODS:
        return {canonical_pair(*pair) for pair in METHODS[method](collection, options)}
    return set(read_pairs(Path(method), collection.names))


def check_choice(options: PairOptions, names: Sequence[str], *, image_dir: Path | None = None) -> None:
    """Raises `InputError` for a choice that cannot work on these images: before hours of work, and not after.

    Whether any photo has a GPS position is looked at if their folder is given.
    """
    for method in options.methods():
        if method not in (*METHODS, "auto"):
            read_pairs(Path(method), names)
        if method == "covisibility":
            check_model(names, options)
        if method == "sequential":
            check_folders(Collection(names), options)
        if method == "spatial" and image_dir is not None:
            check_positions(Collection(names, image_dir=image_dir))


def num_rounds(options: PairOptions) -> int:
    """How often pairs are selected and matched: twice where a method waits for the matches of the others' pairs."""
    return 2 if any(method in LAST for method in options.methods()) else 1


def select_pairs(
    names: Sequence[str],
    options: PairOptions,
    *,
    features: Mapping[str, Features] | None = None,
    retriever: Retriever | None = None,
    image_dir: Path | None = None,
    matcher: Matcher | None = None,
    matches: Mapping[Pair, Matches] | None = None,
) -> list[Pair]:
    """The pairs to match, sorted, without repetition.

    Args:
        names: the images.
        options: how to select.
        features: image name -> features; retrieval and prematch need them.
        retriever: retrieval needs one.
        image_dir: folder of the photos; spatial needs it, for their GPS positions.
        matcher: prematch needs one.
        matches: pair -> matches of a first round; transitive needs them.

    Raises:
        InputError: the pair file is unusable, or a method lacks what it needs.
    """

    def maker(thing: Any) -> Callable[[], Any] | None:
        return None if thing is None else lambda: thing

    collection = Collection(
        names,
        image_dir=image_dir,
        features=maker(features),
        retriever=maker(retriever),
        matcher=maker(matcher),
        matches=maker(matches),
    )
    return select(collection, options).pairs


def voting_pairs(
    names: Sequence[str], features: Mapping[str, Features], make_retriever: Callable[[], Retriever]
) -> list[Pair]:
    """Pairs that vote on what is up: all of a small collection, else neighbours by name and by look."""
    if len(names) <= AUTO_EXHAUSTIVE:
        return select_pairs(names, PairOptions(pairs="exhaustive"))
    options = PairOptions(pairs="sequential+retrieval", overlap=5, neighbors=10)
    retriever = make_retriever()
    if looks_at_photos(retriever):  # which are not upright yet
        retriever = component_class("retriever", "asmk")(component_class("retriever", "asmk").options_class())
    return select_pairs(names, options, features=features, retriever=retriever)
