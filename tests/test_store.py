"""The stores behave as dictionaries, keep what they promise, and survive kills, damage and a second process."""

import itertools
import logging
import signal
import struct
import subprocess
import sys
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from lgsfm.errors import CacheError, DamageError, NewerVersionError
from lgsfm.hdf5 import heap_names, one_line
from lgsfm.store import (
    FORMAT,
    FeatureStore,
    MatchStore,
    digest_of,
    is_intact,
    source_of,
    sources_of,
    write_all,
)
from lgsfm.types import Features, Matches

IDENTITY = {"extractor": "sift", "options": {"name": "é 中"}}
ODD_NAMES = ["a-b/c.jpg", "a/b-c.jpg", "a_b.jpg", "a b.jpg", " a.jpg", "a%2Fb.jpg", "a/b.jpg", "a%b.jpg", "é 中 #.jpg"]
ODD_NAMES += ["deep/er/and/deeper.jpg", "%25.jpg", "%.jpg", "tab\t.jpg", "line\n.jpg", "back\\slash.jpg", "e\u0301.jpg"]


def features(n=20, seed=0, dim=16):
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(n, dim)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    keypoints = rng.uniform(0, 9000, (n, 2)).astype(np.float32)
    scores = rng.random(n, np.float32)
    return Features(keypoints, descriptors, scores, (9001, 6000), "sift", orientation=6, source=f"hash {seed}")


def matches(n=20, seed=0):
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, 100_000, (n, 2)).astype(np.int32)  # beyond 16 bits
    return Matches(indices, rng.random(n, np.float32), (f"hash {seed}", "hash b"))


def pair_of(name):
    return name, f"{name}.b"


KINDS = {"features": (FeatureStore, features, str), "matches": (MatchStore, matches, pair_of)}


@pytest.fixture(params=KINDS)
def kind(request):
    """A store's class, a maker of values and a maker of keys from names."""
    return KINDS[request.param]


def same(one, other):
    """Equal but for the half precision of descriptors."""
    for name, value in vars(one).items():
        if name == "descriptors":
            np.testing.assert_allclose(getattr(other, name), value, atol=5e-4)
        else:
            np.testing.assert_array_equal(getattr(other, name), value)
            assert np.asarray(getattr(other, name)).dtype == np.asarray(value).dtype
    return True


def test_behaves_as_a_dictionary(kind, tmp_path):
    make_store, make, key = kind
    first, second, third = map(key, ["b.jpg", "a/b.jpg", "é.jpg"])
    with make_store(tmp_path / "s.h5", IDENTITY) as store:
        for mapping in (store, {}):
            assert (len(mapping), list(mapping), first in mapping) == (0, [], False)
            mapping[first], mapping[second] = make(5), make(6)
            mapping[first] = make(7)  # replaced
            mapping.update({third: make(8)})
            assert {k: len(v) for k, v in mapping.items()} == {first: 7, second: 6, third: 8}
            assert set(mapping.keys()) == {first, second, third}
            del mapping[second]
            assert len(mapping.pop(third)) == 8
            assert mapping.pop(third, None) is None
            assert mapping.get(second) is None
            assert second not in mapping
            assert len(mapping) == 1
            asks = (sources_of,) if make_store is MatchStore else (source_of, digest_of)
            assert [ask(mapping, first) for ask in asks] == [ask({0: make(7)}, 0) for ask in asks]
            assert [ask(mapping, second) for ask in asks] == [None] * len(asks)
            with pytest.raises(KeyError):
                mapping[second]
            with pytest.raises(KeyError):
                del mapping[second]


@pytest.mark.parametrize("n", [0, 1, 300])
def test_what_goes_in_comes_out(kind, n, tmp_path):
    make_store, make, key = kind
    with make_store(tmp_path / "s.h5", IDENTITY) as store:
        store[key("a.jpg")] = make(n)
        assert same(make(n), store[key("a.jpg")])
    with make_store(tmp_path / "s.h5") as store:
        assert same(make(n), store[key("a.jpg")])
        assert store.identity == IDENTITY


