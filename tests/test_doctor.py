"""Real runs on the rendered scene with photos that cannot register: what the doctor says, and what second looks do."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from cli_helpers import SIFT, copy_photos, run, summary_of, views
from conftest import textured
from PIL import Image

from lgsfm import examine
from lgsfm.errors import InputError
from lgsfm.files import read_json, write_json


@pytest.fixture(scope="module")
def sick(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Six photos of the courtyard, a broken, a blank, a masked one and one of something else."""
    folder = tmp_path_factory.mktemp("sick é")
    images = copy_photos(courtyard / "images", folder / "my images", views(0, 1, 2, 3, 4, 5))
    (images / "broken.jpg").write_bytes((images / "view00.jpg").read_bytes()[:300])
    Image.new("RGB", (640, 480), "grey").save(images / "blank.jpg")
    Image.fromarray(textured(480, 640, seed=7)).save(images / "other.png")
    shutil.copy(courtyard / "images" / "view06.jpg", images / "hidden.jpg")
    masks = folder / "masks"
    masks.mkdir()
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(masks / "hidden.jpg.png")
    output = folder / "out"
    ended = run("reconstruct", images, "-o", output, *SIFT, "--masks", masks)
    assert ended.code == 0, ended.err
    assert "1 unreadable: broken.jpg" in ended.out
    return images, output


