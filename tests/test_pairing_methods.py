"""Each method of pair selection on collections that are made up, so that the pairs are known."""

import re
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from lgsfm.errors import InputError
from lgsfm.exif import GpsPosition
from lgsfm.matchers.nearest import NearestMatcher, NearestOptions
from lgsfm.pairing import (
    METHODS,
    Collection,
    PairOptions,
    check_choice,
    natural_key,
    num_rounds,
    prematch,
    ranking,
    select,
    select_pairs,
    similar_pairs,
)
from lgsfm.pairing.auto import choose
from lgsfm.pairing.covisibility import names_in_collection
from lgsfm.pairing.options import NAMES
from lgsfm.pairing.prematch import strongest
from lgsfm.pairing.ranking import best_partners
from lgsfm.pairing.spatial import earth_centred_m
from lgsfm.poses import count_shared_points, read_shared_points
from lgsfm.retrievers.vlad import VladOptions, VladRetriever
from lgsfm.types import Features, Matches

GPS = ExifTags.GPS
ALONE = [method for method in METHODS if method != "transitive"]  # which begins with what the others select
LATITUDE_DEG_PER_M = 1 / 111_320.0


def photo(
    path: Path,
    *,
    place: tuple[float, float] | None = None,
    altitude_m: float | None = None,
    taken: datetime | None = None,
) -> None:
    """A small JPEG, taken at (north, east) [m] of 47° N, 8° E."""
    exif = Image.Exif()
    if place is not None:
        latitude = 47 + place[0] * LATITUDE_DEG_PER_M
        longitude = 8 + place[1] * LATITUDE_DEG_PER_M / np.cos(np.radians(47))
        exif[ExifTags.IFD.GPSInfo] = {
            GPS.GPSLatitudeRef: "N",
            GPS.GPSLatitude: (int(latitude), 0.0, latitude % 1 * 3600),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: (int(longitude), 0.0, longitude % 1 * 3600),
        } | ({} if altitude_m is None else {GPS.GPSAltitude: altitude_m})
    if taken is not None:
        exif[ExifTags.IFD.Exif] = {ExifTags.Base.DateTimeOriginal: taken.strftime("%Y:%m:%d %H:%M:%S")}
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 24)).save(path, exif=exif)


def scenes(count=4, views=3, keypoints=120, seed=0):
    """Images of some scenes; those of one scene have the same descriptors but for noise, in names that mix scenes."""
    rng = np.random.default_rng(seed)
    things = rng.normal(size=(count, keypoints, 32))
    images = {}
    for view in range(views):
        for scene in range(count):
            seen = things[scene] + 0.1 * rng.normal(size=(keypoints, 32))
            seen = (seen / np.linalg.norm(seen, axis=1, keepdims=True)).astype(np.float32)
            places = rng.uniform(0, 99, (keypoints, 2)).astype(np.float32)
            scores = np.linspace(0, 1, keypoints, dtype=np.float32)
            images[f"{view}-{scene}.jpg"] = Features(places, seen, scores, (100, 100), "sift")
    return images


def matched(count):
    return Matches(np.repeat(np.arange(count, dtype=np.int32)[:, None], 2, axis=1), np.ones(count, np.float32))


def model_that_sees(points: dict[str, set[int]]):
    """A COLMAP model in which each image sees the 3D points of these numbers."""
    pycolmap = pytest.importorskip("pycolmap")
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", 50, 100, 100))
    for number, (name, seen) in enumerate(points.items(), start=1):
        image = pycolmap.Image(name, np.zeros((len(seen), 2)), 1, number)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    for point in sorted(set().union(*points.values())):
        track = pycolmap.Track()
        for number, seen in enumerate(points.values(), start=1):
            if point in seen:
                track.add_element(number, sorted(seen).index(point))
        model.add_point3D(np.array([0.0, 0.0, 1.0]), track, np.zeros(3, np.uint8))
    return model


# --- what holds for all --------------------------------------------------------------------------------


@pytest.fixture
def everything(tmp_path):
    """All that any method may ask for, of 12 photos."""
    features = scenes()
    for i, name in enumerate(features):
        photo(tmp_path / "images" / name, place=(30.0 * i, 0))
    model_that_sees({name: {i, i + 1, i + 2} for i, name in enumerate(features)}).write(make(tmp_path / "model"))
    known = {
        "features": features,
        "image_dir": tmp_path / "images",
        "retriever": VladRetriever(VladOptions(words=8)),
        "matcher": NearestMatcher(NearestOptions(), "cpu", None, "sift"),
        "matches": {pair: matched(40) for pair in combinations(sorted(features)[:4], 2)},
    }
    return known, {"covisibility_model": str(tmp_path / "model"), "neighbors": 2, "prematch_keypoints": 60}