def test_odd_names_never_meet(kind, tmp_path):
    make_store, make, key = kind
    expected = {key(name): make(seed=i) for i, name in enumerate(ODD_NAMES)}
    if make_store is MatchStore:
        expected |= {pair: make(seed=99) for pair in itertools.permutations(ODD_NAMES, 2)}
    with make_store(tmp_path / "s.h5", IDENTITY) as store:
        store.update(expected)
        assert set(store) == set(expected)
        assert all(same(value, store[k]) for k, value in expected.items())


def test_the_order_of_a_pair_is_part_of_its_key(tmp_path):
    with MatchStore(tmp_path / "s.h5", IDENTITY) as store:
        store["a", "b"] = matches()
        assert ("b", "a") not in store


def test_hlocs_tools_can_read_the_features(tmp_path):
    with FeatureStore(tmp_path / "s.h5", IDENTITY) as store:
        store["sub/é.jpg"] = features(20, dim=16)
    with h5py.File(tmp_path / "s.h5") as file:
        group = file["sub/é.jpg"]
        np.testing.assert_array_equal(group["keypoints"], features().keypoints)
        np.testing.assert_allclose(group["descriptors"][()].T, features().descriptors, atol=5e-4)
        assert group["descriptors"].shape == (16, 20)
        assert group["scores"].shape == (20,)
        assert group["image_size"][()].tolist() == [9001, 6000]


def test_an_entry_without_the_mark_is_absent_and_written_again(kind, tmp_path):
    make_store, make, key = kind
    with make_store(tmp_path / "s.h5", IDENTITY) as store:
        store[key("a.jpg")], store[key("b.jpg")] = make(), make()
    with h5py.File(tmp_path / "s.h5", "a") as file:
        marked = []
        file.visititems(lambda path, item: marked.append(path) if "complete" in item.attrs else None)
        del file[marked[0]].attrs["complete"]
    with make_store(tmp_path / "s.h5", IDENTITY) as store:
        assert list(store) == [key("b.jpg")]
        assert store.attribute(key("a.jpg"), "source") is None
        store[key("a.jpg")] = make(3)
        assert len(store[key("a.jpg")]) == 3


def test_entries_written_together_are_those_written_one_by_one(kind, tmp_path):
    make_store, make, key = kind
    entries = {key(f"{i}.jpg"): make(5 + i) for i in range(4)}
    with make_store(tmp_path / "s.h5", IDENTITY) as store:
        store[key("1.jpg")] = make(2)
        write_all(store, entries)
        write_all(store, {})
        assert sorted(store) == sorted(entries)
        assert [len(store[name]) for name in entries] == [5, 6, 7, 8]
    plain = {}
    write_all(plain, entries)
    assert plain == entries


def test_nothing_of_entries_written_together_is_there_before_all_are(kind, tmp_path):
    make_store, make, key = kind
    with make_store(tmp_path / "s.h5", IDENTITY) as store:
        with pytest.raises(AttributeError):
            write_all(store, {key("a.jpg"): make(), key("b.jpg"): "no such thing"})
        assert list(store) == []
        assert key("a.jpg") not in store


def test_photos_in_folders_named_like_a_part_of_an_entry_are_listed(tmp_path):
    names = [
        "scores/b.jpg",
        "sub/c.jpg",
        *(f"sub/{part}/a.jpg" for part in FeatureStore.members),
        "sub/scores/scores/d.jpg",
    ]
    with FeatureStore(tmp_path / "s.h5", IDENTITY) as store:
        write_all(store, {name: features() for name in names})
        store.file.create_group("sub/killed.jpg")["scores"] = np.zeros(3)  # the writer was killed
        store.file.create_group("sub/killed earlier.jpg")
        assert set(store) == set(names)
        assert len(store) == len(names)
        unfinished = {path: state for path, state in store.survey() if state is not True}
        assert unfinished == {"sub/killed.jpg": False, "sub/killed earlier.jpg": False}


def test_photos_in_a_folder_named_like_a_photo_are_listed_with_it(tmp_path):
    names = ["a.jpg", "a.jpg/b.jpg", "a.jpg/keypoints.jpg", "c/d/é.jpg", "scores"]
    with FeatureStore(tmp_path / "s.h5", IDENTITY) as store:
        for name in names:
            store[name] = features()
        assert sorted(store) == sorted(names)


