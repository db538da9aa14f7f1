"""Runs on a file system without locks, as some network and cluster file systems are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import copy_photos, python_path, run_process, views
from outputs import entries_of, files_of, tables_of
from started import SMALL

NO_LOCKS = Path(__file__).with_name("no_locks.py")
WARNING = "this file system has no locks. Do not start a second process here."


@pytest.fixture(scope="module")
def images(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_photos(courtyard / "images", tmp_path_factory.mktemp("photos") / "images", views(*range(3)))


@pytest.fixture
def unlockable(tmp_path: Path) -> str:
    """PYTHONPATH under which the system refuses locks, if NO_LOCKS names the error."""
    shutil.copy(NO_LOCKS, tmp_path / "sitecustomize.py")
    tried = subprocess.run(
        [sys.executable, tmp_path / "sitecustomize.py"], env={**os.environ, "NO_LOCKS": "ENOLCK"}, check=False
    )
    if tried.returncode:
        pytest.skip("no filters of system calls here")
    return python_path(tmp_path)


@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP"])
def test_where_hdf5_may_not_lock_the_error_says_what_to_set(
    images: Path, tmp_path: Path, unlockable: str, error: str
) -> None:
    output = tmp_path / "out"
    ended = run_process("extract", images, "-o", output, *SMALL, PYTHONPATH=unlockable, NO_LOCKS=error)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[-1].startswith(f"Error: {output}/features-sift-")
    assert ended.err.splitlines()[-1].endswith(" Set HDF5_USE_FILE_LOCKING=FALSE.")
    assert ended.err.count(WARNING) == 1
    assert "Traceback" not in ended.err
    assert list(output.glob("*.damaged*")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "environment"),
    [("ENOLCK", {"HDF5_USE_FILE_LOCKING": "FALSE"}), ("ENOSYS", {})],  # which HDF5 takes for switched off
)
def test_without_locks_the_run_comes_to_the_same(
    images: Path, tmp_path: Path, unlockable: str, error: str, environment: dict[str, str]
) -> None:
    output, usual = tmp_path / "out", tmp_path / "usual"
    for _ in range(2):  # the second one reuses what it finds
        ended = run_process(
            "reconstruct", images, "-o", output, *SMALL, PYTHONPATH=unlockable, NO_LOCKS=error, **environment
        )
        assert ended.code == 0, ended.err
        assert ended.err.count(WARNING) == 1
        assert "Traceback" not in ended.err
    assert run_process("reconstruct", images, "-o", usual, *SMALL).code == 0
    assert entries_of(output) == entries_of(usual)
    assert tables_of(output) == tables_of(usual)
    assert files_of(output / "sparse") == files_of(usual / "sparse")
