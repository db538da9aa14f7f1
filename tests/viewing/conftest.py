"""A finished run for all tests of the viewer."""

from pathlib import Path

import pytest
from cli_helpers import SIFT, copy_photos, run, views


@pytest.fixture(scope="session")
def finished_run(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run of four photos."""
    root = tmp_path_factory.mktemp("viewing")
    photos = copy_photos(courtyard / "images", root / "photos", views(0, 1, 2, 3))
    ended = run("reconstruct", photos, "-o", root / "out", *SIFT, "--quiet")
    assert ended.code == 0, ended.err
    return root / "out"
