"""The matching stage with dictionaries for stores and a matcher that is a plain function of the features."""

import threading
from itertools import combinations

import numpy as np
import pytest

from lgsfm.errors import InputError, MemoryShortageError
from lgsfm.matchers import check_kind
from lgsfm.matching import PREPARED_IMAGES, in_blocks, match_features
from lgsfm.types import Features, Matches


def features(number, source=None):
    """One keypoint, whose descriptor is the number."""
    descriptors = np.array([[number]], np.float32)
    source = f"hash {number}" if source is None else source
    return Features(np.zeros((1, 2), np.float32), descriptors, np.ones(1, np.float32), (9, 9), "toy", source=source)


class ToyMatcher:
    """One match (number of image 0, number of image 1); counts its calls."""

    def __init__(self, kind="toy"):
        self.kind = kind
        self.prepared, self.matched = 0, 0

    def prepare(self, features):
        check_kind(features, self.kind, "toy")
        self.prepared += 1
        return int(features.descriptors[0, 0]), features.digest

    def match_prepared(self, prepared0, prepared1):
        self.matched += 1
        indices = np.array([[prepared0[0], prepared1[0]]], np.int32)
        return Matches(indices, np.ones(1, np.float32), (prepared0[1], prepared1[1]))


def collection(count):
    return {f"{i:04}.jpg": features(i) for i in range(count)}


def run(features, pairs, store, **options):
    matcher = ToyMatcher()
    return match_features(features, pairs, matcher, store, **options), matcher


def content(store):
    return {pair: (found.indices.tolist(), found.sources) for pair, found in store.items()}


def test_each_pair_gets_the_matches_of_its_images():
    images, store = collection(5), {}
    pairs = list(combinations(images, 2))
    report, _ = run(images, pairs, store)
    assert sorted(report.computed) == pairs
    expected = {(a, b): ([[int(a[:4]), int(b[:4])]], (images[a].digest, images[b].digest)) for a, b in pairs}
    assert content(store) == expected


def test_a_second_run_computes_nothing():
    images, store = collection(5), {}
    pairs = list(combinations(images, 2))
    run(images, pairs, store)
    calls = []
    report, matcher = run(images, pairs, store, progress=lambda *call: calls.append(call))
    assert (report.reused, report.computed) == (pairs, [])
    assert (matcher.prepared, matcher.matched, calls) == (0, 0, [])


def test_pairs_of_a_changed_image_are_matched_again():
    images, store = collection(4), {}
    pairs = list(combinations(images, 2))
    run(images, pairs, store)
    images["0002.jpg"] = features(77)
    report, _ = run(images, pairs, store)
    assert sorted(report.computed) == [pair for pair in pairs if "0002.jpg" in pair]
    assert store["0002.jpg", "0003.jpg"].indices.tolist() == [[77, 3]]


def test_other_features_of_the_same_photo_are_matched_again():
    images, store = {"a": features(1, ""), "b": features(2, "")}, {}
    run(images, [("a", "b")], store)
    images["b"] = features(3, "")
    report, _ = run(images, [("a", "b")], store)
    assert report.computed == [("a", "b")]
    assert store["a", "b"].indices.tolist() == [[1, 3]]


def test_a_pair_without_features_is_skipped_and_its_old_matches_go():
    """Else the database stage would find matches of an image that it does not have."""
    images, store = collection(3), {}
    pairs = list(combinations(images, 2))
    run(images, pairs, store)
    del images["0001.jpg"]
    report, _ = run(images, pairs, store)
    assert report.skipped == [("0000.jpg", "0001.jpg"), ("0001.jpg", "0002.jpg")]
    assert list(store) == [("0000.jpg", "0002.jpg")]


def test_the_order_of_pairs_does_not_matter():
    images, one, other = collection(12), {}, {}
    pairs = list(combinations(images, 2))
    run(images, pairs, one)
    run(images, pairs[::-1], other)
    assert content(one) == content(other)


def test_progress_begins_at_what_is_done_and_ends_at_the_total():
    images, store, calls = collection(5), {}, []
    pairs = list(combinations(images, 2))
    run(images, pairs[:4], store)
    run(images, pairs, store, progress=lambda *call: calls.append(call))
    assert calls == [(done, 10) for done in range(4, 11)]


def test_progress_does_not_count_pairs_that_are_skipped():
    images, store, calls = collection(3), {}, []
    pairs = [*combinations(images, 2), ("0000.jpg", "missing.jpg")]
    report, _ = run(images, pairs, store, progress=lambda *call: calls.append(call))
    assert report.skipped == pairs[-1:]
    assert calls == [(done, 3) for done in range(4)]


