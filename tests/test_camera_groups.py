"""Which photos share a camera, what the database then knows of it, and rules that know better."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from cli_helpers import SIFT, copy_photos, run, summary_of, views
from conftest import textured
from PIL import ExifTags, Image

from lgsfm.camera_groups import CameraGroup, CameraOptions, group_cameras
from lgsfm.database import build_database
from lgsfm.errors import InputError
from lgsfm.types import Features

ONE_POINT = Features(np.zeros((1, 2), np.float32), np.ones((1, 1), np.float32), np.ones(1, np.float32), (60, 40), "toy")


def save_photo(path: Path, size: tuple[int, int] = (60, 40), **exif: object) -> None:
    """A photo; ``exif`` are make, model, and the focal lengths focal_mm and focal_35mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = Image.Exif()
    for name, tag in (("make", ExifTags.Base.Make), ("model", ExifTags.Base.Model)):
        if name in exif:
            tags[tag] = exif[name]
    tags[ExifTags.IFD.Exif] = details = {}  # Pillow 10 saves no directory that `get_ifd` has made
    for name, tag in (
        ("focal_mm", ExifTags.Base.FocalLength),
        ("focal_35mm", ExifTags.Base.FocalLengthIn35mmFilm),
    ):
        if name in exif:
            details[tag] = exif[name]
    Image.fromarray(textured(*size)).save(path, exif=tags)


PHONE = {"make": "Acme", "model": "One", "focal_mm": 4.2, "focal_35mm": 26}


def groups_of(folder: Path, mode: str) -> list[CameraGroup]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    return group_cameras(folder, names, CameraOptions(camera_mode=mode))


def test_auto_groups_by_exif_and_size(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "x/c.jpg"):
        save_photo(tmp_path / name, **PHONE)
    save_photo(tmp_path / "d_zoomed.jpg", **{**PHONE, "focal_mm": 8.4, "focal_35mm": 52})
    save_photo(tmp_path / "e_upright.jpg", (40, 60), **PHONE)
    save_photo(tmp_path / "f_other.jpg", **{**PHONE, "model": "Two"})
    save_photo(tmp_path / "g_unknown.jpg")
    groups = groups_of(tmp_path, "auto")
    assert [group.names for group in groups] == [
        ("a.jpg", "b.jpg", "x/c.jpg"),
        ("d_zoomed.jpg",),
        ("e_upright.jpg",),
        ("f_other.jpg",),
        ("g_unknown.jpg",),
    ]
    assert groups[0].label == "Acme One"
    assert groups[4].label == "no EXIF"


def test_the_focal_length_comes_from_exif_or_is_marked_as_a_guess(tmp_path: Path) -> None:
    save_photo(tmp_path / "known.jpg", **PHONE)
    save_photo(tmp_path / "unknown.jpg")
    known, unknown = groups_of(tmp_path, "auto")
    diagonal_px, film_mm = np.hypot(60, 40), np.hypot(36, 24)
    assert known.focal_px == pytest.approx(26 * diagonal_px / film_mm)
    assert not known.is_guess
    assert unknown.focal_px is None
    assert unknown.is_guess


def test_the_database_knows_which_focal_lengths_are_priors(tmp_path: Path) -> None:
    save_photo(tmp_path / "known.jpg", **PHONE)
    save_photo(tmp_path / "unknown.jpg")
    groups = groups_of(tmp_path, "auto")
    features = {name: ONE_POINT for name in ("known.jpg", "unknown.jpg")}
    path = tmp_path / "database.db"
    build_database(path, features, {}, [], groups, camera_model="PINHOLE", log_path=tmp_path / "log")
    database = pycolmap.Database.open(path)
    known, unknown = sorted(database.read_all_cameras(), key=lambda camera: camera.camera_id)
    database.close()
    assert known.has_prior_focal_length
    assert known.focal_length_x == pytest.approx(groups[0].focal_px)
    assert not unknown.has_prior_focal_length
    assert unknown.focal_length_x == pytest.approx(1.2 * 60)
    assert known.model_name == "PINHOLE"


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("single", [("a/1.jpg", "a/2.jpg", "b/1.jpg", "top.jpg")]),
        ("per-folder", [("a/1.jpg", "a/2.jpg"), ("b/1.jpg",), ("top.jpg",)]),
        ("per-image", [("a/1.jpg",), ("a/2.jpg",), ("b/1.jpg",), ("top.jpg",)]),
    ],
)
def test_modes_group_as_they_say(tmp_path: Path, mode: str, wanted: list[tuple[str, ...]]) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "top.jpg"):
        save_photo(tmp_path / name, **{**PHONE, "model": name})
    assert [group.names for group in groups_of(tmp_path, mode)] == wanted