def make(folder):
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("method", [*ALONE, "sequential+spatial", "retrieval+transitive", "auto"])
def test_pairs_are_canonical_sorted_and_independent_of_the_order(method, everything):
    known, options = everything
    names = list(known["features"])
    pairs = select_pairs(names, PairOptions(pairs=method, **options), **known)
    assert pairs == sorted(set(pairs))
    assert all(first < second for first, second in pairs)
    assert pairs == select_pairs(names[::-1], PairOptions(pairs=method, **options), **known)
    assert pairs


@pytest.mark.parametrize("first", ALONE)
def test_joined_methods_are_their_union(first, everything):
    known, options = everything
    names = list(known["features"])
    options["overlap"] = 1

    def chosen(method):
        return set(select_pairs(names, PairOptions(pairs=method, **options), **known))

    assert chosen(f"{first}+sequential") == chosen(first) | chosen("sequential")
    assert chosen(f"{first}+sequential") == chosen(f"sequential+{first}")


def test_each_method_has_a_name_among_the_options():
    assert tuple(METHODS) == NAMES


# --- sequential ----------------------------------------------------------------------------------------


def test_names_are_ordered_by_the_numbers_in_them():
    names = ["img10.jpg", "img2.jpg", "img1.jpg", "img02.jpg", "a.jpg", "img2b1.jpg", "9.jpg", "Ä1.jpg"]
    ordered = ["9.jpg", "a.jpg", "img1.jpg", "img02.jpg", "img2.jpg", "img2b1.jpg", "img10.jpg", "Ä1.jpg"]
    assert sorted(names, key=natural_key) == ordered
    pairs = select_pairs(["i2", "i10", "i1"], PairOptions(pairs="sequential", overlap=1))
    assert pairs == [("i1", "i2"), ("i10", "i2")]


def test_each_folder_is_a_sequence():
    names = [f"{folder}/{i}.jpg" for folder in ("left", "right") for i in range(9, 12)]
    pairs = select_pairs(names, PairOptions(pairs="sequential", overlap=1))
    expected = [
        (f"{folder}/{i}.jpg", f"{folder}/{j}.jpg") for folder in ("left", "right") for i, j in ((10, 11), (10, 9))
    ]
    assert pairs == sorted(tuple(sorted(pair)) for pair in expected)


def test_quadratic_neighbours_are_powers_of_two_apart():
    names = [f"{i:03}" for i in range(40)]
    pairs = select_pairs(names, PairOptions(pairs="sequential", overlap=5, quadratic=True))
    assert {int(b) - int(a) for a, b in pairs} == {1, 2, 4, 8, 16}
    assert len(pairs) == 39 + 38 + 36 + 32 + 24
    more = [select_pairs(names, PairOptions(pairs="sequential", overlap=n, quadratic=True)) for n in (6, 1_000_000)]
    assert more[0] == more[1]
    assert len(select_pairs(names, PairOptions(pairs="sequential", overlap=1_000_000))) == 40 * 39 // 2


def test_folders_that_nothing_joins_are_told():
    names = [f"{folder}/{i}.jpg" for folder in ("left", "right") for i in range(3)]

    def notes(pairs, names=names):
        return select(Collection(names), PairOptions(pairs=pairs)).notes

    told = ["The photos are in 2 folders, and no pair joins two of them: --pairs sequential+retrieval does."]
    assert notes("sequential") == told
    assert notes("sequential+exhaustive") == notes("sequential", names[:3]) == []
    with pytest.raises(InputError, match="Each of the 2 folders holds one photo"):
        notes("sequential", ["a/1.jpg", "b/2.jpg"])
    with pytest.raises(InputError, match="Each of the 2 folders holds one photo"):
        check_choice(PairOptions(pairs="sequential"), ["a/1.jpg", "b/2.jpg"])
    assert "2 folders" in notes("sequential+exhaustive", ["a/1.jpg", "b/2.jpg"])[0]


# --- retrieval -----------------------------------------------------------------------------------------