def test_memory_does_not_grow_with_the_entries_that_are_read(tmp_path):
    """HDF5 would remember kilobytes of each entry that it has seen."""
    with FeatureStore(tmp_path / "s.h5", IDENTITY) as store:
        value = features(2)
        write_all(store, {f"{i}.jpg": value for i in range(1200)})
    with FeatureStore(tmp_path / "s.h5") as store:
        assert all(len(store[name]) == 2 for name in store)
        assert store.file.id.get_mdc_size()[2] <= 1 << 21


def test_what_was_written_is_put_on_the_disk_now_and_then(tmp_path, monkeypatch):
    """Each time would cost more than writing does; never would lose hours where the power fails."""
    now, synced = [1000.0], []
    monkeypatch.setattr("lgsfm.store.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("lgsfm.store.sync", lambda file: synced.append(now[0]))
    with FeatureStore(tmp_path / "s.h5", IDENTITY) as store:
        for seconds in (1, 5, 9, 11, 12, 20, 22, 23):
            now[0] = 1000.0 + seconds
            store[f"{seconds}.jpg"] = features(2)
        assert synced == [1011, 1022]
    assert synced == [1011, 1022, 1023]  # and at the end


# --- trouble with the file -----------------------------------------------------------------------------


def in_child(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


def test_a_second_process_is_told(tmp_path):
    code = """
import sys
from lgsfm import hdf5
from lgsfm.errors import InUseError
from lgsfm.store import FeatureStore
hdf5.WAIT_S = 0
for identity in ({}, None):
    try:
        FeatureStore(sys.argv[1], identity)
    except InUseError as exc:
        print(exc)
"""
    with FeatureStore(tmp_path / "s.h5", IDENTITY) as store:
        store["a.jpg"] = features()
        done = in_child(code, tmp_path / "s.h5")
        assert done.stdout.count("is in use by another process") == 2, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]  # nothing was set aside


def test_a_store_open_for_reading_is_not_taken_for_damaged(tmp_path):
    with FeatureStore(tmp_path / "s.h5", IDENTITY) as store:
        store["a.jpg"] = features()
    with FeatureStore(tmp_path / "s.h5") as reader:
        with pytest.raises(CacheError, match="Close that store first"):
            FeatureStore(tmp_path / "s.h5", IDENTITY)
        assert same(features(), reader["a.jpg"])
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"garbage" * 500])
def test_a_damaged_file_is_set_aside(damage, tmp_path, caplog):
    path = tmp_path / "s.h5"
    for _ in range(2):
        with FeatureStore(path, IDENTITY) as store:
            store["a.jpg"] = features()
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(CacheError, match="lgsfm cache repair"):
            FeatureStore(path)  # a reader changes nothing
        with caplog.at_level(logging.WARNING), FeatureStore(path, IDENTITY) as store:
            assert len(store) == 0
    assert "s.h5 is damaged" in caplog.text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.damaged", "s.damaged-1", "s.h5"]


