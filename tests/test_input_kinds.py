"""What people give in the place of a folder of photos: addresses, archives, single files; and what they are told."""

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import run
from PIL import Image

from lgsfm.errors import InputError
from lgsfm.image_files import list_images
from lgsfm.input_kinds import kind_of


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (30, 40, 3), np.uint8))


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        list_images(path)
    return str(caught.value)


@pytest.mark.parametrize("address", ["https://example.com/photos.zip", "http://x/a", "s3://bucket/photos"])
def test_an_address_is_not_downloaded(address, tmp_path):
    ran = run("reconstruct", address, "-o", tmp_path / "out")
    assert ran.code == 1
    assert f"'{address}' is an address" in ran.err
    assert not (tmp_path / "out").exists()


def test_a_windows_drive_is_no_address():
    assert "does not exist" in refusal(Path("C:/photos"))


def test_the_command_for_a_zip_makes_the_folder_that_is_named(tmp_path):
    source = tmp_path / "my photos.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for name in ("a.png", "b.png"):
            stream = io.BytesIO()
            picture().save(stream, "PNG")
            archive.writestr(name, stream.getvalue())
    text = refusal(source)
    command = text.split("Unpack it: python ")[1].split("; then")[0]
    subprocess.run(f"{sys.executable} {command}", shell=True, check=True)
    assert list_images(tmp_path / "my photos") == ["a.png", "b.png"]
    assert f"lgsfm reconstruct '{tmp_path / 'my photos'}'" in text


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_other_archives(tmp_path, mode):
    with tarfile.open(tmp_path / "archive", mode) as archive:
        archive.add(__file__, "a.txt")
    assert "tar -xf" in refusal(tmp_path / "archive")


def test_moving_pictures_and_pages_are_told_from_photos(tmp_path):
    frames = [picture(seed) for seed in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "one.tif")
    frames[0].save(tmp_path / "one.jpg")
    assert "ffmpeg -i" in refusal(tmp_path / "a.gif")
    assert "several pages" in refusal(tmp_path / "pages.tif")
    assert "one photo" in refusal(tmp_path / "one.tif")
    assert "one photo" in refusal(tmp_path / "one.jpg")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", "video"),
        (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", "video"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "photo"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "photo"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "photo"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86", "video"),
        (b"G" + bytes(187) + b"G" + bytes(187), "video"),
        (bytes(4) + b"G" + bytes(191) + b"G" + bytes(187), "video"),
        (b"G" + bytes(399), ""),
        (b"Please read me", ""),
        (b"", ""),
        (b"%PDF-1.7", "pdf"),
        (b"II*\0", "tiff"),
        (b"II*\0" + b"\xff" * 40, "tiff"),
        (b"\xff\xff\xff\xffftyp", "video"),
    ],
)
def test_kinds_by_their_first_bytes(head, kind):
    assert kind_of(io.BytesIO(head)) == kind


def test_archives_in_a_folder_are_mentioned(tmp_path):
    (tmp_path / "photos.zip").touch()
    assert "Unpack the archives" in refusal(tmp_path)
    (tmp_path / "a.gif").touch()
    assert "GIFs are not read" in refusal(tmp_path)