def test_mutual_pairs_are_fewer_but_leave_nobody_alone():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"{i:02}" for i in range(50)]
    one_way, both_ways, best_two = (
        similar_pairs(names, lambda start, stop: rows[start:stop] @ rows.T, *choice) for choice in ((6,), (6, 2), (2,))
    )
    assert best_two < both_ways < one_way
    degrees = [sum(name in pair for pair in both_ways) for name in names]
    assert min(degrees) >= 2


def test_nobody_is_a_partner_of_his_own_and_equal_scores_go_to_the_nearest():
    found = dict(best_partners(lambda start, stop: np.ones((stop - start, 5)), 5, 2))
    assert [found[i].tolist() for i in range(5)] == [[1, 2], [0, 2], [1, 3], [2, 4], [3, 2]]
    nobody = dict(best_partners(lambda start, stop: np.full((stop - start, 3), -np.inf), 3, 2))
    assert [len(partners) for partners in nobody.values()] == [0, 0, 0]


# --- spatial -------------------------------------------------------------------------------------------


def test_near_photos_are_pairs(tmp_path):
    for name, place in {"a": (0, 0), "b": (0, 60), "c": (0, 130), "far": (5000, 0)}.items():
        photo(tmp_path / f"{name}.jpg", place=place)
    names = ["a.jpg", "b.jpg", "c.jpg", "far.jpg"]

    def near(**options):
        return select_pairs(names, PairOptions(pairs="spatial", **options), image_dir=tmp_path)

    assert near() == [("a.jpg", "b.jpg"), ("b.jpg", "c.jpg")]
    assert near(max_distance_m=140.0) == [("a.jpg", "b.jpg"), ("a.jpg", "c.jpg"), ("b.jpg", "c.jpg")]
    assert near(max_distance_m=50.0) == []
    assert near(max_distance_m=1e4, neighbors=1) == [("a.jpg", "b.jpg"), ("a.jpg", "far.jpg"), ("b.jpg", "c.jpg")]


@pytest.mark.parametrize("has_altitude", [False, True])
def test_distances_are_metres_also_across_the_date_line(has_altitude):
    def at(*place):
        return earth_centred_m(GpsPosition(*place), has_altitude=has_altitude)

    assert np.linalg.norm(at(0, 179.9999) - at(0, -179.9999)) == pytest.approx(2e-4 * 111_319.49, rel=1e-6)
    assert np.linalg.norm(at(45, 7, 100) - at(45.001, 7, 100)) == pytest.approx(111.13, abs=0.01)
    assert np.linalg.norm(at(45, 7, 100) - at(45, 7, 400)) == pytest.approx(300 * has_altitude, abs=1e-6)


def test_photos_without_gps_are_named_and_get_pairs_of_the_others(tmp_path):
    for i in range(3):
        photo(tmp_path / f"{i}.jpg", place=(10 * i, 0))
    photo(tmp_path / "3.jpg")
    (tmp_path / "4.jpg").write_text("no photo")
    names = [f"{i}.jpg" for i in range(5)]
    alone = select(Collection(names, image_dir=tmp_path), PairOptions(pairs="spatial"))
    assert alone.without == ["3.jpg", "4.jpg"]
    assert alone.notes == ["2 of 5 photos have no GPS position: 3.jpg, 4.jpg."]
    assert "Without a pair: 2 photos: 3.jpg, 4.jpg." in alone.lines()
    joined = select(Collection(names, image_dir=tmp_path), PairOptions(pairs="spatial+sequential", overlap=1))
    assert joined.without == []
    assert ("3.jpg", "4.jpg") in joined.pairs
    assert joined.lines()[-1] == "Pairs: 5 (spatial + sequential; spatial 3, sequential 4)."


def test_without_any_gps_spatial_says_what_to_do(tmp_path):
    photo(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"No photo has a GPS position .* Choose --pairs retrieval"):
        select_pairs(["a.jpg"], PairOptions(pairs="spatial"), image_dir=tmp_path)
    with pytest.raises(InputError, match="No photo has a GPS position"):
        select_pairs(["a.jpg", "b.jpg"], PairOptions(pairs="spatial"))