def test_a_group_of_several_focal_lengths_takes_the_median(tmp_path: Path) -> None:
    for name, focal in (("a.jpg", 20), ("b.jpg", 26), ("c.jpg", 50)):
        save_photo(tmp_path / name, focal_35mm=focal)
    save_photo(tmp_path / "d.jpg")
    (group,) = groups_of(tmp_path, "single")
    assert group.focal_px == pytest.approx(26 * np.hypot(60, 40) / np.hypot(36, 24))


@pytest.mark.parametrize("mode", ["single", "per-folder"])
def test_one_camera_for_several_sizes_is_an_error_that_says_what_to_do(tmp_path: Path, mode: str) -> None:
    save_photo(tmp_path / "a.jpg")
    save_photo(tmp_path / "b.jpg", (40, 60))
    with pytest.raises(InputError, match=rf"{mode} .*\(40x60 as b\.jpg, 60x40 as a\.jpg\).*--camera-mode auto"):
        groups_of(tmp_path, mode)


def test_an_unknown_camera_model_is_named_with_the_valid_ones() -> None:
    with pytest.raises(InputError, match=r"camera model 'PINHOL'.*RADIAL.*Did you mean 'PINHOLE'"):
        CameraOptions(camera_model="PINHOL")


def grouped(folder: Path, mode: str = "single", *, skip: bool = True) -> list[CameraGroup]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    return group_cameras(folder, names, CameraOptions(camera_mode=mode), skip_unreadable=skip)


def test_one_photo_of_each_size_is_named(tmp_path: Path) -> None:
    for name, size in (("a.jpg", (60, 40)), ("b.jpg", (40, 60)), ("c.jpg", (60, 40))):
        save_photo(tmp_path / name, size)
    with pytest.raises(InputError, match=r"\(40x60 as b\.jpg, 60x40 as a\.jpg\)"):
        grouped(tmp_path)


@pytest.mark.parametrize("mode", ["single", "per-folder"])
def test_photos_that_will_be_skipped_do_not_count(tmp_path: Path, mode: str) -> None:
    save_photo(tmp_path / "a.jpg")
    save_photo(tmp_path / "tiny.jpg", (12, 12))
    save_photo(tmp_path / "truncated.jpg", (200, 300))
    (tmp_path / "truncated.jpg").write_bytes((tmp_path / "truncated.jpg").read_bytes()[:-5000])
    (tmp_path / "text.jpg").write_text("no photo")
    (group,) = grouped(tmp_path, mode)
    assert (group.names, group.size) == (("a.jpg",), (60, 40))


@pytest.mark.parametrize(
    ("make", "model", "label"),
    [
        ("Canon", "Canon PowerShot G7", "Canon PowerShot G7"),
        ("NIKON CORPORATION", "NIKON D70", "NIKON CORPORATION NIKON D70"),
        ("Acme", "One", "Acme One"),
        ("Acme", "", "Acme"),
        ("", "One", "One"),
        ("", "", "no EXIF"),
    ],
)
def test_the_label_does_not_say_the_make_twice(tmp_path: Path, make: str, model: str, label: str) -> None:
    save_photo(tmp_path / "a.jpg", **{key: text for key, text in (("make", make), ("model", model)) if text})
    assert grouped(tmp_path)[0].label == label


