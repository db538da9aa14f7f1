"""Files of a few bytes that ask for gigabytes or hours are refused before a decoder sees them."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from lgsfm.errors import InputError
from lgsfm.images import read_header, read_photo


def png(width: int, height: int, rows: int, *, interlaced: bool = False) -> bytes:
    """A PNG that has so many of its rows; its stream of pixels ends as it should."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, int(interlaced))
    pixels = zlib.compress((b"\0" + b"\x40" * 3 * width) * rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg(**options) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (64, 48), 128).save(stream, "JPEG", **options)
    return stream.getvalue()


def entries(*tags: tuple[int, int, int, int]) -> bytes:
    return struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags)) + bytes(4)


def tiff(*more: tuple[int, int, int, int], size: tuple[int, int] = (64, 64), pixels: int = 4096) -> bytes:
    """A grey TIFF with further tags."""
    start = 8 + 2 + 12 * (8 + len(more)) + 4
    own = [(256, 4, 1, size[0]), (257, 4, 1, size[1]), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    own += [(273, 4, 1, start), (278, 4, 1, size[1]), (279, 4, 1, pixels)]
    return struct.pack("<2sHI", b"II", 42, 8) + entries(*own, *more) + bytes(pixels)


def webp(width: int, height: int) -> bytes:
    """An extended WebP of this size, by its header, with hardly anything in it."""
    body = struct.pack("<I", 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"WEBPVP8X" + struct.pack("<I", 10) + body + b"VP8 " + struct.pack("<I", 10) + bytes(10)
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Why a file is refused, no decoder having seen it."""

    def why(data: bytes) -> str:
        (tmp_path / "photo.jpg").write_bytes(data)
        with monkeypatch.context() as patch:
            patch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
            with pytest.raises(InputError) as caught:
                read_photo(tmp_path / "photo.jpg")
        return str(caught.value)

    return why


def test_sizes_beyond_the_limit(refused):
    for data in (png(60_000, 60_000, 1), tiff(size=(60_000, 60_000)), tiff(size=(2**32 - 1, 2**32 - 1))):
        assert "more than 500 megapixels" in refused(data)
        assert "LGSFM_MAX_MEGAPIXELS" in refused(data)
    # below the limit of today's cameras, and of no more bytes than a line of text
    assert "truncated" in refused(png(22_000, 22_000, 64))
    assert "truncated" in refused(jpeg().replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 20_000, 22_000)))
    assert "truncated" in refused(b"P5 20000 20000 255\n" + bytes(1000))


def test_the_limit_can_be_raised_and_lowered(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(png(400, 300, 300))
    assert read_photo(path).size == (400, 300)
    monkeypatch.setenv("LGSFM_MAX_MEGAPIXELS", "0.1")
    with pytest.raises(InputError, match=r"400 x 300 px is more than 0\.1 megapixels"):
        read_photo(path)
    monkeypatch.setenv("LGSFM_MAX_MEGAPIXELS", "100000")
    path.write_bytes(png(60_000, 60_000, 1))
    with pytest.raises(InputError, match="truncated"):  # no longer for its size
        read_photo(path)
    for wrong in ("many", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("LGSFM_MAX_MEGAPIXELS", wrong)
        with pytest.raises(InputError, match="must be a positive number"):
            read_photo(path)


def test_a_file_of_more_bytes_than_the_largest_image_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("LGSFM_MAX_MEGAPIXELS", "0.001")
    path = tmp_path / "a.jpg"
    Image.new("L", (20, 20)).save(path)
    assert read_photo(path).size == (20, 20)
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # a terabyte of nothing
    with pytest.raises(InputError, match=r"GB are more than an image of 0\.001 megapixels needs"):
        read_photo(path)


def test_the_header_of_a_webp_makes_no_canvas(tmp_path, monkeypatch):
    from PIL.WebPImagePlugin import WebPImageFile

    monkeypatch.setattr(WebPImageFile, "_open", lambda _: pytest.fail("Pillow has opened it"))
    (tmp_path / "a.webp").write_bytes(webp(16_383, 16_383))
    assert read_header(tmp_path / "a.webp").size == (16_383, 16_383)
    for options in ({}, {"lossless": True}, {"exif": Image.Exif()}):
        Image.new("RGB", (90, 61)).save(tmp_path / "b.webp", **options)
        assert read_header(tmp_path / "b.webp").size == (90, 61)


def test_tags_that_all_point_to_the_same_bytes(refused, tmp_path):
    """libtiff makes a copy for each: 3 GB of a file of one."""
    assert "hold more than the file" in refused(tiff(*((tag, 7, 4096, 8) for tag in range(40_000, 40_100))))
    (tmp_path / "few.tif").write_bytes(tiff((40_000, 7, 4096, 8)))
    assert read_photo(tmp_path / "few.tif").size == (64, 64)


def test_a_tag_of_a_million_fractions(refused):
    assert "hold more than the file" in refused(tiff((282, 5, 1_000_000, 8)) + bytes(8_000_000))


@pytest.mark.parametrize(("count", "is_refused"), [(30, False), (100, True)])
def test_a_jpeg_of_hundreds_of_scans(refused, tmp_path, count, is_refused):
    """Each takes as long as decoding all pixels, and may have a few bytes."""
    whole = jpeg(progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    data = whole[:-2] + last * count + b"\xff\xd9"
    if is_refused:
        assert "more than 64 scans" in refused(data)
    else:
        (tmp_path / "few.jpg").write_bytes(data)
        assert read_photo(tmp_path / "few.jpg").size == (64, 48)


def test_a_video_behind_a_photo_has_no_scans(tmp_path):
    video = b"\xff\xda\x00\x08" * 1000
    (tmp_path / "a.jpg").write_bytes(jpeg() + video)
    assert read_photo(tmp_path / "a.jpg").size == (64, 48)


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_of_half_its_rows_is_no_photo(tmp_path, interlaced):
    """Its stream of pixels is in order but too short: Pillow paints the rest black."""
    (tmp_path / "half.png").write_bytes(png(90, 60, 30, interlaced=interlaced))
    with pytest.raises(InputError, match="damaged"):
        read_photo(tmp_path / "half.png")
    (tmp_path / "whole.png").write_bytes(png(90, 60, 60))
    assert (read_photo(tmp_path / "whole.png").rgb == 0x40).all()


def test_another_size_in_the_pixels_than_in_the_header(tmp_path, monkeypatch):
    Image.new("RGB", (90, 60)).save(tmp_path / "a.tif")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((30, 30, 3), np.uint8))
    assert read_photo(tmp_path / "a.tif").size == (90, 60)  # by the second opinion
    from lgsfm import decoding

    monkeypatch.setattr(decoding, "open_by_pillow", lambda *_: Image.new("RGB", (30, 30)))
    with pytest.raises(InputError, match=r"damaged \(a size of \(90, 60\) in the header"):
        read_photo(tmp_path / "a.tif")
