"""HEIC, AVIF and raw photos, which libraries of extras read: right way up, with their focal length; and without these
libraries, named with what installs them."""

import io
import logging
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import INVERSE, ORIENTATION, textured
from dng import dng, mosaic
from PIL import Image

from lgsfm import image_files, image_headers, photo_formats
from lgsfm.errors import InputError
from lgsfm.exif import turn_upright
from lgsfm.extraction import extract_features
from lgsfm.images import list_images, read_header, read_photo
from lgsfm.registry import component_class

HAS_AVIF = photo_formats.is_readable("AVIF")
CODES = range(1, 9)
FOCAL_35MM = 26
SIZE = (192, 128)  # stored


def camera_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION], exif[271], exif[272] = orientation, "Maker", "Model 5"
    exif[0x8769] = {37386: 4.25, 41989: FOCAL_35MM}
    return exif


def upright(orientation: int) -> np.ndarray:
    """What is to be seen, of a photo stored at `SIZE`."""
    width, height = SIZE if orientation < 5 else SIZE[::-1]
    return cv2.GaussianBlur(textured(width, height), (0, 0), 2)


def stored(orientation: int) -> np.ndarray:
    return turn_upright(upright(orientation), INVERSE.get(orientation, orientation))


def heic(path: Path, orientation: int = 1) -> Path:
    """As phones write: the sensor's pixels, a property that turns them, and the EXIF orientation that says the same."""
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = pillow_heif.from_bytes("RGB", SIZE, stored(orientation).tobytes())
    picture.save(path, quality=95, exif=camera_exif(orientation).tobytes())
    return path


def avif(path: Path, orientation: int = 1) -> Path:
    if not HAS_AVIF:
        pytest.skip("this Pillow has no AVIF")
    Image.fromarray(stored(orientation)).save(path, "AVIF", exif=camera_exif(orientation), quality=95)
    return path


def raw(path: Path, orientation: int = 1) -> Path:
    pytest.importorskip("rawpy")
    path.write_bytes(dng(mosaic(stored(orientation)), orientation, 4.25, FOCAL_35MM))
    return path


WRITERS = {"heic": heic, "avif": avif, "dng": raw}


def likeness(rgb: np.ndarray, expected: np.ndarray) -> float:
    """Correlation of two pictures: raw photos are developed brighter than they were."""
    assert rgb.shape == expected.shape
    return float(np.corrcoef(rgb.ravel(), expected.ravel())[0, 1])


@pytest.mark.parametrize("orientation", CODES)
@pytest.mark.parametrize("kind", ["heic", "avif"])
def test_right_way_up_in_every_orientation(tmp_path, kind, orientation):
    path = WRITERS[kind](tmp_path / f"a.{kind}", orientation)
    photo = read_photo(path)
    assert likeness(photo.rgb, upright(orientation)) > 0.99
    assert (photo.size, photo.orientation) == (read_header(path).size, read_header(path).exif.orientation)
    assert photo.size == (SIZE if kind == "avif" or orientation < 5 else SIZE[::-1])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])  # cameras mirror nothing
def test_raw_photos_are_developed_the_right_way_up(tmp_path, orientation):
    path = raw(tmp_path / "a.dng", orientation)
    photo = read_photo(path)
    assert likeness(photo.rgb, upright(orientation)) > 0.98
    assert (photo.size, photo.orientation) == (SIZE, orientation)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_focal_length_and_camera(tmp_path, kind, orientation):
    header = read_header(WRITERS[kind](tmp_path / f"a.{kind}", orientation))
    assert (header.exif.make, header.exif.model) == ("Maker", "Model 5")
    assert header.exif.focal_mm == pytest.approx(4.25)
    focal_px = FOCAL_35MM * np.hypot(*SIZE) / np.hypot(36, 24)
    assert header.exif.focal_px(header.size) == pytest.approx(focal_px, rel=1e-3)


@pytest.mark.parametrize("kind", WRITERS)
def test_the_format_is_what_the_file_is_not_what_its_name_says(tmp_path, kind):
    path = WRITERS[kind](tmp_path / f"a.{kind}")
    renamed = path.rename(tmp_path / "b.jpg")
    assert likeness(read_photo(renamed).rgb, upright(1)) > 0.98
    Image.fromarray(upright(1)).save(tmp_path / f"c.{kind}", "PNG")
    np.testing.assert_array_equal(read_photo(tmp_path / f"c.{kind}").rgb, upright(1))


@pytest.mark.parametrize("max_edge_px", [96, 95, 60, 192, 150])
def test_smaller_raw_photos_show_the_same_places(tmp_path, max_edge_px):
    photo = read_photo(raw(tmp_path / "a.dng", 6), max_edge_px)
    height, width = photo.rgb.shape[:2]
    assert likeness(photo.rgb, cv2.resize(upright(6), (width, height), interpolation=cv2.INTER_AREA)) > 0.97
    corners = np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])
    assert np.ptp(photo.to_stored(corners), axis=0) == pytest.approx(SIZE)


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("kind", WRITERS)
def test_truncated_files_are_refused_in_silence(tmp_path, capfd, kind, keep):
    path = WRITERS[kind](tmp_path / f"a.{kind}")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(InputError, match=rf"a\.{kind}: .*truncated"):
        read_photo(path)
    assert capfd.readouterr().err == ""