# --------------------------------------------------------------------------------- rules
def write_rules(folder: Path, *rules: object) -> Path:
    path = folder / "cameras.json"
    path.write_text(json.dumps(rules))
    return path


def ruled(folder: Path, *rules: object, **options: str) -> list[CameraGroup]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    chosen = CameraOptions(cameras=str(write_rules(folder, *rules)), **options)
    return group_cameras(folder, names, chosen, skip_unreadable=True)


def in_database(folder: Path, groups: list[CameraGroup], **options: str) -> dict[str, pycolmap.Camera]:
    """Image name -> the camera that COLMAP reads."""
    path = folder / "database.db"
    features = dict.fromkeys([name for group in groups for name in group.names], ONE_POINT)
    build_database(path, features, {}, [], groups, log_path=folder / "log", **options)
    database = pycolmap.Database.open(path)
    cameras = {image.name: database.read_camera(image.camera_id) for image in database.read_all_images()}
    database.close()
    return cameras


def test_rules_reach_the_database_exactly(tmp_path: Path) -> None:
    for name in ("left/a.jpg", "left/b.jpg", "right/a.jpg", "right/b.jpg", "drone 1.jpg", "drone 2.jpg", "z.jpg"):
        save_photo(tmp_path / name, **PHONE)
    params = [51.5, 52.25, 30.5, 19.75, 0.01, -0.02, 0.001, 0.002]
    groups = ruled(
        tmp_path,
        {"images": "left/*", "model": "opencv", "params": params, "shared": True},
        {"images": ["right", "nothing"], "focal_px": 77.125, "shared": False, "trusted": False},
        {"images": "drone ?.jpg", "model": "PINHOLE", "trusted": False},
        camera_model="RADIAL",
    )
    cameras = in_database(tmp_path, groups, camera_model="RADIAL")
    assert cameras["left/a.jpg"].camera_id == cameras["left/b.jpg"].camera_id
    assert cameras["left/a.jpg"].model_name == "OPENCV"
    assert cameras["left/a.jpg"].params.tolist() == params
    assert cameras["left/a.jpg"].has_prior_focal_length
    assert cameras["right/a.jpg"].camera_id != cameras["right/b.jpg"].camera_id
    assert cameras["right/b.jpg"].params.tolist() == [77.125, 30, 20, 0, 0]
    assert not cameras["right/b.jpg"].has_prior_focal_length
    assert cameras["drone 1.jpg"].camera_id == cameras["drone 2.jpg"].camera_id
    assert cameras["drone 1.jpg"].model_name == "PINHOLE"
    assert cameras["drone 1.jpg"].focal_length_x == pytest.approx(26 * np.hypot(60, 40) / np.hypot(36, 24))
    assert not cameras["drone 1.jpg"].has_prior_focal_length
    assert cameras["z.jpg"].model_name == "RADIAL"
    assert cameras["z.jpg"].has_prior_focal_length
    assert len({camera.camera_id for camera in cameras.values()}) == 5


def test_the_first_rule_that_fits_holds_and_sizes_are_told_apart(tmp_path: Path) -> None:
    for name, size in (("a.jpg", (60, 40)), ("b.jpg", (40, 60)), ("c[1].jpg", (60, 40)), ("é/d.jpg", (60, 40))):
        save_photo(tmp_path / name, size)
    groups = ruled(
        tmp_path,
        {"images": "c[1].jpg", "focal_px": 50},
        {"images": "*", "size": [60, 40], "focal_px": 60},
        {"images": "*", "size": [40, 60], "focal_px": 70},
    )
    assert {group.names: group.focal_px for group in groups} == {
        ("a.jpg", "é/d.jpg"): 60,
        ("b.jpg",): 70,
        ("c[1].jpg",): 50,
    }
    assert groups[0].label == "no EXIF, rule 2 of cameras.json"