def test_a_file_cut_anywhere_is_a_cache_error(tmp_path):
    """A tail that was never written gives a `CacheError` or whole entries, never another error."""
    path = tmp_path / "s.h5"
    with FeatureStore(path, IDENTITY) as store:
        store.update({f"{i}.jpg": features(5, i) for i in range(5)})
    data, found = path.read_bytes(), 0
    for size in range(96, len(data), len(data) // 40):
        path.write_bytes(data[:size])
        try:
            with FeatureStore(path) as store:
                assert all(len(store[name]) == 5 and digest_of(store, name) == store[name].digest for name in store)
        except CacheError:
            found += 1
    assert found


def test_a_newer_format_is_refused(tmp_path):
    FeatureStore(tmp_path / "s.h5", IDENTITY).close()
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file.attrs["lgsfm_format"] = FORMAT + 1
    for identity in (None, IDENTITY):
        with pytest.raises(NewerVersionError, match=r"newer lgsfm .* Update this one"):
            FeatureStore(tmp_path / "s.h5", identity)


def test_the_other_kind_of_store_is_refused(tmp_path):
    MatchStore(tmp_path / "m.h5", IDENTITY).close()
    for identity in (None, IDENTITY):
        with pytest.raises(CacheError, match="is a MatchStore, not a FeatureStore"):
            FeatureStore(tmp_path / "m.h5", identity)


def test_a_missing_file_or_folder_is_a_cache_error(tmp_path):
    for path, identity in [(tmp_path / "no.h5", None), (tmp_path / "no" / "s.h5", IDENTITY), (tmp_path, IDENTITY)]:
        with pytest.raises(CacheError, match="cannot be opened"):
            FeatureStore(path, identity)
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
import numpy as np
from lgsfm.store import FeatureStore
from lgsfm.types import Features
n = 2000
value = Features(np.ones((n, 2), np.float32), np.ones((n, 64), np.float32), np.ones(n, np.float32), (9, 9), "sift")
with FeatureStore(sys.argv[1], {}) as store:
    for number in range(10_000):
        store[f"{number % 30}.jpg"] = value  # after a while, entries are replaced
        print(number, flush=True)
"""


def test_kill_9_loses_no_finished_entry(tmp_path):
    for round_number in range(4):
        path = tmp_path / f"{round_number}.h5"
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        finished = -1
        while finished < 5 + 15 * round_number:
            finished = int(writer.stdout.readline())
        time.sleep(0.0007 * round_number)  # somewhere inside the next entry
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split()
        finished = int(rest[-1]) if rest and rest[-1].isdigit() else finished
        being_written = f"{(finished + 1) % 30}.jpg"
        with FeatureStore(path, {}) as store:
            for number in range(min(finished + 1, 30)):
                assert f"{number}.jpg" == being_written or (store[f"{number}.jpg"].keypoints == 1).all()
            store["new.jpg"] = features()
            assert same(features(), store["new.jpg"])
        assert not list(tmp_path.glob("*.damaged"))


# --- damage inside -------------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", [b"SNOD", b"TREE", b"HEAP"])
def test_damage_inside_is_one_line_that_says_what_to_do(tmp_path, signature):
    path = tmp_path / "s.h5"
    with FeatureStore(path, IDENTITY) as store:
        store["a.jpg"] = features()
    path.write_bytes(path.read_bytes().replace(signature, b"XXXX"))

    def read_all():
        with FeatureStore(path) as store:
            for name in store:
                assert store[name].digest

    with pytest.raises(CacheError) as caught:
        read_all()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 350 + len(str(path))
    assert str(path) in str(caught.value)
    assert "lgsfm cache repair" in str(caught.value)


@pytest.mark.parametrize("signature", [b"SNOD", b"TREE"])
def test_names_are_found_in_a_file_whose_tables_are_torn(tmp_path, signature):
    path = tmp_path / "s.h5"
    names = ["a.jpg", "b c.jpg", "sub/d.jpg"]  # of others HDF5 keeps no heap
    with FeatureStore(path, IDENTITY) as store:
        write_all(store, {name: features(3) for name in names})
    path.write_bytes(path.read_bytes().replace(signature, b"XXXX"))
    found = heap_names(path)
    assert {"a.jpg", "b c.jpg", "sub", "d.jpg"} <= set(found)
    assert len(found) == len(set(found))
    assert all(name and "/" not in name and name.isprintable() for name in found)


def test_texts_that_can_be_no_names_are_left_out(tmp_path):
    texts = b"a.jpg\0\0folder/b.jpg\0line\n.jpg\0\xff.jpg\0c.jpg\0"
    header = b"HEAP" + b"\0" * 4 + struct.pack("<QQQ", len(texts), 0, 40) + b"\0" * 8
    (tmp_path / "s.h5").write_bytes(header + texts)
    assert heap_names(tmp_path / "s.h5") == ["a.jpg", "c.jpg"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:900]), r"it is cut off, 900 of \d+ bytes are there\. "),
        (lambda path: path.write_bytes(b"a text"), "it is no file of HDF5, or its beginning is damaged. "),
        (lambda path: path.unlink(), r"cannot be opened: No such file or directory\. Check the path"),
        (lambda path: (path.unlink(), path.mkdir()), r"cannot be opened: Is a directory\. Move away what is there"),
    ],
)
def test_errors_are_in_words_of_people_and_give_one_advice(change, words, tmp_path):
    path = tmp_path / "s.h5"
    with FeatureStore(path, IDENTITY) as store:
        store["a.jpg"] = features()
    change(path)
    with pytest.raises(CacheError, match=words) as caught:
        FeatureStore(path)
    assert "nable to" not in str(caught.value)
    assert isinstance(caught.value, DamageError) == ("cache repair" in str(caught.value))


def test_a_long_report_of_hdf5_becomes_one_short_line():
    text = one_line(OSError("Can't read data\n  (file read failed:\n" + "errno = 5, " * 100))
    assert text.startswith("Can't read data (file read failed: errno = 5,")
    assert len(text) < 170
    assert "\n" not in text


def test_an_entry_whose_data_changed_is_not_intact(tmp_path):
    path = tmp_path / "s.h5"
    with FeatureStore(path, IDENTITY) as store:
        store["a.jpg"], store["b.jpg"] = features(), features(seed=1)
        assert is_intact(store, "a.jpg")
        assert not is_intact(store, "c.jpg")
        store.file["a.jpg/keypoints"][3, 0] += 1
        assert not is_intact(store, "a.jpg")
        assert is_intact(store, "b.jpg")
        del store.file["b.jpg/scores"]
        assert not is_intact(store, "b.jpg")
    assert is_intact({"a.jpg": features()}, "a.jpg")


FULL = """
import resource, sys
import numpy as np
from lgsfm.errors import CacheError
from lgsfm.store import FeatureStore
from lgsfm.types import Features
n = int(sys.argv[2])
value = Features(np.ones((n, 2), np.float32), np.ones((n, 64), np.float32), np.ones(n, np.float32), (9, 9), "sift")
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
try:
    with FeatureStore(sys.argv[1], {}) as store:
        for number in range(10_000):
            store[f"{number}.jpg"] = value
            print(number)
except CacheError as exc:
    print(exc)
"""


@pytest.mark.parametrize("n", [1, 200, 2000])
def test_where_the_disk_ends_what_was_finished_is_kept(n, tmp_path):
    """HDF5 itself loses the file then, and ends the process."""
    pytest.importorskip("resource")
    ended = in_child(FULL, tmp_path / "s.h5", n)
    *numbers, message = ended.stdout.splitlines()
    assert ended.returncode == 0, ended.stderr
    assert "cannot be written" in message
    assert "Free some disk space" in message
    with FeatureStore(tmp_path / "s.h5") as store:
        assert len(store) == len(numbers) > 0
        assert all(len(store[name]) == n for name in store)


def test_any_change_of_an_entry_is_noticed(kind, tmp_path):
    """Of its arrays, its attributes and its name."""
    make_store, make, key = kind
    path = tmp_path / "s.h5"
    names = [f"{i}.jpg" for i in range(4)]
    with make_store(path, IDENTITY) as store:
        store.update({key(name): make() for name in names})
        group = store.file[store._path(key(names[0]))]
        group["scores"][0] += np.float32(0.25)
        source = "source" if make_store is FeatureStore else "source0"
        store.file[store._path(key(names[1]))].attrs[source] = np.bytes_(b"another")
        store.file.move(store._path(key(names[2])), store._path(key("other.jpg")))
    with make_store(path) as store:
        for name in (names[0], names[1], "other.jpg"):
            with pytest.raises(DamageError, match="its content is not what was written"):
                store[key(name)]
        assert set(store.damaged.values()) == {"its content is not what was written"}  # for `lgsfm cache verify`
        assert same(make(), store[key(names[3])])


def test_entries_of_older_versions_are_used_as_they_are(kind, tmp_path):
    make_store, make, key = kind
    with make_store(tmp_path / "s.h5", IDENTITY) as store:
        store[key("a.jpg")] = make()
        store.file[store._path(key("a.jpg"))].attrs["complete"] = True
    with make_store(tmp_path / "s.h5") as store:
        assert same(make(), store[key("a.jpg")])
        assert not store.is_checkable(key("a.jpg"))