def test_a_photo_that_wants_a_library_is_named_once_with_what_to_install(
    sick: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    images, output = tmp_path / "images", tmp_path / "out"
    copy_photos(sick[0], images, views(0, 1, 2))
    (images / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(5000))
    for module in ("lgsfm.image_files", "lgsfm.heif"):
        monkeypatch.setattr(f"{module}.is_readable", lambda kind: not kind)
    assert run("reconstruct", images, "-o", output, *SIFT).code == 0
    ended = run("doctor", output)
    assert caplog.text.count("cannot be read without another library") == 1
    assert "-> Install that, and run the same command again." in ended.out
    assert "Save the photo again" not in ended.out


def test_every_photo_that_is_not_in_the_model_has_its_reason(sick: tuple[Path, Path]) -> None:
    found = {each.image: each for each in examine(sick[1]).diagnoses}
    assert {name: each.reason for name, each in found.items()} == {
        "blank.jpg": "no features",
        "broken.jpg": "unreadable",
        "hidden.jpg": "masked out",
        "other.png": "few matches",
    }
    assert found["other.png"].numbers["pairs"] >= 6
    assert "--features sift --max-keypoints 3000 --max-edge-px 1600 --masks" in found["other.png"].command


def test_the_end_of_the_run_and_the_doctor_say_the_same(sick: tuple[Path, Path]) -> None:
    summary = summary_of(sick[1])
    ended = run("doctor", sick[1], "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert (found["num_registered"], found["num_images"]) == (6, 10)
    assert found["diagnoses"] == summary["diagnoses"]
    assert sorted(each["image"] for each in found["diagnoses"]) == sorted(summary["unregistered"])


def test_the_doctor_works_where_the_photos_are_gone(sick: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(sick[1], tmp_path / "out")
    path = tmp_path / "out" / "summary.json"
    write_json(path, {**read_json(path), "image_dir": "/nowhere"})
    assert len(examine(tmp_path / "out").diagnoses) == 4


def test_the_words_of_the_doctor_end_with_what_to_do(sick: tuple[Path, Path]) -> None:
    ended = run("doctor", sick[1])
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "Registered 6 of 10 photos in the best model."
    assert "no features: 1" in lines
    advised = [line.strip() for line in lines if line.strip().startswith("lgsfm reconstruct")]
    assert advised
    assert all("'" in line and "my images'" in line for line in advised)  # quoted: the folder has a space


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no output folder"):
        examine(tmp_path)
    ended = run("doctor", tmp_path / "missing")
    assert (ended.code, ended.out) == (1, "")
    assert "no output folder" in ended.err


def test_a_run_without_a_model_says_why_for_each_photo(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(3):
        Image.fromarray(textured(240, 320, seed=seed)).save(images / f"{seed}.png")
    ended = run("reconstruct", images, "-o", tmp_path / "out", *SIFT)
    assert ended.code == 1
    found = examine(tmp_path / "out")
    assert (found.num_registered, [each.image for each in found.diagnoses]) == (0, ["0.png", "1.png", "2.png"])
    assert summary_of(tmp_path / "out")["diagnoses"] == [asdict(each) for each in found.diagnoses]


def test_before_there_is_a_database_nothing_is_said_of_pairs(courtyard: Path, tmp_path: Path) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", views(0, 1, 2))
    Image.new("RGB", (640, 480), "grey").save(images / "blank.jpg")
    for stage in ("extract", "pairs", "match"):
        assert run(stage, images, "-o", tmp_path / "out", *SIFT).code == 0
        found = examine(tmp_path / "out")
        assert ([each.image for each in found.diagnoses], found.missing) == (["blank.jpg"], "database")
    assert run("database", images, "-o", tmp_path / "out", *SIFT).code == 0
    assert examine(tmp_path / "out").missing == "map"
    assert run("map", images, "-o", tmp_path / "out", *SIFT).code == 0
    assert examine(tmp_path / "out").missing == ""


def test_mapping_alone_needs_no_pairs_and_other_options_leave_the_doctor_right(courtyard: Path, tmp_path: Path) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", views(0, 1, 2))
    output = tmp_path / "out"
    assert run("reconstruct", images, "-o", output, *SIFT).code == 0
    (output / "pairs.txt").unlink()
    assert run("map", images, "-o", output, *SIFT).code == 0
    assert summary_of(output)["num_reg_images"] == 3
    assert run("match", images, "-o", output, "--features", "sift", "--max-keypoints", "99").code == 1
    found = examine(output)  # of what the model was made of, not of the last command
    assert (found.num_registered, found.num_images, found.diagnoses) == (3, 3, [])


# --------------------------------------------------------------------------------- second looks
def test_photos_that_a_poor_selection_leaves_out_are_tied_within_the_budget(courtyard: Path, tmp_path: Path) -> None:
    names = views(0, 1, 2, 3, 4, 5, 6, 7)
    images = copy_photos(courtyard / "images", tmp_path / "images", names)
    pairs = tmp_path / "pairs.txt"  # two groups, and nothing between them
    groups = names[:4], names[4:]
    pairs.write_text("".join(f"{a}\t{b}\n" for group in groups for a in group for b in group if a < b))
    poor = run("reconstruct", images, "-o", tmp_path / "poor", *SIFT, "--pairs", pairs)
    assert summary_of(tmp_path / "poor")["num_reg_images"] <= 4  # who lists the pairs gets these
    assert "Second look" not in poor.err
    healed = run("reconstruct", images, "-o", tmp_path / "healed", *SIFT, "--pairs", pairs, "--budget", "6")
    assert healed.code == 0, healed.err
    assert "Second look: the view graph is in 2 parts" in healed.err
    summary = summary_of(tmp_path / "healed")
    assert summary["num_reg_images"] == 8
    assert summary["computed"]["match"] <= 12 + 6
    again = run("reconstruct", images, "-o", tmp_path / "healed", *SIFT, "--pairs", pairs, "--budget", "6")
    assert "Second look" not in again.err  # it goes on from what was found
    after = summary_of(tmp_path / "healed")
    assert (after["computed"]["match"], after["computed"]["database"], after["num_reg_images"]) == (0, 0, 8)
    assert examine(tmp_path / "healed").diagnoses == []


def test_a_finer_look_saves_what_few_keypoints_cannot(courtyard: Path, tmp_path: Path) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", views(0, 2, 4, 6))
    few = ("--features", "sift", "--max-edge-px", "480", "--max-keypoints", "150")
    poor = run("reconstruct", images, "-o", tmp_path / "out", *few, "--budget", "none")
    before = summary_of(tmp_path / "out")["num_reg_images"]
    assert before < 4, poor.out
    healed = run("reconstruct", images, "-o", tmp_path / "out", *few, "--budget", "100")
    assert "a finer look at" in healed.err
    summary = summary_of(tmp_path / "out")
    assert summary["num_reg_images"] > before
    assert summary["computed"]["finer"] > 0
    model = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    assert model.compute_mean_reprojection_error() < 1.5  # keypoints of both looks are where they say
