"""Second looks where the view graph is weak: which pairs to match beside those that were selected, and when to stop.

Most photos of a collection are tied together well by the pairs of the first selection. Those that hang by a thread,
or not at all, get a small budget of their own, spent in rounds:

1. pairs that were not tried: with friends of friends, and with the photos that look most like them;
2. where all of these were tried in vain, or a photo is in the graph but the mapper leaves it out, a finer look (a
   larger picture, more keypoints) at the pairs that had most matches.

A round is followed by another one only while that ties weak photos to others. Pure decisions; `lgsfm.healer` acts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from .database_reading import VerifiedPair
from .errors import InputError
from .files import misfits, read_json, write_json
from .options import Options, option
from .types import Pair, canonical_pair
from .view_graph import ViewGraph

__all__ = ["Budget", "HealingOptions", "Look", "SecondLooks", "State", "has_helped", "parse_budget", "plan_look"]

NEW_PARTNERS = 10  # untried partners of a weak image, in one round
FINER_PARTNERS = 6  # partners of a weak image that get a finer look, in one round
AUTO_SHARE, AUTO_LEAST = 0.2, 60  # of the selected pairs, and pairs: the budget if nobody says another
FINER_COST = 4  # pairs of the first look that one of a finer look costs: four times as many keypoints to compare
GUESSED_PAIR_S = 0.5  # where all pairs were found finished
MANY_PAIRS = 1_000_000  # of one round
UNITS_S = {"s": 1, "min": 60, "h": 3600}

Ranked = Callable[[str], Iterable[str]]  # image -> the others, those that look most like it first


@dataclass(frozen=True, kw_only=True)
class HealingOptions(Options):
    """Second looks where the view graph is weak."""

    budget: str = option(
        "auto",
        "what may be spent in all on photos that hang by a thread, before mapping, and on those left out, after it: "
        "pairs (500), a share of the pairs (20%), time of matching (10min) or none; auto: "
        f"{AUTO_SHARE:.0%} of the pairs, at least {AUTO_LEAST}, "
        "but none where --pairs lists them",
    )

    def __post_init__(self) -> None:
        if isinstance(self.budget, int):  # pairs, as a program says it
            object.__setattr__(self, "budget", str(self.budget))
        super().__post_init__()
        parse_budget(self.budget, 0)


@dataclass(frozen=True)
class Budget:
    """What second looks may still cost.

    pairs: as many pairs of the first look; None: any number
    seconds: None: as long as it takes
    """

    pairs: float | None = None
    seconds: float | None = None

    def left(self, pair_seconds: float) -> int:
        """How many pairs of the first look it allows, if each takes so long; 0 s is not known, and guessed."""
        limits = [float(MANY_PAIRS), self.pairs if self.pairs is not None else float("inf")]
        if self.seconds is not None:
            limits.append(self.seconds / (pair_seconds or GUESSED_PAIR_S))
        return int(min(limits))

    def spent(self, pairs: float, seconds: float) -> Budget:
        """What is left of it, at least nothing."""
        return Budget(
            None if self.pairs is None else max(0.0, self.pairs - pairs),
            None if self.seconds is None else max(0.0, self.seconds - seconds),
        )


def parse_budget(text: str, num_pairs: int) -> Budget:
    """A budget as people write it, for a collection of so many selected pairs.

    Raises:
        InputError: it is none.
    """
    wanted = text.strip().lower()
    if wanted == "auto":
        return Budget(pairs=max(AUTO_LEAST, AUTO_SHARE * num_pairs))
    if wanted == "none":
        return Budget(pairs=0)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%|s|min|h|)", wanted)
    if not found:
        raise InputError(
            f"--budget: '{text}' is not a budget. Say pairs (500), a share of them (20%), a time (10min), auto or none."
        )
    value, unit = float(found[1]), found[2]
    if unit in UNITS_S:
        return Budget(seconds=value * UNITS_S[unit])
    return Budget(pairs=value * num_pairs / 100 if unit == "%" else value)


@dataclass(frozen=True)
class State:
    """What is known when a round is planned.

    graph: the view graph
    tried: all pairs of the first look that were matched, also those without a match
    matched: what came of those with matches
    finer: pairs that had a finer look, and doubtful ones, which get none
    unregistered: images that the mapper left out; None: it has not run yet
    """

    graph: ViewGraph
    tried: Collection[Pair]
    matched: Mapping[Pair, VerifiedPair]
    finer: Collection[Pair] = frozenset()
    unregistered: tuple[str, ...] | None = None

    @property
    def weak(self) -> list[str]:
        """The images that need help: those left out, before mapping those that hang by a thread."""
        return list(self.unregistered) if self.unregistered is not None else self.graph.weak()


@dataclass(frozen=True)
class Look:
    """One round: pairs to match, with the reason in words."""

    pairs: list[Pair] = field(default_factory=list)
    is_finer: bool = False
    reason: str = ""

    @property
    def cost(self) -> int:
        """In pairs of the first look."""
        return len(self.pairs) * (FINER_COST if self.is_finer else 1)


def plan_look(state: State, ranked: Ranked, limit: int, *, is_finer: bool) -> Look:
    """One round; one without pairs if nothing is weak, nothing is left to try, or the budget is spent.

    Args:
        state: what is known.
        ranked: image -> the others, those that look most like it first; asked for weak images only.
        limit: pairs of the first look that the round may cost.
        is_finer: a finer look at pairs that were tried; else a first look at pairs that were not.
    """
    weak = state.weak
    if not weak or limit < (FINER_COST if is_finer else 1):
        return Look()
    if not is_finer:
        new = _in_turns((_untried(name, state, ranked) for name in weak), limit)
        return Look(new, reason=_reason(state, weak))
    finer = _in_turns((_finer(name, state, ranked) for name in weak), limit // FINER_COST)
    return Look(finer, is_finer=True, reason=_reason(state, weak))


def _reason(state: State, weak: Sequence[str]) -> str:
    if state.unregistered is not None:
        return f"{len(weak)} photos did not register"
    parts = len(state.graph.components)
    hanging = f"{len(weak)} photos have fewer than 3 verified neighbours or are apart"
    return f"the view graph is in {parts} parts, {hanging}" if parts > 1 else hanging


def _in_turns(lists: Iterable[Iterable[Pair]], limit: int) -> list[Pair]:
    """The first pair of each list, then the second of each, ...: each pair once, sorted, at most so many."""
    turns = chain.from_iterable(zip_longest(*lists))
    return sorted(islice(dict.fromkeys(pair for pair in turns if pair is not None), limit))


def _untried(name: str, state: State, ranked: Ranked) -> list[Pair]:
    """Pairs of a weak image that were not tried, the most promising ones first."""
    kin = _kin(name, state.graph)
    order = _alternately(state.graph.friends_of_friends(name), ranked(name))
    pairs = (canonical_pair(name, other) for other in order if other not in kin)
    return list(islice((pair for pair in pairs if pair not in state.tried), NEW_PARTNERS))


def _finer(name: str, state: State, ranked: Ranked) -> list[Pair]:
    """Pairs of a weak image that deserve a finer look: those of most matches, then those that look most alike."""
    kin = _kin(name, state.graph) if state.unregistered is None else {name}
    scores = {
        pair: (found.num_inliers, found.num_matches)
        for other in state.graph.names
        if other not in kin and (found := state.matched.get(pair := canonical_pair(name, other)))
    }
    by_matches = sorted(scores, key=lambda pair: (*(-score for score in scores[pair]), pair))
    alike = (canonical_pair(name, other) for other in ranked(name) if other not in kin)
    wanted = dict.fromkeys([*by_matches[:FINER_PARTNERS], *islice(alike, FINER_PARTNERS)])
    return [pair for pair in islice(wanted, FINER_PARTNERS) if pair not in state.finer]


def _kin(name: str, graph: ViewGraph) -> set[str]:
    """Images that are no help to a weak one: its part of the graph if that is a small one, else its neighbours."""
    own = graph.component_of(name)
    return {name, *(graph.components[own] if own else graph.neighbors(name))}


def _alternately(first: Sequence[str], second: Iterable[str]) -> Iterator[str]:
    """One of each in turn, each once."""
    merged = chain.from_iterable(zip_longest(first, second))
    yield from dict.fromkeys(name for name in merged if name is not None)


def has_helped(before: ViewGraph, after: ViewGraph) -> bool:
    """Whether the graph is in fewer parts, or fewer photos hang by a thread."""
    return len(after.components) < len(before.components) or len(after.weak()) < len(before.weak())


class SecondLooks:
    """Which second looks were had: kept in a file, so that a repeated run goes on from them, or finds them finished.

    Args:
        path: of the JSON file, which may not be there yet.
        begun_with: hash of all that the first look was made of; what is noted of another one is forgotten. None takes
            what is there.
    """

    def __init__(self, path: Path, begun_with: str | None = None) -> None:
        known = read_json(path)
        if not are_second_looks(known):
            known = {}
        if begun_with not in (None, known.get("begun_with")):
            known = {}
        self.path, self.begun_with = path, begun_with or known.get("begun_with", "")
        self.rounds: list[dict[str, Any]] = known.get("rounds", [])
        self._is_trial = False
        self.settled: list[str] = known.get("settled", [])

    @property
    def pairs(self) -> set[Pair]:
        """Pairs of the first look, beside those that were selected."""
        return {pair for look in self._counting() if not look.is_finer for pair in look.pairs}

    @property
    def finer(self) -> set[Pair]:
        """Pairs that had a finer look."""
        return {pair for look in self._counting() if look.is_finer for pair in look.pairs}

    @property
    def seconds(self) -> float:
        """How long all of them took."""
        return sum(each["seconds"] for each in self.rounds)

    def _counting(self) -> list[Look]:
        """The rounds that count: those that were dropped, and those on trial when a run was killed, do not."""
        on_trial = ("kept", "on trial") if self._is_trial else ("kept",)
        return [_look(each) for each in self.rounds if each["state"] in on_trial]

    def all_rounds(self) -> list[Look]:
        """All rounds that were had, also those that do not count."""
        return [_look(each) for each in self.rounds]

    def add(self, look: Look, seconds: float = 0.0, *, is_on_trial: bool = False) -> None:
        """Notes a round whose pairs have been matched; one on trial counts while this object lives, until `judge`."""
        self._is_trial = self._is_trial or is_on_trial
        if is_on_trial:  # a run that was killed may have had the same
            self.rounds = [each for each in self.rounds if _look(each) != look]
        self.rounds.append(
            {
                "reason": look.reason,
                "is_finer": look.is_finer,
                "state": "on trial" if is_on_trial else "kept",
                "seconds": round(seconds, 3),
                "pairs": [list(pair) for pair in look.pairs],
            }
        )
        self._write()

    def judge(self, *, are_kept: bool) -> None:
        """Keeps the rounds that are on trial, or drops them: the models without them were no worse."""
        for each in self.rounds:
            if each["state"] == "on trial":
                each["state"] = "kept" if are_kept else "dropped"
        self._is_trial = False
        self._write()

    def settle(self, stage: str) -> None:
        """Notes that no round is wanted any more before ("match") or after mapping ("map")."""
        self.settled = sorted({*self.settled, stage})
        self._write()

    def _write(self) -> None:
        known = {"begun_with": self.begun_with, "settled": self.settled, "rounds": self.rounds}
        write_json(self.path, known, is_checked=True)


def are_second_looks(known: Mapping[str, Any]) -> bool:
    """Whether this, from JSON, is what `SecondLooks` notes."""
    row = {"reason": str, "is_finer": bool, "state": str, "seconds": float, "pairs": list[list[str]]}
    if misfits(known, {"begun_with": str, "settled": list[str], "rounds": list[dict[str, Any]]}):
        return False
    rows = known.get("rounds", [])
    return all(set(row) <= set(each) and not misfits(each, row) for each in rows) and all(
        len(pair) == 2 for each in rows for pair in each["pairs"]
    )


def _look(row: Mapping[str, Any]) -> Look:
    return Look([(first, second) for first, second in row["pairs"]], row["is_finer"], row["reason"])
