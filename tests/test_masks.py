"""Masks: whose they are, what they hide in photos of any size and orientation, and what changes when they do."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from cli_helpers import SIFT, copy_photos, run, summary_of, views
from conftest import saved, textured
from PIL import Image
from test_extraction import ToyExtractor

from lgsfm import run as run_module
from lgsfm.errors import InputError
from lgsfm.exif import turn_upright
from lgsfm.extraction import extract_features
from lgsfm.extractors.sift import SiftExtractor, SiftOptions
from lgsfm.images import file_digest, list_images, read_photo
from lgsfm.mask_pixels import fitted
from lgsfm.masks import MaskOptions, find_masks, in_words, without_masks
from lgsfm.run import Run
from lgsfm.settings import Settings
from lgsfm.store import FeatureStore
from lgsfm.upright import Orientations

BUDGET = 60


def save_mask(path: Path, visible: np.ndarray, value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(visible.astype(np.uint8) * value).save(path)
    return path


def left_half(width: int = 320, height: int = 240) -> np.ndarray:
    """(height, width) bool: the left half is visible."""
    return np.repeat(np.arange(width)[None] < width // 2, height, 0)


def sift(**options) -> SiftExtractor:
    return SiftExtractor(SiftOptions(**{"max_keypoints": BUDGET, **options}), "cpu", None)


def seen(mask: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """What a mask (h, w) says of the stored pixels in which keypoints lie."""
    x, y = np.floor(keypoints.astype(np.float64) + 0.5).astype(int).T
    return mask[y, x]


# --------------------------------------------------------------------------------- names
def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path, names: list[str], **options: str) -> dict[str, list[str]]:
    masks = find_masks(MaskOptions(masks=str(folder), **options), names)
    return {name: [path.relative_to(folder.parent).as_posix() for path in paths] for name, paths in masks.items()}


def test_a_mask_has_the_name_of_its_photo_and_png(tmp_path: Path) -> None:
    masks = touch(tmp_path / "m", "a.jpg.png", "x/é 中.JPG.png", "c.png")
    names = ["a.jpg", "b.jpg", "c.png", "x/é 中.JPG"]
    assert found(masks, names) == {
        "a.jpg": ["m/a.jpg.png"],
        "c.png": ["m/c.png"],  # as in COLMAP
        "x/é 中.JPG": ["m/x/é 中.JPG.png"],
    }


def test_the_mask_of_a_folder_and_the_one_for_all_add_to_that_of_a_photo(tmp_path: Path) -> None:
    masks = touch(tmp_path / "m", "left.png", "left/a.jpg.png", "left/deep.png")
    car = touch(tmp_path, "car.png") / "car.png"
    assert found(masks, ["left/a.jpg", "left/deep/b.jpg", "leftover/c.jpg"]) == {
        "left/a.jpg": ["m/left.png", "m/left/a.jpg.png"],
        "left/deep/b.jpg": ["m/left.png", "m/left/deep.png"],
    }
    everywhere = found(masks, ["left/a.jpg", "c.jpg"], camera_mask=str(car))
    assert everywhere == {"left/a.jpg": ["car.png", "m/left.png", "m/left/a.jpg.png"], "c.jpg": ["car.png"]}


def test_files_that_are_of_no_photo_are_named_with_what_they_should_be_called(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masks = touch(tmp_path / "m", "a.jpg.png", "b.png", "x/c_mask.jpg.png", "d.JPG.png", "other.png", ".hidden.png")
    with caplog.at_level(logging.WARNING):
        found(masks, ["a.jpg", "b.jpg", "x/c.jpg", "d.jpg"])
    (text,) = caplog.messages
    assert "4 files are the masks of no photo: b.png (for b.jpg call it b.jpg.png), d.JPG.png (for d.jpg call" in text
    assert text.endswith("x/c_mask.jpg.png (for x/c.jpg call it x/c.jpg.png), other.png")


def test_masks_that_all_have_wrong_names_are_an_error(tmp_path: Path) -> None:
    masks = touch(tmp_path / "m", "a.png")
    with pytest.raises(InputError, match=r"No photo has a mask in .*m'\. The mask of a\.jpg is a\.jpg\.png\. 1 file"):
        found(masks, ["a.jpg"])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"masks": "nowhere"}, "mask folder 'nowhere'.*--masks"), ({"camera_mask": "nowhere.png"}, "--camera-mask")],
)
def test_what_is_not_there_is_an_error(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_masks(MaskOptions(**options), ["a.jpg"])
    assert find_masks(MaskOptions(), ["a.jpg"]) == {}


def test_a_number_in_a_name_is_no_suffix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    masks = touch(tmp_path / "m", "frame.0001.png", "frame.0002.jpg.png", "Frame.0003_mask.jpg.png")
    with caplog.at_level(logging.WARNING):
        found(masks, [f"frame.{number:04}.jpg" for number in (1, 2, 3)])
    (text,) = caplog.messages
    assert "frame.0001.png (for frame.0001.jpg call it frame.0001.jpg.png)" in text
    assert "Frame.0003_mask.jpg.png (for frame.0003.jpg call it" in text


@pytest.mark.parametrize(("photo", "mask"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_may_be_stored_in_either_way(tmp_path: Path, photo: str, mask: str) -> None:
    masks = touch(tmp_path / "m", normalize(mask, "é/ü.jpg.png"))
    name = normalize(photo, "é/ü.jpg")
    assert find_masks(MaskOptions(masks=str(masks)), [name])[name][0].is_file()


@pytest.mark.skipif(os.name == "nt", reason="links need privileges")
def test_masks_in_a_linked_folder_are_found(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "a.jpg.png")
    masks = touch(tmp_path / "m", "b.jpg.png")
    (masks / "left").symlink_to(tmp_path / "elsewhere")
    assert found(masks, ["b.jpg", "left/a.jpg"]) == {"b.jpg": ["m/b.jpg.png"], "left/a.jpg": ["m/left/a.jpg.png"]}


def test_how_many_photos_have_no_mask_is_said() -> None:
    assert in_words({"a": ()}, ["a"]) == "Masks: 1 of 1 photos have one."
    assert in_words({"a": ()}, ["a", "b"]) == "Masks: 1 of 2 photos have one; 1 has none."
    assert in_words({"a": ()}, ["a", "b", "c"]) == "Masks: 1 of 3 photos have one; 2 have none."


# --------------------------------------------------------------------------------- masks among photos
@pytest.mark.parametrize("linked", [False, True])
def test_masks_among_the_photos_are_no_photos(tmp_path: Path, linked: bool) -> None:
    images = touch(tmp_path / "images", "a.jpg", "b.png", "masked.png", "car.png")
    masks = touch(tmp_path / "masks" if linked else images / "masks", "a.jpg.png", "b.png")
    if linked:
        if os.name == "nt":
            pytest.skip("links need privileges")
        (images / "masks").symlink_to(masks)
    options = MaskOptions(masks=str(masks), camera_mask=str(images / "car.png"))
    assert without_masks(options, images, list_images(images)) == ["a.jpg", "b.png", "masked.png"]
    assert len(without_masks(MaskOptions(), images, list_images(images))) == 6


def test_a_run_leaves_out_the_masks_among_its_photos(folder: Path) -> None:
    save_mask(folder / "masks" / "a.png", left_half())
    with Run(folder, folder / "out", Settings.from_flags({"masks": str(folder / "masks")})) as taken:
        assert taken.names == NAMES
        assert taken.masks == {"a.png": (folder / "masks" / "a.png",)}


@pytest.mark.parametrize("place", ["images", "."])
def test_a_folder_of_photos_is_no_folder_of_masks(tmp_path: Path, place: str) -> None:
    images = touch(tmp_path / "images", "a.png", "b.png")
    with pytest.raises(InputError, match=r"is or holds the folder of photos.*--masks"):
        without_masks(MaskOptions(masks=str(tmp_path / place)), images, ["a.png", "b.png"])
    with pytest.raises(InputError, match=r"All 2 images in .* are masks. Check --masks"):
        without_masks(MaskOptions(masks=str(images)), tmp_path, ["images/a.png", "images/b.png"])


# --------------------------------------------------------------------------------- pixels
@pytest.mark.parametrize("edge", [None, 320, 240, 233, 97, 16])
@pytest.mark.parametrize("mask_size", [(320, 240), (640, 480), (100, 75), (7, 5), (512, 512), (1, 1)])
@pytest.mark.parametrize("code", [1, 2, 6, 8])
def test_what_a_network_may_look_at_is_visible_in_the_stored_photo(tmp_path, mask_size, edge, code) -> None:
    width, height = mask_size
    y, x = np.mgrid[:height, :width]
    visible = (x / width - 0.4) ** 2 + (y / height - 0.6) ** 2 < 0.1
    upright = turn_upright(np.zeros((240, 320, 3), np.uint8), code)
    path, mask = saved(tmp_path / "a.png", upright, code), save_mask(tmp_path / "m.png", visible)
    photo = read_photo(path, edge, masks=[mask])
    assert photo.mask.shape == photo.rgb.shape[:2]
    rows, columns = np.nonzero(photo.mask)
    for dx, dy in ((0, 0), (-0.49, -0.49), (0.49, 0.49)):  # anywhere in a pixel
        points = photo.to_stored(np.stack((columns + dx, rows + dy), 1))
        across, down = ((points + 0.5) / (320, 240) * mask_size).astype(int).T
        assert visible[down, across].all()
        assert photo.shows(points).all()
    if min(mask_size) > 50 and edge and edge > 50:
        assert photo.mask.mean() == pytest.approx(visible.mean(), rel=0.15)  # and not much less than that


def test_points_that_are_hidden_or_outside_are_not_shown(tmp_path: Path) -> None:
    path, mask = saved(tmp_path / "a.png", textured()), save_mask(tmp_path / "m.png", left_half())
    photo = read_photo(path, 160, masks=[mask])
    points = np.array([[0, 0], [159.4, 100], [159.6, 100], [319, 239], [-1, 5], [5, 240]], np.float32)
    assert photo.shows(points).tolist() == [True, True, False, False, False, False]
    assert read_photo(path).shows(points).all()


def test_a_reduced_mask_keeps_what_is_wholly_visible() -> None:
    mask = np.array([[1, 1, 1, 0, 1, 1]], bool)
    assert fitted(mask, (6, 1), (3, 1), (2.0, 1.0)).tolist() == [[True, False, True]]
    assert fitted(mask, (6, 1), (6, 1), (1.0, 1.0)).tolist() == mask.tolist()
    assert fitted(mask, (12, 2), (12, 2), (1.0, 1.0)).tolist() == np.repeat(np.repeat(mask, 2, 0), 2, 1).tolist()


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA", "I;16"])
def test_only_black_hides_in_masks_of_any_kind(tmp_path: Path, mode: str) -> None:
    visible = left_half()
    image = Image.fromarray(np.where(visible, 1 if mode != "1" else 255, 0).astype(np.uint8))
    if mode == "P":
        image.putpalette([0, 0, 0, 0, 0, 1])
    elif mode == "I;16":
        image = Image.fromarray(visible.astype(np.uint16))
    else:
        image = image.convert(mode)
    image.save(tmp_path / "m.png")
    photo = read_photo(saved(tmp_path / "a.png", textured()), masks=[tmp_path / "m.png"])
    assert np.array_equal(photo.mask, visible)


def test_the_ringing_of_a_jpeg_is_black_all_the_same(tmp_path: Path) -> None:
    visible = np.repeat(np.arange(320)[None] < 163, 240, 0)  # an edge within a block
    Image.fromarray(visible.astype(np.uint8) * 255).save(tmp_path / "m.jpg", quality=60)
    assert set(np.unique(np.asarray(Image.open(tmp_path / "m.jpg")))) > {0, 255}
    photo = read_photo(saved(tmp_path / "a.png", textured()), masks=[tmp_path / "m.jpg"])
    assert np.array_equal(photo.mask, visible)


def test_several_masks_each_hide(tmp_path: Path) -> None:
    top = np.repeat(np.arange(24)[:, None] < 12, 32, 1)
    masks = [save_mask(tmp_path / "m.png", left_half()), save_mask(tmp_path / "n.png", top)]
    photo = read_photo(saved(tmp_path / "a.png", textured()), masks=masks)
    assert photo.mask[:120, :160].all()
    assert photo.mask.sum() == 120 * 160


def test_the_digest_knows_the_masks_and_is_that_of_the_file_without_any(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", textured())
    mask, other = (save_mask(tmp_path / f"{value}.png", left_half(), value) for value in (1, 2))
    digests = [read_photo(path, masks=masks).digest for masks in ([], [mask], [other], [mask, other])]
    assert len(set(digests)) == 4
    assert digests == [file_digest(path, masks) for masks in ([], [mask], [other], [mask, other])]
    assert digests[0] == file_digest(path)


@pytest.mark.parametrize("damage", ["empty", "text", "missing", "standing"])
def test_a_mask_that_cannot_be_used_is_named(tmp_path: Path, damage: str) -> None:
    path, mask = saved(tmp_path / "a.png", textured(), 6), tmp_path / "m.png"
    reason = {
        "empty": r"the file is empty",
        "text": r"not an image",
        "missing": r"the file does not exist",
        "standing": r"has 320x240 pixels, the stored photo 240x320; masks show photos as they are stored, before EXIF",
    }[damage]
    if damage == "standing":
        save_mask(mask, left_half())
    elif damage != "missing":
        mask.write_text("no image" if damage == "text" else "")
    with pytest.raises(InputError, match=rf"a\.png: its mask .*m\.png:? {reason}"):
        read_photo(path, masks=[mask])


# --------------------------------------------------------------------------------- the feature stage
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("a.png", "b.png", "c.png")):
        saved(tmp_path / name, textured(seed=i), (1, 6, 3)[i])
    return tmp_path


NAMES = ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("edge", [0, 200])
def test_no_keypoint_lies_under_a_mask_and_the_budget_is_used(folder: Path, edge: int) -> None:
    stored = {"a.png": left_half(), "b.png": left_half(240, 320), "c.png": left_half()}
    masks = {name: [save_mask(folder / "m" / f"{name}.png", mask)] for name, mask in stored.items()}
    extract_features(folder, NAMES, sift(max_edge_px=edge), plain := {})
    extract_features(folder, NAMES, sift(max_edge_px=edge), masked := {}, masks=masks)
    for name, mask in stored.items():
        assert len(masked[name]) == len(plain[name]) == BUDGET
        assert seen(mask, masked[name].keypoints).all()
        assert not seen(mask, plain[name].keypoints).all()


def test_only_the_photo_whose_mask_changed_is_computed_again(folder: Path) -> None:
    masks = {name: [save_mask(folder / "m" / f"{name}.png", left_half(32, 32))] for name in ("a.png", "b.png")}
    with FeatureStore(folder / "s.h5", {"extractor": "sift"}) as store:
        assert extract_features(folder, NAMES, sift(), store).computed == NAMES
        report = extract_features(folder, NAMES, sift(), store, masks=masks)
        assert (report.computed, report.reused) == (["a.png", "b.png"], ["c.png"])
        assert extract_features(folder, NAMES, sift(), store, masks=masks).reused == NAMES
        save_mask(masks["b.png"][0], ~left_half(32, 32))
        assert extract_features(folder, NAMES, sift(), store, masks=masks).computed == ["b.png"]
        assert extract_features(folder, NAMES, sift(), store).computed == ["a.png", "b.png"]  # all masks gone


def test_a_photo_that_is_masked_out_has_no_keypoints_and_is_named(folder: Path) -> None:
    masks = {"b.png": [save_mask(folder / "m.png", np.zeros((20, 10), bool))]}
    store = {}
    for _ in range(2):  # computed, then reused
        report = extract_features(folder, NAMES, sift(), store, masks=masks)
        assert (report.masked_out, report.failed, len(store["b.png"])) == (["b.png"], {}, 0)
    assert store["b.png"].descriptors.shape == (0, 128)


def test_masks_the_wrong_way_round_are_an_error(folder: Path) -> None:
    black = save_mask(folder / "m.png", np.zeros((10, 10), bool))
    with pytest.raises(InputError, match=r"leave no keypoint in any photo, as in a\.png\. Black is what is ignored"):
        extract_features(folder, NAMES, sift(), {}, masks={name: [black] for name in NAMES})


def test_a_photo_with_a_damaged_mask_is_skipped_and_named(folder: Path) -> None:
    (folder / "m.png").write_text("no image")
    masks = {"b.png": [folder / "m.png"]}
    extract_features(folder, NAMES, sift(), store := {})
    report = extract_features(folder, NAMES, sift(), store, masks=masks)
    assert list(report.failed) == ["b.png"]
    assert report.failed["b.png"].startswith(f"its mask {folder / 'm.png'}: not an image")
    assert sorted(store) == ["a.png", "c.png"]  # and not with keypoints where they are not welcome
    with pytest.raises(InputError, match=r"b\.png: its mask"):
        extract_features(folder, NAMES, sift(), store, masks=masks, is_strict=True)


def test_an_extractor_that_knows_no_masks_loses_what_they_hide_and_that_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The toy's keypoint is in the middle."""
    hidden, shown = (
        save_mask(folder / f"{edge}.mask.png", np.arange(240)[:, None] < np.full(320, edge)) for edge in (100, 140)
    )
    with caplog.at_level(logging.WARNING):
        extract_features(folder, NAMES, ToyExtractor(), store := {}, masks={"a.png": [hidden], "c.png": [shown]})
    assert {name: len(store[name]) for name in NAMES} == {"a.png": 0, "b.png": 1, "c.png": 1}
    assert caplog.messages == [
        "The extractor 'toy' knows no masks: keypoints under them are dropped afterwards, and masked photos keep fewer "
        "than --max-keypoints."
    ]


