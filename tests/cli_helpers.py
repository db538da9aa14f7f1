"""What the tests of the command line share."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pycolmap
import pytest

import lgsfm
from lgsfm.cli import main
from lgsfm.files import read_json

SIFT = ("--features", "sift", "--max-edge-px", "800", "--max-keypoints", "1500")


@dataclass(frozen=True)
class Ran:
    """A command line that has ended."""

    code: int
    out: str
    err: str


def run(*argv: str | Path) -> Ran:
    """A command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(word) for word in argv])
        except SystemExit as exc:
            code = int(exc.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def command(*argv: str | Path) -> list[str]:
    """A command line for a process of its own."""
    return [sys.executable, "-m", "lgsfm", *(str(word) for word in argv)]


def python_path(*folders: Path) -> str:
    """PYTHONPATH with these folders first; behind them a new process finds the same lgsfm as this one."""
    before = filter(None, [os.environ.get("PYTHONPATH")])
    return os.pathsep.join([*map(str, folders), *before, str(Path(lgsfm.__file__).resolve().parent.parent)])


def run_process(*argv: str | Path, **environment: str) -> Ran:
    """A command line in a process of its own."""
    ended = subprocess.run(
        command(*argv), capture_output=True, text=True, encoding="utf-8", env={**os.environ, **environment}, check=False
    )
    return Ran(ended.returncode, ended.stdout, ended.stderr)


def copy_photos(source: Path, target: Path, names: Iterable[str]) -> Path:
    """Some photos of a folder in a folder of their own."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(source / name, target / name)
    return target


def views(*numbers: int) -> list[str]:
    """Names of photos of the courtyard."""
    return [f"view{number:02}.jpg" for number in numbers]


def summary_of(output: Path) -> dict[str, Any]:
    return read_json(output / "summary.json")


def statistics(output: Path) -> dict[str, float]:
    """The best model of an output folder, in figures."""
    return figures_of(pycolmap.Reconstruction(output / "sparse" / "0"))


def figures_of(model: pycolmap.Reconstruction) -> dict[str, float]:
    return {
        "images": model.num_reg_images(),
        "points": model.num_points3D(),
        "observations": model.compute_num_observations(),
        "track length": model.compute_mean_track_length(),
        "reprojection error": model.compute_mean_reprojection_error(),
    }


def nearly(figures: dict[str, float]) -> Any:
    """Equal to what COLMAP's threads leave open: the sums of a bundle adjustment depend on their order."""
    return pytest.approx(figures, rel=0.06)


def hide_weights(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As on a computer that has never seen any weights; the cache is ``folder``."""
    for variable in ("LGSFM_CACHE", "TORCH_HOME", "HF_HOME"):
        monkeypatch.setenv(variable, str(folder))
    for variable in ("LGSFM_WEIGHTS", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("lgsfm.weights._package_parents", lambda package: [])
