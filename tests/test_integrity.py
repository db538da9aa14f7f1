"""Damage is named, never used, and mended: by looking (`verify`), by hand (`repair`), and by a run on its way."""

import importlib.util
import json
import logging
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import h5py
import pytest
from cli_helpers import SIFT, copy_photos, run, summary_of, views
from outputs import files_of

from lgsfm.errors import CacheError, InputError
from lgsfm.files import read_json, write_json
from lgsfm.finer import Finer
from lgsfm.healing import Look, SecondLooks
from lgsfm.integrity import prune, repair, verify
from lgsfm.settings import Settings
from lgsfm.store import FORMAT, FeatureStore, MatchStore
from lgsfm.workspace import Workspace

FUZZ = Path(__file__).with_name("fuzz") / "stores.py"


@pytest.fixture(scope="module")
def finished(courtyard, tmp_path_factory):
    """A finished run of four photos; gives (photos, output)."""
    root = tmp_path_factory.mktemp("run")
    photos = copy_photos(courtyard / "images", root / "photos", views(0, 1, 2, 3))
    assert run("reconstruct", photos, "-o", root / "out", *SIFT, "--quiet").code == 0
    return photos, root / "out"


@pytest.fixture
def output(finished, tmp_path):
    """A copy of the finished run."""
    subprocess.run(["cp", "-r", str(finished[1]), str(tmp_path / "out")], check=True)
    return tmp_path / "out"


def again(finished, output):
    return run("reconstruct", finished[0], "-o", output, *SIFT)


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def flip_in_array(path, entry, name):
    """A bit of an array of an entry."""
    with h5py.File(path) as file:
        place = file[entry][name].id.get_offset()
    flip(path, place + 5)


def store_of(output, kind):
    (path,) = output.glob(f"{kind}-*.h5")
    return path


def damaged(output):
    return {each.path: each for each in verify(output) if each.is_damaged}


def test_a_finished_run_is_whole(output):
    found = {each.path: each for each in verify(output)}
    assert all(each.is_as_written and not each.unfinished for each in found.values())
    assert found["manifest.json"].kind == "manifest"
    assert found[store_of(output, "features").name].num_entries == 4
    assert found[store_of(output, "matches").name].num_entries == 6
    assert {"database.db", "sparse/0", "pairs.txt", "summary.json"} <= set(found)
    assert repair(output) == []


def test_models_of_somebody_else_are_named_and_left_alone(output):
    (output / "sparse" / "0" / "notes.txt").write_text("mine")
    flip(output / "sparse" / "0" / "points3D.bin", 17)  # the first coordinate of the first point
    (output / "sparse" / "1").mkdir()
    for path in (output / "sparse" / "0").glob("*.bin"):
        (output / "sparse" / "1" / path.name).write_bytes(path.read_bytes())
    found = {each.path: each for each in verify(output)}
    assert found["sparse/0"].changed == ["notes.txt", "points3D.bin"]
    assert {"cameras.bin", "images.bin"} <= set(found["sparse/1"].changed)
    assert "sparse/0/points3D.bin" in found["manifest.json"].changed
    ended = run("cache", "verify", output, "--quiet")
    assert ended.code == 1
    assert "CHANGED since it was written: notes.txt, points3D.bin" in ended.out
    assert "Changed since they were written, by hand or by another program: sparse/0, sparse/1" in ended.err
    assert repair(output) == []


def test_a_summary_that_was_edited_is_damaged(output):
    text = (output / "summary.json").read_text()
    (output / "summary.json").write_text(text.replace('"num_images": 4', '"num_images": 5'))
    assert "not what was written" in damaged(output)["summary.json"].problem
    assert [action.path for action in repair(output)] == ["summary.json"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "entry", "name"),
    [
        ("features", "view01.jpg", "keypoints"),
        ("features", "view01.jpg", "scores"),
        ("matches", "view00.jpg/view01.jpg", "indices"),
        ("matches", "view00.jpg/view01.jpg", "scores"),
    ],
)
def test_a_flipped_bit_of_an_entry_is_named_removed_and_made_again(kind, entry, name, finished, output):
    path = store_of(output, kind)
    flip_in_array(path, entry, name)
    assert list(damaged(output)[path.name].damaged) == [entry]
    store = (FeatureStore if kind == "features" else MatchStore)(path)
    with store, pytest.raises(CacheError, match="is damaged: its content is not what was written"):
        store[store._key(entry)]
    (action,) = repair(output)
    assert action.what == "removed 1 damaged entries"
    assert not damaged(output)
    assert again(finished, output).code == 0
    assert summary_of(output)["computed"]["extract" if kind == "features" else "match"] == 1


