"""hloc's features and matches as those of an output folder, and what the later stages make of them."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pycolmap
import pytest
from import_scenes import (
    NAMES,
    World,
    keypoints_of,
    make_world,
    matches_of,
    names_of,
    run,
    write_features,
    write_matches,
)

from lgsfm import export
from lgsfm.errors import InputError
from lgsfm.finished import FinishedRun
from lgsfm.importing import import_features
from lgsfm.importing.hloc import FeatureFile, MatchFile, sparse_matches


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world")


@pytest.fixture
def files(world: World, tmp_path: Path) -> tuple[Path, Path]:
    return write_features(world, tmp_path / "feats.h5"), write_matches(world, tmp_path / "matches.h5")


def bring_in(files: tuple[Path, Path], world: World, output: Path, *more: object):
    options = ("--features", files[0], "--matches", files[1], "--images", world.photos)
    return run("import", output, *options, *more)


# --------------------------------------------------------------------------------- going on
def test_the_later_stages_go_on_from_imported_matches(world, files, tmp_path):
    output = tmp_path / "out"
    ran = bring_in(files, world, output)
    assert ran.code == 0, ran.err
    assert "Features  6 photos" in ran.out
    assert "15 pairs" in ran.out
    for stage in ("database", "map"):
        assert f"lgsfm {stage} {world.photos} -o {output}" in ran.out
        ended = run(stage, world.photos, "-o", output)
        assert ended.code == 0, ended.err
    model = pycolmap.Reconstruction(output / "sparse" / "0")
    assert {image.name for image in model.images.values()} == set(NAMES)
    assert model.compute_mean_reprojection_error() < 0.05  # half a pixel would be lost in it otherwise
    with pycolmap.Database.open(output / "database.db") as database:
        for name in NAMES:
            found = database.read_keypoints(database.read_image_with_name(name).image_id)
            np.testing.assert_allclose(found[:, :2], keypoints_of(world, name) + 0.5, atol=1e-5)
    assert run("report", output).code == 0
    assert run("doctor", output).code == 0
    assert run("cache", "verify", output).code == 0


def test_a_whole_run_goes_on_from_imported_matches(world, files, tmp_path):
    output = tmp_path / "out"
    assert bring_in(files, world, output).code == 0
    flags = json.loads((output / "options.json").read_text())["flags"]
    words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", value)]
    ran = run("reconstruct", world.photos, "-o", output, *words)
    assert ran.code == 0, ran.err
    assert "Registered images    6 of 6" in ran.out
    assert run("extract", world.photos, "-o", output).out.startswith("0 computed, 6 reused")
    assert run("match", world.photos, "-o", output).out.startswith("0 computed, 15 reused")


def test_features_alone_are_matched_here(world, tmp_path):
    output, features = tmp_path / "out", write_features(world, tmp_path / "feats.h5")
    ran = run("import", output, "--features", features, "--images", world.photos, "--kind", "sift")
    assert ran.code == 0, ran.err
    assert f"lgsfm match {world.photos} -o {output}" in ran.out
    again = run("import", output, "--features", features, "--images", world.photos, "--kind", "sift", "--json")
    told = json.loads(again.out)
    assert (told["output"], told["num_images"], told["skipped"]) == (str(output), 6, {})
    for stage in ("pairs", "match"):
        ended = run(stage, world.photos, "-o", output)
        assert ended.code == 0, ended.err
    assert ended.out.startswith("15 computed")
    assert FinishedRun(output).options["matcher"]["matcher"] == "nearest"


def test_keypoints_without_descriptors_do_where_matches_come_with_them(world, files, tmp_path):
    """As hloc writes them for dense matchers."""
    output = tmp_path / "out"
    bare = write_features(world, tmp_path / "bare.h5", descriptors=None, scores=None, image_size=None)
    assert bring_in((bare, files[1]), world, output).code == 0
    ran = run("database", world.photos, "-o", output)
    assert ran.out.startswith("15 of 15 matched pairs verified"), ran.err
    with pytest.raises(InputError, match=r"no descriptors of a/1.jpg.*--matches"):
        import_features(tmp_path / "other", bare, None, world.photos)


# --------------------------------------------------------------------------------- round trip
def test_what_is_exported_again_is_what_was_imported(world, files, tmp_path):
    output = tmp_path / "out"
    bring_in(files, world, output)
    for stage in ("database", "map"):
        assert run(stage, world.photos, "-o", output).code == 0
    folder = export(output, "hloc").path
    with h5py.File(folder / "features.h5") as found, h5py.File(files[0]) as wanted:
        for name in NAMES:
            for key in ("keypoints", "descriptors", "scores", "image_size"):
                np.testing.assert_array_equal(found[name][key][()], wanted[name][key][()])
    with h5py.File(folder / "matches.h5") as found, h5py.File(files[1]) as wanted:
        assert {f"{a}/{b}" for a in found for b in found[a]} == {f"{a}/{b}" for a in wanted for b in wanted[a]}
        for first in wanted:
            for second in wanted[first]:
                for key in ("matches0", "matching_scores0"):
                    np.testing.assert_array_equal(found[first][second][key][()], wanted[first][second][key][()])
    again = tmp_path / "again"
    other = folder / "features.h5", folder / "matches.h5"
    assert bring_in(other, world, again, "--pairs", folder / "pairs.txt").code == 0


def test_of_photos_that_were_taken_away_only_those_of_the_model_are_exported(world, files, tmp_path):
    output = tmp_path / "out"
    bring_in(files, world, output)
    first, second = sorted(NAMES)[:2]
    (world.photos / first).unlink()
    for stage in ("database", "map"):
        assert run(stage, world.photos, "-o", output).code == 0
    (world.photos / second).unlink()
    folder = export(output, "hloc").path
    assert len((folder / "pairs.txt").read_text().splitlines()) == 10
    with h5py.File(folder / "features.h5") as found:
        assert second in found
        assert first not in found


def test_other_files_have_stores_of_their_own_and_the_same_ones_the_same(world, files, tmp_path):
    output = tmp_path / "out"
    first = import_features(output, *files, world.photos)
    assert import_features(output, *files, world.photos) == first
    assert len(list(output.glob("features-imported-*.h5"))) == 1
    fewer = write_matches(world, tmp_path / "fewer.h5", [(NAMES[0], NAMES[1])])
    second = import_features(output, files[0], fewer, world.photos)
    assert (second.features == first.features, second.matches == first.matches) == (True, False)
    assert len(list(output.glob("features-imported-*.h5"))) == 1
    assert len(list(output.glob("matches-imported-*.h5"))) == 2


# --------------------------------------------------------------------------------- pairs and names
def pairs_of(output: Path) -> dict[tuple[str, str], np.ndarray]:
    with FinishedRun(output).matches as store:
        return {pair: found.indices for pair, found in store.items()}


def expected(world: World, name0: str, name1: str) -> np.ndarray:
    dense = matches_of(world, name0, name1)
    rows = np.flatnonzero(dense >= 0)
    return np.stack([rows, dense[rows]], axis=1)


@pytest.mark.parametrize("separator", ["/", "_"])
def test_pairs_in_either_order_and_of_old_files(world, tmp_path, separator):
    given = [(NAMES[3], NAMES[0]), (NAMES[1], NAMES[2]), (NAMES[4], NAMES[5])]
    matches = write_matches(world, tmp_path / "m.h5", given, separator)
    report = import_features(tmp_path / "out", write_features(world, tmp_path / "f.h5"), matches, world.photos)
    assert report.num_pairs == 3
    found = pairs_of(tmp_path / "out")
    assert set(found) == {tuple(sorted(pair)) for pair in given}
    for pair, indices in found.items():
        np.testing.assert_array_equal(indices, expected(world, *pair))


def test_names_that_hloc_mixes_up_are_told_apart_by_a_file_of_pairs(tmp_path):
    names = ("a-b.jpg", "a/b.jpg", "c.jpg", "d.jpg")
    world = make_world(tmp_path / "world", names=names)
    features = write_features(world, tmp_path / "f.h5")
    matches = write_matches(world, tmp_path / "m.h5", [("a/b.jpg", "c.jpg"), ("c.jpg", "d.jpg")])
    with pytest.raises(InputError, match=r"may be of a-b.jpg with c.jpg, a/b.jpg with c.jpg.*--pairs"):
        import_features(tmp_path / "out", features, matches, world.photos)
    (tmp_path / "pairs.txt").write_text("d.jpg c.jpg\na/b.jpg c.jpg\na/b.jpg d.jpg\n")
    report = import_features(tmp_path / "out", features, matches, world.photos, pairs=tmp_path / "pairs.txt")
    assert report.num_pairs == 2
    found = pairs_of(tmp_path / "out")
    np.testing.assert_array_equal(found["a/b.jpg", "c.jpg"], expected(world, "a/b.jpg", "c.jpg"))
    np.testing.assert_array_equal(found["c.jpg", "d.jpg"], expected(world, "c.jpg", "d.jpg"))


def test_photos_without_features_and_features_without_photos_are_told(world, tmp_path):
    (world.photos / "c.jpg").rename(tmp_path / "c.jpg")
    names = sorted({*NAMES} - {"f.jpg"})
    features, matches = write_features(world, tmp_path / "f.h5", names), write_matches(world, tmp_path / "m.h5")
    report = import_features(tmp_path / "out", features, matches, world.photos)
    assert (report.num_images, report.without_features) == (4, ("f.jpg",))
    assert any("1 images of" in note for note in report.notes)
    assert run("extract", world.photos, "-o", tmp_path / "out").out.startswith("0 computed, 5 reused")


def test_a_photo_that_was_added_or_changed_is_named_and_nothing_is_made_up(world, files, tmp_path):
    bring_in(files, world, tmp_path / "out")
    (world.photos / "new.jpg").write_bytes((world.photos / "f.jpg").read_bytes())
    ran = run("extract", world.photos, "-o", tmp_path / "out")
    assert ran.code == 1
    assert "changed or added since features were imported" in ran.err


def test_photos_that_are_turned_by_exif_have_their_keypoints_where_they_are_stored(tmp_path):
    world = make_world(tmp_path / "world", exif=lambda name, image: {"orientation": 6})
    files = write_features(world, tmp_path / "f.h5"), write_matches(world, tmp_path / "m.h5")
    import_features(tmp_path / "out", *files, world.photos)
    assert run("extract", world.photos, "-o", tmp_path / "out").out.startswith("0 computed, 6 reused")
    with FinishedRun(tmp_path / "out").features as store:
        for name in NAMES:
            assert store[name].orientation == 1
            np.testing.assert_array_equal(store[name].keypoints, keypoints_of(world, name))


# --------------------------------------------------------------------------------- what cannot be right
def test_half_precision_is_taken_and_said(world, tmp_path):
    features = write_features(world, tmp_path / "f.h5", dtype=np.float16)
    report = import_features(tmp_path / "out", features, write_matches(world, tmp_path / "m.h5"), world.photos)
    assert any("half precision" in note for note in report.notes)
    with FinishedRun(tmp_path / "out").features as store:
        assert store["c.jpg"].keypoints.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image_size": np.array([240, 320])}, "upright view"),
        ({"image_size": np.array([640, 480])}, "photo of 640x480"),
        ({"image_size": None, "keypoints": np.full((60, 2), 600.0)}, "not of a resized one"),
        ({"keypoints": np.full((60, 2), np.nan)}, "finite"),
        ({"keypoints": np.zeros((60, 3))}, r"\(N, 2\)"),
        ({"descriptors": np.zeros((60, 128))}, r"\(D, N\)"),
        ({"scores": np.zeros(3)}, r"\(N,\) scores"),
    ],
)
def test_features_that_cannot_be_of_the_photos_are_refused(tmp_path, arrays, words):
    world = make_world(tmp_path / "world", names=("a.jpg", "b.jpg"))
    features = write_features(world, tmp_path / "f.h5", **{"descriptors": None, "scores": None, **arrays})
    with pytest.raises(InputError, match=words):
        import_features(tmp_path / "out", features, write_matches(world, tmp_path / "m.h5"), world.photos)


def test_matches_of_other_features_are_refused(world, files, tmp_path):
    with h5py.File(files[1], "a") as file:
        group = file["a-1.jpg"]["c.jpg"]
        del group["matches0"]
        group["matches0"] = np.full(len(group["matching_scores0"]), 5000)
    with pytest.raises(InputError, match=r"a-1.jpg/c.jpg.*not those that were matched"):
        import_features(tmp_path / "out", *files, world.photos)


def test_other_files_are_refused_and_named(world, files, tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    for place, words in ((tmp_path / "text.h5", "cannot be read"), (tmp_path / "none.h5", "cannot be read")):
        with pytest.raises(InputError, match=f"{place.name}.*{words}"):
            import_features(tmp_path / "out", place, files[1], world.photos)
    with pytest.raises(InputError, match="holds no features"):
        import_features(tmp_path / "out", files[1], files[1], world.photos)
    with pytest.raises(InputError, match="holds no matches"):
        import_features(tmp_path / "out", files[0], files[0], world.photos)
    elsewhere = make_world(tmp_path / "other", names=("x.jpg", "y.jpg"))
    with pytest.raises(InputError, match=r"features of 0 of the 2 photos.*relative to"):
        import_features(tmp_path / "out", *files, elsewhere.photos)


def test_links_in_a_strangers_file_lead_nowhere(world, files, tmp_path):
    secret = write_features(world, tmp_path / "secret.h5")
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["a.jpg/keypoints"] = h5py.ExternalLink(str(secret), "c.jpg/keypoints")
        file.create_group("b.jpg")["keypoints"] = np.zeros((3, 2))
        file["b.jpg/descriptors"] = h5py.ExternalLink(str(secret), "c.jpg/descriptors")
    with FeatureFile(tmp_path / "links.h5") as source:
        assert source.names == {"b.jpg"}
        with pytest.raises(InputError, match="descriptors is a link"):
            source.read("b.jpg")


# --------------------------------------------------------------------------------- 16 bits
def test_indices_that_hloc_cut_to_16_bits_are_put_right():
    wide = np.array([-1, 0, 32_767, 32_768, 40_000])
    found, scores = sparse_matches(wide.astype(np.int16), np.array([0, 1, 0.5, 2, np.nan]), (5, 50_000))
    np.testing.assert_array_equal(found, [[1, 0], [2, 32_767], [3, 32_768], [4, 40_000]])
    np.testing.assert_array_equal(scores, np.array([1, 0.5, 1, 0], np.float32))
    with pytest.raises(ValueError, match="16 bits cannot number"):
        sparse_matches(wide.astype(np.int16), np.ones(5), (5, 70_000))
    with pytest.raises(ValueError, match="not those that were matched"):
        sparse_matches(wide.astype(np.int16), np.ones(5), (5, 39_000))


def test_an_image_is_not_paired_with_itself(world, tmp_path):
    with MatchFile(write_matches(world, tmp_path / "m.h5", [("c.jpg", "c.jpg"), ("c.jpg", "f.jpg")])) as source:
        assert source.pairs_among(names_of(world)) == {("c.jpg", "f.jpg"): "c.jpg/f.jpg"}
