"""Folders of photos that anybody may have made: pipes, devices, links, and names that lead elsewhere."""

import inspect
import os
import socket
import sys
from pathlib import Path

import pytest
from PIL import Image

from lgsfm import images
from lgsfm.errors import InputError
from lgsfm.image_files import image_path, list_images, walk_files
from lgsfm.images import file_digest, read_header, read_photo

READERS = (read_header, read_photo, file_digest)


def photo(path: Path, colour: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (40, 30), colour).save(path)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes and devices in folders")
@pytest.mark.parametrize("read", READERS)
def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    os.mkfifo("pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        Path("endless.jpg").symlink_to("/dev/zero")
        Path("linked.jpg").symlink_to("pipe.jpg")
        for name in ("pipe.jpg", "socket.jpg", "endless.jpg", "linked.jpg"):
            with pytest.raises(InputError, match=rf"{name}: (is a pipe or a device|cannot be read)"):
                read(Path(name))


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders")
def test_pipes_and_links_to_them_are_listed_so_that_whoever_reads_them_names_them(tmp_path):
    photo(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")
    (tmp_path / "x.jpg").mkdir()
    photo(tmp_path / "x.jpg" / "b.jpg")
    assert list_images(tmp_path) == ["a.jpg", "link.jpg", "pipe.jpg", "x.jpg/b.jpg"]


def test_hidden_photos_and_those_in_output_folders_are_left_out_and_told(tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("a.jpg", ".b.jpg", "c/.d.jpg", "._a.jpg", ".DS_Store", "c/out/export/e.jpg", "out/views/f.jpg"):
        photo(tmp_path / "x.jpg")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x.jpg").rename(tmp_path / name)
    assert list_images(tmp_path) == ["a.jpg", "c/out/export/e.jpg", "out/views/f.jpg"]
    assert "2 hidden photos" in caplog.text
    assert "(.b.jpg, c/.d.jpg)" in caplog.text
    for folder, sign in (("c/out", "options.json"), ("out", "views/views.json")):
        (tmp_path / folder / ".lock").touch()
        assert "Pictures that lgsfm" not in caplog.text
        (tmp_path / folder / sign).touch()
    assert list_images(tmp_path) == ["a.jpg"]
    assert f"Pictures that lgsfm made in '{tmp_path}' are left out (c/out/export/, out/views/)." in caplog.text
    assert list_images(tmp_path / "c" / "out" / "export") == ["e.jpg"]
    photo(tmp_path / "out" / "images" / "g.jpg")  # a project folder that is the output folder
    assert list_images(tmp_path) == ["a.jpg", "out/images/g.jpg"]


def test_a_farm_of_links_is_walked_once(tmp_path):
    """Twelve folders with links to each other have half a billion paths."""
    for i in range(12):
        photo(tmp_path / f"d{i:02}" / "a.jpg")
        for j in range(12):
            (tmp_path / f"d{i:02}" / f"to{j:02}").symlink_to(tmp_path / f"d{j:02}")
    assert list_images(tmp_path) == [f"d{i:02}/a.jpg" for i in range(12)]


def test_of_several_paths_the_one_without_links_counts(tmp_path):
    photo(tmp_path / "z" / "a.jpg")
    (tmp_path / "alias").symlink_to(tmp_path / "z")
    outside = photo(tmp_path.parent / f"{tmp_path.name}-outside" / "b.jpg").parent
    (tmp_path / "m").symlink_to(outside)
    (tmp_path / "n").symlink_to(outside)
    assert list_images(tmp_path) == ["m/b.jpg", "z/a.jpg"]


def test_folders_may_be_deeper_than_python_calls(tmp_path):
    photo(tmp_path / "/".join(["d"] * 500) / "a.jpg")
    before = sys.getrecursionlimit()
    frames = len(inspect.stack())
    sys.setrecursionlimit(frames + 150)
    try:
        names = list(walk_files(tmp_path))
    finally:
        sys.setrecursionlimit(before)
    assert [name.count("/") for name in names] == [500]


@pytest.mark.parametrize("letter", ["\x1b", "\x7f", "\x9b", "\r"])
def test_names_that_control_terminals_are_refused_and_shown_harmless(tmp_path, letter):
    try:
        (tmp_path / f"a{letter}[2J.jpg").touch()
    except OSError:
        pytest.skip("the file system takes no such names")
    with pytest.raises(InputError, match="control character") as caught:
        list_images(tmp_path)
    assert letter not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_all_names_that_cannot_be_used_are_told_at_once(tmp_path):
    for name in ("a\nb.jpg", "c\td.jpg", "\udce4.jpg", "fine.jpg"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError) as caught:
        list_images(tmp_path)
    assert str(caught.value) == (
        f"Names of photos in '{tmp_path}' cannot be used: 'a\\nb.jpg', 'c\\td.jpg' with a control character; "
        "'\\udce4.jpg' with bytes that are not UTF-8. Rename the files."
    )


@pytest.mark.parametrize(
    "name",
    [
        *("../a.jpg", "/etc/a.jpg", "a/../../b.jpg", "..", "", "a\0.jpg"),
        *("..\\a.jpg", "C:\\a.jpg", "C:a.jpg", "\\\\host\\a.jpg"),
    ],
)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="no name of a photo"):
        image_path(tmp_path, name)


@pytest.mark.parametrize("name", ["a.jpg", "sub dir/é 中.jpg", "a..b.jpg", "...jpg"])
def test_names_that_stay_inside_are_paths(tmp_path, name):
    assert image_path(tmp_path, name) == tmp_path / name


def test_a_photo_that_is_replaced_while_it_is_read_is_one_of_the_two(tmp_path, monkeypatch):
    path = photo(tmp_path / "a.png", 10)
    other = photo(tmp_path / "b.png", 200)
    digests = {file_digest(path): 10, file_digest(other): 200}
    parse = images.read_whole

    def replaced_meanwhile(stream):
        if other.exists():
            os.replace(other, path)
        return parse(stream)

    monkeypatch.setattr(images, "read_whole", replaced_meanwhile)
    found = read_photo(path)
    assert digests[found.digest] == found.rgb[0, 0, 0] == 10
    assert read_photo(path).rgb[0, 0, 0] == 200