def test_what_was_finished_before_an_error_stays():
    images, store = collection(5), {}
    pairs = list(combinations(images, 2))

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, pairs, store, progress=stop)
    assert len(store) == 4
    report, _ = run(images, pairs, store)
    assert (len(report.reused), len(report.computed)) == (4, 6)


def test_features_of_another_kind_are_refused():
    with pytest.raises(InputError, match="made for sift features but got toy features"):
        match_features(collection(2), [("0000.jpg", "0001.jpg")], ToyMatcher("sift"), {})


@pytest.mark.parametrize(
    ("count", "reach", "most"),
    [
        (PREPARED_IMAGES, 999, 1.0),  # all fit into memory: once each
        (200, 999, 2.5),
        (500, 10, 1.01),  # neighbours only, as in a video
    ],
)
def test_images_are_prepared_about_once(count, reach, most):
    images = collection(count)
    names = list(images)
    pairs = [(names[i], name) for i in range(count) for name in names[i + 1 : i + 1 + reach]]
    _, matcher = run(images, pairs, {})
    assert matcher.matched == len(pairs)
    assert count <= matcher.prepared <= most * count


def test_features_are_read_ahead_of_the_matcher():
    """By the thread that reads ahead: who matches does not wait for the disk."""

    class Watched(dict):
        def __getitem__(self, name):
            readers.append((name, threading.current_thread().name.startswith("read-ahead")))
            return super().__getitem__(name)

    images, readers = Watched(collection(8)), []
    run(images, list(combinations(images, 2)), {}, batch_size=4)
    assert {name for name, is_ahead in readers if is_ahead} == {
        *images
    }  # twice where a batch began before it was there
    assert sorted(name for name, is_ahead in readers if not is_ahead) == sorted(images)  # for their hashes


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_blocks_are_a_permutation(size):
    pairs = [(f"{i}", f"{j}") for i, j in np.random.default_rng(0).integers(0, 30, (100, 2))]
    assert sorted(in_blocks(pairs, size)) == sorted(pairs)
    assert in_blocks(pairs[::-1], size) == in_blocks(pairs, size)


# --- batches -------------------------------------------------------------------------------------------
class BatchMatcher(ToyMatcher):
    """Takes several pairs at once, but no more than ``memory``."""

    def __init__(self, batch_size, memory=1000):
        super().__init__()
        self.batch_size, self.memory, self.batches = batch_size, memory, []

    def match_batch(self, pairs):
        if len(pairs) > self.memory:
            raise MemoryShortageError("no memory")
        self.batches.append(len(pairs))
        return [self.match_prepared(*pair) for pair in pairs]


def test_a_negative_batch_is_an_error():
    with pytest.raises(InputError, match="batch_size"):
        run(collection(3), [("0000.jpg", "0001.jpg")], {}, batch_size=-1)


@pytest.mark.parametrize("own", [0, None])
def test_a_matcher_that_names_no_batch_gets_single_pairs(own):
    matcher, images = BatchMatcher(own), collection(3)
    match_features(images, list(combinations(images, 2)), matcher, {})
    assert matcher.batches == [1, 1, 1]


@pytest.mark.parametrize(("asked", "own"), [(0, 4), (4, 1), (100, 1), (1, 100)])
def test_batches_give_what_the_loop_gives(asked, own):
    images, alone, together = collection(9), {}, {}
    pairs = list(combinations(images, 2))
    run(images, pairs, alone)
    matcher = BatchMatcher(own)
    report = match_features(images, pairs, matcher, together, batch_size=asked)
    assert content(together) == content(alone)
    assert sorted(report.computed) == pairs
    size = asked or own
    assert matcher.batches == [min(size, 36 - i) for i in range(0, 36, size)]


def test_a_batch_that_does_not_fit_is_halved_once_and_for_all(caplog):
    images, store = collection(9), {}
    pairs = list(combinations(images, 2))
    matcher = BatchMatcher(16, memory=5)
    calls = []
    match_features(images, pairs, matcher, store, progress=lambda *call: calls.append(call))
    assert sorted(store) == pairs
    assert max(matcher.batches) == 4
    assert [record.message.split(":")[0] for record in caplog.records] == ["Memory is short"] * 2  # 16 -> 8 -> 4
    assert calls == [(i, 36) for i in range(0, 37, 4)]  # once per batch


def test_a_single_pair_that_does_not_fit_is_an_error_and_what_is_finished_stays():
    class Shrinking(BatchMatcher):
        def match_batch(self, pairs):
            self.memory = 0 if len(self.batches) == 3 else 1000
            return super().match_batch(pairs)

    images, store = collection(9), {}
    with pytest.raises(MemoryShortageError):
        match_features(images, list(combinations(images, 2)), Shrinking(2), store)
    assert len(store) == 6