@pytest.mark.parametrize(("mode", "count"), [("auto", 2), ("single", 2), ("per-folder", 3), ("per-image", 4)])
def test_without_shared_the_mode_groups_the_photos_of_a_rule(tmp_path: Path, mode: str, count: int) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "c.jpg"):
        save_photo(tmp_path / name, **PHONE)
    assert len(ruled(tmp_path, {"images": "?/*", "focal_px": 50}, camera_mode=mode)) == count


def test_what_the_rules_say_is_in_the_summary_row_and_nothing_else_changes_it(tmp_path: Path) -> None:
    save_photo(tmp_path / "a.jpg", **PHONE)
    plain = grouped(tmp_path, "auto")[0].row("RADIAL")
    assert set(plain) == {"model", "width", "height", "focal_px", "label", "num_images", "images"}
    assert ruled(tmp_path, {"images": "a.jpg"})[0].row("RADIAL") == plain
    rows = [
        ruled(tmp_path, {"images": "a.jpg", **rule})[0].row("RADIAL")
        for rule in (
            {"focal_px": 50},
            {"focal_px": 50.001},
            {"focal_px": 50, "trusted": False},
            {"trusted": False},
            {"model": "PINHOLE"},
            {"model": "PINHOLE", "params": [50, 50, 30, 20]},
            {"model": "PINHOLE", "params": [50, 50, 30, 21]},
        )
    ]
    assert len({json.dumps(row) for row in [plain, *rows]}) == 8


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"image": "*"}, "Unknown key 'image'. Available: focal_px, images, model, params, shared, size, trusted. Did"),
        ({"focal_px": 5}, "has no 'images'"),
        ({"images": []}, "'images' must be a name, folder or pattern, or a list of them, not []."),
        ({"images": "*", "focal_px": "wide"}, "'focal_px' must be a positive number of pixels, not \"wide\"."),
        ({"images": "*", "focal_px": -1}, "'focal_px' must be a positive"),
        ({"images": "*", "focal_px": True}, "'focal_px' must be a positive"),
        ({"images": "*", "params": [1, None]}, "'params' must be a list of finite numbers"),
        ({"images": "*", "params": 5}, "'params' must be a list of finite numbers"),
        ({"images": "*", "shared": 1}, "'shared' must be true or false, not 1."),
        ({"images": "*", "trusted": None}, "'trusted' must be true or false, not null."),
        ({"images": "*", "size": [60]}, "'size' must be two whole numbers of pixels, [width, height]"),
        ({"images": "*", "size": 60}, "'size' must be two whole numbers"),
        ({"images": "*", "size": [60.0, 40]}, "'size' must be two whole numbers"),
        ({"images": "*", "size": [-60, 40]}, "'size' must be two whole numbers"),
        ({"images": "*", "size": [0, 40]}, "'size' must be two whole numbers"),
        ({"images": "*", "model": "PINHOL"}, "'model': Unknown camera model 'PINHOL'. Available: "),
        ({"images": "a.jpg", "model": "PINHOLE", "params": [5, 5, 3]}, "'params': The camera model PINHOLE has the"),
        ({"images": "a.jpg", "model": "PINHOLE", "params": [5, 5, 30, 90]}, "'params': The principal point (30, 90)"),
        ({"images": "*", "focal_px": 5, "params": [5, 3, 2, 0]}, "has 'params' and 'focal_px'"),
        ({"images": "x/*"}, "'images' (x/*) fits no photo that the rules before leave. Names are relative"),
        ({"images": "*", "size": [9, 9]}, "'images' (*) fits no photo of 9x9 pixels"),
        ({"images": "*", "focal_px": 5}, "'focal_px' counts pixels, but the photos are of different sizes (40x60 as"),
        ({"images": "*", "shared": True}, "'shared' puts images of different sizes (40x60 as b.jpg, 60x40 as a.jpg)"),
        ({"images": "a.jpg", "trusted": True}, "'trusted', but nothing tells the focal length of a.jpg"),
        ("a.jpg", 'must be an object in braces, such as {"images": "left/*", "focal_px": 1200}, not "a.jpg".'),
    ],
)
def test_rules_without_meaning_are_named_with_file_and_key(tmp_path: Path, rule: object, message: str) -> None:
    save_photo(tmp_path / "a.jpg")
    save_photo(tmp_path / "b.jpg", (40, 60))
    with pytest.raises(InputError) as caught:
        ruled(tmp_path, rule)
    assert str(caught.value).startswith(f"{tmp_path / 'cameras.json'}, rule 1")
    assert message in str(caught.value)