@pytest.mark.slow
def test_a_run_makes_damaged_features_again_and_says_so(finished, output, caplog):
    flip_in_array(store_of(output, "features"), "view02.jpg", "descriptors")
    with caplog.at_level(logging.WARNING):
        assert again(finished, output).code == 0
    assert "Features of view02.jpg were damaged and are made again" in caplog.text
    assert summary_of(output)["computed"]["extract"] == 1
    assert not damaged(output)


def test_a_run_makes_damaged_matches_again_on_its_way(finished, output):
    (output / "database.db").unlink()
    for second in ("view01.jpg", "view03.jpg"):
        flip_in_array(store_of(output, "matches"), f"view00.jpg/{second}", "indices")
    ended = again(finished, output)
    assert ended.code == 0
    assert ended.err.count("made again: ('view00.jpg', 'view01.jpg'), ('view00.jpg', 'view03.jpg').") == 1
    assert summary_of(output)["num_pairs"] == 6
    assert not damaged(output)


@pytest.mark.slow
def test_a_store_that_was_cut_off_keeps_what_can_be_read(finished, output):
    path = store_of(output, "features")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.8)])
    assert path.name in damaged(output)
    ended = again(finished, output)
    assert ended.code == 0
    assert "could be read and are kept" in ended.err
    assert summary_of(output)["computed"]["extract"] in (1, 2)
    assert not damaged(output)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"some text\n" * 99, None])
def test_something_else_under_the_name_of_a_store_is_set_aside(content, finished, output):
    path = store_of(output, "matches")
    if content is None:
        path.unlink()
        with h5py.File(path, "w") as file:
            file["others/data"] = [1, 2]
    else:
        path.write_bytes(content)
    assert damaged(output)[path.name].problem
    (action,) = repair(output)
    assert "set aside" in action.what
    assert again(finished, output).code == 0
    assert not damaged(output)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["keypoints", "matches", "two_view_geometries"])
def test_a_flipped_bit_in_the_database_is_noticed_and_it_is_made_again(table, finished, output):
    with closing(sqlite3.connect(output / "database.db")) as database:
        (row, blob) = database.execute(f"SELECT rowid, data FROM {table} WHERE rows > 0").fetchone()
        changed = blob[:-5] + bytes([blob[-5] ^ 4]) + blob[-4:]
        database.execute(f"UPDATE {table} SET data = ? WHERE rowid = ?", (changed, row))
        database.commit()
    assert {each.path: each for each in verify(output)}["database.db"].changed == ["its content"]
    assert again(finished, output).code == 0
    assert summary_of(output)["computed"]["database"] == 6
    assert not damaged(output)


RECORDS = ("options.json", "database.json", "second-looks.json", "summary.json", "pairs.txt")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDS)
def test_small_files_that_were_cut_off_are_named_and_no_run_dies_of_them(name, finished, output):
    path = output / name
    path.write_bytes(path.read_bytes()[:-9])
    assert list(damaged(output)) == [name]
    assert again(finished, output).code == 0
    assert not damaged(output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("database.json", "images", ["no", "dictionary"]),
        ("second-looks.json", "rounds", [{"pairs": 7}]),
        ("summary.json", "seconds", "many"),
        ("options.json", "flags", 7),
    ],
)
def test_small_files_with_other_types_inside_are_named_and_no_run_dies_of_them(name, field, value, finished, output):
    path = output / name
    known = json.loads(path.read_text())
    known.pop("checksum", None)
    path.write_text(json.dumps({**known, field: value}))
    assert list(damaged(output)) == [name]
    assert again(finished, output).code == 0
    assert not damaged(output)


@pytest.mark.slow
def test_a_model_that_was_cut_off_is_named_and_set_aside(finished, output):
    path = output / "sparse" / "0" / "points3D.bin"
    path.write_bytes(path.read_bytes()[:-50])
    assert "cut off" in damaged(output)["sparse/0"].problem
    assert repair(output)[0].what == "set aside as 0.damaged"
    assert again(finished, output).code == 0
    assert not damaged(output)


@pytest.mark.slow
def test_prune_removes_only_what_the_last_run_does_not_need(finished, output):
    others = [output / "features-sift-0123456789ab.h5", output / "matches-nearest-0123456789ab.h5"]
    for path, kind in zip(others, ("features", "matches"), strict=True):
        path.write_bytes(store_of(finished[1], kind).read_bytes())
    (output / "matches-nearest-old.damaged").write_bytes(b"x" * 100)
    before = sorted(path.name for path in output.iterdir())
    planned = {action.path for action in prune(output)}
    assert planned == {*(path.name for path in others), "matches-nearest-old.damaged"}
    assert sorted(path.name for path in output.iterdir()) == before  # it was only said
    assert {action.path for action in prune(output, is_dry=False)} == planned
    assert prune(output) == []
    assert again(finished, output).code == 0
    assert summary_of(output)["reused"]["extract"] == 4
    assert summary_of(output)["computed"].get("match", 0) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["features", "matches"])
