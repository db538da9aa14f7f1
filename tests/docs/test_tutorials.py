"""The tutorials do what they say: the blocks of each are run in order, on five photos of the rendered scene."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import copy_photos, python_path, summary_of, views
from conftest import ROOT
from docs_pages import blocks

from lgsfm import weights

EXECUTED = ("bash", "python")
NUM_PHOTOS = 5


@pytest.fixture
def workplace(courtyard: Path, tmp_path: Path) -> Path:
    """The folder in which a reader would be: photos, true poses, the example package, and the commands on the path."""
    copy_photos(courtyard / "images", tmp_path / "images", views(*range(4, 4 + NUM_PHOTOS)))
    shutil.copy(courtyard / "ground_truth.txt", tmp_path)
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(
        ROOT / "examples" / "extractor-package", tmp_path / "examples" / "extractor-package", ignore=ignored
    )
    # pip fills a folder of its own: the environment of the tests stays as it is
    target = f"-q --no-deps --no-build-isolation --disable-pip-version-check --target {tmp_path}/site"
    for name, words in {"lgsfm": '-m lgsfm "$@"', "python": '"$@"', "pip": f'-m pip "$@" {target}'}.items():
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f"#!/bin/sh\nexec {sys.executable} {words}\n")
        command.chmod(0o755)
    return tmp_path


def run_block(language: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": python_path(folder / "site"),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    words = [sys.executable, "-c", text] if language == "python" else ["bash", "-euo", "pipefail", "-c", text]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


def follow(page: str, folder: Path) -> str:
    """Runs the blocks of a tutorial; gives all that they printed to stdout."""
    printed = ""
    for language, text in blocks(f"docs/tutorials/{page}"):
        if language in EXECUTED:
            done = run_block(language, text, folder)
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            printed += done.stdout
    return printed


def needs_weights() -> None:
    if not (weights.find("aliked-n16") and weights.find("lightglue-aliked")):
        pytest.skip("the ALIKED and LightGlue weights are not here: lgsfm weights fetch")


@pytest.mark.slow
def test_first_reconstruction(workplace: Path) -> None:
    needs_weights()
    printed = follow("first-reconstruction.md", workplace)
    assert f"Registered images    {NUM_PHOTOS} of {NUM_PHOTOS}" in printed
    assert "all reused" in printed  # the same command again computes nothing anew
    assert printed.endswith(f"{NUM_PHOTOS} of {NUM_PHOTOS}\n")
    assert (workplace / "out" / "report.html").is_file()


@pytest.mark.slow
def test_pair(workplace: Path) -> None:
    needs_weights()
    printed = follow("pair.md", workplace)
    assert "cam1_from_cam0, calibrated" in printed
    assert "reliable" in printed.splitlines()
    assert (workplace / "matches.png").stat().st_size > 10_000


@pytest.mark.slow
def test_own_extractor(workplace: Path) -> None:
    """The example package, installed by pip into a folder of its own, found by its entry point."""
    printed = follow("own-extractor.md", workplace)
    assert f"{NUM_PHOTOS} computed" in printed
    assert "Features, matcher    orb, nearest" in printed
    assert summary_of(workplace / "out")["num_reg_images"] >= 3
    assert "passed" in printed


def test_the_example_package_is_needed_for_its_features(workplace: Path) -> None:
    """Else the tutorial would prove nothing."""
    done = run_block("bash", "lgsfm extract images/ -o out --features orb", workplace)
    assert done.returncode == 1
    assert "orb" in done.stderr


@pytest.mark.slow
def test_thousand_images(workplace: Path) -> None:
    needs_weights()
    printed = follow("thousand-images.md", workplace)
    assert f"Registered images    {NUM_PHOTOS} of {NUM_PHOTOS}" in printed


@pytest.mark.slow
def test_cluster(workplace: Path) -> None:
    needs_weights()
    printed = follow("cluster.md", workplace)
    merged = summary_of(workplace / "out-sift")
    assert (merged["computed"]["extract"], merged["reused"]["extract"]) == (0, NUM_PHOTOS)  # all taken over
    assert printed.count(f"Registered images    {NUM_PHOTOS} of {NUM_PHOTOS}") == 2


@pytest.mark.slow
def test_gaussian_splats(workplace: Path) -> None:
    needs_weights()
    follow("gaussian-splats.md", workplace)
    assert len(list((workplace / "scene" / "images").iterdir())) == NUM_PHOTOS
    assert (workplace / "scene" / "sparse" / "0" / "cameras.bin").is_file()
    assert (workplace / "scene-ns" / "transforms.json").is_file()


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs" / "tutorials").glob("*.md")))
def test_each_tutorial_is_followed_here(page: str) -> None:
    assert f'follow("{page}", workplace)' in Path(__file__).read_text(encoding="utf-8")
    assert any(language in EXECUTED for language, _ in blocks(f"docs/tutorials/{page}"))
