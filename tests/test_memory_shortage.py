"""Where memory runs out, the photo or the pair is named, with the flag that helps, and nothing else is lost."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from lgsfm import extraction
from lgsfm.cli import main
from lgsfm.errors import InputError, MemoryShortageError
from lgsfm.extraction import extract_features
from lgsfm.extractors import ExtractorOptions
from lgsfm.extractors.aliked import AlikedExtractor, AlikedOptions
from lgsfm.extractors.sift import SiftExtractor, SiftOptions
from lgsfm.extractors.superpoint import SuperPointExtractor, SuperPointOptions
from lgsfm.images import read_photo
from lgsfm.machine import give_back_memory
from lgsfm.matchers.lightglue import LightGlueMatcher, LightGlueOptions
from lgsfm.matchers.nearest import NearestMatcher, NearestOptions
from lgsfm.matching import match_features
from lgsfm.types import Features

ENOUGH_PX = 2000
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
]


class Hungry:
    """An extractor with enough memory for small photos."""

    kind = "toy"

    def __init__(self, error: Exception) -> None:
        self.options, self.error = ExtractorOptions(), error

    def extract(self, photo):
        if photo.rgb.shape[0] * photo.rgb.shape[1] > ENOUGH_PX:
            raise self.error
        middle = photo.to_stored(np.ones((1, 2), np.float32))
        return Features(middle, np.ones((1, 4), np.float32), np.ones(1, np.float32), photo.size, "toy", 1, photo.digest)


@pytest.fixture
def folder(tmp_path: Path, save_photo) -> Path:
    """Two small photos, a large one, and another small one."""
    for name, size in {"a.png": (40, 40), "b.png": (40, 50), "c.png": (90, 90), "d.png": (30, 40)}.items():
        save_photo(tmp_path / name, np.full((*size, 3), 90, np.uint8))
    return tmp_path


NAMES = ["a.png", "b.png", "c.png", "d.png"]
SHORT = [MemoryShortageError("Not enough memory for a network: use a smaller --max-edge-px."), MemoryError()]


@pytest.mark.parametrize("error", SHORT)
def test_a_photo_that_is_larger_than_the_others_is_skipped_and_named(folder, error):
    store = {}
    report = extract_features(folder, NAMES, Hungry(error), store)
    assert report.computed == ["a.png", "b.png", "d.png"] == list(store)
    assert list(report.failed) == ["c.png"]
    assert "90x90 pixels" in report.failed["c.png"]
    assert "--max-edge-px" in report.failed["c.png"]
    with pytest.raises(InputError, match=r"c\.png"):
        extract_features(folder, ["a.png", "c.png"], Hungry(error), {}, is_strict=True)


@pytest.mark.parametrize("error", SHORT)
def test_where_no_larger_photo_is_to_blame_the_stage_ends_and_keeps_what_is_finished(folder, error):
    with pytest.raises(MemoryShortageError, match=r"c\.png.*90x90.*--max-edge-px"):
        extract_features(folder, ["c.png", "a.png"], Hungry(error), {})

    class Failing(Hungry):
        def extract(self, photo):
            if photo.size == (40, 30):
                raise error
            return super().extract(photo)

    store = {}
    with pytest.raises(MemoryShortageError, match=r"d\.png"):
        extract_features(folder, ["a.png", "b.png", "d.png"], Failing(error), store)
    assert list(store) == ["a.png", "b.png"]


# --------------------------------------------------------------------------------- each component
def fetched(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, sha256="0" * 64)


def failing(error: Exception):
    def fail(*args: object, **options: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("kind", "options"), [(AlikedExtractor, AlikedOptions()), (SuperPointExtractor, SuperPointOptions())]
)
def test_extraction_by_a_network_says_that_memory_is_short(folder, kind, options, error):
    extractor = kind(options, "cpu", fetched)
    vars(extractor)["network"] = failing(error)
    with pytest.raises(MemoryShortageError, match="--max-edge-px"):
        extractor.extract(read_photo(folder / "a.png"))


def test_other_troubles_of_a_network_are_not_taken_for_it(folder):
    extractor = AlikedExtractor(AlikedOptions(), "cpu", fetched)
    vars(extractor)["network"] = failing(RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        extractor.extract(read_photo(folder / "a.png"))


@pytest.mark.parametrize(
    ("text", "code", "kind"),
    [
        ("Failed to allocate 123 bytes", -4, MemoryShortageError),
        ("std::bad_alloc", 0, MemoryShortageError),
        ("an assertion of OpenCV's", -215, cv2.error),
    ],
)
def test_sift_says_that_memory_is_short(folder, monkeypatch, text, code, kind):
    error = cv2.error(text)
    error.code = code
    monkeypatch.setattr(cv2.SIFT, "create", lambda **options: SimpleNamespace(detectAndCompute=failing(error)))
    with pytest.raises(kind):
        SiftExtractor(SiftOptions(), "cpu", fetched).extract(read_photo(folder / "a.png"))


def made_up(count: int, dim: int = 128) -> Features:
    rng = np.random.default_rng(count)
    descriptors = rng.normal(size=(count, dim)).astype(np.float32)
    keypoints = rng.uniform(0, 90, (count, 2)).astype(np.float32)
    return Features(keypoints, descriptors, np.ones(count, np.float32), (100, 100), "aliked", 1, f"{count:064x}")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("matcher", ["lightglue", "nearest"])
def test_a_pair_that_does_not_fit_is_named(monkeypatch, matcher, error):
    if matcher == "lightglue":
        made = LightGlueMatcher(LightGlueOptions(), "cpu", fetched, "aliked")
        vars(made)["network"] = SimpleNamespace(prepare=lambda *args: None, match_pairs=failing(error))
    else:
        made = NearestMatcher(NearestOptions(), "cpu", fetched, "aliked")
        monkeypatch.setattr("lgsfm.matchers.nearest.nearest_neighbours", failing(error))
    with pytest.raises(MemoryShortageError, match=r"a\.jpg and b\.jpg: .*--max-keypoints"):
        match_features({"a.jpg": made_up(8), "b.jpg": made_up(9)}, [("a.jpg", "b.jpg")], made, {}, batch_size=1)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "Error: Not enough memory for this command. Nothing finished before is lost"),
        (
            ImportError("liba.so: failed to map segment from shared object", name="networkx"),
            "Error: Not enough memory for loading networkx (liba.so: failed to map segment from shared object).",
        ),
        (RuntimeError("can't start new thread"), "Error: Not enough memory for this command (can't start new thread)."),
    ],
)
def test_the_command_line_explains_what_no_component_does(monkeypatch, capsys, error, told):
    monkeypatch.setattr("lgsfm.cli._run", failing(error))
    assert main(["doctor", "out"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(told)
    assert "--max-edge-px" in said


def test_the_command_line_explains_no_other_error_by_it(monkeypatch):
    monkeypatch.setattr("lgsfm.cli._run", failing(ImportError("No module named 'networkx'", name="networkx")))
    with pytest.raises(ImportError):
        main(["doctor", "out"])


# --------------------------------------------------------------------------------- for real
LIMITED = """
import resource, sys
import numpy as np, torch
from lgsfm.errors import MemoryShortageError
from lgsfm.images import photo_from_array
from types import SimpleNamespace
torch.set_num_threads(1)
{make}
def work(edge):
    return component(np.random.default_rng(0).integers(0, 255, (edge, edge, 3), np.uint8))
