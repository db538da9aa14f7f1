"""Second looks: which pairs, in what order, within what budget, and when they stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lgsfm.database_reading import VerifiedPair
from lgsfm.errors import InputError, MemoryShortageError
from lgsfm.healer import Healer, is_better
from lgsfm.healing import FINER_COST, Budget, HealingOptions, Look, SecondLooks, State, parse_budget, plan_look
from lgsfm.mapping import ModelSummary
from lgsfm.types import Pair, canonical_pair
from lgsfm.view_graph import ViewGraph

NAMES = "abcdefgh"
CLIQUE = {pair: 100 for pair in [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]}


def state_of(
    inliers: dict[Pair, int], names: str = NAMES, matches: dict[Pair, int] | None = None, **more: object
) -> State:
    """A state in which the pairs with inliers, and those with matches only, have been tried."""
    found = {pair: VerifiedPair(count + 5, count, "calibrated") for pair, count in inliers.items()}
    found |= {pair: VerifiedPair(count, 0) for pair, count in (matches or {}).items()}
    return State(ViewGraph(names, found), tried=set(found), matched=found, **more)  # type: ignore[arg-type]


def alphabetical(name: str) -> list[str]:
    return [other for other in NAMES if other != name]


# --------------------------------------------------------------------------------- budgets
@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("500", Budget(pairs=500)),
        ("20%", Budget(pairs=200)),
        ("10min", Budget(seconds=600)),
        ("90 s", Budget(seconds=90)),
        ("1.5h", Budget(seconds=5400)),
        ("none", Budget(pairs=0)),
        ("auto", Budget(pairs=200)),
    ],
)
def test_a_budget_is_pairs_a_share_or_a_time(text: str, budget: Budget) -> None:
    assert parse_budget(text, 1000) == budget


def test_the_automatic_budget_is_something_even_for_few_pairs() -> None:
    assert parse_budget("auto", 45) == Budget(pairs=60)


@pytest.mark.parametrize("text", ["", "many", "-5", "10 days", "5%%", "nan"])
def test_what_is_no_budget_is_refused_before_any_work(text: str) -> None:
    with pytest.raises(InputError, match="--budget"):
        HealingOptions(budget=text)


def test_a_program_may_say_pairs_as_a_number() -> None:
    assert HealingOptions(budget=500) == HealingOptions(budget="500")  # type: ignore[arg-type]


def test_a_time_allows_as_many_pairs_as_fit_into_it() -> None:
    assert Budget(seconds=60).left(pair_seconds=0.5) == 120
    assert Budget(pairs=100, seconds=60).left(pair_seconds=0.5) == 100
    assert Budget(seconds=60).spent(10, 50).left(pair_seconds=0.5) == 20
    assert Budget(seconds=60).spent(10, 90).left(pair_seconds=0.5) == 0
    assert Budget(seconds=0).left(pair_seconds=0.0) == 0
    assert 0 < Budget(seconds=10).left(pair_seconds=0.0) < 100  # nobody knows how long a pair takes


# --------------------------------------------------------------------------------- plans
def test_a_graph_without_weak_images_gets_no_second_look() -> None:
    state = state_of(CLIQUE, "abcd")
    for is_finer in (False, True):
        assert not plan_look(state, alphabetical, 1000, is_finer=is_finer).pairs


def test_an_image_apart_is_tried_with_those_that_look_most_like_it() -> None:
    state = state_of(CLIQUE, "abcde", matches={("a", "e"): 8})
    look = plan_look(state, lambda name: ["c", "a", "d", "b"], 2, is_finer=False)
    assert look.pairs == [("c", "e"), ("d", "e")]  # with a it was tried; two are allowed
    assert "in 2 parts" in look.reason


def test_a_part_is_tied_to_others_and_not_to_itself() -> None:
    state = state_of({**CLIQUE, ("e", "f"): 80, ("f", "g"): 80}, "abcdefg")
    pairs = plan_look(state, lambda name: [other for other in "abcdefg" if other != name], 1000, is_finer=False).pairs
    assert ("e", "g") not in pairs
    assert len(pairs) == 3 * 4  # each of e, f, g with each of a, b, c, d


def test_friends_of_friends_are_tried_as_well() -> None:
    chain = {**CLIQUE, ("d", "e"): 70}
    look = plan_look(state_of(chain, "abcdefgh"), lambda name: [], 1000, is_finer=False)
    assert look.pairs == [("a", "e"), ("b", "e"), ("c", "e")]  # over d; nothing is known of f, g, h


def test_a_small_budget_is_shared_among_the_weak_ones() -> None:
    look = plan_look(state_of(CLIQUE), alphabetical, 4, is_finer=False)
    assert sorted(name for pair in look.pairs for name in pair if name in "efgh") == list("efgh")


def test_a_finer_look_is_at_the_pairs_of_most_matches_and_costs_more() -> None:
    state = state_of(CLIQUE, "abcde", matches={("a", "e"): 8, ("b", "e"): 14, ("c", "e"): 3})
    look = plan_look(state, alphabetical, 2 * FINER_COST + 1, is_finer=True)
    assert (look.pairs, look.is_finer, look.cost) == ([("a", "e"), ("b", "e")], True, 2 * FINER_COST)
    again = plan_look(replace(state, finer={("b", "e")}), alphabetical, FINER_COST, is_finer=True)
    assert again.pairs == [("a", "e")]


def test_a_photo_that_the_mapper_left_out_is_looked_at_with_its_neighbours() -> None:
    state = state_of({**CLIQUE, ("a", "e"): 20, ("b", "e"): 18, ("c", "e"): 16}, "abcde", unregistered=("e",))
    assert plan_look(state, alphabetical, 2 * FINER_COST, is_finer=True).pairs == [("a", "e"), ("b", "e")]


# --------------------------------------------------------------------------------- what was had
def test_looks_are_found_again_and_forgotten_with_another_first_look(tmp_path: Path) -> None:
    path = tmp_path / "looks.json"
    looks = SecondLooks(path, "this")
    looks.add(Look([("a", "b")], reason="why"))
    looks.add(Look([("a", "c")], is_finer=True))
    looks.settle("match")
    again = SecondLooks(path, "this")
    assert (again.pairs, again.finer, again.settled) == ({("a", "b")}, {("a", "c")}, ["match"])
    assert SecondLooks(path).pairs == {("a", "b")}
    other = SecondLooks(path, "that")
    assert (other.pairs, other.finer, other.settled) == (set(), set(), [])


def test_looks_on_trial_count_until_they_are_judged_and_not_for_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "looks.json"
    looks = SecondLooks(path, "this")
    looks.add(Look([("a", "b")]))
    looks.add(Look([("a", "c")], is_finer=True), 2.5, is_on_trial=True)
    assert (looks.pairs, looks.finer) == ({("a", "b")}, {("a", "c")})
    killed = SecondLooks(path, "this")  # a run that was killed now is no verdict
    assert (killed.pairs, killed.finer) == ({("a", "b")}, set())
    assert (sum(look.cost for look in killed.all_rounds()), killed.seconds) == (1 + FINER_COST, 2.5)
    killed.add(Look([("a", "c")], is_finer=True), is_on_trial=True)  # planned again, and paid for once
    assert len(killed.all_rounds()) == 2
    killed.judge(are_kept=True)
    assert SecondLooks(path, "this").finer == {("a", "c")}
    killed.add(Look([("a", "d")]), is_on_trial=True)
    killed.judge(are_kept=False)
    assert SecondLooks(path, "this").pairs == {("a", "b")}


# --------------------------------------------------------------------------------- rounds
class Patient:
    """A collection in which some pairs would match, some only at a finer look."""

    def __init__(self, inliers: dict[Pair, int], would: set[Pair], finer: set[Pair], names: str) -> None:
        self.inliers, self.would, self.would_finer, self.names = dict(inliers), would, finer, names
        self.tried, self.finer, self.had = set(inliers), set(), []

    def state(self, unregistered: Sequence[str] | None = None) -> State:
        found = {pair: VerifiedPair(count, count, "calibrated") for pair, count in self.inliers.items()}
        out = None if unregistered is None else tuple(unregistered)
        return State(ViewGraph(self.names, found), set(self.tried), found, set(self.finer), out)

    def ranked(self, name: str) -> list[str]:
        return [other for other in self.names if other != name]

    def match_look(self, look: Look) -> None:
        self.had.append((look.is_finer, look.pairs))
        (self.finer if look.is_finer else self.tried).update(look.pairs)
        for pair in look.pairs:
            if pair in (self.would_finer if look.is_finer else self.would):
                self.inliers[pair] = self.inliers.get(pair, 0) + 40

    def update_database(self) -> None:
        pass

    def pair_seconds(self) -> float:
        return 1.0


def healer_of(patient: Patient, tmp_path: Path, budget: Budget, *, can_look_closer: bool = True) -> Healer:
    looks = SecondLooks(tmp_path / "looks.json", "this")
    return Healer(patient, looks, budget, can_look_closer=can_look_closer, say=lambda text: None)


def ties(name: str, others: str) -> set[Pair]:
    return {canonical_pair(name, other) for other in others}


def test_rounds_go_on_while_they_help_then_look_closer_then_stop(tmp_path: Path) -> None:
    patient = Patient(CLIQUE, ties("e", "abc"), ties("f", "abc"), "abcdefg")
    healer_of(patient, tmp_path, Budget(pairs=1000)).before_mapping()
    assert [is_finer for is_finer, _ in patient.had][:1] == [False]
    assert patient.state().graph.components == [list("abcdef"), ["g"]]  # e by untried pairs, f by a finer look
    kinds = [is_finer for is_finer, _ in patient.had]
    assert True in kinds
    before = len(patient.had)
    healer_of(patient, tmp_path, Budget(pairs=1000)).before_mapping()
    assert len(patient.had) == before  # settled: a repeated run looks no more


def test_rounds_end_with_the_budget(tmp_path: Path) -> None:
    patient = Patient(CLIQUE, ties("e", "abcd"), set(), NAMES)
    healer_of(patient, tmp_path, Budget(pairs=3)).before_mapping()
    assert sum(len(pairs) for _, pairs in patient.had) == 3
    nothing = Patient(CLIQUE, set(), set(), NAMES)
    (tmp_path / "other").mkdir()
    healer_of(nothing, tmp_path / "other", Budget(pairs=0)).before_mapping()
    assert nothing.had == []


def test_there_is_no_finer_look_where_all_keypoints_are_kept(tmp_path: Path) -> None:
    patient = Patient(CLIQUE, set(), ties("e", "abc"), "abcde")
    healer_of(patient, tmp_path, Budget(pairs=1000), can_look_closer=False).before_mapping()
    assert not any(is_finer for is_finer, _ in patient.had)


def model_of(names: str, number: int = 0) -> ModelSummary:
    return ModelSummary(str(number), len(names), 100, 3.0, 0.5, 0, tuple(names), num_firm_images=len(names))


def test_a_photo_that_was_left_out_is_mapped_again_with_what_a_finer_look_gave(tmp_path: Path) -> None:
    patient = Patient({**CLIQUE, ("a", "e"): 16}, set(), ties("e", "ab"), "abcde")
    healer = healer_of(patient, tmp_path, Budget(pairs=1000))
    mapped = []

    def map_again(models: list[ModelSummary]) -> list[ModelSummary]:
        mapped.append(models)
        return [model_of("abcde")]

    assert healer.after_mapping([model_of("abcd")], list("abcde"), map_again) == [model_of("abcde")]
    assert len(mapped) == 1
    assert patient.finer >= {("a", "e"), ("b", "e")}


def test_what_did_not_make_a_larger_model_is_dropped_again(tmp_path: Path) -> None:
    patient = Patient({**CLIQUE, ("a", "e"): 16}, set(), ties("e", "ab"), "abcde")
    healer = healer_of(patient, tmp_path, Budget(pairs=1000))
    models = [model_of("abcd")]
    assert healer.after_mapping(models, list("abcde"), lambda models: models) is models
    assert (healer.looks.pairs, healer.looks.finer) == (set(), set())
    assert healer.looks.settled == ["map"]


def test_a_look_that_fails_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    patient = Patient({**CLIQUE, ("a", "e"): 16}, set(), set(), "abcde")

    def fail(look: Look) -> None:
        raise MemoryShortageError("not enough for a pair")

    patient.match_look = fail  # type: ignore[method-assign]
    healer = healer_of(patient, tmp_path, Budget(pairs=1000))
    healer.before_mapping()
    models = [model_of("abcd")]
    assert healer.after_mapping(models, list("abcde"), lambda models: models) is models
    assert healer.looks.all_rounds() == []


def test_nothing_is_mapped_again_without_new_inliers(tmp_path: Path) -> None:
    patient = Patient({**CLIQUE, ("a", "e"): 16}, set(), set(), "abcde")

    def never(models: list[ModelSummary]) -> list[ModelSummary]:
        raise AssertionError("mapped again for nothing")

    healer_of(patient, tmp_path, Budget(pairs=1000)).after_mapping([model_of("abcd")], list("abcde"), never)


def test_models_of_other_places_are_left_alone_and_those_that_share_photos_are_not(tmp_path: Path) -> None:
    pairs = {**CLIQUE, ("e", "f"): 90, ("e", "g"): 90, ("f", "g"): 90, ("d", "e"): 20}
    apart = Patient(pairs, set(), set(), "abcdefg")
    models = [model_of("abcd"), model_of("efg", 1)]
    healer_of(apart, tmp_path, Budget(pairs=1000)).after_mapping(models, list("abcdefg"), lambda models: models)
    assert apart.had == []
    (tmp_path / "2").mkdir()
    split = Patient(pairs, set(), set(), "abcdefg")
    models = [model_of("abcd"), model_of("defg", 1)]
    healer_of(split, tmp_path / "2", Budget(pairs=1000)).after_mapping(models, list("abcdefg"), lambda models: models)
    assert split.had != []


def test_better_is_a_larger_best_model_and_not_one_more_beside_it() -> None:
    assert is_better([model_of("abcd")], [model_of("abc")])
    assert is_better([model_of("abc")], [])
    assert not is_better([model_of("abc"), model_of("def", 1)], [model_of("abc")])
    assert not is_better([], [])
    assert is_better([replace(model_of("ab"), num_firm_images=0)], [])  # two photos are more than none
    collapsed = replace(model_of("abcdefgh"), num_firm_images=2)
    assert not is_better([collapsed], [model_of("abc")])