def test_a_photo_that_is_looked_at_again_is_masked_again(folder: Path) -> None:
    mask = save_mask(folder / "m.png", left_half())
    orientations = Orientations(folder, NAMES, "auto", folder / "r.json", {"a.png": [mask]})
    for turn in (1, 2, 3):
        found = orientations.look(sift(), "a.png", turn)
        assert len(found) == BUDGET
        assert seen(left_half(), found.keypoints).all()


def test_a_run_looks_again_through_the_masks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def look_at_one(names, store, pairs, look) -> dict[str, int]:
        looked.append(look("a.png", 1))
        return {}

    monkeypatch.setattr(run_module, "find_turns", look_at_one)
    monkeypatch.setattr(run_module, "is_rotation_invariant", lambda extractor: False)
    save_mask(folder / "masks" / "a.png", left_half())
    settings = Settings.from_flags({"features": "sift", "masks": str(folder / "masks")})
    with Run(folder, folder / "out", settings) as taken:
        taken.extract()
    (found,) = looked
    assert len(found)
    assert seen(left_half(), found.keypoints).all()


# --------------------------------------------------------------------------------- the command line
def test_a_masked_reconstruction(courtyard: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", views(4, 5, 6, 7))
    visible = np.ones((60, 80), bool)
    visible[:, :20] = False
    for name in views(4, 5, 6):
        save_mask(tmp_path / "masks" / f"{name}.png", visible)
    save_mask(tmp_path / "masks" / "view07.jpg.png", np.zeros((60, 80), bool))
    save_mask(tmp_path / "masks" / "view05.png", visible)
    output = tmp_path / "out"
    ended = run("reconstruct", images, "-o", output, *SIFT, "--masks", tmp_path / "masks")
    assert ended.code == 0, ended.err
    assert "Masks: 4 of 4 photos have one." in ended.err
    assert "Masked out view07.jpg: no keypoint lies outside of its mask." in ended.err
    assert "1 file is the mask of no photo: view05.png" in caplog.text
    assert "1 masked out: view07.jpg" in ended.out
    assert ended.out.count("Not registered") == 1
    summary = summary_of(output)
    assert (summary["masked_out"], summary["num_reg_images"]) == (["view07.jpg"], 3)
    with FeatureStore(next(output.glob("features-*.h5"))) as store:
        assert min(store["view05.jpg"].keypoints[:, 0]) >= 800 * 20 / 80 - 0.5

    save_mask(tmp_path / "masks" / "view05.jpg.png", np.ones((6, 8), bool))
    ended = run("extract", images, "-o", output)  # which takes over --masks
    assert ended.out.startswith("1 computed, 3 reused, 0 skipped")


def test_one_mask_for_all_photos_and_a_missing_folder(courtyard: Path, tmp_path: Path) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", views(5, 6))
    mask = save_mask(tmp_path / "car.png", np.arange(60)[:, None] < np.full(80, 40))
    output = tmp_path / "out"
    assert run("extract", images, "-o", output, *SIFT, "--camera-mask", mask).code == 0
    with FeatureStore(next(output.glob("features-*.h5"))) as store:
        assert all(max(store[name].keypoints[:, 1]) < 400 for name in views(5, 6))
    ended = run("extract", images, "-o", output, *SIFT, "--masks", tmp_path / "mask")
    assert ended.code == 1
    assert "mask' does not exist, or is no folder. Check --masks." in ended.err
