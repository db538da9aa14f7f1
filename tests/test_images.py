"""Listing, headers and reading of images made here, with coordinates known to a fraction of a pixel."""

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from lgsfm import decoding, images
from lgsfm.errors import InputError
from lgsfm.images import file_digest, list_images, read_header, read_photo, stored_to_upright, to_gray

CODES = range(1, 9)
ORIENTATION = 0x0112


def write(path: Path, pixels: np.ndarray, orientation: int = 1, mode: str | None = None, **options) -> Path:
    """Saves ``pixels`` with an EXIF orientation."""
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    (image.convert(mode) if mode else image).save(path, exif=exif, **options)
    return path


def picture(width: int = 90, height: int = 60) -> np.ndarray:
    """Smooth colours that differ in all directions, (height, width, 3) uint8."""
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    return np.stack([255 * x, 255 * y, 127 * (1 + x - y)], axis=2).astype(np.uint8)


def blobs(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """White Gaussian blobs on black and their centres (N, 2) px, some of them close to the edges."""
    fractions = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.43, 0.52), (0.71, 0.3), (0.2, 0.61)]
    centres = 24.3 + np.array(fractions) * [width - 50.1, height - 49.4]
    y, x = np.mgrid[:height, :width]
    value = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 8.0**2)) for cx, cy in centres)
    return np.repeat(np.round(255 * value).astype(np.uint8)[:, :, None], 3, axis=2), centres


def located(rgb: np.ndarray) -> np.ndarray:
    """Centres (N, 2) px of the bright blobs."""
    weight = np.maximum(to_gray(rgb) - 0.1, 0)
    count, labels = cv2.connectedComponents((weight > 0).astype(np.uint8))
    y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
    inside = [weight * (labels == label) for label in range(1, count)]
    return np.array([[(w * x).sum() / w.sum(), (w * y).sum() / w.sum()] for w in inside])


def worst_error(photo: images.Photo, centres: np.ndarray) -> float:
    found = photo.to_stored(located(photo.rgb))
    assert len(found) == len(centres)
    return max(np.abs(found - centre).max(axis=1).min() for centre in centres)


# --- list_images ---------------------------------------------------------------------------------------


def test_names_are_relative_posix_sorted_and_as_odd_as_they_are(tmp_path):
    names = ["B.JPG", "a b.jpeg", "a-b/c.jpg", "a/b-c.jpg", "a/é/中#%.PnG", "z.TIFF", "é.webp"]
    if os.name == "posix":
        names.append("back\\slash.jpg")
    for name in [*names, "notes.txt", ".hidden.jpg", "._B.jpg", ".git/x.jpg", "a/.thumbs/y.jpg", "jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert list_images(tmp_path) == sorted(names)


@pytest.mark.skipif(os.name != "posix", reason="such names exist on POSIX only")
@pytest.mark.parametrize("name", ["line\nbreak.jpg", "tab\tname.jpg"])
def test_a_name_with_a_control_character_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match="control character"):
        list_images(tmp_path)


def test_listed_names_can_be_read(tmp_path):
    write(tmp_path / "sub dir" / "é 中 #%.png", picture())
    (name,) = list_images(tmp_path)
    assert read_photo(tmp_path / name).size == (90, 60)


def test_links_are_followed_but_not_in_circles(tmp_path):
    scene, elsewhere = tmp_path / "scene", tmp_path / "elsewhere"
    write(elsewhere / "deep" / "b.jpg", picture())
    write(scene / "a.jpg", picture())
    (scene / "linked").symlink_to(elsewhere)
    (scene / "circle").symlink_to(scene)
    (elsewhere / "deep" / "up").symlink_to(elsewhere)
    (scene / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (scene / "itself.jpg").symlink_to(scene / "itself.jpg")
    assert list_images(scene) == ["a.jpg", "gone.jpg", "itself.jpg", "linked/deep/b.jpg"]
    for broken in ("gone.jpg", "itself.jpg"):
        with pytest.raises(InputError, match=broken):
            read_photo(scene / broken)


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    with pytest.raises(InputError, match=r"No images .*\.jpg .*the folder is empty"):
        list_images(tmp_path)
    for name in ("1.mov", "2.MOV", "notes.txt", "README"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"found 4 other files: 2 \.mov.*1 without suffix"):
        list_images(tmp_path)


def test_a_missing_folder_and_a_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        list_images(tmp_path / "missing")
    with pytest.raises(InputError, match="is not a folder"):
        list_images(write(tmp_path / "a.png", picture()))


def test_a_name_that_is_no_text_is_named(tmp_path):
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).touch()
    except (OSError, ValueError):
        pytest.skip("the file system takes UTF-8 names only")
    with pytest.raises(InputError, match="not UTF-8"):
        list_images(tmp_path)


