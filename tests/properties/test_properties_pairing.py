"""Pair files, natural order, the best partners, and the methods that need nothing but names."""

import tempfile
from itertools import combinations
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import NAMES, PHOTOS, pair_lists, seeds

from lgsfm.errors import InputError
from lgsfm.matching import in_blocks
from lgsfm.pairing import (
    PairOptions,
    natural_key,
    ranking,
    read_pairs,
    select_pairs,
    similar_pairs,
    split_methods,
    write_pairs,
)
from lgsfm.pairing.options import NAMES as METHODS
from lgsfm.types import Matches, canonical_pair


def written(text: str, folder: str) -> Path:
    path = Path(folder) / "pairs.txt"
    path.write_bytes(text.encode())
    return path


@given(pair_lists())
@example((["\ufeffa", "b"], [("b", "\ufeffa")]))
@example((["\ufeffa", "\ufeffb"], [("\ufeffa", "\ufeffb")]))
@example((["#a", "b"], [("#a", "b")]))
@example((["a", " a", "a ", "b"], [(" a", "a "), ("a", "b")]))
def test_written_pairs_are_read_again(found):
    names, pairs = found
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.txt"
        write_pairs(path, pairs)
        assert read_pairs(path, names) == pairs


@given(pair_lists(PHOTOS), st.booleans(), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_files_of_other_programs_are_read_too(found, is_reversed, line_end, has_mark):
    """With a space between the names, in any order, with comments and blank lines and the line ends of Windows."""
    names, pairs = found
    names = [name for name in names if name == name.strip() and not any(mark in name for mark in " #\ufeff")]
    pairs = [pair for pair in pairs if set(pair) <= set(names)]
    lines = ["# a comment", "", *(" ".join(pair[::-1] if is_reversed else pair) for pair in pairs), ""]
    text = ("\ufeff" if has_mark else "") + line_end.join(lines)
    with tempfile.TemporaryDirectory() as folder:
        assert read_pairs(written(text, folder), names) == pairs


@given(pair_lists(), NAMES)
def test_an_unknown_name_is_an_error_that_names_the_line(found, unknown):
    names, pairs = found
    unknown = f"{unknown}?"
    with tempfile.TemporaryDirectory() as folder:
        if unknown.strip() not in {name.strip() for name in names}:
            path = written("".join(f"{a}\t{b}\n" for a, b in [*pairs, (unknown, names[0])]), folder)
            with pytest.raises(InputError, match=f"line {len(pairs) + 1}:"):
                read_pairs(path, names)
            assert read_pairs(path, names, skip_unknown=True) == pairs


@given(st.lists(st.sampled_from(METHODS), min_size=1, max_size=5))
def test_joined_methods_are_split_again(methods):
    assert split_methods("+".join(methods)) == methods


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=30))
def test_what_is_split_joins_to_the_same_text(text):
    assert "+".join(split_methods(text)) == text


@given(st.lists(NAMES, max_size=10, unique=True))
def test_natural_order_knows_all_names_apart(names):
    ordered = sorted(names, key=natural_key)
    assert ordered == sorted(reversed(names), key=natural_key)
    assert sorted(ordered) == sorted(names)


@given(st.text(max_size=8), st.text(max_size=8), st.lists(st.integers(0, 10**9), max_size=8))
def test_numbers_in_names_count_by_their_value(before, after, numbers):
    before, after = before.rstrip("0123456789"), after.lstrip("0123456789")
    names = [f"{before}{number}{after}" for number in numbers]
    assert sorted(names, key=natural_key) == [f"{before}{number}{after}" for number in sorted(numbers)]


SCORES = st.integers(1, 9).flatmap(
    lambda n: hnp.arrays(np.float32, (n, n), elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 1.0]))
)


@given(SCORES, st.integers(0, 10), st.integers(1, 30))
def test_the_best_partners_are_those_of_a_sort(scores, count, block):
    """In blocks of any size; ties go to the nearest in the order of the images, the first of two as near."""
    n = len(scores)
    with mock.patch.object(ranking, "BLOCK_SCORES", block):
        found = dict(ranking.best_partners(lambda start, stop: scores[start:stop], n, count))
    for i in range(n):
        others = [j for j in range(n) if j != i and scores[i, j] > -np.inf]
        expected = sorted(others, key=lambda j: (-scores[i, j], abs(i - j), j))[:count]
        assert found.get(i, np.zeros(0)).tolist() == expected


@given(SCORES, st.integers(1, 10), st.integers(0, 10))
def test_mutual_pairs_are_pairs_of_both_or_best_of_one(scores, count, least):
    names = [f"{i:02}" for i in range(len(scores))]

    def block(start, stop):
        return scores[start:stop]

    best = {i: list(partners) for i, partners in ranking.best_partners(block, len(names), count)}
    expected = {
        canonical_pair(names[i], names[j])
        for i, partners in best.items()
        for rank, j in enumerate(partners)
        if rank < least or i in best[j]
    }
    assert similar_pairs(names, block, count, least) == expected
    assert similar_pairs(names, block, count) == similar_pairs(names, block, count, count)


@given(st.lists(NAMES, min_size=2, max_size=12, unique=True), st.integers(1, 6), st.booleans(), seeds)
def test_pairs_are_canonical_and_do_not_depend_on_the_order_of_the_names(names, overlap, quadratic, rng):
    options = PairOptions(pairs="sequential+exhaustive", overlap=overlap, quadratic=quadratic)
    pairs = select_pairs(names, options)
    assert pairs == sorted(combinations(sorted(names), 2))
    sequential = PairOptions(pairs="sequential", overlap=overlap, quadratic=quadratic)
    one_folder = [f"f/{name.replace('/', '_')}{i}" for i, name in enumerate(names)]
    found = select_pairs(one_folder, sequential)
    assert found == select_pairs([one_folder[i] for i in rng.permutation(len(names))], sequential)
    ordered = sorted(one_folder, key=natural_key)
    steps = [2**i if quadratic else i + 1 for i in range(overlap)]
    apart = {canonical_pair(a, b) for i, a in enumerate(ordered) for s in steps for b in ordered[i + s : i + s + 1]}
    assert found == sorted(apart)


@given(pair_lists(), st.integers(1, 3))
def test_friends_of_friends_are_those_of_strong_pairs(found, least):
    names, pairs = found
    matches = {
        pair: Matches(np.zeros((i % 4, 2), np.int32), np.zeros(i % 4, np.float32)) for i, pair in enumerate(pairs)
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "first.txt"
        write_pairs(path, pairs)
        options = PairOptions(pairs=f"{path}+transitive", min_strong_matches=least)
        chosen = select_pairs(names, options, matches=matches)
    strong = {pair for pair in pairs if len(matches[pair]) >= least}
    tied = {name: {other for pair in strong if name in pair for other in pair} - {name} for name in names}
    expected = {pair for pair in combinations(sorted(names), 2) if tied[pair[0]] & tied[pair[1]]}
    assert set(chosen) == expected | set(pairs)


@given(pair_lists(), st.integers(1, 4))
def test_blocks_hold_the_same_pairs_and_each_block_of_images_comes_once(found, size):
    _, pairs = found
    ordered = in_blocks(pairs, size)
    assert sorted(ordered) == pairs
    number = {name: i for i, name in enumerate(sorted({name for pair in pairs for name in pair}))}
    blocks = [number[first] // size for first, _ in ordered]
    assert blocks == sorted(blocks)
    for block in set(blocks):
        partners = [second for (_, second), of in zip(ordered, blocks, strict=True) if of == block]
        assert partners == sorted(partners)
