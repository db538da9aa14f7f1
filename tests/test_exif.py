"""The orientation codes against Pillow and pixel by pixel; focal lengths from the EXIF data of files."""

import io
import math
import struct
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import IFDRational

from lgsfm.errors import InputError
from lgsfm.exif import Exif, GpsPosition, read_exif, stored_to_upright, turn_upright, upright_size, upright_to_stored

CODES = range(1, 9)
BASE = ExifTags.Base


def reopened(format: str = "JPEG", **tags) -> Image.Image:
    """A small image with these EXIF tags, written to a file and opened again."""
    exif = Image.Exif()
    codes = {BASE[name]: value for name, value in tags.items()}
    top = codes.keys() & {BASE.Orientation, BASE.Make, BASE.Model}
    exif.update({tag: codes[tag] for tag in top})
    if codes.keys() - top:
        exif[ExifTags.IFD.Exif] = {tag: codes[tag] for tag in codes.keys() - top}
    stream = io.BytesIO()
    Image.new("RGB", (8, 6)).save(stream, format, exif=exif)
    return Image.open(io.BytesIO(stream.getvalue()))


@pytest.mark.parametrize("code", CODES)
def test_turning_is_what_pillow_does(code):
    stored = np.random.default_rng(code).integers(0, 255, (4, 7, 3), np.uint8)
    image = Image.fromarray(stored)
    image.getexif()[BASE.Orientation] = code
    np.testing.assert_array_equal(turn_upright(stored, code), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("code", CODES)
def test_each_pixel_is_found_where_the_turned_image_has_it(code):
    stored = np.arange(4 * 7, dtype=np.uint8).reshape(4, 7)
    upright = turn_upright(stored, code)
    assert upright.shape == upright_size((7, 4), code)[::-1]
    y, x = np.mgrid[:4, :7]
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    moved = stored_to_upright(points, (7, 4), code).astype(int)
    np.testing.assert_array_equal(upright[moved[:, 1], moved[:, 0]], stored.ravel())


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_there_and_back(code, dtype):
    points = np.random.default_rng(code).uniform(-0.5, 4000, (50, 2)).astype(dtype)
    there = stored_to_upright(points, (4001, 3000), code)
    back = upright_to_stored(there, (4001, 3000), code)
    assert there.dtype == back.dtype == dtype
    assert back.flags.c_contiguous
    np.testing.assert_allclose(back, points, atol=1e-3 if dtype == np.float32 else 1e-9)


def test_no_points_and_integer_points():
    assert upright_to_stored(np.zeros((0, 2), np.float32), (7, 4), 6).shape == (0, 2)
    assert stored_to_upright(np.array([[1, 2]]), (7, 4), 1).dtype == np.float64


def test_a_ninth_orientation_is_an_error():
    with pytest.raises(InputError, match="1 to 8, not 9"):
        upright_size((7, 4), 9)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_and_camera_are_read(format):
    exif = read_exif(reopened(format, Orientation=6, Make="NIKON \0\0", Model=" D60"))
    assert (exif.orientation, exif.make, exif.model) == (6, "NIKON", "D60")


@pytest.mark.parametrize("code", [0, 9, 65535])
def test_invalid_orientation_is_none(code):
    assert read_exif(reopened(Orientation=code)).orientation == 1


def test_no_exif():
    assert read_exif(Image.new("RGB", (8, 6))) == Exif()
    assert Exif().focal_px((640, 480)) is None


def test_values_that_mean_unknown():
    image = reopened(FocalLength=0, FocalLengthIn35mmFilm=0, ExifImageWidth=0, ExifImageHeight=0)
    exif = read_exif(image)
    assert (exif.focal_mm, exif.focal_35mm, exif.captured_size) == (None, None, None)
    rational = reopened(FocalLength=IFDRational(0, 0), FocalPlaneXResolution=IFDRational(1, 0))
    assert read_exif(rational) == Exif()


def with_lost_directory(image: Image.Image, tag: int) -> Image.Image:
    """The image, its EXIF or GPS directory said to be where nothing is."""
    block = image.info["exif"]
    entry = next(struct.pack(f"{order}HHI", tag, 4, 1) for order in "<>" if struct.pack(f"{order}H", 42) in block[:10])
    assert entry in block
    at = block.index(entry) + len(entry)
    image.info["exif"] = block[:at] + b"\x7f" * 4 + block[at + 4 :]
    return image


def test_damaged_exif_counts_as_none():
    image = reopened(Orientation=6)
    for damaged in (b"", b"Exif\0\0", b"Exif\0\0II*\0", image.info["exif"][:20], b"\xff" * 100):
        image.info["exif"] = damaged
        assert read_exif(image) == Exif()


def test_damage_behind_the_orientation_leaves_the_orientation():
    image = reopened(Orientation=8, FocalLength=5.0)
    assert read_exif(image).focal_mm == 5.0
    assert read_exif(with_lost_directory(image, ExifTags.IFD.Exif)) == Exif(orientation=8)


def test_a_value_of_a_million_numbers_is_not_unfolded(monkeypatch):
    """Pillow takes 4 s and 150 MB for one focal length of 8 MB."""
    entry = struct.pack("<HHII", BASE.FocalLength, 5, 1_000_000, 44)
    start = struct.pack("<2sHIH", b"II", 42, 8, 1) + struct.pack("<HHIII", ExifTags.IFD.Exif, 4, 1, 26, 0)
    block = start + struct.pack("<H", 1) + entry + bytes(4) + struct.pack("<II", 5, 1) * 1_000_000
    image = reopened()
    image.info["exif"] = b"Exif\0\0" + block
    monkeypatch.setattr(struct, "unpack", _bounded(struct.unpack))
    assert read_exif(image) == Exif()
    image.info["exif"] = b"Exif\0\0" + block.replace(entry, struct.pack("<HHII", BASE.FocalLength, 5, 1, 44))
    assert read_exif(image).focal_mm == 5.0


def _bounded(unpack):
    def checked(layout, data):
        assert len(data) < 1000, "a huge value was unpacked"
        return unpack(layout, data)

    return checked


def test_xmp_tells_the_orientation_where_exif_does_not():
    image = reopened()
    image.info["xmp"] = b'<x tiff:Orientation="6"/>'
    assert read_exif(image).orientation == 6
    image = reopened(Orientation=3)
    image.info["xmp"] = b'<x tiff:Orientation="6"/>'
    assert read_exif(image).orientation == 3


@pytest.mark.parametrize("size", [(640, 480), (4000, 3000)])
def test_focal_lengths_that_no_lens_has_are_unknown(size):
    for focal_35mm in (0.01, 1e30, 5e-324, 1e308):
        assert Exif(focal_35mm=focal_35mm).focal_px(size) is None
    for focal_mm, px_per_mm in ((1e-30, 100.0), (1e300, 1e300), (5.0, 1e-300)):
        assert Exif(focal_mm=focal_mm, focal_plane_px_per_mm=px_per_mm).focal_px(size) is None
    usable = Exif(focal_35mm=28.0, focal_mm=1e30, focal_plane_px_per_mm=max(size) / 6.0)
    assert usable.focal_px(size) == pytest.approx(28 / 43.27 * math.hypot(*size), rel=1e-3)
    assert Exif(focal_35mm=800.0).focal_px(size) is not None  # a long lens, none the less


def test_a_resolution_too_small_to_be_divided_is_none():
    image = reopened(FocalPlaneXResolution=1.0, FocalLength=5.0, FocalPlaneResolutionUnit=2)
    block = image.info["exif"]
    order = ">" if b"MM" in block[:8] else "<"
    entry = struct.pack(f"{order}HHI", BASE.FocalPlaneXResolution, 12, 1)
    assert entry in block
    at = 6 + struct.unpack_from(f"{order}I", block, block.index(entry) + 8)[0]
    image.info["exif"] = block[:at] + struct.pack(f"{order}d", 5e-324) + block[at + 8 :]
    exif = read_exif(image)
    assert (exif.focal_mm, exif.focal_plane_px_per_mm) == (5.0, None)
    assert exif.focal_px((640, 480)) is None


@pytest.mark.parametrize("written", [0.5, 1e-10, 2.0**-40])
def test_a_captured_size_below_one_pixel_is_none(written):
    exif = read_exif(reopened(ExifImageWidth=IFDRational(written), ExifImageHeight=480, FocalLengthIn35mmFilm=28))
    assert exif.captured_size is None
    assert exif.focal_px((640, 480)) is not None


def test_focal_from_35mm_goes_by_the_diagonal():
    exif = read_exif(reopened(FocalLengthIn35mmFilm=28))
    expected = 28 * math.hypot(4032, 3024) / math.hypot(36, 24)
    assert exif.focal_px((4032, 3024)) == pytest.approx(expected)
    assert exif.focal_px((3024, 4032)) == pytest.approx(expected)
    assert exif.focal_px((2016, 1512)) == pytest.approx(expected / 2)


def test_focal_from_35mm_of_a_part_of_the_sensor():
    exif = Exif(focal_35mm=36.0)
    assert exif.focal_px((6000, 4000)) == pytest.approx(6000)
    assert exif.focal_px((6000, 3375)) == pytest.approx(6000)  # 16:9, height cut off
    square = 36 * (3000 * 5 / 3) / math.hypot(36, 24)  # 4:3 of the same height
    assert exif.focal_px((3000, 3000)) == pytest.approx(square)


@pytest.mark.parametrize(("unit", "per_unit"), [(2, 25.4), (3, 10.0), (None, 25.4)])
def test_focal_from_the_focal_plane(unit, per_unit):
    tags = {"FocalLength": 50.0, "FocalPlaneXResolution": 4368 / 35.8 * per_unit}
    tags |= {} if unit is None else {"FocalPlaneResolutionUnit": unit}
    exif = read_exif(reopened(**tags, ExifImageWidth=4368, ExifImageHeight=2912))
    assert exif.captured_size == (4368, 2912)
    assert exif.focal_px((4368, 2912)) == pytest.approx(50 * 4368 / 35.8, rel=1e-4)
    assert exif.focal_px((1092, 728)) == pytest.approx(50 * 1092 / 35.8, rel=1e-4)  # resized since


def test_the_finer_way_wins_where_both_agree_and_the_robust_one_where_they_differ():
    exif = Exif(focal_mm=5.4, focal_35mm=37.0, focal_plane_px_per_mm=640 / 5.23, captured_size=(640, 480))
    assert exif.focal_px((640, 480)) == pytest.approx(5.4 * 640 / 5.23)
    wrong_unit = replace(exif, focal_plane_px_per_mm=640 / 5.23 / 2.54)
    assert wrong_unit.focal_px((640, 480)) == pytest.approx(37 * 800 / math.hypot(36, 24))


def test_an_impossible_sensor_or_a_focal_length_without_one_tells_nothing():
    exif = Exif(focal_mm=50.0, captured_size=(4368, 2912))
    assert exif.focal_px((4368, 2912)) is None
    assert replace(exif, focal_plane_px_per_mm=4.8).focal_px((4368, 2912)) is None  # 910 mm wide


def test_a_cropped_photo_has_no_known_focal_length():
    exif = Exif(focal_35mm=28.0, captured_size=(4032, 3024))
    assert exif.focal_px((3000, 3000)) is None
    assert exif.focal_px((1599, 1200)) is not None  # rounded, not cropped
    assert exif.focal_px((3024, 4032)) is not None  # turned by a program that left the EXIF data alone


# --- where and when ------------------------------------------------------------------------------------

GPS = ExifTags.GPS
HERE = {
    GPS.GPSLatitudeRef: "S",
    GPS.GPSLatitude: (33.0, 51.0, 24.0),
    GPS.GPSLongitudeRef: "W",
    GPS.GPSLongitude: (70.0, 30.0, 0.0),
}


def with_gps(tags) -> Exif:
    exif = Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = tags
    stream = io.BytesIO()
    Image.new("RGB", (8, 6)).save(stream, "JPEG", exif=exif)
    return read_exif(Image.open(io.BytesIO(stream.getvalue())))


def test_positions_are_signed_degrees():
    assert with_gps(HERE).position == GpsPosition(pytest.approx(-33.856667, abs=1e-6), -70.5)
    north = HERE | {GPS.GPSLatitudeRef: "N", GPS.GPSLongitudeRef: "E"}
    assert with_gps(north).position == GpsPosition(pytest.approx(33.856667, abs=1e-6), 70.5)


@pytest.mark.parametrize(
    "written",
    [
        {GPS.GPSLatitude: (33.5,)},
        {GPS.GPSLatitude: 33.5},
        {GPS.GPSLatitude: (33.0, 30.0)},
        {GPS.GPSLatitude: (33.0, 30.0, 0.0), GPS.GPSLatitudeRef: "South"},
        {GPS.GPSLatitude: (33.0, 30.0, 0.0), GPS.GPSLatitudeRef: "s"},
    ],
)
def test_positions_as_some_write_them(written):
    assert with_gps(HERE | written).position == GpsPosition(-33.5, -70.5)


def test_a_damaged_exif_directory_leaves_the_position():
    exif = Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = HERE
    exif[ExifTags.IFD.Exif] = {BASE.FocalLength: 5.0}
    stream = io.BytesIO()
    Image.new("RGB", (8, 6)).save(stream, "JPEG", exif=exif)
    image = with_lost_directory(Image.open(io.BytesIO(stream.getvalue())), ExifTags.IFD.Exif)
    found = read_exif(image)
    assert found.focal_mm is None
    assert found.position is not None


@pytest.mark.parametrize("altitude_m", [4e9, 200_000.0])
def test_altitudes_that_nothing_has_are_unknown(altitude_m):
    position = with_gps(HERE | {GPS.GPSAltitude: altitude_m}).position
    assert position is not None
    assert position.altitude_m is None


@pytest.mark.parametrize(("reference", "altitude_m"), [(b"\x00", 198.5), (b"\x01", -198.5), (None, 198.5)])
def test_altitudes_below_the_sea_are_negative(reference, altitude_m):
    tags = HERE | {GPS.GPSAltitude: 198.5} | ({} if reference is None else {GPS.GPSAltitudeRef: reference})
    assert with_gps(tags).position.altitude_m == pytest.approx(altitude_m)


@pytest.mark.parametrize(
    "wrong",
    [
        {GPS.GPSLatitude: (91.0, 0.0, 0.0)},
        {GPS.GPSLongitude: (180.0, 0.0, 1.0)},
        {GPS.GPSLatitudeRef: "X"},
        {GPS.GPSLatitudeRef: ""},
        {GPS.GPSLatitudeRef: "NS"},
        {GPS.GPSLatitude: (33.0, 51.0, 24.0, 0.0)},
        {GPS.GPSLatitude: (IFDRational(0, 0),) * 3},
        {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)},
    ],
)
def test_a_position_that_cannot_be_is_none(wrong):
    assert with_gps(HERE | wrong).position is None


def test_half_a_position_is_none():
    assert with_gps({tag: HERE[tag] for tag in (GPS.GPSLatitudeRef, GPS.GPSLatitude)}).position is None
    assert read_exif(Image.new("RGB", (8, 6))).position is None


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("2016:06:23 16:31:59", datetime(2016, 6, 23, 16, 31, 59)),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("yesterday", None),
    ],
)
def test_the_time_of_the_photo(text, taken):
    assert read_exif(reopened(DateTimeOriginal=text)).taken == taken
