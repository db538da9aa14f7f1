"""A store is a dictionary, whatever is done to it, and also once it has been closed and opened again."""

import tempfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from strategies import NAMES, PARTS, PHOTOS, feature_sets, match_sets

from lgsfm.store import (
    FeatureStore,
    MatchStore,
    digest_of,
    is_intact,
    num_keypoints,
    orientation_of,
    source_of,
    sources_of,
    write_all,
)
from lgsfm.types import canonical_pair

FIELDS = {
    FeatureStore: ("keypoints", "descriptors", "scores", "image_size", "extractor", "orientation", "source", "digest"),
    MatchStore: ("indices", "scores", "sources"),
}


def same(kind, first, second) -> bool:
    """Whether two values are the same to the bit, in their types too."""
    for name in FIELDS[kind]:
        a, b = getattr(first, name), getattr(second, name)
        if isinstance(a, np.ndarray):
            if (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes()):
                return False
        elif a != b:
            return False
    return True


class StoreMachine(RuleBasedStateMachine):
    """Writes, deletes, closes and opens at random; a dictionary says what must be there."""

    kind: type
    values: st.SearchStrategy
    keys = Bundle("keys")

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.model: dict = {}
        self.open()

    def open(self):
        self.store = self.kind(Path(self.folder.name) / "store.h5", {"made": "by a test"})

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    def may_be(self, key) -> bool:
        """Whether a photo may have this name beside those that are there: no file is a folder too."""
        return True

    @rule(data=st.data(), key=keys)
    def write(self, data, key):
        assume(self.may_be(key))
        value = data.draw(self.values)
        self.store[key] = value
        self.model[key] = value

    @rule(data=st.data(), chosen=st.lists(keys, max_size=3, unique=True))
    def write_several(self, data, chosen):
        entries = {}
        for key in chosen:
            assume(self.may_be(key) and all(not conflict(key, other) for other in entries))
            entries[key] = data.draw(self.values)
        write_all(self.store, entries)
        self.model.update(entries)

    @rule(key=keys)
    def delete(self, key):
        if key in self.model:
            del self.store[key], self.model[key]
        else:
            with pytest.raises(KeyError):
                del self.store[key]

    @rule(key=keys)
    def look(self, key):
        assert (key in self.store) == (key in self.model)
        if key in self.model:
            assert same(self.kind, self.store[key], self.model[key])
        else:
            assert self.store.get(key) is None
        self.look_without_data(key)

    def look_without_data(self, key):
        raise NotImplementedError

    @rule()
    def close_and_open(self):
        self.store.close()
        self.open()

    @rule()
    def read_only(self):
        self.store.close()
        with self.kind(Path(self.folder.name) / "store.h5") as store:
            assert set(store) == set(self.model)
            assert store.identity == {"made": "by a test"}
        self.open()

    @invariant()
    def has_the_keys(self):
        if hasattr(self, "store"):
            listed = list(self.store)
            assert len(listed) == len(self.store) == len(self.model)
            assert set(listed) == set(self.model)


def conflict(name0, name1) -> bool:
    """Whether one name lies below the other."""
    return isinstance(name0, str) and (f"{name0}/".startswith(f"{name1}/") or f"{name1}/".startswith(f"{name0}/"))


class FeatureStoreMachine(StoreMachine):
    kind = FeatureStore
    values = feature_sets()

    def may_be(self, key):
        return all(key == other or not conflict(key, other) for other in self.model)

    @rule(target=StoreMachine.keys, name=st.one_of(NAMES, PHOTOS))
    def name(self, name):
        return name

    @rule(target=StoreMachine.keys, key=StoreMachine.keys, part=PARTS)
    def below(self, key, part):
        return f"{key}/{part}"

    @rule(target=StoreMachine.keys, key=StoreMachine.keys, part=PARTS)
    def beside(self, key, part):
        return str(PurePosixPath(key).with_name(part))

    def look_without_data(self, key):
        for ask in (digest_of, num_keypoints, orientation_of, source_of, is_intact):
            assert ask(self.store, key) == ask(self.model, key)


class MatchStoreMachine(StoreMachine):
    kind = MatchStore
    values = match_sets()

    @rule(target=StoreMachine.keys, name0=NAMES, name1=NAMES)
    def names(self, name0, name1):
        return name0, name1

    @rule(target=StoreMachine.keys, key=StoreMachine.keys)
    def reversed(self, key):
        return key[::-1]

    @rule(target=StoreMachine.keys, key=StoreMachine.keys, other=StoreMachine.keys)
    def crossed(self, key, other):
        return canonical_pair(key[0], other[1])

    @rule(target=StoreMachine.keys, key=StoreMachine.keys)
    def shifted(self, key):
        """The first folder moved to the other name: the same text, if it were simply joined."""
        first, _, rest = key[1].partition("/")
        return (f"{key[0]}/{first}", rest) if rest else key

    def look_without_data(self, key):
        assert sources_of(self.store, key) == sources_of(self.model, key)


TestFeatureStore = FeatureStoreMachine.TestCase
TestMatchStore = MatchStoreMachine.TestCase
for case in (TestFeatureStore, TestMatchStore):
    case.settings = settings(settings.default, max_examples=settings.default.max_examples // 2, stateful_step_count=25)


@given(st.dictionaries(PHOTOS, feature_sets(), max_size=5))
def test_a_feature_store_lists_each_folder_in_the_order_of_its_names(entries):
    with tempfile.TemporaryDirectory() as folder, FeatureStore(Path(folder) / "f.h5", {}) as store:
        chosen = {}
        for name, value in entries.items():
            if not any(conflict(name, other) for other in chosen):
                chosen[name] = value
        write_all(store, chosen)
        assert list(store) == sorted(chosen, key=lambda name: [part.encode() for part in name.split("/")])
