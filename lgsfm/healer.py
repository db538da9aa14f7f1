"""Second looks, carried out: rounds of `lgsfm.healing` before and after mapping, while they help."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from .errors import LgsfmError
from .healing import Budget, Look, Ranked, SecondLooks, State, has_helped, plan_look
from .mapping import ModelSummary

__all__ = ["Healer", "Stages", "is_better"]

MapAgain = Callable[[list[ModelSummary]], list[ModelSummary]]


class Stages(Protocol):
    """What a healer asks of a run."""

    def state(self, unregistered: Sequence[str] | None = None) -> State:
        """What is known of the pairs now."""
        ...

    def ranked(self, name: str) -> Sequence[str]:
        """The other images, those that look most like this one first."""
        ...

    def match_look(self, look: Look) -> None:
        """Matches the pairs of a round."""
        ...

    def update_database(self) -> None:
        """Makes the database be of all pairs that are noted."""
        ...

    def pair_seconds(self) -> float:
        """How long one pair takes, as far as is known."""
        ...


class Healer:
    """The second looks of one run.

    Args:
        stages: the run.
        looks: those that were had before; new ones are noted there.
        budget: of all of them together.
        can_look_closer: whether there is a finer look.
        say: told what happens, in lines for people.
    """

    def __init__(
        self, stages: Stages, looks: SecondLooks, budget: Budget, *, can_look_closer: bool, say: Callable[[str], None]
    ) -> None:
        self.stages, self.looks, self.say, self.can_look_closer = stages, looks, say, can_look_closer
        self.budget = budget.spent(sum(look.cost for look in looks.all_rounds()), looks.seconds)

    def before_mapping(self) -> None:
        """Ties photos that hang by a thread; a finer look where untried pairs do not help any more."""
        if "match" in self.looks.settled or not self._is_anything_left():
            return
        state, is_finer = self.stages.state(), False
        while self._is_anything_left():
            look = self._had(self._plan(state, is_finer=is_finer))
            if look.pairs:
                self.stages.update_database()
                before, state = state, self.stages.state()
                parts, weak = len(state.graph.components), len(state.weak)
                self.say(
                    f"  Now {len(state.graph.pairs)} verified pairs, in {_some(parts, 'part')}, {weak} weak photos."
                )
                if has_helped(before.graph, state.graph):
                    is_finer = False
                    continue
            if is_finer:
                self.looks.settle("match")
                return
            is_finer = True

    def after_mapping(
        self, models: list[ModelSummary], names: Sequence[str], map_again: MapAgain
    ) -> list[ModelSummary]:
        """Helps photos that the mapper left out, and maps again where that has given them more to hold on to.

        What these rounds find counts once the models with it are better.

        Args:
            models: what there is, the best one first.
            names: the images with features.
            map_again: makes models anew, and puts them in the place of those given if they are better; gives those
                that are there then.
        """
        while "map" not in self.looks.settled and self._is_anything_left():
            settled = _settled(models)
            unregistered = [name for name in names if name not in settled]
            if not unregistered:
                self.looks.settle("map")
                break
            before = self.stages.state(unregistered)
            plans = (self._plan(before, is_finer=is_finer) for is_finer in (False, True))  # each when it is its turn
            rounds = [self._had(plan, is_on_trial=True) for plan in plans]
            has_gained = False
            if any(look.pairs for look in rounds):
                self.stages.update_database()
                if _hold(self.stages.state(unregistered)) > _hold(before):
                    again = map_again(models)
                    has_gained, models = again is not models, again
                self.looks.judge(are_kept=has_gained)
            if not has_gained:
                if any(look.pairs for look in rounds):
                    self.stages.update_database()
                self.looks.settle("map")
        return models

    def _is_anything_left(self) -> bool:
        return self.budget.left(self.stages.pair_seconds()) > 0

    def _plan(self, state: State, *, is_finer: bool) -> Look:
        if is_finer and not self.can_look_closer:
            return Look()
        ranked: Ranked = self.stages.ranked
        return plan_look(state, ranked, self.budget.left(self.stages.pair_seconds()), is_finer=is_finer)

    def _had(self, look: Look, *, is_on_trial: bool = False) -> Look:
        """The look, carried out and noted if there is anything to do; one that fails is none."""
        if not look.pairs:
            return look
        kind = "a finer look at" if look.is_finer else "trying"
        self.say(f"Second look: {look.reason}; {kind} {_some(len(look.pairs), 'pair')} (--budget).")
        start = time.perf_counter()
        try:
            self.stages.match_look(look)
        except LgsfmError as exc:  # of what need not be: what is there stays
            self.say(f"  It failed, and the run goes on without: {exc}")
            self.can_look_closer = False
            return Look()
        seconds = time.perf_counter() - start
        self.looks.add(look, seconds, is_on_trial=is_on_trial)
        self.budget = self.budget.spent(look.cost, seconds)
        return look


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _settled(models: Sequence[ModelSummary]) -> set[str]:
    """Images that need no help: of the best model, and of models of other places, which share no image with it."""
    best = set(models[0].registered) if models else set()
    apart = [set(model.registered) for model in models[1:] if best.isdisjoint(model.registered)]
    return best.union(*apart)


def _hold(state: State) -> int:
    """How much the photos that were left out have to hold on to: the inliers of their verified pairs."""
    out = set(state.unregistered or ())
    return sum(found.num_inliers for pair, found in state.graph.pairs.items() if out & set(pair))


def is_better(models: Sequence[ModelSummary], than: Sequence[ModelSummary]) -> bool:
    """Whether more images of the best model stand firm: a model that collapsed may register them all.

    Not whether there are more models beside it: photos of another place that a closer look ties together by what only
    looks alike would count as a gain.
    """

    def rank(found: Sequence[ModelSummary]) -> tuple[int, int]:
        return (found[0].num_firm_images, 1) if found else (0, 0)  # of two photos nothing stands firm

    return rank(models) > rank(than)