# --- read_header ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("code", [1, 3, 6])
def test_header_gives_the_stored_size_and_decodes_nothing(tmp_path, monkeypatch, suffix, code):
    path = write(tmp_path / f"a.{suffix}", picture(), code)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("pixels were decoded"))
    header = read_header(path)
    assert (header.size, header.exif.orientation) == ((90, 60), code)


def test_a_png_without_exif_is_not_decoded_in_search_of_it(tmp_path, monkeypatch):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("pixels were decoded"))
    assert read_header(tmp_path / "a.png").exif == images.Exif()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("garbage", [b"", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 30])
def test_broken_exif_is_ignored(tmp_path, garbage):
    Image.fromarray(picture()).save(tmp_path / "a.jpg")
    segment = b"Exif\0\0" + garbage
    data = (tmp_path / "a.jpg").read_bytes()
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_header(tmp_path / "a.jpg").size == (90, 60)
    assert read_photo(tmp_path / "a.jpg").orientation == 1


# --- read_photo: pixels --------------------------------------------------------------------------------


def test_a_photo_knows_its_origin(tmp_path):
    path = write(tmp_path / "a.jpg", picture(), 6)
    photo = read_photo(path, 45)
    assert photo.digest == file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (photo.size, photo.orientation, photo.scale) == ((90, 60), 6, (2.0, 2.0))
    assert photo.rgb.shape == (45, 30, 3)
    assert photo.rgb.dtype == np.uint8
    assert photo.rgb.flags.c_contiguous


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "big.tif", "webp"])
def test_pixels_come_upright_from_every_format(tmp_path, suffix, code):
    options = {"big_tiff": True} if suffix == "big.tif" else {"quality": 95} if suffix in "jpg webp" else {}
    path = write(tmp_path / f"a.{suffix}", picture(), code, **options)
    tagged = Image.fromarray(picture())
    tagged.getexif()[ORIENTATION] = code
    expected = np.asarray(ImageOps.exif_transpose(tagged))
    for photo in (read_photo(path), read_photo(path, 1000)):
        assert photo.rgb.shape == expected.shape
        assert np.abs(photo.rgb.astype(int) - expected).mean() < (3 if suffix in "jpg webp" else 1e-9)


@pytest.mark.parametrize("code", CODES)
def test_pillow_steps_in_where_opencv_cannot_read(tmp_path, monkeypatch, code):
    path = write(tmp_path / "a.tif", picture(), code)
    expected = read_photo(path, 40)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    photo = read_photo(path, 40)
    np.testing.assert_array_equal(photo.rgb, expected.rgb)
    assert photo.scale == expected.scale


def test_the_second_opinion_does_not_clip_16_bits(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", np.full((9, 9), 30000, np.uint16))[1].tobytes())
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    with pytest.raises(InputError, match="save it with 8 bits"):
        read_photo(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "mode", "options", "tolerance"),
    [
        ("a.jpg", "CMYK", {"quality": 95}, 3),
        ("a.jpg", None, {"quality": 95, "progressive": True}, 3),
        ("a.tif", "CMYK", {}, 1),
        ("a.tif", None, {"compression": "tiff_lzw"}, 0),
        ("a.png", "RGBA", {}, 0),
        ("a.bmp", None, {}, 0),
        ("a.ppm", None, {}, 0),
    ],
)
def test_kinds_of_colour(tmp_path, name, mode, options, tolerance):
    photo = read_photo(write(tmp_path / name, picture(), mode=mode, **options))
    assert np.abs(photo.rgb.astype(int) - picture()).mean() <= tolerance


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.pgm", "a.webp"])
def test_grey_is_three_equal_channels(tmp_path, name):
    options = {"lossless": True} if name == "a.webp" else {"quality": 95} if name == "a.jpg" else {}
    photo = read_photo(write(tmp_path / name, picture(), mode="L", **options))
    expected = np.asarray(Image.fromarray(picture()).convert("L"))
    assert photo.rgb.shape == (60, 90, 3)
    assert np.abs(photo.rgb.astype(int) - expected[:, :, None]).mean() <= 1