def test_spatial_without_gps_is_told_early_and_one_position_is_enough(tmp_path):
    names = ["a.jpg", "b.jpg"]
    for name in names:
        photo(tmp_path / name)
    with pytest.raises(InputError, match="No photo has a GPS position"):
        check_choice(PairOptions(pairs="spatial"), names, image_dir=tmp_path)
    with pytest.raises(InputError, match="No photo has a GPS position"):
        check_choice(PairOptions(pairs="sequential+spatial"), names, image_dir=tmp_path)
    check_choice(PairOptions(pairs="auto"), names, image_dir=tmp_path)
    photo(tmp_path / "b.jpg", place=(0, 0))
    check_choice(PairOptions(pairs="spatial"), names, image_dir=tmp_path)


def test_photos_of_one_position_are_paired_by_name_and_not_with_the_same_few(tmp_path):
    names = [f"{i}.jpg" for i in range(30)]
    for name in names:
        photo(tmp_path / name, place=(0, 0))
    pairs = select_pairs(names, PairOptions(pairs="spatial", neighbors=4), image_dir=tmp_path)
    assert {(f"{i}.jpg", f"{i + 1}.jpg") for i in range(29)} <= {tuple(sorted(pair, key=natural_key)) for pair in pairs}
    assert max(sum(name in pair for pair in pairs) for name in names) <= 6


def test_a_photo_without_an_altitude_has_that_of_the_others(tmp_path):
    for i, altitude_m in enumerate((400.0, None, 410.0, 405.0, 900.0)):
        photo(tmp_path / f"{i}.jpg", place=(10 * i, 0), altitude_m=altitude_m)
    names = [f"{i}.jpg" for i in range(5)]
    pairs = select_pairs(names, PairOptions(pairs="spatial", gps_altitude=True), image_dir=tmp_path)
    assert pairs == list(combinations(names[:4], 2))


# --- covisibility --------------------------------------------------------------------------------------


def test_images_that_see_the_same_points_are_pairs(tmp_path):
    sees = {"a.jpg": {1, 2, 3, 4}, "b.jpg": {2, 3, 4}, "c.jpg": {4, 5}, "other.jpg": {5}}
    model_that_sees(sees).write(make(tmp_path / "0"))
    names = ["a.jpg", "b.jpg", "c.jpg", "new.jpg"]

    def shared(**options):
        chosen = PairOptions(pairs="covisibility", covisibility_model=str(tmp_path), **options)
        return select(Collection(names), chosen)

    assert shared().pairs == [("a.jpg", "b.jpg"), ("a.jpg", "c.jpg"), ("b.jpg", "c.jpg")]
    assert shared(neighbors=1).pairs == [("a.jpg", "b.jpg"), ("b.jpg", "c.jpg")]
    assert shared().without == ["new.jpg"]
    assert shared().notes == ["1 of 4 photos are not in the model."]


