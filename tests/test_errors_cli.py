"""What goes wrong for people: each case ends with a message that says what, where and what to do, never a traceback."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from cli_helpers import SIFT, Ran, command, copy_photos, hide_weights, run, run_process, summary_of, views
from PIL import Image

from lgsfm import photo_formats

QUICK = ("--features", "sift", "--max-edge-px", "400", "--max-keypoints", "200")
TRIPLE = views(5, 6, 7)


@pytest.fixture
def photos(courtyard: Path, tmp_path: Path) -> Path:
    """A folder of three good photos."""
    return copy_photos(courtyard / "images", tmp_path / "photos", TRIPLE)


def assert_explained(ended: Ran, *texts: str) -> None:
    """Exit code 1, nothing on stdout, and one message on stderr that holds the texts."""
    assert ended.code == 1
    assert ended.out == ""
    assert "Error: " in ended.err
    assert "Traceback" not in ended.err
    for text in texts:
        assert text in ended.err


def skipped(ended: Ran) -> dict[str, str]:
    """The photos that a run named as unusable, and why."""
    lines = [line for line in ended.err.splitlines() if line.startswith("Skipped ")]
    return dict(line.removeprefix("Skipped ").split(": ", 1) for line in lines)


# --------------------------------------------------------------------------------- the image folder
def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    ended = run("reconstruct", tmp_path / "photoz", *QUICK)
    assert_explained(ended, f"'{tmp_path / 'photoz'}' does not exist. Check the path.")
    assert list(tmp_path.iterdir()) == []  # no output folder for it


def test_a_file_in_place_of_the_folder(photos: Path) -> None:
    assert_explained(run("reconstruct", photos / "view05.jpg", *QUICK), "view05.jpg' is not a folder")


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    ended = run("reconstruct", tmp_path / "photos", *QUICK)
    assert_explained(ended, "No images in", "the folder is empty")
    assert not (tmp_path / "photos-lgsfm").exists()


def test_a_folder_without_images_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "notes.txt").touch()
    assert_explained(run("reconstruct", tmp_path, *QUICK), "No images in", ".jpg", "1 .mp4", "1 .txt")


def test_a_folder_of_heic_says_what_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_formats, "find_spec", lambda _: None)  # no library for them is here
    (tmp_path / "IMG_1.HEIC").touch()
    ended = run("reconstruct", tmp_path, *QUICK)
    assert_explained(ended, "pip install 'lgsfm[heic]'", "convert the photos to JPEG")


def test_one_image(photos: Path) -> None:
    for name in TRIPLE[1:]:
        (photos / name).unlink()
    ended = run("reconstruct", photos, *QUICK)
    assert_explained(ended, "holds one image, view05.jpg", "needs at least two")


def test_photos_without_overlap_tell_why_there_is_no_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        noise = cv2.resize(rng.integers(0, 255, (60, 80, 3), np.uint8), (400, 300), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    output = tmp_path / "out"
    ended = run("reconstruct", tmp_path, "-o", output, *QUICK)
    assert_explained(ended, "No model", "may not overlap", str(output / "colmap.log"))
    summary = summary_of(output)  # written all the same
    assert (summary["num_reg_images"], summary["best_model"]) == (0, None)
    assert summary["unregistered"] == ["0.png", "1.png", "2.png"]


def test_a_read_only_image_folder_is_no_trouble(photos: Path, tmp_path: Path) -> None:
    photos.chmod(0o555)
    try:
        ended = run("extract", photos, "-o", tmp_path / "out", *QUICK)
        assert ended.code == 0, ended.err
        assert sorted(path.name for path in photos.iterdir()) == TRIPLE
    finally:
        photos.chmod(0o755)


# --------------------------------------------------------------------------------- photos
def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def spoil(photos: Path) -> dict[str, str]:
    """Puts unusable photos among the good ones: name -> what must be said of it."""
    good = (photos / "view05.jpg").read_bytes()
    (photos / "empty.jpg").touch()
    (photos / "truncated.jpg").write_bytes(good[: len(good) // 2])
    (photos / "a_text.jpg").write_text("no photo")
    (photos / "web.png").write_text("<!doctype html>")
    (photos / "huge.png").write_bytes(png_that_claims(60_000, 60_000))
    (photos / "tiny.png").write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    (photos / "broken_link.jpg").symlink_to("nowhere.jpg")
    return {
        "empty.jpg": "empty (0 bytes)",
        "truncated.jpg": "truncated",
        "a_text.jpg": "not an image",
        "web.png": "not an image",
        "huge.png": "more than 500 megapixels",
        "tiny.png": "smaller than 16 pixels",
        "broken_link.jpg": "does not exist",
    }


def test_unusable_photos_are_named_and_skipped_and_the_others_go_on(photos: Path, tmp_path: Path) -> None:
    expected = spoil(photos)
    output = tmp_path / "out"
    ended = run("reconstruct", photos, "-o", output, *SIFT)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    named = skipped(ended)
    assert set(named) == set(expected)
    for name, text in expected.items():
        assert text in named[name]
    summary = summary_of(output)
    assert set(summary["failed_images"]) == set(expected)
    assert summary["num_images"] == 3 + len(expected)
    assert summary["num_reg_images"] == 3
    assert set(summary["unregistered"]) == set(expected)
    assert "Registered images    3 of 10" in ended.out


def test_strict_makes_the_first_unusable_photo_an_error(photos: Path, tmp_path: Path) -> None:
    (photos / "view06.jpg").write_bytes(b"")
    ended = run("extract", photos, "-o", tmp_path / "out", *QUICK, "--strict")
    assert_explained(ended, "view06.jpg", "empty (0 bytes)")


def test_a_repaired_photo_is_taken_at_the_next_run(photos: Path, tmp_path: Path) -> None:
    good = (photos / "view06.jpg").read_bytes()
    (photos / "view06.jpg").write_bytes(good[:1000])
    output = tmp_path / "out"
    ended = run("extract", photos, "-o", output, *QUICK)
    assert ended.out.startswith("2 computed, 0 reused, 1 skipped")
    (photos / "view06.jpg").write_bytes(good)
    ended = run("extract", photos, "-o", output, *QUICK)
    assert ended.out.startswith("1 computed, 2 reused, 0 skipped")


def test_all_photos_unusable(photos: Path, tmp_path: Path) -> None:
    for name in TRIPLE:
        (photos / name).write_bytes(b"")
    ended = run("reconstruct", photos, "-o", tmp_path / "out", *QUICK)
    assert_explained(ended, "None of the 3 photos in", "view05.jpg", "0 bytes")


def test_all_kinds_of_pixels_reconstruct_together(courtyard: Path, tmp_path: Path) -> None:
    """CMYK, 16 bits, grey, transparent, palette, TIFF, BMP, WebP: each is read, and COLMAP reads their colours too."""
    images, output = tmp_path / "photos", tmp_path / "out"
    images.mkdir()
    pictures = [Image.open(courtyard / "images" / name).convert("RGB") for name in views(*range(2, 10))]
    pictures[0].convert("CMYK").save(images / "0_cmyk.jpg", quality=95)
    cv2.imwrite(str(images / "1_sixteen.png"), np.asarray(pictures[1])[..., ::-1].astype(np.uint16) * 257)
    pictures[2].convert("L").save(images / "2_grey.png")
    pictures[3].convert("RGBA").save(images / "3_transparent.png")
    pictures[4].quantize(256).save(images / "4_palette.png")
    pictures[5].save(images / "5_tiff.TIF", compression="tiff_lzw")
    pictures[6].save(images / "6_bitmap.bmp")
    pictures[7].save(images / "7_web.webp", quality=95)
    (images / "notes.txt").write_text("not a photo")
    (images / "clip.mp4").write_bytes(b"\0" * 100)
    (images / ".hidden.jpg").write_bytes(b"")
    ended = run("reconstruct", images, "-o", output, *SIFT)
    assert ended.code == 0, ended.err
    summary = summary_of(output)
    assert summary["failed_images"] == {}
    assert summary["unregistered"] == []
    assert summary["num_images"] == summary["num_reg_images"] == 8


# --------------------------------------------------------------------------------- names
NAMES = [
    "a/view.jpg",
    "b/view.jpg",
    "a-b/c.jpg",
    "a/b-c.jpg",
    "with space (1).JPG",
    "é 中 # %.jpg",
    "100%2F.jpeg",
    "#1.jpg",
    "日本/été #2/-v.jpg",
    " lead and trail .jpg",
]


def test_names_of_all_kinds_go_through_all_stages(courtyard: Path, tmp_path: Path) -> None:
    images, output = tmp_path / "my photos é", tmp_path / "my output 中"
    for name, source in zip(NAMES, sorted((courtyard / "images").iterdir())[2:], strict=False):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, images / name)
    options: tuple[str, ...] = SIFT
    for stage in ("extract", "pairs", "match", "database", "map"):  # the pair file carries the names, too
        ended = run(stage, images, "-o", output, *options)
        assert ended.code == 0, ended.err
        options = ()
    assert "45" in run("match", images, "-o", output).out  # all pairs, none lost on the way
    model = pycolmap.Reconstruction(output / "sparse" / "0")
    assert {image.name for image in model.images.values()} == set(NAMES)
    assert summary_of(output)["unregistered"] == []


def test_a_terminal_that_cannot_show_a_name_is_no_reason_to_fail(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "中"
    ended = run_process("extract", photos, "-o", output, *QUICK, PYTHONIOENCODING="ascii")
    assert ended.code == 0, ended.err
    assert "\\u4e2d" in ended.out


# --------------------------------------------------------------------------------- the output folder
def test_the_output_may_not_be_the_image_folder(photos: Path) -> None:
    ended = run("reconstruct", photos, "-o", photos / ".." / photos.name, *QUICK)
    assert_explained(ended, "is the image folder", "-o")
    assert sorted(path.name for path in photos.iterdir()) == TRIPLE


def test_an_output_inside_the_image_folder_does_not_become_a_photo(photos: Path) -> None:
    for _ in range(2):
        ended = run("reconstruct", photos, "-o", photos / "out", *SIFT)
        assert ended.code == 0, ended.err
    assert summary_of(photos / "out")["num_images"] == 3


@pytest.mark.parametrize("inside", ["", "deeper/still"])
def test_an_output_below_a_file(photos: Path, tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").touch()
    ended = run("reconstruct", photos, "-o", tmp_path / "file" / inside, *QUICK)
    assert_explained(ended, str(tmp_path / "file"), "cannot be made", "Choose another")


def test_an_output_that_may_not_be_written_to(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    ended = run("reconstruct", photos, "-o", tmp_path / "out", *QUICK)
    assert_explained(ended, "may not be written to", str(tmp_path / "out"), "-o")


@pytest.mark.parametrize("name", ["database.db", "sparse"])
def test_the_reconstruction_of_another_program_is_not_overwritten(photos: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "out"
    output.mkdir()
    if name == "sparse":
        (output / name).mkdir()
    else:
        (output / name).write_text("precious")
    ended = run("reconstruct", photos, "-o", output, *QUICK)
    assert_explained(ended, f"holds {name} of another program", "-o")
    assert [path.name for path in output.iterdir()] == [name]
    assert name == "sparse" or (output / name).read_text() == "precious"


def test_a_damaged_feature_file_is_set_aside_and_made_again(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run("extract", photos, "-o", output, *QUICK).code == 0
    (path,) = output.glob("features-*.h5")
    path.write_bytes(b"damaged" * 100)
    ended = run_process("extract", photos, "-o", output, *QUICK)
    assert ended.code == 0, ended.err
    assert "3 computed" in ended.out
    assert "is damaged" in ended.err
    assert path.with_suffix(".damaged").read_bytes().startswith(b"damaged")


@pytest.mark.parametrize("name", ["options.json", "database.json", "summary.json"])
def test_damaged_json_is_made_again(photos: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "out"
    assert run("reconstruct", photos, "-o", output, *SIFT).code == 0
    (output / name).write_text('{"flags": ')
    ended = run("reconstruct", photos, "-o", output, *SIFT)
    assert ended.code == 0, ended.err
    assert summary_of(output)["num_reg_images"] == 3


# --------------------------------------------------------------------------------- options
@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (("--features", "supperpoint"), ("extractor 'supperpoint'", "aliked", "sift", "Did you mean 'superpoint'?")),
        (("--matcher", "lightglu"), ("matcher 'lightglu'", "Did you mean 'lightglue'?")),
        (("--retriever", "netvlad"), ("retriever 'netvlad'", "vlad")),
        (("--pairs", "exhaustiv"), ("'exhaustiv'", "sequential", "FILE", "Did you mean 'exhaustive'?")),
        (("--pairs", "missing.txt"), ("'missing.txt'", "no such file")),
        (("--pairs", "sequential+retrieva"), ("'retrieva'", "Did you mean 'retrieval'?")),
        (("--device", "warp-drive"), ("Device 'warp-drive' cannot be used here", "--device cpu")),
        (("--device", "cuda:99"), ("Device 'cuda:99' cannot be used here", "--device cpu")),
        (("--camera-model", "PINHOL"), ("camera model 'PINHOL'", "Did you mean 'PINHOLE'?")),
        (("--max-keypoints", "-5"), ("max_keypoints must be at least 0, not -5",)),
        (("--ratio", "1.5"), ("ratio must be at most 1, not 1.5",)),
        (("--ratio", "nan"), ("ratio must be a finite number",)),
        (("--features", "sift", "--matcher", "lightglue"), ("no LightGlue weights for sift", "--matcher nearest")),
        (("--features", "sift", "--variant", "n32"), ("variant is of aliked, not of the extractor 'sift'",)),
        (("--weights-dir", "/nowhere/at/all", "--features", "aliked"), ("/nowhere/at/all", "does not exist")),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_named_before_any_work(
    photos: Path, tmp_path: Path, options: tuple[str, ...], texts: tuple[str, ...]
) -> None:
    output = tmp_path / "out"
    first = () if "--features" in options else QUICK[:2]
    ended = run("reconstruct", photos, "-o", output, *first, *options)
    assert_explained(ended, *texts)
    assert not output.exists() or [path.name for path in output.iterdir() if path.name != ".lock"] == []


def test_weights_that_cannot_be_had_say_which_file_and_where_to_put_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_weights(monkeypatch, tmp_path / "cache")
    ended = run("reconstruct", photos, "-o", tmp_path / "out", "--features", "superpoint", "--offline")
    sha256 = "52b6708629640ca883673b5d5c097c4ddad37d8048b33f09c8ca0d69db12c40e"
    assert_explained(
        ended,
        "superpoint_v1.pth",
        sha256,
        str(tmp_path / "cache" / "weights" / "superpoint_v1.pth"),
        "NonCommercial",
        "--weights-dir",
        "offline mode is on",
    )
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name != ".lock"] == []


def test_weights_fetch_offline_and_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_weights(monkeypatch, tmp_path)
    assert_explained(run("weights", "fetch", "--offline"), "aliked-n16", str(tmp_path / "weights"))
    assert_explained(run("weights", "fetch", "aliked-n17"), "'aliked-n17'", "Did you mean 'aliked-n16")


def test_a_pair_file_with_a_wrong_name_is_quoted_by_line(photos: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("view05.jpg view06.jpg\nview05.jpg view66.jpg\n")
    ended = run("pairs", photos, "-o", tmp_path / "out", *QUICK, "--pairs", pairs)
    assert_explained(ended, "pairs.txt, line 2", "view66.jpg")


def test_one_camera_for_photos_of_two_sizes(photos: Path, tmp_path: Path) -> None:
    with Image.open(photos / "view07.jpg") as picture:
        picture.resize((400, 300)).save(photos / "view07.jpg")
    ended = run("reconstruct", photos, "-o", tmp_path / "out", *QUICK, "--camera-mode", "single")
    assert_explained(ended, "400x300 as view07.jpg, 800x600 as view05.jpg", "--camera-mode auto")


@pytest.mark.parametrize(
    ("model", "reference", "texts"),
    [
        ("missing", "truth", ("No model or pose file at", "missing", "Check the path")),
        ("empty", "truth", ("No COLMAP model in", "empty")),
        ("truth", "missing.txt", ("missing.txt",)),
        ("truth", "prose.txt", ("prose.txt",)),
    ],
)
def test_evaluate_names_what_it_cannot_read(
    courtyard: Path, tmp_path: Path, model: str, reference: str, texts: tuple[str, ...]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "prose.txt").write_text("these are no poses\n")
    places = {"truth": courtyard / "sparse"}
    ended = run("evaluate", places.get(model, tmp_path / model), places.get(reference, tmp_path / reference))
    assert_explained(ended, *texts)


def test_an_abort_of_colmap_is_explained(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"
    assert run("reconstruct", photos, "-o", output, *SIFT).code == 0
    before = sorted(path.name for path in (output / "sparse" / "0").iterdir())
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, os\n"
        "if any('lgsfm.child' in word for word in sys.orig_argv):\n"
        "    import pycolmap\n"
        "    pycolmap.incremental_mapping = lambda *a, **k: (os.write(2, b'Check failed: a < b\\n'), os.abort())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ended = run("map", photos, "-o", output)
    assert_explained(ended, "was killed by signal SIGABRT", "Check failed: a < b", str(output / "colmap.log"))
    assert sorted(path.name for path in (output / "sparse" / "0").iterdir()) == before  # the old model is kept
    monkeypatch.delenv("PYTHONPATH")
    assert run("map", photos, "-o", output).code == 0


def test_a_reader_that_goes_away_gets_no_traceback(photos: Path, tmp_path: Path) -> None:
    """lgsfm ... | head"""
    process = subprocess.Popen(
        command("extract", photos, "-o", tmp_path / "out", *QUICK), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert b"Traceback" not in err
    assert b"BrokenPipe" not in err
    assert process.returncode == 0