def test_palette_and_two_colours(tmp_path):
    image = Image.fromarray(picture())
    image.quantize(16).save(tmp_path / "p.png")
    expected = np.asarray(image.quantize(16).convert("RGB"))
    np.testing.assert_array_equal(read_photo(tmp_path / "p.png").rgb, expected)
    image.convert("1").save(tmp_path / "1.png")
    assert set(np.unique(read_photo(tmp_path / "1.png").rgb)) == {0, 255}


def test_transparency_is_dropped_and_the_colour_below_stays(tmp_path):
    pixels = np.dstack([picture(), np.zeros((60, 90), np.uint8)])
    np.testing.assert_array_equal(read_photo(write(tmp_path / "a.png", pixels)).rgb, picture())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("colour", [False, True])
def test_16_bits_become_the_upper_8(tmp_path, suffix, colour):
    deep = np.linspace(0, 65535, 60 * 90).astype(np.uint16).reshape(60, 90)
    deep = np.dstack([deep, deep[::-1], deep // 2]) if colour else deep
    (tmp_path / f"a{suffix}").write_bytes(cv2.imencode(suffix, deep)[1].tobytes())
    rgb = read_photo(tmp_path / f"a{suffix}").rgb
    expected = deep[:, :, ::-1] / 257 if colour else np.repeat(deep[:, :, None] / 257, 3, axis=2)
    assert np.abs(rgb - expected).max() <= 1


def test_never_enlarged_and_never_empty(tmp_path):
    path = write(tmp_path / "a.png", picture(90, 1))
    assert read_photo(path, 1000).rgb.shape == (1, 90, 3)
    assert read_photo(path, 10).rgb.shape == (1, 10, 3)
    dot = read_photo(write(tmp_path / "dot.jpg", picture(1, 1)))
    assert (dot.rgb.shape, dot.scale) == ((1, 1, 3), (1.0, 1.0))
    with pytest.raises(InputError, match="max_edge_px"):
        read_photo(path, 0)


def test_gray_is_luma_in_floats():
    rgb = np.array([[[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 31]]], np.uint8)
    gray = to_gray(rgb)
    assert (gray.shape, gray.dtype) == ((1, 5), np.float32)
    np.testing.assert_allclose(gray[0], rgb[0] @ [0.299, 0.587, 0.114] / 255, atol=1e-6)


# --- read_photo: coordinates ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("max_edge", "denominator"), [(None, 1), (701, 1), (400, 2), (240, 4)])
def test_points_lead_back_to_the_stored_image(tmp_path, code, max_edge, denominator):
    pixels, centres = blobs(1001, 667)
    path = write(tmp_path / "a.jpg", pixels, code, quality=95)
    photo = read_photo(path, max_edge)
    assert max(photo.rgb.shape) == (max_edge or 1001)
    if max_edge:
        covered = [-(-edge // denominator) * denominator for edge in (1001, 667)]
        resized = (max_edge, round(667 * max_edge / 1001))
        assert photo.scale == (covered[0] / resized[0], covered[1] / resized[1])
    assert worst_error(photo, centres) < 0.05


@pytest.mark.parametrize("size", [(641, 479), (479, 641), (642, 481), (640, 485)])
def test_the_odd_last_column_of_a_reduced_jpeg(tmp_path, size):
    pixels, centres = blobs(*size)
    path = write(tmp_path / "a.jpg", pixels, quality=95)
    assert worst_error(read_photo(path, 300), centres) < 0.05
    assert worst_error(read_photo(path, 321), centres) < 0.05


@pytest.mark.parametrize("progressive", [False, True])
def test_reduced_decoding_sees_the_same_picture(tmp_path, monkeypatch, progressive):
    path = write(tmp_path / "a.jpg", picture(1001, 667), quality=92, progressive=progressive)
    fast = read_photo(path, 300)
    monkeypatch.setattr(decoding, "dct_denominator", lambda *_: 1)
    full = read_photo(path, 300)
    assert fast.scale != full.scale
    assert np.abs(fast.rgb.astype(int) - full.rgb).mean() < 1


def test_the_strongest_reduction_that_covers_the_target():
    sizes = [(2048, 1024, 2), (2047, 1024, 2), (2046, 1024, 1), (4096, 1024, 4), (9000, 1024, 8)]
    for edge, wanted, denominator in sizes:
        target = images._target_size((edge, edge // 2), wanted)
        assert decoding.dct_denominator((edge, edge // 2), target) == denominator


def test_to_stored_keeps_float32_and_inverts_the_turn(tmp_path):
    photo = read_photo(write(tmp_path / "a.png", picture(), 7))
    points = np.array([[3.25, 5.5], [0, 0], [59, 89]], np.float32)
    stored = photo.to_stored(points)
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored_to_upright(stored, photo.size, 7), points)
    assert photo.to_stored(np.zeros((0, 2))).shape == (0, 2)


# --- read_photo: what cannot be read -------------------------------------------------------------------


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.jpg", "p.jpg", "a.png", "a.tif", "z.tif", "a.bmp", "a.webp", "a.ppm"])
def test_truncated_files_are_refused_in_silence(tmp_path, capfd, name, keep):
    options = {"p.jpg": {"progressive": True}, "z.tif": {"compression": "tiff_lzw"}}.get(name, {})
    path = write(tmp_path / name, noise(), **options)
    data = path.read_bytes()
    if name.endswith("tif") and keep == 0.999:
        pytest.skip("the end of this TIFF is its directory, not its pixels")
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match=r"a\.|p\.|z\.") as caught:
        read_photo(path)
    assert "truncated" in str(caught.value)
    assert capfd.readouterr().err == ""


def with_thumbnail(jpeg: bytes) -> bytes:
    """The JPEG with a smaller one inside its header, end mark included, as cameras write."""
    stream = io.BytesIO()
    Image.fromarray(picture(16, 12)).save(stream, "JPEG")
    segment = b"Exif\0\0" + stream.getvalue()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def test_the_end_of_the_thumbnail_is_not_the_end_of_the_photo(tmp_path):
    data = with_thumbnail(write(tmp_path / "a.jpg", noise()).read_bytes())
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_photo(tmp_path / "a.jpg").size == (160, 120)
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="truncated"):
        read_photo(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))  # a stopped download
    with pytest.raises(InputError, match="truncated"):
        read_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("tail", [bytes(1000), b"\n", b"\0\0\0\x18ftypmp42 a video"])
def test_what_follows_the_end_mark_does_no_harm(tmp_path, tail):
    path = write(tmp_path / "a.jpg", noise())
    expected = read_photo(path).rgb
    path.write_bytes(path.read_bytes() + tail)
    np.testing.assert_array_equal(read_photo(path).rgb, expected)


def test_what_is_no_image_is_refused_with_a_reason(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("Please read me")
    (tmp_path / "magic.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "folder.jpg").mkdir()
    reasons = {
        "empty.jpg": "empty",
        "text.jpg": "not an image",
        "magic.jpg": "header",
        "folder.jpg": "folder|permission",
        "missing.jpg": "does not exist",
    }
    for name, reason in reasons.items():
        for read in (read_photo, read_header):
            with pytest.raises(InputError, match=rf"{name}: .*({reason})"):
                read(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        file_digest(tmp_path / "missing.jpg")


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match=r"a\.jpg: no permission"):
        read_photo(tmp_path / "a.jpg")


def huge_png(path: Path, width: int, height: int) -> Path:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
    return path


@pytest.mark.filterwarnings("error")
def test_bombs_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match="30000 x 20000 px is more than 500 megapixels"):
        read_photo(huge_png(tmp_path / "bomb.png", 30000, 20000))
    assert read_header(huge_png(tmp_path / "phone.png", 16320, 12240)).size == (16320, 12240)


def test_opencv_errors_do_not_escape(tmp_path, monkeypatch):
    def fail(*_):
        raise cv2.error("assertion failed")

    expected = read_photo(write(tmp_path / "a.png", picture())).rgb
    monkeypatch.setattr(cv2, "imdecode", fail)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png").rgb, expected)


def test_a_failing_resize_is_an_input_error(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise cv2.error("insufficient memory")

    path = write(tmp_path / "a.png", picture())
    monkeypatch.setattr(cv2, "resize", fail)
    with pytest.raises(InputError, match=r"a\.png: decoding failed"):
        read_photo(path, 40)


def test_opencv_keeps_its_log_level(tmp_path):
    before = decoding._set_opencv_log_level(3)
    read_photo(write(tmp_path / "a.png", picture()))
    assert decoding._set_opencv_log_level(before) == 3