def test_a_rule_that_earlier_rules_leave_nothing_to_is_named(tmp_path: Path) -> None:
    save_photo(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"rule 2: 'images' \(a\.jpg\) fits no photo that the rules before leave"):
        ruled(tmp_path, {"images": "*"}, {"images": "a.jpg", "focal_px": 5})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[\n{"images": "*",}]', "cameras.json is no JSON: .* in line 2, column"),
        (b'{"images": "*"}', "must hold a list of rules"),
        (b"\xff\xfe\x00", "is no JSON text in UTF-8"),
        (b"[" * 100_000, "cameras.json is nested too deeply"),
        (None, "cannot be read: No such file.*--cameras"),
    ],
)
def test_a_file_that_is_no_list_of_rules_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    save_photo(tmp_path / "a.jpg")
    path = tmp_path / "cameras.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        group_cameras(tmp_path, ["a.jpg"], CameraOptions(cameras=str(path)))


def test_a_photo_that_was_lost_on_the_way_does_not_make_a_rule_wrong(tmp_path: Path) -> None:
    save_photo(tmp_path / "a.jpg")
    options = CameraOptions(cameras=str(write_rules(tmp_path, {"images": "b.jpg", "focal_px": 5})))
    assert group_cameras(tmp_path, ["a.jpg"], options)[0].is_guess


def test_a_rule_of_a_photo_that_cannot_be_read_is_not_wrong(tmp_path: Path) -> None:
    save_photo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("no photo")
    assert len(ruled(tmp_path, {"images": "b.jpg", "size": [60, 40], "focal_px": 5})) == 1


# --------------------------------------------------------------------------------- the command line
def test_another_file_of_cameras_makes_another_database_of_the_same_matches(courtyard: Path, tmp_path: Path) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", views(5, 6, 7))
    output, rules = tmp_path / "out", write_rules(tmp_path, {"images": "view*", "focal_px": 640})
    command = ("reconstruct", images, "-o", output, *SIFT, "--cameras", rules)
    ended = run(*command)
    assert ended.code == 0, ended.err
    assert "focal length 640.0 px (given)  lgsfm renderer" in ended.err
    assert "Warning" not in ended.err
    assert run(*command).out.count("all reused") == 3
    write_rules(tmp_path, {"images": "view*", "focal_px": 650, "trusted": False})
    ended = run(*command)
    assert "focal length 650.0 px (given, not trusted)" in ended.err
    counts = summary_of(output)
    assert counts["computed"] == {"extract": 0, "match": 0, "database": 3}
    assert counts["cameras"][0]["is_trusted"] is False
    options = json.loads((output / "options.json").read_text())
    assert options["flags"]["cameras"] == str(rules)  # absolute


def test_guessed_focal_lengths_are_said_aloud(tmp_path: Path) -> None:
    picture = textured(420, 320)
    for i in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(picture[10 * i : 10 * i + 240, 12 * i : 12 * i + 320]).save(tmp_path / "images" / f"{i}.png")
    assert run("extract", tmp_path / "images", "-o", tmp_path / "out", *SIFT).code == 0
    for stage in ("pairs", "match"):
        assert run(stage, tmp_path / "images", "-o", tmp_path / "out").code == 0
    ended = run("database", tmp_path / "images", "-o", tmp_path / "out")
    assert "a GUESS" in ended.err
    assert "Warning: nothing tells the focal length of 3 photos (1 of 1 cameras). The mapper starts from 1.2 times" in (
        ended.err
    )
