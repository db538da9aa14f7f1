"""Places that tests read from, and pictures and photo files that tests of several modules share."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lgsfm.exif import turn_upright

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded, see lgsfm.cli
os.environ["LGSFM_RATES"] = ""  # how fast tests run is no forecast for anybody
ROOT = Path(__file__).resolve().parent.parent
ORIENTATION = 0x0112
INVERSE = {6: 8, 8: 6}  # the other codes undo themselves


def textured(width: int = 320, height: int = 240, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: overlapping boxes of all sizes and colours, so corners everywhere, slightly blurred."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 128.0)
    for size in np.geomspace(min(width, height) / 2, 6, width * height // 150):
        x, y = rng.uniform(-size, (width, height)).astype(int)
        w, h = rng.uniform(size / 2, size, 2).astype(int)
        image[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = rng.uniform(0, 255, 3)
    for axis in (0, 1):
        image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
    return image.astype(np.uint8)


def saved(path, upright: np.ndarray, orientation: int = 1):
    """Writes a lossless photo that is seen as ``upright`` and stored turned, with that EXIF code; gives its path."""
    stored = turn_upright(upright, INVERSE.get(orientation, orientation))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stored).save(path, "PNG", exif=exif)
    return path


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


@pytest.fixture(scope="session")
def texture():
    """Makes textured pictures: ``texture(width, height, seed)``."""
    return textured


@pytest.fixture(scope="session")
def save_photo():
    """Writes photo files: ``save_photo(path, upright, orientation)``."""
    return saved


@pytest.fixture(scope="session")
def finished_run(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run of four photos of the courtyard, which lie beside it. To be read, not changed."""
    from cli_helpers import SIFT, copy_photos, run, views

    root = tmp_path_factory.mktemp("finished run")
    photos = copy_photos(courtyard / "images", root / "photos", views(0, 1, 2, 3))
    ended = run("reconstruct", photos, "-o", root / "out", *SIFT, "--quiet")
    assert ended.code == 0, ended.err
    return root / "out"
