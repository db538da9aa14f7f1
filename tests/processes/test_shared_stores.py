"""A store that one process writes and others read: who comes second waits, and nothing is taken for damaged."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import copy_photos, run, run_process, summary_of, views
from outputs import entries_of, model_of, tables_of
from started import SMALL, python, started, wait_until

from lgsfm import Features, hdf5
from lgsfm.errors import InUseError
from lgsfm.store import FeatureStore

IDENTITY = {"extractor": "test"}

HOLD = """
import sys
from pathlib import Path
from lgsfm.store import FeatureStore
store = FeatureStore(Path(sys.argv[1]), {"extractor": "test"} if sys.argv[2] == "write" else None)
print("open")
sys.stdin.readline()
store.close()
"""

READ_AGAIN_AND_AGAIN = """
import itertools, sys, time
from pathlib import Path
from lgsfm import FeatureStore, MatchStore
folder = Path(sys.argv[1])
(first,) = folder.glob("features-*.h5")
with FeatureStore(first) as store:
    print("open")
    sys.stdin.readline()
for number in itertools.count():
    for path in folder.glob("*.h5"):
        with (FeatureStore if path.name.startswith("features") else MatchStore)(path) as store:
            for key in store:
                store[key]
            time.sleep(0.05)
        time.sleep(0.02)
    print("read", number)
    if (folder / "stop").exists():
        break
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one entry."""
    descriptors = np.full((1, 4), 0.5, np.float32)
    with FeatureStore(tmp_path / "features.h5", IDENTITY) as store:
        store["a.jpg"] = Features(np.zeros((1, 2), np.float32), descriptors, np.ones(1, np.float32), (9, 9), "test")
    return tmp_path / "features.h5"


@pytest.mark.parametrize(("other", "own"), [("read", IDENTITY), ("write", None), ("write", IDENTITY)])
def test_who_comes_second_waits_and_says_so(
    path: Path,
    other: str,
    own: dict[str, str] | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "lgsfm")
    monkeypatch.setattr(hdf5, "SAY_AFTER_S", 0.2)
    really_sleep = time.sleep
    with python(HOLD, path, other) as holder:
        holder.wait_for("open")

        def sleep(seconds: float) -> None:  # the other one leaves once this one has said that it waits
            if "is in use by another process: waiting up to 10 seconds" in caplog.text:
                assert holder.process.stdin is not None
                holder.process.stdin.close()
            really_sleep(seconds)

        monkeypatch.setattr(hdf5.time, "sleep", sleep)
        with FeatureStore(path, own) as store:
            assert list(store) == ["a.jpg"]
        assert caplog.text.count("waiting") == 1
        assert holder.end().code == 0
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # nothing was set aside


def test_two_readers_do_not_wait_for_each_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "WAIT_S", 0.0)
    with python(HOLD, path, "read") as holder:
        holder.wait_for("open")
        with FeatureStore(path) as store:
            assert list(store) == ["a.jpg"]


@pytest.mark.parametrize(("other", "own"), [("read", IDENTITY), ("write", None)])
def test_who_has_waited_in_vain_is_told(
    path: Path, other: str, own: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "WAIT_S", 0.3)
    with python(HOLD, path, other) as holder:
        holder.wait_for("open")
        with pytest.raises(InUseError, match=r"features\.h5 is in use by another process\. Wait for it to end"):
            FeatureStore(path, own)
    with FeatureStore(path, own) as store:
        assert list(store) == ["a.jpg"]


def test_a_run_over_a_store_that_another_process_writes_ends_with_exit_code_1(
    courtyard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, output = copy_photos(courtyard / "images", tmp_path / "images", views(0, 1)), tmp_path / "out"
    assert run("extract", images, "-o", output, *SMALL).code == 0
    (store,) = output.glob("features-*.h5")
    monkeypatch.setattr(hdf5, "WAIT_S", 0.3)
    with python(HOLD, store, "write") as holder:
        holder.wait_for("open")
        ended = run("extract", images, "-o", output, *SMALL)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[-1].startswith(f"Error: {store} is in use by another process.")
    assert list(output.glob("*.damaged*")) == []


def test_a_file_that_was_made_and_not_begun_is_begun(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"")
    with FeatureStore(path, IDENTITY) as store:
        assert list(store) == []
    assert caplog.text == ""  # there was nothing that could be damaged
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_reader_beside_a_run_changes_nothing(courtyard: Path, tmp_path: Path) -> None:
    """It opens and closes the stores again and again, while the run writes them one after the other."""
    images = copy_photos(courtyard / "images", tmp_path / "images", views(*range(5)))
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    assert run_process("reconstruct", images, "-o", alone, *SMALL).code == 0
    assert run("extract", images, "-o", beside, *SMALL).code == 0
    with python(READ_AGAIN_AND_AGAIN, beside) as reader:
        reader.wait_for("open")
        with started("reconstruct", images, "-o", beside, *SMALL) as other:
            other.wait_for("is in use by another process: waiting")
            assert reader.process.stdin is not None
            reader.process.stdin.close()
            ended = other.end()
        num_read = len(reader.out)
        wait_until(lambda: len(reader.out) > num_read)  # it is still at work
        (beside / "stop").touch()
        read = reader.end()
    assert ended.code == 0, ended.err
    assert (read.code, read.err.replace("\n", "")) == (0, "")
    assert summary_of(beside)["computed"]["match"] == 10
    assert entries_of(beside) == entries_of(alone)
    assert tables_of(beside) == tables_of(alone)
    assert model_of(beside, tmp_path) == pytest.approx(model_of(alone, tmp_path), rel=1e-9)
    assert list(beside.glob("*.damaged*")) == []
