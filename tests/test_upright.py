"""Photos that lie on their side: found by the votes of the others, and only then."""

import numpy as np
import pytest
from PIL import Image

from lgsfm.errors import InputError
from lgsfm.exif import stored_to_upright, turn_upright, turned_clockwise
from lgsfm.extraction import extract_features
from lgsfm.types import Features
from lgsfm.upright import Orientations, ballot, find_turns, vote


def unit_rows(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


class World:
    """A place of 700 points; a photo sees some of them, and describes them as it is turned."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.rng = rng
        self.looks = [unit_rows(rng.normal(size=(700, 64))) for _ in range(4)]  # one description for each turn

    def photo(self, turn=0, share=0.7):
        """Features of a photo whose world is turned clockwise by quarters."""
        seen = self.rng.permutation(700)[: round(700 * share)]
        descriptors = unit_rows(self.looks[turn % 4][seen] + self.rng.normal(0, 0.05, (len(seen), 64)))
        points = self.rng.uniform(0, 400, (len(seen), 2)).astype(np.float32)
        return Features(points, descriptors, self.rng.uniform(0, 1, len(seen)).astype(np.float32), (400, 400), "aliked")


def pairs_of(names):
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


def collection(turns, world=None):
    """Features of photos lying as told, how to look at them again, and a log of the looks."""
    world = world or World()
    features = {name: world.photo(turn) for name, turn in turns.items()}
    looked = []

    def look(name, turn):
        looked.append(name)
        return world.photo(turns[name] + turn)

    return features, look, looked


def test_an_upright_collection_costs_no_look():
    features, look, looked = collection(dict.fromkeys("abcde", 0))
    assert find_turns("abcde", features, pairs_of("abcde"), look) == {}
    assert looked == []


@pytest.mark.parametrize("lies", [1, 2, 3])
def test_a_photo_that_lies_is_turned_back(lies):
    features, look, looked = collection({"a": 0, "b": 0, "c": lies, "d": 0})
    assert find_turns("abcd", features, pairs_of("abcd"), look) == {"c": 4 - lies}
    assert set(looked) == {"c"}
    assert len(looked) == 3


def test_the_majority_decides_what_is_up():
    features, look, _ = collection({"a": 1, "b": 1, "c": 1, "d": 0, "e": 2})
    assert find_turns("abcde", features, pairs_of("abcde"), look) == {"d": 1, "e": 3}


def test_a_group_that_lies_is_turned_by_three_looks():
    features, look, looked = collection({"a": 0, "b": 0, "c": 0, "d": 3, "e": 3})
    assert find_turns("abcde", features, pairs_of("abcde"), look) == {"d": 1, "e": 1}
    assert len(looked) == 3


def test_a_photo_of_another_place_stays_as_it_is():
    features, look, _ = collection(dict.fromkeys("abc", 0))
    elsewhere = World(1)
    features["d"] = elsewhere.photo()

    def look_elsewhere(name, turn):
        return elsewhere.photo(turn) if name == "d" else look(name, turn)

    assert find_turns("abcd", features, pairs_of("abcd"), look_elsewhere) == {}


def test_photos_without_keypoints_do_no_harm():
    features, look, _ = collection({"a": 0, "b": 0, "c": 2})
    nothing = Features(
        np.zeros((0, 2), np.float32), np.zeros((0, 64), np.float32), np.zeros(0, np.float32), (400, 400), "aliked"
    )
    features["d"] = nothing
    found = find_turns(
        "abcd", features, pairs_of("abcd"), lambda name, turn: nothing if name == "d" else look(name, turn)
    )
    assert found == {"c": 2}
    assert find_turns("", {}, [], look) == {}


def test_strangers_have_few_votes_and_friends_many():
    world = World()
    friends = vote(ballot(world.photo()), ballot(world.photo()))
    strangers = vote(ballot(world.photo()), ballot(World(1).photo()))
    assert friends.is_sure
    assert not strangers.is_sure
    assert friends.mutual > 4 * strangers.mutual


def test_the_view_with_fewer_keypoints_says_how_many_votes_are_sure():
    rng = np.random.default_rng(0)

    def of(count):
        descriptors = unit_rows(rng.normal(size=(count, 16))).astype(np.float32)
        return ballot(
            Features(np.zeros((count, 2), np.float32), descriptors, np.ones(count, np.float32), (9, 9), "toy")
        )

    few, many = of(250), of(500)
    assert vote(few, many).sure == vote(many, few).sure == 30  # 12 % of 250
    assert vote(of(10), many).sure == 20


def test_a_view_of_no_orientation_is_an_error():
    with pytest.raises(InputError, match="1 to 8, not 9"):
        turned_clockwise(9, 1)


def test_codes_of_turned_views(texture):
    image = texture(32, 20, 0)
    for code in range(1, 9):
        view = turn_upright(image, code)
        for turn in range(-1, 6):
            expected = np.rot90(view, -turn)  # rot90 turns the other way
            assert np.array_equal(turn_upright(image, turned_clockwise(code, turn)), expected)


class Record:
    """Orientations of a folder of photos."""

    def __init__(self, folder, texture):
        self.folder, self.record = folder, folder / "upright.json"
        for name in ("a.png", "b.png"):
            Image.fromarray(texture(64, 48, ord(name[0]))).save(folder / name)

    def orientations(self, mode="auto"):
        return Orientations(self.folder, ["a.png", "b.png"], mode, self.record)


def test_turns_are_remembered_until_the_file_changes(tmp_path, texture):
    record = Record(tmp_path, texture)
    orientations = record.orientations()
    assert orientations.views == {"a.png": 1, "b.png": 1}
    orientations.turn({"b.png": 1})
    assert record.orientations().views == {"a.png": 1, "b.png": 6}
    assert record.orientations("exif").views == {"a.png": 1, "b.png": 1}
    orientations.turn({"b.png": 3})
    assert record.orientations().turns == {}
    orientations.turn({"b.png": 2})
    Image.fromarray(texture(64, 48, 99)).save(tmp_path / "b.png")
    assert record.orientations().turns == {}


def test_a_vote_counts_for_the_features_that_took_part(tmp_path, texture):
    record, world = Record(tmp_path, texture), World()
    features = {"a.png": world.photo(), "b.png": world.photo()}
    record.orientations().settle(features, ["a.png", "b.png"])
    assert record.orientations().are_settled(features, ["a.png", "b.png"])
    assert not record.orientations().are_settled({**features, "b.png": world.photo()}, ["a.png", "b.png"])
    assert not record.orientations().are_settled(features, ["a.png"])
    record.record.write_text("damaged")
    assert not record.orientations().are_settled(features, ["a.png", "b.png"])


def test_off_ignores_exif(tmp_path, texture, save_photo):
    save_photo(tmp_path / "a.png", texture(64, 48, 0), 6)
    for mode, code in (("auto", 6), ("exif", 6), ("off", 1)):
        assert Orientations(tmp_path, ["a.png"], mode, tmp_path / "r.json").views == {"a.png": code}


class Corner:
    """An extractor that marks the top-left corner of what it sees."""

    kind = "corner"
    options = type("Options", (), {"max_edge_px": 0})

    def extract(self, photo):
        point = photo.to_stored(np.array([[3, 5]], np.float32))
        return Features(
            point,
            np.ones((1, 4), np.float32) / 2,
            np.ones(1, np.float32),
            photo.size,
            "corner",
            photo.orientation,
            photo.digest,
        )


def test_features_of_a_turned_view_lie_in_the_stored_photo(tmp_path, texture):
    Image.fromarray(texture(64, 48, 0)).save(tmp_path / "a.png")
    store = {}
    for code in (1, 6, 3, 8, 5):
        report = extract_features(tmp_path, ["a.png"], Corner(), store, orientations={"a.png": code})
        assert report.computed == ["a.png"]  # another view is another entry
        assert store["a.png"].orientation == code
        seen = stored_to_upright(store["a.png"].keypoints, (64, 48), code)
        assert np.allclose(seen, [[3, 5]])
        assert extract_features(tmp_path, ["a.png"], Corner(), store, orientations={"a.png": code}).computed == []