def test_bombs_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("lgsfm.decoding.decode_heif", lambda *_: pytest.fail("it was decoded"))
    monkeypatch.setattr("lgsfm.decoding.develop", lambda *_, **__: pytest.fail("it was decoded"))
    for kind in ("heic", "avif"):
        path = WRITERS[kind](tmp_path / f"a.{kind}")
        data = path.read_bytes()
        size = struct.pack(">II", *SIZE)
        assert data.count(b"ispe\0\0\0\0" + size) >= 1
        path.write_bytes(data.replace(b"ispe\0\0\0\0" + size, b"ispe\0\0\0\0" + struct.pack(">II", 30000, 20000)))
        with pytest.raises(InputError, match=r"30000 x 20000 px is more than|damaged"):
            read_photo(path)
    path = raw(tmp_path / "a.dng")
    wide = struct.pack("<HHII", 256, 4, 1, SIZE[0]), struct.pack("<HHII", 256, 4, 1, 60000)
    high = struct.pack("<HHII", 257, 4, 1, SIZE[1]), struct.pack("<HHII", 257, 4, 1, 60000)
    path.write_bytes(path.read_bytes().replace(*wide).replace(*high))
    with pytest.raises(InputError, match=r"60000 x 60000 px is more than|damaged"):
        read_photo(path)
    monkeypatch.setenv("LGSFM_MAX_MEGAPIXELS", "0.01")
    for kind, write in WRITERS.items():
        with pytest.raises(InputError, match=r"192 x 128 px is more than 0\.01 megapixels"):
            read_photo(write(tmp_path / f"small.{kind}"))


def test_a_file_too_large_for_any_photo_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("LGSFM_MAX_MEGAPIXELS", "0.001")
    monkeypatch.setattr(image_headers, "parse_raw", lambda *_: pytest.fail("it was read"))
    monkeypatch.setattr(image_headers, "parse_heif", lambda *_: pytest.fail("it was read"))
    for head in (b"FUJIFILMCCD-RAW ", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\0\0\0\x18ftypavif\0\0\0\0mif1heic"):
        (tmp_path / "a.raf").write_bytes(head + bytes(10_000))
        with pytest.raises(InputError, match="more than an image of"):
            read_header(tmp_path / "a.raf")


# --- without the libraries ----------------------------------------------------------------------------


@pytest.fixture
def no_libraries(monkeypatch):
    monkeypatch.setattr(photo_formats, "find_spec", lambda _: None)


@pytest.mark.usefixtures("no_libraries")
def test_each_photo_is_named_with_the_command_that_helps(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "b.avif").write_bytes(b"\0\0\0\x18ftypavif\0\0\0\0mif1avif")
    (tmp_path / "c.dng").write_bytes(dng(np.zeros((8, 8), np.uint16)))
    (tmp_path / "d.raf").write_bytes(b"FUJIFILMCCD-RAW 0201")
    commands = {"a.heic": "lgsfm[heic]", "b.avif": "pillow>=11.3", "c.dng": "lgsfm[raw]", "d.raf": "lgsfm[raw]"}
    for name, wanted in commands.items():
        for read in (read_header, read_photo):
            with pytest.raises(InputError, match=rf"{name}: .*pip install '{re.escape(wanted)}'"):
                read(tmp_path / name)


@pytest.mark.usefixtures("no_libraries")
def test_a_folder_of_them_alone_is_an_error_and_among_others_they_are_named(tmp_path, caplog, save_photo):
    for name in ("a.heic", "B.NEF"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(InputError, match=r"2 of the 2 photos .*\(B\.NEF, a\.heic\).*'lgsfm\[heic\]' 'lgsfm\[raw\]'"):
        list_images(tmp_path)
    for seed, name in enumerate(("c.png", "d.png")):
        save_photo(tmp_path / name, textured(seed=seed))
    with caplog.at_level(logging.WARNING):
        names = list_images(tmp_path)
    assert names == ["B.NEF", "a.heic", "c.png", "d.png"]
    assert "2 of the 4 photos" in caplog.text
    extractor = component_class("extractor", "sift")
    report = extract_features(tmp_path, names, extractor(extractor.options_class(), "cpu", lambda _: None), store := {})
    assert sorted(store) == ["c.png", "d.png"]
    assert "pip install 'lgsfm[heic]'" in report.failed["a.heic"]


def test_of_one_photo_in_two_formats_one_is_listed(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(image_files, "is_readable", lambda _: True)
    for name in ("a.JPG", "A.nef", "b.heic", "b.png", "sub/a.heic", "c.dng", "d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with caplog.at_level(logging.INFO):
        assert list_images(tmp_path) == ["a.JPG", "b.png", "c.dng", "d.jpg", "sub/a.heic"]
    assert "2 HEIC, AVIF or raw photos" in caplog.text
    assert "A.nef, b.heic" in caplog.text


# --- raw photos and TIFFs -----------------------------------------------------------------------------


def test_a_photo_that_is_a_tiff_stays_one(tmp_path):
    picture = Image.fromarray(textured(64, 48))
    picture.save(tmp_path / "a.tif")
    picture.save(tmp_path / "pages.tif", save_all=True, append_images=[picture])
    assert [read_header(tmp_path / name).kind for name in ("a.tif", "pages.tif")] == ["TIFF", "TIFF"]


@pytest.mark.parametrize(
    "tags",
    [
        {254: 1, 330: 8},  # Nikon, Sony: the first picture is a preview, the photo is below
        {262: 32803},
        {259: 34713},
        {50706: 0x00000401},
    ],
)
def test_raw_formats_that_begin_as_tiffs(tags):
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    data = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
    assert image_headers.is_raw_tiff(io.BytesIO(data))


def test_a_pyramid_is_no_raw_photo():
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in ((254, 0), (330, 8)))
    data = struct.pack("<2sHIH", b"II", 42, 8, 2) + entries + bytes(4)
    assert not image_headers.is_raw_tiff(io.BytesIO(data))
