"""A small part of each fuzzer, with fixed seeds; and whether the sandbox tells what it is there to tell."""

import os
import signal
import sys
import time
from collections import Counter
from functools import partial

import pytest
import torch

if sys.platform != "linux":
    pytest.skip("limits of memory and forks as Linux has them", allow_module_level=True)

import exif
import images
import models
import texts
from sandbox import WRONG, fuzz, outcomes

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # the child uses no thread of it


def counted(case, count, **options) -> Counter[str]:
    counts = Counter(outcome for _, outcome in outcomes(case, range(count), **options))
    assert counts.total() == count
    assert [outcome for outcome in counts if outcome.startswith(WRONG)] == []
    return counts


@pytest.mark.parametrize("kind", images.FORMATS)
def test_damaged_photos_are_read_or_refused(kind, tmp_path):
    images.originals(kind)
    counts = counted(partial(images.read_case, partial(images.photo, kind, 7), tmp_path), 120)
    assert sum(count for outcome, count in counts.items() if outcome.startswith("read read read")) > 5
    assert counts["refused refused refused refused"] > 5
    assert sum(count for outcome, count in counts.items() if "memory" in outcome) < 5


@pytest.mark.parametrize("kind", images.FORMATS)
def test_intact_photos_are_read(kind, tmp_path):
    originals = images.originals(kind)
    counts = counted(partial(images.read_case, originals.__getitem__, tmp_path), len(originals))
    as_photo = "read read read refused" if kind in images.EXTRA_FORMATS else ""  # most are no masks
    kept = counts["read read read read"] + counts[as_photo]
    assert kept >= len(originals) - 2  # 32-bit TIFF is none that we read, CMYK TIFF is no mask


def test_damaged_exif_never_raises():
    exif.originals()
    counts = counted(partial(exif.exif_case, 7), 600, memory_bytes=exif.MEMORY_BYTES)
    assert counts["0 values"] > 20
    assert counts["9 values"] > 20


@pytest.mark.parametrize("kind", sorted(texts.KINDS))
def test_damaged_texts_are_read_or_refused(kind, tmp_path):
    counts = counted(partial(texts.text_case, kind, 7, tmp_path), 150, memory_bytes=texts.MEMORY_BYTES)
    assert counts["read"] > 5
    assert counts["refused by InputError"] > 5


@pytest.mark.parametrize("kind", models.FORMATS)
def test_damaged_models_are_read_or_refused(kind, tmp_path):
    models.intact(kind)
    counts = counted(partial(models.model_case, kind, 7, tmp_path), 200)
    assert counts["read read read"] > 5
    assert counts["refused refused refused"] > 5


def test_the_sandbox_tells_what_goes_wrong():
    def case(number):
        if number == 1:
            signal.raise_signal(signal.SIGSEGV)
        if number == 2:
            time.sleep(60)
        if number == 3:
            bytearray(1 << 33)
        if number == 4:
            os._exit(3)
        return "read"

    found = dict(outcomes(case, range(6), limit_s=2, memory_bytes=1 << 28))
    assert found[0] == found[5] == "read"
    assert [found[number].removeprefix(WRONG).split(" at ")[0] for number in (1, 2, 3, 4)] == [
        "died of SIGSEGV",
        "no end after 2 s",
        "MemoryError",
        "died of exit code 3",
    ]


def test_cases_may_compute_in_parallel_after_their_parent_did():
    def case(number):
        return f"{torch.ones(1 << 20).sum():.0f}"

    wanted = case(0)
    assert dict(outcomes(case, range(2), limit_s=20)) == {0: wanted, 1: wanted}


@pytest.mark.parametrize("made", [b"damaged", {"a": b"damaged", "b": b""}])
def test_a_fuzzer_keeps_what_went_wrong_and_ends_with_1(made, tmp_path, monkeypatch, capsys):
    def case(kind, seed, folder, number):
        assert folder.is_dir()
        assert (kind, number) != ("odd", 8)
        return "read"

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["some.py", "--keep", str(tmp_path), *arguments])
        code = fuzz("Damage.", ["even", "odd"], lambda kind, seed, number: made, case, count=4, legend="all of it")
        return code, capsys.readouterr().out

    assert run() == (0, "all of it:\neven: 4 mutations\n       4 read\nodd: 4 mutations\n       4 read\n")
    code, printed = run("--kind", "odd", "--first", "6", "--seed", "5")
    assert code == 1
    assert "odd 8: WRONG: AssertionError" in printed
    assert "even" not in printed
    kept = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == ({"odd-5-8"} if isinstance(made, bytes) else {"odd-5-8/a", "odd-5-8/b"})
