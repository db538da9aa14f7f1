"""Places that tests read from."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded, see lgsfm.cli
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def courtyard() -> Path:
    """The rendered scene: images/, sparse/, ground_truth.txt."""
    return ROOT / "datasets" / "courtyard"


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Outputs of the reference networks."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """The folder of real photos that LGSFM_TEST_DATA names."""
    folder = os.environ.get("LGSFM_TEST_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("LGSFM_TEST_DATA names no folder of real photos")
    return Path(folder)
