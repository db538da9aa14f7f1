"""What lgsfm writes where the user says so replaces nothing of the user's, nor of the run's."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import run
from PIL import Image

from lgsfm.destination import check_file
from lgsfm.drawing import is_drawing, save_picture
from lgsfm.errors import InputError
from lgsfm.localization.result import Localization, are_localizations
from lgsfm.report import is_report, write_report
from lgsfm.workspace import Workspace

PICTURE = np.full((20, 30, 3), 128, np.uint8)


def never(path: Path) -> bool:
    return False


@pytest.fixture
def output(tmp_path: Path) -> Workspace:
    """An output folder of a run that has only begun."""
    workspace = Workspace(tmp_path / "out")
    workspace.root.mkdir()
    workspace.options.write_text(json.dumps({"flags": {}}))
    return workspace


def test_what_is_not_there_or_empty_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()  # as mktemp makes it
    for name in ("new", "no/folder/yet", "empty"):
        check_file(tmp_path / name, "report", never)


def test_only_what_is_ours_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.html").write_text("years of work")
    check_file(tmp_path / "thesis.html", "report", lambda path: True)
    with pytest.raises(InputError, match="is there, and it is no report that lgsfm wrote, so it is not replaced"):
        check_file(tmp_path / "thesis.html", "report", never)


def test_what_cannot_be_read_is_not_taken_for_ours(tmp_path: Path) -> None:
    def fail(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.html").write_text("x")
    with pytest.raises(InputError, match="not replaced"):
        check_file(tmp_path / "a.html", "report", fail)


def test_folders_links_and_pipes_are_no_place_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    places = [(tmp_path, "is a folder"), (tmp_path / "link", "is a link"), (tmp_path / "dangling", "is a link")]
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        places.append((tmp_path / "pipe", "is a pipe or a device"))
    for path, words in places:
        with pytest.raises(InputError, match=words):
            check_file(path, "report", lambda path: True)


def test_the_files_of_a_run_stay(output: Workspace) -> None:
    for name in ("database.db", "options.json", "summary.json", "sparse/0/images.bin", "features-x-0.h5", ".lock"):
        with pytest.raises(InputError, match="is among the files of the run"):
            check_file(output.root / name, "report", lambda path: True, run=output)
    check_file(output.root / "with-reference.html", "report", never, run=output)
    output.report.write_text("of an old version")
    check_file(output.report, "report", never, run=output, own_place=output.report)


# --------------------------------------------------------------------------------- what is read
def test_the_folder_that_photos_are_read_from_is_said(output: Workspace, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    output.summary.write_text(json.dumps({"image_dir": str(tmp_path / "private")}))
    ended = run("report", output.root)
    assert ended.code == 0
    assert f"Photos: {tmp_path / 'private'}, as the output folder says; --images DIR names another." in ended.err
    assert "Photos:" not in run("report", output.root, "--images", tmp_path).err


@pytest.mark.parametrize("value", ["", None, 3, []])
def test_where_no_folder_of_photos_is_recorded_none_is_read(output: Workspace, value: object) -> None:
    output.summary.write_text(json.dumps({"image_dir": value}))
    assert not output.recorded_image_dir().is_dir()  # nor is it the working folder


def test_options_that_are_damaged_are_not_called_missing(output: Workspace) -> None:
    for words in (("report", output.root), ("cite", output.root), ("show", "--run", output.root, "a", "b")):
        output.options.write_text("{")
        ended = run(*words)
        assert ended.code == 1
        assert "options.json cannot be read" in ended.err
        assert f"`lgsfm cache repair {output.root}` removes it" in ended.err
        output.options.unlink()
        assert "is no output folder of lgsfm: it has no options.json" in run(*words).err


# --------------------------------------------------------------------------------- the kinds
def test_a_report_replaces_a_report(output: Workspace, tmp_path: Path) -> None:
    target, own = tmp_path / "report.html", Workspace(output.root).report
    assert write_report(output.root, path=target) == target
    assert is_report(target)
    write_report(output.root, path=target)
    own.write_text("anything, in the place that is for it")
    assert is_report(write_report(output.root))


@pytest.mark.parametrize("content", [b"<html>mine</html>", b"\xff\xd8\xff\xe0 a photo", b"{}"])
def test_a_report_replaces_nothing_else(output: Workspace, tmp_path: Path, content: bytes) -> None:
    target = tmp_path / "mine"
    target.write_bytes(content)
    with pytest.raises(InputError, match="not replaced"):
        write_report(output.root, path=target)
    assert target.read_bytes() == content
    with pytest.raises(InputError, match="among the files of the run"):
        write_report(output.root, path=output.options)
    assert json.loads(output.options.read_text()) == {"flags": {}}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".JPG"])
def test_a_drawn_picture_is_known_as_ours_and_no_other(tmp_path: Path, suffix: str) -> None:
    drawn, photo = tmp_path / f"drawn{suffix}", tmp_path / f"photo{suffix}"
    save_picture(drawn, PICTURE)
    exif = Image.Exif()
    exif[0x0131] = "GIMP, and not lgsfm show"
    Image.fromarray(PICTURE).save(photo, exif=exif)
    assert is_drawing(drawn)
    assert not is_drawing(photo)
    assert np.abs(np.asarray(Image.open(drawn)).astype(int) - 128).max() <= 2
    assert {path.name for path in tmp_path.iterdir()} == {drawn.name, photo.name}


@pytest.mark.parametrize(
    "content", [b"", b"a text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\x00\x10Exif\0\0MM\0*\xff"]
)
def test_what_is_no_picture_is_no_drawing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert not is_drawing(tmp_path / "a.png")


def test_a_picture_without_exif_data_is_no_drawing(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    assert not is_drawing(tmp_path / "a.png")


def test_a_picture_that_fails_leaves_the_one_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    save_picture(path, PICTURE)
    before = path.read_bytes()

    def fail(self: Image.Image, place: Path, **_: object) -> None:
        place.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(InputError, match="No space left"):
        save_picture(path, PICTURE + 1)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


def test_results_of_localize_are_known_as_such(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    rows = [Localization(name="a.jpg", image_name="a.jpg", state="few matches").to_dict()]
    path.write_text(json.dumps(rows))
    assert are_localizations(path)
    for content in ("[]", "{}", "[1]", '[{"name": "a.jpg"}]', "", "a text", json.dumps([*rows, {}]), "[" * 100_000):
        path.write_text(content)
        assert not are_localizations(path), content[:40]