work(256)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 300 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    work(4096)
except MemoryShortageError as exc:
    print("short:", exc)
print("again:", len(work(256)))
"""
ALIKED = """
from lgsfm.extractors.aliked import AlikedExtractor, AlikedOptions
from lgsfm.models.aliked import Aliked
from lgsfm.models.aliked_fast import FastAliked
extractor = AlikedExtractor(AlikedOptions(max_edge_px=0), "cpu", lambda name: SimpleNamespace(sha256="0"))
vars(extractor)["network"] = FastAliked(Aliked("aliked-n16"))
component = lambda rgb: extractor.extract(photo_from_array(rgb))
"""
SIFT = """
from lgsfm.extractors.sift import SiftExtractor, SiftOptions
extractor = SiftExtractor(SiftOptions(max_edge_px=0), "cpu", None)
component = lambda rgb: extractor.extract(photo_from_array(rgb))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space")
@pytest.mark.parametrize("make", [ALIKED, SIFT], ids=["aliked", "sift"])
def test_a_process_that_may_have_no_more_says_so_and_goes_on(make):
    code = LIMITED.replace("{make}", make)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    short, again = done.stdout.splitlines()
    assert "--max-edge-px" in short
    assert int(again.removeprefix("again: ")) > 0


# --------------------------------------------------------------------------------- growth
FIVE = [f"{i}.png" for i in range(5)]
GAPS = """
from pathlib import Path
from lgsfm.machine import give_back_memory

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) / 256

blocks = [bytearray(100_000) for _ in range(2000)]
blocks = blocks[::20]  # what stays lies between what is free
before = resident_mb()
give_back_memory()
print(before - resident_mb(), all(len(block) == 100_000 and not any(block[::4096]) for block in blocks))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators cannot be told")
def test_free_memory_between_what_is_in_use_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", GAPS], capture_output=True, text=True, check=True)
    given_back_mb, is_whole = done.stdout.split()
    assert float(given_back_mb) > 100  # of 190 that are free
    assert is_whole == "True"


def test_a_long_extraction_gives_memory_back_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIVE:
        cv2.imwrite(str(tmp_path / name), np.zeros((64, 64, 3), np.uint8))
    at = []
    store: dict[str, Features] = {}
    monkeypatch.setattr(extraction, "TIDY_PHOTOS", 2)
    monkeypatch.setattr(extraction, "give_back_memory", lambda: at.append(len(store)))
    extract_features(tmp_path, FIVE, SiftExtractor(SiftOptions(), "cpu", fetched), store)
    assert at == [2, 4]


def test_where_the_allocator_cannot_be_told_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())  # musl, macOS
    give_back_memory()
