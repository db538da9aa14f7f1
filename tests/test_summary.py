"""What is noted of a run, where the other tests do not come by."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pycolmap
import pytest

import lgsfm
from lgsfm import summary
from lgsfm.summary import Summary


def test_versions_are_known_where_the_wheel_goes_by_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with pycolmap-cuda12, and with lgsfm from a folder that nobody installed."""

    def installed(name: str) -> str:
        if name in ("pycolmap", "lgsfm"):
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(summary, "version", installed)
    found = Summary("images", "out")
    found.finish([])
    assert found.versions["pycolmap"] == pycolmap.__version__
    assert found.versions["lgsfm"] == lgsfm.__version__
    assert list(found.versions) == ["lgsfm", "pycolmap", "torch", "numpy", "h5py", "python"]
