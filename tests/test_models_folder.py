"""New models in the place of old ones: what is somebody else's, or was changed by hand, is never deleted."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from lgsfm.errors import CacheError
from lgsfm.mapping.folder import record_models, replace_models, settle, written_files


@pytest.fixture(params=[True, False], ids=["exchange", "no exchange"])
def output(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder with two models as they were written, and one new model; on either kind of file system."""
    if not request.param:
        monkeypatch.setattr("lgsfm.files.exchange", lambda first, second: False)
    write_models(tmp_path / "sparse", 2, "old")
    write_models(tmp_path / "new", 1, "new")
    return tmp_path


def write_models(folder: Path, count: int, text: str) -> None:
    for number in range(count):
        (folder / str(number)).mkdir(parents=True)
        for name in ("cameras.bin", "images.bin"):
            (folder / str(number) / name).write_text(f"{text} {name} {number}")
    record_models(folder)


def replaced(output: Path) -> dict[str, str]:
    """Files that were kept, relative to the folder of all that was kept -> text."""
    folder = output / "replaced"
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def replace_all(output: Path, **more: str) -> None:
    replace_models(output / "new", output / "sparse", **more)
    assert (output / "sparse" / "0" / "cameras.bin").read_text() == "new cameras.bin 0"
    assert written_files(output / "sparse").keys() == {"0/cameras.bin", "0/images.bin"}
    assert not list(output.glob("*.before"))


def test_models_as_they_were_written_go(output: Path) -> None:
    replace_all(output)
    assert sorted(path.name for path in output.iterdir()) == ["sparse"]
    assert sorted(path.name for path in (output / "sparse").iterdir()) == ["0", "models.json"]


@pytest.mark.parametrize("name", ["images.bin", "notes.txt", "points/mine.ply"])
def test_a_model_that_was_changed_is_kept_whole_and_named(
    output: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.WARNING, "lgsfm")
    path = output / "sparse" / "1" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    replace_all(output)
    assert replaced(output) == {
        "1/1/cameras.bin": "old cameras.bin 1",
        "1/1/images.bin": "old images.bin 1",
        f"1/1/{name}": "mine",
    }
    assert f"model 1 ({name})" in caplog.text
    assert str(output / "replaced" / "1") in caplog.text


@pytest.mark.parametrize("number", ["5", "00"])
def test_a_model_that_somebody_put_there_is_kept(output: Path, number: str) -> None:
    shutil.copytree(output / "sparse" / "0", output / "sparse" / number)
    replace_all(output)
    assert {name.split("/")[1] for name in replaced(output)} == {number}


def test_all_is_kept_where_nobody_knows_what_was_written(output: Path) -> None:
    (output / "sparse" / "models.json").write_text('{"files": {}}')
    replace_all(output)
    assert {name.split("/")[1] for name in replaced(output)} == {"0", "1"}


def test_a_record_in_which_a_bit_flipped_tells_nothing(output: Path) -> None:
    record = output / "sparse" / "models.json"
    record.write_text(record.read_text().replace("a", "b", 1))
    assert written_files(output / "sparse") is None


def test_models_that_are_better_are_kept_even_if_the_run_is_killed_then(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(aside: Path, output: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("lgsfm.mapping.folder.settle", killed)
        with pytest.raises(KeyboardInterrupt):
            replace_models(output / "new", output / "sparse", keep_because="The old ones had more photos.")
    settle(output / "sparse.before", output / "sparse")  # as the next run does
    assert replaced(output)["1/0/cameras.bin"] == "old cameras.bin 0"


def test_each_time_has_a_folder_of_its_own(output: Path) -> None:
    for i in range(3):
        (output / "sparse" / "0" / "notes.txt").write_text(f"mine {i}")
        write_models(output / "new", 1, "new") if i else None
        replace_all(output)
    assert [replaced(output)[f"{i + 1}/0/notes.txt"] for i in range(3)] == ["mine 0", "mine 1", "mine 2"]


def test_who_was_killed_while_deleting_has_changed_nothing(output: Path) -> None:
    (output / "sparse").rename(output / "sparse.before")
    (output / "sparse.before" / "0" / "images.bin").unlink()
    (output / "sparse.before" / "1" / "cameras.bin").unlink()  # without which it is no model any more
    (output / "new").rename(output / "sparse")
    settle(output / "sparse.before", output / "sparse")
    assert sorted(path.name for path in output.iterdir()) == ["sparse"]


@pytest.mark.parametrize("name", ["notes.txt", "aligned", "12"])
def test_links_and_what_is_no_model_stay_where_they_are(output: Path, name: str) -> None:
    target = output / "elsewhere"
    write_models(target, 1, "elsewhere")
    (output / "sparse" / name).symlink_to(target / "0")
    replace_all(output)
    assert (output / "sparse" / name).is_symlink()
    assert (target / "0" / "cameras.bin").read_text() == "elsewhere cameras.bin 0"


def test_what_cannot_be_moved_is_an_error_that_says_so(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (output / "sparse" / "0" / "notes.txt").write_text("mine")
    (output / "replaced").write_text("in the way")
    with pytest.raises(CacheError, match=r"sparse cannot be replaced by .*new"):
        replace_models(output / "new", output / "sparse")
    assert (output / "sparse.before" / "0" / "notes.txt").read_text() == "mine"