def test_shared_points_are_counted_a_few_rows_at_a_time(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    sees = {f"{i}.jpg": set(rng.choice(40, 15, replace=False).tolist()) for i in range(12)}
    model_that_sees(sees).write(make(tmp_path / "0"))
    names = sorted(sees)
    expected = [[len(sees[a] & sees[b]) * (a != b) for b in names] for a in names]
    found, counts = count_shared_points(tmp_path)
    assert found == names
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(read_shared_points(tmp_path).counts([7, 2]), counts[[7, 2]])
    options = PairOptions(pairs="covisibility", covisibility_model=str(tmp_path), neighbors=3)
    whole = select_pairs(names, options)
    monkeypatch.setattr(ranking, "BLOCK_SCORES", 24)
    assert select_pairs(names, options) == whole


def test_names_of_a_model_of_another_folder():
    found = names_in_collection(["images/a.jpg", "x/b.jpg", "y/b.jpg", "c.jpg"], ["a.jpg", "b.jpg", "c.jpg", "d/c.jpg"])
    assert found == {"a.jpg": "images/a.jpg", "c.jpg": "c.jpg"}


def test_a_model_that_is_missing_or_of_other_photos_is_told_early(tmp_path):
    with pytest.raises(InputError, match="name its folder with --covisibility-model"):
        check_choice(PairOptions(pairs="covisibility"), ["a.jpg"])
    with pytest.raises(InputError, match="No COLMAP model"):
        check_choice(PairOptions(pairs="covisibility", covisibility_model=str(tmp_path)), ["a.jpg"])
    model_that_sees({"a.jpg": {1}, "b.jpg": {1}}).write(make(tmp_path / "0"))
    with pytest.raises(InputError, match=r"None of the 2 images of the model .* it has 'a\.jpg', the folder 'z\.jpg'"):
        check_choice(PairOptions(pairs="covisibility", covisibility_model=str(tmp_path)), ["z.jpg"])


# --- transitive ----------------------------------------------------------------------------------------


def test_friends_of_friends_are_pairs():
    matches = {("a", "b"): matched(30), ("b", "c"): matched(30), ("c", "d"): matched(29), ("a", "d"): matched(99)}
    names, flags = ["a", "b", "c", "d"], {"pairs": "sequential+transitive", "overlap": 1}
    friends = [("a", "b"), ("a", "c"), ("b", "c"), ("c", "d")]
    assert select_pairs(names, PairOptions(**flags), matches=matches) == friends
    weaker = PairOptions(**flags, min_strong_matches=29)
    assert ("b", "d") in select_pairs(names, weaker, matches=matches)
    assert ("a", "d") not in select_pairs(names, weaker, matches=matches)


def test_the_second_round_of_a_repeated_run_is_the_same():
    names, options = ["a", "b", "c", "d", "e"], PairOptions(pairs="sequential+transitive", overlap=1)
    first = select_pairs(names, options, matches={})
    notes = select(Collection(names, matches=lambda: {}), options).notes
    assert "run `lgsfm match`, then `lgsfm pairs` and `lgsfm match` again" in notes[1]
    assert first == [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")]
    second = select_pairs(names, options, matches={pair: matched(50) for pair in first})
    assert second == [(a, b) for a, b in combinations(names, 2) if ord(b) - ord(a) <= 2]
    assert select_pairs(names, options, matches={pair: matched(50) for pair in second}) == second


def test_friends_of_friends_are_joined_with_another_method():
    with pytest.raises(InputError, match=r"no pairs to begin with.*--pairs sequential\+transitive"):
        check_choice(PairOptions(pairs="transitive"), ["a", "b"])
    with pytest.raises(InputError, match="no pairs to begin with"):
        select_pairs(["a", "b"], PairOptions(pairs="transitive+transitive"), matches={})
    assert num_rounds(PairOptions(pairs="retrieval")) == 1
    assert num_rounds(PairOptions(pairs="retrieval+transitive")) == 2


# --- prematch ------------------------------------------------------------------------------------------


class Counting(NearestMatcher):
    """Counts the pairs that it is given."""

    count = 0

    def match_prepared(self, prepared0, prepared1):
        self.count += 1
        return super().match_prepared(prepared0, prepared1)


def test_a_quick_look_selects_the_pairs_of_a_scene():
    features, store = scenes(), {}
    matcher = Counting(NearestOptions(), "cpu", None, "sift")

    def looked_at(**options):
        collection = Collection(
            features,
            features=lambda: features,
            matcher=lambda: matcher,
            retriever=lambda: VladRetriever(VladOptions(words=8)),
            prematches=lambda: store,
        )
        return select(collection, PairOptions(pairs="prematch", prematch_keypoints=40, **options)).pairs

    same_scene = [pair for pair in combinations(sorted(features), 2) if pair[0][2:] == pair[1][2:]]
    assert looked_at() == same_scene
    assert matcher.count == len(store) == 66
    assert looked_at() == same_scene
    assert matcher.count == 66  # found done
    store.clear()
    assert looked_at(prematch_candidates=2) == same_scene
    assert len(store) < 30
    assert looked_at(prematch_min_matches=41) == []


def test_a_quick_look_at_many_photos_is_at_the_most_similar_ones(monkeypatch):
    features = scenes()
    matcher, seen = Counting(NearestOptions(), "cpu", None, "sift"), []

    def looked_at(**options):
        collection = Collection(
            features,
            features=lambda: features,
            matcher=lambda: matcher,
            retriever=lambda: VladRetriever(VladOptions(words=8)),
            progress=lambda *count: seen.append(count),
        )
        return select(collection, PairOptions(pairs="prematch", prematch_keypoints=40, **options))

    assert looked_at().notes == []
    assert seen[-1] == (66, 66)
    monkeypatch.setattr(prematch, "LOOK_AT_ALL", 11)
    monkeypatch.setattr(prematch, "MOST_SIMILAR", 2)
    few = looked_at()
    assert few.pairs == looked_at(prematch_candidates=99).pairs
    assert few.notes == ["Prematch looks at the 2 most similar photos of each (--prematch-candidates)."]
    assert matcher.count < 66 + 30 + 66


@pytest.mark.parametrize("count", [0, 1, 2, 5, 11])
def test_all_pairs_come_in_the_order_that_keeps_a_block_of_images_prepared(count, monkeypatch):
    monkeypatch.setattr(prematch, "BLOCK_IMAGES", 4)
    names = [f"{i:02}" for i in range(count)]
    assert list(prematch._all_in_blocks(names)) == prematch._in_blocks(combinations(names, 2), names)


def test_the_strongest_keypoints_are_those_of_the_highest_scores():
    features = next(iter(scenes(1, 1, keypoints=9).values()))
    few = strongest(features, 4)
    np.testing.assert_array_equal(few.keypoints, features.keypoints[5:])
    np.testing.assert_array_equal(few.descriptors, features.descriptors[5:])
    assert len(strongest(features, 99)) == 9


# --- auto ----------------------------------------------------------------------------------------------


def automatic(names, folder=None):
    return choose(Collection(names, image_dir=folder), PairOptions())


FRAMES = [f"frame-{10 * i:06}.color.jpg" for i in range(61)]
HASHED = [f"{value:08d}_{value * 7919 % 99991:05d}.jpg" for value in np.random.default_rng(0).integers(0, 10**8, 61)]


@pytest.mark.parametrize(
    ("names", "methods", "reason"),
    [
        (FRAMES[:60], ["exhaustive"], "60 photos are few enough for all pairs"),
        (
            FRAMES,
            ["retrieval", "sequential"],
            "61 photos are .* all pairs, their names are numbered in steps",
        ),
        (HASHED, ["retrieval"], "61 photos are too many for all pairs, neither their names nor their times .*"),
        (
            [f"x{i}.jpg" for i in [*range(0, 40), *range(60, 110, 2)]],
            ["retrieval", "sequential"],
            ".*numbered in steps",
        ),
        ([f"cam{c}/{i}.jpg" for c in (1, 2) for i in range(40)], ["retrieval", "sequential"], ".*numbered in steps"),
    ],
)
def test_auto_looks_at_number_and_names(names, methods, reason):
    found, why = automatic(names)
    assert found == methods
    assert re.fullmatch(reason, why), why
    assert automatic(names[::-1]) == (found, why)


def test_auto_looks_at_gps_and_times(tmp_path):
    start = datetime(2024, 5, 1, 12)
    for i, name in enumerate(HASHED_ORDERED := sorted(HASHED, key=natural_key)):
        photo(tmp_path / name, place=(i, 0) if i < 50 else None, taken=start + timedelta(seconds=5 * i))
    found, why = automatic(HASHED_ORDERED, tmp_path)
    assert found == ["retrieval", "spatial", "sequential"]
    assert why == "61 photos are too many for all pairs, 50 have a GPS position, their times follow their names"
    for i, name in enumerate(HASHED_ORDERED):
        photo(tmp_path / name, place=(i, 0) if i < 40 else None, taken=start - timedelta(seconds=5 * i))
    assert automatic(HASHED_ORDERED, tmp_path)[0] == ["retrieval"]


def test_auto_does_without_gps_that_is_the_same_for_all(tmp_path):
    for i, name in enumerate(HASHED):
        photo(tmp_path / name, place=(i % 6, 0))
    found, why = automatic(HASHED, tmp_path)
    assert found == ["retrieval"]
    assert "the GPS positions of 61 are only 6 places" in why
    photo(tmp_path / HASHED[0], place=(100, 0))
    assert automatic(HASHED, tmp_path)[0] == ["retrieval", "spatial"]


def test_what_is_joined_with_auto_stays():
    selection = select(Collection(FRAMES[:5]), PairOptions(pairs="auto+sequential"))
    assert list(selection.found) == ["exhaustive", "sequential"]


def test_auto_says_what_it_chose():
    selection = select(Collection(FRAMES[:3]), PairOptions())
    assert selection.lines() == [
        "Pair selection: exhaustive (3 photos are few enough for all pairs).",
        "Pairs: 3 (exhaustive).",
    ]


def test_exif_of_a_written_photo_is_that_of_the_test(tmp_path):
    photo(tmp_path / "a.jpg", place=(0, 0), taken=datetime(2024, 5, 1, 12, 0, 7))
    exif = Collection(["a.jpg"], image_dir=tmp_path).exif["a.jpg"]
    assert exif.position == GpsPosition(47.0, 8.0)
    assert exif.taken == datetime(2024, 5, 1, 12, 0, 7)
