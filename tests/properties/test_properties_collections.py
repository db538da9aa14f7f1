"""Batches, layers, view graphs, second looks, codebooks, retrieval, the listing of photos."""

import os
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import PARTS, match_sets, pair_lists, seeds

from lgsfm import codebook
from lgsfm.batches import Batches, PreparedImages
from lgsfm.database_reading import VerifiedPair
from lgsfm.errors import InputError, MemoryShortageError
from lgsfm.healing import FINER_COST, FINER_PARTNERS, NEW_PARTNERS, Look, SecondLooks, State, plan_look
from lgsfm.images import IMAGE_SUFFIXES, list_images
from lgsfm.layers import SAME_PX, FinerLook, LayeredFeatures, LayeredMatches
from lgsfm.retrievers.asmk import SELECTIVITY, AsmkOptions, AsmkRetriever
from lgsfm.types import Features, Matches, canonical_pair
from lgsfm.upright import PARTNERS, _partners
from lgsfm.view_graph import ViewGraph


# --------------------------------------------------------------------------------- batches
class Recorder:
    """A matcher that has memory for so many pairs; a match says which images it is of."""

    def __init__(self, most: int) -> None:
        self.most, self.sizes = most, []

    def prepare(self, features):
        return features

    def match_batch(self, pairs):
        if len(pairs) > self.most:
            raise MemoryShortageError("full")
        self.sizes.append(len(pairs))
        return [Matches.empty(pair) for pair in pairs]


@given(pair_lists(), st.integers(1, 9), st.integers(1, 9), st.integers(1, 6))
def test_short_memory_changes_the_batches_and_nothing_else(found, limit, most, kept):
    _, pairs = found
    matcher = Recorder(most)
    images = PreparedImages(lambda name: name, matcher, kept)
    parts = list(Batches(images, limit).match(pairs))
    assert [pair for part, _ in parts for pair in part] == pairs
    assert [matches.sources for _, found in parts for matches in found] == pairs
    assert all(size <= min(limit, most) for size in matcher.sizes)
    assert len(images.prepared) <= kept


@given(pair_lists(), pair_lists(), st.integers(1, 9))
def test_only_what_is_not_prepared_is_read_ahead_and_nothing_is_read_twice(first, second, kept):
    """As the stage does it: what is read ahead for a batch is all that the batch reads."""
    read: list[str] = []

    def features(name):
        read.append(name)
        return name

    images = PreparedImages(features, Recorder(99), kept)
    for _, pairs in (first, second):
        there = set(images.prepared)
        wanted = {name for pair in pairs for name in pair}
        ahead = images.read(pairs)
        assert ahead.keys() == wanted - there
        images.take(ahead)
        read.clear()
        if len(wanted | there) <= kept:
            for pair in pairs:
                assert [images[name] for name in pair] == list(pair)
            assert read == []


# --------------------------------------------------------------------------------- layers
def looks(rng: np.random.Generator, names, pairs):
    """Features and matches of two looks at a few places, so that they often find the same."""

    def features():
        places = [rng.integers(0, 4, (rng.integers(1, 6), 2)) * 10 + rng.uniform(-2, 2, 2) for _ in names]
        return {name: make(points.astype(np.float32)) for name, points in zip(names, places, strict=True)}

    def make(points):
        return Features(
            points, np.zeros((len(points), 2), np.float32), np.zeros(len(points), np.float32), (99, 99), "s"
        )

    def matches(features):
        made = {}
        for pair in pairs:
            lengths = [len(features[name]) for name in pair]
            k = rng.integers(0, 6)
            made[pair] = Matches(
                np.column_stack([rng.integers(0, n, k) for n in lengths]).astype(np.int32).reshape(k, 2),
                rng.random(k, np.float32),
            )
        return made

    first, second = features(), features()
    return first, matches(first), second, matches(second)


@given(pair_lists(), seeds)
def test_a_finer_look_adds_matches_of_its_own_and_moves_none(found, rng):
    names, pairs = found
    first, first_matches, second, second_matches = looks(rng, names, pairs)
    chosen = frozenset(pair for pair in pairs if rng.random() < 0.6)
    for pair in pairs:
        if rng.random() < 0.2:
            first_matches.pop(pair)
    finer = FinerLook(second, second_matches, chosen)
    features, matches = LayeredFeatures(first, finer), LayeredMatches(first_matches, first, finer)
    assert list(features) == list(first)
    assert set(matches) == set(first_matches) | chosen
    assert len(matches) == len(set(matches))
    for pair in matches:
        old = first_matches[pair].indices if pair in first_matches else np.zeros((0, 2), np.int32)
        both = matches[pair]
        assert np.array_equal(both.indices[: len(old)], old)

        def places(indices, of, pair=pair):
            return [
                tuple(np.concatenate([of[name].keypoints[i] for name, i in zip(pair, row, strict=True)]))
                for row in indices
            ]

        known = places(old, first)
        expected = [
            place
            for place in places(second_matches[pair].indices, second)
            if not any(np.abs(np.subtract(place, other)).max() <= SAME_PX for other in known)
        ]
        assert places(both.indices[len(old) :], features) == (expected if pair in chosen else [])


