"""The examples run as they stand, and are short."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from lgsfm import registry, weights

LONG = {"reconstruct_folder.py"}
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
NEEDS_WEIGHTS = {"hf_keypoint_matching.py", "match_two_photos.py", "reconstruct_folder.py", "track_frames.py"}
MAX_LINES = 40


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in EXAMPLES])
def test_example(name, tmp_path):
    path = ROOT / "examples" / name
    assert len(path.read_text().splitlines()) <= MAX_LINES
    if name in NEEDS_WEIGHTS and not (weights.find("aliked-n16") and weights.find("lightglue-aliked")):
        pytest.skip("the ALIKED and LightGlue weights are not here: lgsfm weights fetch")
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_example_of_an_extractor_is_one(monkeypatch):
    """As a package would offer it: importing it does nothing, and the registry finds nothing wrong."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.setitem(registry.BUILT_IN["extractor"], "orb", "my_extractor:OrbExtractor")
    registry.available.cache_clear()
    try:
        assert registry.component_class("extractor", "orb").is_rotation_invariant
    finally:
        registry.available.cache_clear()