def test_a_store_of_a_newer_version_is_named_and_never_touched(kind, output):
    path = store_of(output, kind)
    with h5py.File(path, "a") as file:
        file.attrs["lgsfm_format"] = FORMAT + 1
    other = path.with_name(f"{kind}-sift-0123456789ab.h5")  # as the newer version may have named it
    other.write_bytes(path.read_bytes())
    before = files_of(output)
    found = {each.path: each for each in verify(output) if each.is_newer}
    assert sorted(found) == sorted((path.name, other.name))
    assert not any(each.is_damaged for each in found.values())
    ended = run("cache", "verify", output, "--quiet")
    assert ended.code == 1
    assert "DAMAGED" not in ended.out
    assert "which a newer lgsfm wrote. Update this one" in ended.err
    assert repair(output) == []
    assert prune(output, is_dry=False) == []
    assert files_of(output) == before


def test_an_output_of_an_older_version_is_not_called_damaged(output):
    record = output / "database.json"
    older = {key: value for key, value in read_json(record).items() if key in ("identity", "report", "flags", "made")}
    write_json(record, {**older, "content": "0123456789ab"})
    found = {each.path: each for each in verify(output)}
    assert not damaged(output)
    assert found["database.json"].note == "of another version: the database is made again"
    assert repair(output) == []


@pytest.mark.parametrize("kind", ["features", "matches"])
def test_a_link_to_a_store_that_is_gone_is_named_and_cleared_away(kind, output):
    path = store_of(output, kind)
    path.unlink()
    path.symlink_to(output / "gone.h5")
    assert damaged(output)[path.name].problem == "it is no file"
    assert prune(output, is_dry=False) == []
    (action,) = repair(output)
    assert action.what == f"set aside as {path.name}.damaged"
    assert not damaged(output)
    assert [each.path for each in prune(output, is_dry=False)] == [f"{path.name}.damaged"]
    assert not path.is_symlink()


def test_prune_removes_entries_of_photos_that_are_gone_and_unfinished_ones(finished, output, tmp_path):
    photos = copy_photos(finished[0], tmp_path / "photos", views(0, 1, 2))
    write_json(output / "summary.json", {**read_json(output / "summary.json"), "image_dir": str(photos)})
    with h5py.File(store_of(output, "features"), "a") as file:
        file.create_group("killed.jpg")
    actions = {action.path: action for action in prune(output, is_dry=False)}
    what = actions[store_of(output, "features").name].what
    assert what == "entries of 1 photos that are gone, 1 unfinished entries"
    with FeatureStore(store_of(output, "features")) as features, MatchStore(store_of(output, "matches")) as matches:
        assert sorted(features) == views(0, 1, 2)
        assert len(matches) == 3
    assert not damaged(output)


@pytest.mark.slow
def test_a_store_in_use_is_said_and_repair_waits_for_no_one(finished, output):
    code = f"import sys, h5py; f = h5py.File({str(store_of(output, 'matches'))!r}, 'a'); print(); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    other.stdout.readline()
    try:
        found = {each.path: each for each in verify(output)}
    finally:
        other.communicate()
    assert found[store_of(output, "matches").name].is_in_use
    assert not found[store_of(output, "matches").name].is_damaged


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no output folder of lgsfm"):
        verify(tmp_path)


def test_random_damage_is_never_read_as_something_else(tmp_path):
    pytest.importorskip("resource")
    specification = importlib.util.spec_from_file_location("fuzz_stores", FUZZ)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    found = module.fuzz(90, 7, tmp_path)
    results = {result for _, _, result in found}
    assert not results & {"wrong", "error"}
    assert "said" in results


def test_stores_of_a_finer_look_go_only_if_there_was_none(tmp_path):
    settings = Settings.from_flags({"features": "sift", "max_edge_px": 333, "max_keypoints": 300})
    extractor = settings.make_extractor("sift")
    matcher = settings.make_matcher("nearest", extractor)
    identities = {"extractor": settings.identity_of(extractor), "matcher": settings.identity_of(matcher)}
    space = Workspace(tmp_path)
    write_json(space.options, {"flags": {}, **identities})
    finer = Finer(tmp_path, space, settings.finer(extractor), lambda stage: None)
    paths = [finer.features_path, finer.matches_path]
    for path in paths:
        path.touch()
    assert [each.what for each in prune(tmp_path)] == ["of other options"] * 2
    SecondLooks(space.second_looks).add(Look([("a.jpg", "b.jpg")], is_finer=True))
    assert prune(tmp_path, is_dry=False) == []
    assert all(path.exists() for path in paths)