# --------------------------------------------------------------------------------- view graph
@st.composite
def graphs(draw: st.DrawFn):
    names, pairs = draw(pair_lists(PARTS, max_size=9))
    verified = {}
    for pair in pairs:
        kind = draw(st.sampled_from(["calibrated", "planar", "degenerate", "undefined"]))
        verified[pair] = VerifiedPair(60, draw(st.sampled_from([0, 20, 40])), kind)
    return names, verified


def parts_of(names, edges) -> list[list[str]]:
    """The connected components, by flooding."""
    left, parts = set(names), []
    while left:
        part, front = set(), {min(left)}
        while front:
            part |= front
            front = {other for edge in edges for name in edge if name in front for other in edge} - part
        parts.append(sorted(part))
        left -= part
    return sorted(parts, key=lambda part: (-len(part), part))


@given(graphs())
def test_the_view_graph_is_that_of_a_search_by_hand(found):
    names, verified = found
    graph = ViewGraph(names, verified)
    edges = {pair for pair, each in verified.items() if each.num_inliers and each.kind in ("calibrated", "planar")}
    assert graph.components == parts_of(names, edges)
    for name in names:
        assert name in graph.components[graph.component_of(name)]
        assert graph.neighbors(name) == sorted({other for edge in edges if name in edge for other in edge} - {name})
        friends = set(graph.friends_of_friends(name))
        near = set(graph.neighbors(name))
        assert friends == {other for friend in near for other in graph.neighbors(friend)} - near - {name}
    count = len(graph.components)
    assert graph.bridges == sorted(edge for edge in edges if len(parts_of(names, edges - {edge})) > count)
    enough = min(3, len(names) - 1)
    largest = set(graph.components[0])
    assert graph.weak() == sorted(n for n in names if n not in largest or len(graph.neighbors(n)) < enough)


@given(graphs(), st.integers(0, 40), st.booleans(), st.booleans(), seeds)
def test_second_looks_try_nothing_twice_and_keep_their_budget(found, limit, is_finer, has_mapped, rng):
    names, verified = found
    graph = ViewGraph(names, verified)
    finer = {pair for pair in verified if rng.random() < 0.3}
    unregistered = tuple(name for name in sorted(names) if rng.random() < 0.4) if has_mapped else None
    state = State(graph, set(verified), verified, finer, unregistered)
    ranked = {name: [other for other in names if other != name] for name in names}
    look = plan_look(state, ranked.__getitem__, limit, is_finer=is_finer)
    assert look.cost <= limit
    assert look.pairs == sorted({canonical_pair(*pair) for pair in look.pairs})
    weak = set(state.weak)
    for pair in look.pairs:
        assert weak & set(pair)
        assert pair not in (finer if is_finer else state.tried)
    most = FINER_PARTNERS if is_finer else NEW_PARTNERS
    assert len(look.pairs) <= most * len(weak)
    if not is_finer and limit >= 500:
        apart = [name for name in weak if graph.component_of(name)]
        assert not apart or look.pairs or all(canonical_pair(n, o) in state.tried for n in apart for o in ranked[n])
    assert look.is_finer == (is_finer and bool(weak) and limit >= FINER_COST)


@given(st.lists(st.tuples(pair_lists(), st.booleans(), st.booleans(), st.floats(0, 99)), max_size=4), st.booleans())
def test_second_looks_are_remembered(rounds, are_kept):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "looks.json"
        known, kept = SecondLooks(path, "begun"), {False: set(), True: set()}
        for (_, pairs), is_finer, is_on_trial, seconds in rounds:
            known.add(Look(pairs, is_finer, "why"), seconds, is_on_trial=is_on_trial)
            if not is_on_trial or are_kept:
                kept[is_finer] |= set(pairs)
        known.judge(are_kept=are_kept)
        known.settle("match")
        again = SecondLooks(path, "begun")
        assert (again.pairs, again.finer, again.settled) == (kept[False], kept[True], ["match"])
        assert SecondLooks(path, "another").all_rounds() == []


# --------------------------------------------------------------------------------- partners of a turned photo
@given(st.integers(0, 400), st.integers(0, 400))
def test_few_settled_photos_are_compared_and_the_nearest_among_them(count, place):
    settled = [f"{i:03}" for i in range(count)]
    name = f"{place:03}x"
    partners = _partners(name, settled)
    assert set(partners) <= set(settled)
    if count <= PARTNERS:
        assert list(partners) == settled
    else:
        assert PARTNERS // 2 <= len(partners) <= PARTNERS
        at = min(place + 1, count)
        assert set(settled[max(0, at - 5) : at + 5]) <= set(partners)


# --------------------------------------------------------------------------------- words
DESCRIPTORS = st.tuples(seeds, st.integers(0, 30), st.integers(1, 5)).map(
    lambda drawn: drawn[0].normal(size=drawn[1:]).astype(np.float32)
)


@given(DESCRIPTORS, st.integers(1, 9))
def test_words_are_the_nearest_centres(descriptors, words):
    centres = codebook.train(descriptors, words)
    assert len(centres) == min(words, len(descriptors))
    if not len(descriptors):
        return
    distances = np.linalg.norm(descriptors[:, None] - centres[None], axis=2)
    chosen = codebook.assign(descriptors, centres)
    np.testing.assert_allclose(distances[np.arange(len(descriptors)), chosen], distances.min(1), atol=1e-3)
    sums, counts = codebook.residuals(descriptors, centres)
    assert counts.tolist() == np.bincount(chosen, minlength=len(centres)).tolist()
    found, own = codebook.sums_by_word(descriptors, chosen, centres)
    assert found.tolist() == np.flatnonzero(counts).tolist()
    np.testing.assert_allclose(own, sums[found], atol=1e-3)


@given(DESCRIPTORS, st.integers(1, 30))
def test_words_in_groups_are_the_nearest_of_the_nearest_group(descriptors, words):
    book = codebook.train_two_levels(descriptors, words)
    assert book.starts[-1] == len(book) == len(book.centres)
    if not len(descriptors):
        return
    group = codebook.assign(descriptors, book.coarse)
    word = book.assign(descriptors)
    assert np.all((book.starts[group] <= word) & (word < book.starts[group + 1]))
    for row, own, chosen in zip(descriptors, group, word, strict=True):
        distances = np.linalg.norm(book.centres[book.starts[own] : book.starts[own + 1]] - row, axis=1)
        assert distances[chosen - book.starts[own]] <= distances.min() + 1e-3


@given(seeds, st.integers(1, 7), st.sampled_from([3, 64, 70]), st.integers(1, 12))
def test_similarities_are_those_of_the_definition_in_blocks_of_any_size(rng, count, dim, words):
    """Word by word, from the packed signs: the paper's formula with loops."""
    names = [f"{i}" for i in range(count)]
    features = {}
    for name in names:
        n = int(rng.integers(0, 9)) + (name == "0")
        rows = rng.normal(size=(n, dim)).astype(np.float32)
        features[name] = Features(np.zeros((n, 2), np.float32), rows, np.ones(n, np.float32), (9, 9), "s")
    retriever = AsmkRetriever(AsmkOptions(words=words))
    described = retriever.describe(names, features)
    found = retriever.similarities(described, 0, count)
    cut = int(rng.integers(0, count + 1))
    blocks = [retriever.similarities(described, 0, cut), retriever.similarities(described, cut, count)]
    np.testing.assert_allclose(np.concatenate(blocks), found, atol=1e-6)
    signs: list[dict[int, np.ndarray]] = [{} for _ in names]
    for word in range(len(described.starts) - 1):
        for entry in range(described.starts[word], described.starts[word + 1]):
            bits = np.unpackbits(np.ascontiguousarray(described.bits[:, entry]).view(np.uint8))[:dim]
            signs[described.images[entry]][word] = 2.0 * bits - 1
    expected = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            for word in signs[i].keys() & signs[j].keys():
                u = signs[i][word] @ signs[j][word] / dim
                expected[i, j] += described.weights[word] * max(u, 0) ** SELECTIVITY
            expected[i, j] /= np.sqrt(max(len(signs[i]), 1) * max(len(signs[j]), 1))
    np.testing.assert_allclose(found, expected, atol=1e-5)


# --------------------------------------------------------------------------------- folders
FILES = st.lists(
    st.tuples(st.lists(PARTS, max_size=2), PARTS, st.sampled_from([".jpg", ".JPG", ".png", ".txt", "", ".mov"])),
    max_size=8,
)


@given(FILES)
def test_the_listing_is_sorted_and_complete(files):
    with tempfile.TemporaryDirectory() as folder:
        made = set()
        for folders, stem, suffix in files:
            parts = [part for part in folders if part not in ("..", "...")] + [stem + suffix]
            path = os.path.join(folder, *parts)
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                Path(path).touch()
            except OSError:  # too long, a folder, or below a file
                continue
            made.add("/".join(parts))
        images = {n for n in made if Path(n).suffix.lower() in IMAGE_SUFFIXES}
        visible = sorted(n for n in images if not any(part.startswith(".") for part in n.split("/")))
        if any(unicodedata.category(letter) == "Cc" for name in visible for letter in name):
            with pytest.raises(InputError, match="control character"):
                list_images(Path(folder))
        elif visible:
            assert list_images(Path(folder)) == visible
        else:
            with pytest.raises(InputError, match="No images"):
                list_images(Path(folder))


@given(match_sets(), st.data())
def test_subsets_keep_what_belongs_together(matches, data):
    n = data.draw(st.integers(0, 6))
    rows = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    features = Features(rows, rows, rows[:, 0], (9, 9), "s")
    mask = data.draw(hnp.arrays(bool, n))
    chosen = features.subset(mask)
    assert np.array_equal(chosen.keypoints, rows[mask])
    assert np.array_equal(chosen.keypoints, chosen.descriptors)
    assert np.array_equal(chosen.scores, chosen.keypoints[:, 0])
    assert features.subset(np.flatnonzero(mask)).digest == chosen.digest
    assert (chosen.digest == features.digest) == bool(mask.all())
