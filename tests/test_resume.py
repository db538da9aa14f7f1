"""Runs that end suddenly, at any moment: the next run goes on, and comes to what an undisturbed one comes to."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_helpers import command, copy_photos, nearly, python_path, run_process, statistics, summary_of, views
from outputs import Entries, entries_of, model_of, tables_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")

NUM_PHOTOS = 6
NUM_PAIRS = NUM_PHOTOS * (NUM_PHOTOS - 1) // 2
OPTIONS = ("--features", "sift", "--max-edge-px", "800", "--max-keypoints", "1200")


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody interrupts."""

    images: Path
    output: Path
    seconds: dict[str, float]  # per stage
    entries: Entries
    model: dict[str, float]  # of its database, by one thread


@pytest.fixture(scope="module")
def undisturbed(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    images = copy_photos(courtyard / "images", folder / "images", views(*range(NUM_PHOTOS)))
    output = folder / "out"
    ended = run_process("reconstruct", images, "-o", output, *OPTIONS)
    assert ended.code == 0, ended.err
    summary = summary_of(output)
    assert summary["num_reg_images"] == NUM_PHOTOS
    return Undisturbed(images, output, summary["seconds"], entries_of(output), model_of(output, folder))


def assert_same(output: Path, undisturbed: Undisturbed, scratch: Path) -> None:
    """Entries, database and model are those of the undisturbed run, and nothing half-made is left."""
    assert entries_of(output) == undisturbed.entries
    assert tables_of(output) == tables_of(undisturbed.output)
    assert model_of(output, scratch) == pytest.approx(undisturbed.model, rel=1e-9)
    assert statistics(output) == nearly(statistics(undisturbed.output))
    summary = summary_of(output)
    assert summary["num_reg_images"] == NUM_PHOTOS
    assert summary["num_points3D"] == statistics(output)["points"]
    assert [path.name for path in output.rglob("*.partial*")] == []


# --------------------------------------------------------------------------------- a run that stands still
SLOW = '''
"""lgsfm with one stage that never ends; begins in the processes of the test only."""
import os, sys, time
from pathlib import Path

stage, marker = os.environ.get("SLOW_STAGE"), os.environ.get("SLOW_MARKER")


def stop(*arguments, **options):
    time.sleep(1)  # what was handed over to the writer is written by then
    Path(marker).write_text(str(os.getpid()))
    time.sleep(120)


def after(function, count):
    """The function, which works so many times and then stops."""
    calls = []

    def slow(*arguments, **options):
        calls.append(1)
        return function(*arguments, **options) if len(calls) <= count else stop()

    return slow


if stage and "lgsfm.child" in sys.orig_argv:
    import pycolmap

    if stage == "database":
        pycolmap.geometric_verification = stop
    if stage == "map":
        pycolmap.incremental_mapping = stop
elif stage and "lgsfm" in sys.orig_argv:
    from lgsfm.extractors.sift import SiftExtractor
    from lgsfm.matchers.nearest import NearestMatcher

    if stage == "extract":
        SiftExtractor.extract = after(SiftExtractor.extract, 2)
    if stage == "match":
        NearestMatcher.match_prepared = after(NearestMatcher.match_prepared, 4)
'''


def hear_ctrl_c() -> None:
    """In a new process: programs started in the background by a shell ignore SIGINT, and so do their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def stopped_in(stage: str, undisturbed: Undisturbed, output: Path, scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """A run, the leader of a process group, that stands still in a stage: after 2 photos, 4 pairs, or in COLMAP."""
    (scratch / "sitecustomize.py").write_text(SLOW)
    marker = scratch / "marker"
    marker.unlink(missing_ok=True)
    process = subprocess.Popen(
        command("reconstruct", undisturbed.images, "-o", output, *OPTIONS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": python_path(scratch), "SLOW_STAGE": stage, "SLOW_MARKER": str(marker)},
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    deadline = time.monotonic() + 60
    while not marker.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert marker.exists()
    assert process.poll() is None
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# --------------------------------------------------------------------------------- SIGKILL
BEGINNINGS = {  # a stage -> what appears in the output folder when it begins
    "extract": "features-*.h5",
    "match": "matches-*.h5",
    "database": "database.db.partial",
    "map": "sparse.partial",
}


def start_and_kill(undisturbed: Undisturbed, output: Path, stage: str, share: float) -> None:
    """Begins a run and kills it after a share of the time that a stage takes."""
    words = command("reconstruct", undisturbed.images, "-o", output, *OPTIONS, "--quiet")
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (has_begun := any(output.glob(BEGINNINGS[stage]))) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert has_begun
    time.sleep(share * undisturbed.seconds[stage])
    assert stage == "map" or process.poll() is None  # the last stage may just be done
    process.kill()
    process.wait()


def kill_and_resume(undisturbed: Undisturbed, folder: Path, stage: str, share: float) -> None:
    """Kills a run, lets the next one complete it, compares."""
    output = folder / "out"
    start_and_kill(undisturbed, output, stage, share)
    finished = entries_of(output)
    assert finished.items() <= undisturbed.entries.items()  # all that counts as finished is whole
    where = f"killed after {len(finished)} entries; left {sorted(path.name for path in output.glob('*'))}"
    print(where)

    ended = run_process("reconstruct", undisturbed.images, "-o", output, *OPTIONS)
    assert ended.code == 0, f"{where}\n{ended.err}"
    assert "Traceback" not in ended.err
    summary = summary_of(output)
    num_photos = sum(isinstance(key, str) for _, key in finished)
    assert (summary["reused"]["extract"], summary["computed"]["extract"]) == (num_photos, NUM_PHOTOS - num_photos)
    num_pairs = len(finished) - num_photos
    assert (summary["reused"]["match"], summary["computed"]["match"]) == (num_pairs, NUM_PAIRS - num_pairs)
    assert_same(output, undisturbed, folder)


def moments(count: int, seed: int) -> list[tuple[str, float]]:
    """(Stage, share of its time): all stages in turn, the shares at random."""
    rng = random.Random(seed)
    stages = list(BEGINNINGS)
    return [(stages[i % len(stages)], round(rng.random(), 3)) for i in range(count)]


@pytest.mark.parametrize(("stage", "share"), moments(4, seed=1)[1:])
def test_killed_in_any_stage_the_next_run_completes_the_work(
    undisturbed: Undisturbed, tmp_path: Path, stage: str, share: float
) -> None:
    kill_and_resume(undisturbed, tmp_path, stage, share)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "share"), moments(10, seed=2))
def test_killed_at_ten_moments_the_next_run_completes_the_work(
    undisturbed: Undisturbed, tmp_path: Path, stage: str, share: float
) -> None:
    kill_and_resume(undisturbed, tmp_path, stage, share)


def test_killed_again_and_again_the_work_still_gets_done(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Each run gets a little further; what one run has finished no later one does again."""
    output = tmp_path / "out"
    for stage, num_finished in (("extract", 2), ("extract", 4), ("match", NUM_PHOTOS + 4), ("match", NUM_PHOTOS + 8)):
        with stopped_in(stage, undisturbed, output, tmp_path) as process:
            os.killpg(process.pid, signal.SIGKILL)
        assert len(entries_of(output)) == num_finished
    assert run_process("reconstruct", undisturbed.images, "-o", output, *OPTIONS).code == 0
    assert_same(output, undisturbed, tmp_path)


def test_a_run_that_finds_all_done_leaves_the_files_as_they_are(undisturbed: Undisturbed, tmp_path: Path) -> None:
    output = shutil.copytree(undisturbed.output, tmp_path / "out")
    stores = sorted(output.glob("*.h5"))
    assert len(stores) == 2
    before = [hashlib.sha256(path.read_bytes()).digest() for path in stores]
    database = (output / "database.db").stat().st_ino
    assert run_process("reconstruct", undisturbed.images, "-o", output, *OPTIONS).code == 0
    assert [hashlib.sha256(path.read_bytes()).digest() for path in stores] == before
    assert (output / "database.db").stat().st_ino == database  # not replaced
    assert_same(output, undisturbed, tmp_path)


def test_what_a_killed_run_left_half_made_is_cleared_away(undisturbed: Undisturbed, tmp_path: Path) -> None:
    output = shutil.copytree(undisturbed.output, tmp_path / "out")
    (output / "database.db").unlink()
    shutil.rmtree(output / "sparse")
    for name in ("database.db.partial", "database.db.partial-journal", "summary.json.partial", "pairs.txt.partial"):
        (output / name).write_bytes(b"half of it")
    (output / "sparse.partial" / "work" / "0").mkdir(parents=True)
    ended = run_process("reconstruct", undisturbed.images, "-o", output, *OPTIONS)
    assert ended.code == 0, ended.err
    assert summary_of(output)["computed"]["database"] == NUM_PAIRS
    assert_same(output, undisturbed, tmp_path)


# --------------------------------------------------------------------------------- Ctrl-C
@pytest.mark.parametrize("stage", ["extract", "map"])
def test_sigterm_is_exit_code_143_without_a_stack_trace(undisturbed: Undisturbed, tmp_path: Path, stage: str) -> None:
    with stopped_in(stage, undisturbed, tmp_path / "out", tmp_path) as process:
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (143, ""), err
    assert err.splitlines()[-1] == "Terminated. What was finished is kept: the same command goes on from there."
    for word in ("Traceback", "SIGTERM", "@ "):
        assert word not in err


@pytest.mark.parametrize(
    ("stage", "num_finished"),
    [("extract", 2), ("match", NUM_PHOTOS + 4), ("database", NUM_PHOTOS + NUM_PAIRS), ("map", NUM_PHOTOS + NUM_PAIRS)],
)
def test_ctrl_c_in_each_stage_is_exit_code_130_and_the_next_run_goes_on(
    undisturbed: Undisturbed, tmp_path: Path, stage: str, num_finished: int
) -> None:
    output = tmp_path / "out"
    with stopped_in(stage, undisturbed, output, tmp_path) as process:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "Interrupted. What was finished is kept: the same command goes on from there."
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):  # nothing of the group is left, the child included
        os.killpg(process.pid, 0)

    assert len(entries_of(output)) == num_finished
    ended = run_process("reconstruct", undisturbed.images, "-o", output, *OPTIONS)
    assert ended.code == 0, ended.err
    summary = summary_of(output)
    assert summary["reused"]["extract"] + summary["reused"]["match"] == num_finished
    assert summary["reused"]["database"] == (NUM_PAIRS if stage == "map" else 0)
    assert_same(output, undisturbed, tmp_path)


# --------------------------------------------------------------------------------- COLMAP crashes
CHECK, SEGFAULT = "Check failed: a == b", "SIGSEGV"


def fast_or_slow(target: str, fault: str, cause: str, *, is_slow: bool = True) -> object:
    return pytest.param(target, fault, cause, marks=pytest.mark.slow if is_slow else ())


@pytest.mark.parametrize(
    ("target", "fault", "cause"),
    [
        fast_or_slow("geometric_verification", "abort", CHECK),
        fast_or_slow("geometric_verification", "segfault", SEGFAULT, is_slow=False),
        fast_or_slow("incremental_mapping", "abort", CHECK, is_slow=False),
        fast_or_slow("incremental_mapping", "segfault", SEGFAULT),
        fast_or_slow("global_mapping", "abort", CHECK),
        fast_or_slow("global_mapping", "segfault", SEGFAULT),
    ],
)
def test_a_crash_of_colmap_is_told_and_costs_no_work(
    undisturbed: Undisturbed, tmp_path: Path, target: str, fault: str, cause: str
) -> None:
    """It says nothing about the photos: no second look at those that are not in the model."""
    hooks, output = Path(__file__).parent / "faults" / "hooks", tmp_path / "out"
    environment = {"FAULTS_LEDGER": str(tmp_path / "ledger"), "FAULTS_CHILD": f"{target}:{fault}"}
    words = ("reconstruct", undisturbed.images, "-o", output, *OPTIONS)
    crashing = (*words, "--mapper", "global") if target == "global_mapping" else words
    ended = run_process(*crashing, PYTHONPATH=python_path(hooks), **environment)
    assert (ended.code, ended.out) == (1, "")
    (told,) = [line for line in ended.err.splitlines() if line.startswith("Error: ")]
    assert told.startswith(f"Error: COLMAP ({'verify' if target == 'geometric_verification' else 'map'}) was killed by")
    assert cause in ended.err
    if target != "geometric_verification":  # which comes first, and has left lines of COLMAP's
        assert "timer.cc" in ended.err[ended.err.index("Its last lines") :]
    for word in ("Traceback", "Second look", "@ "):
        assert word not in ended.err
    assert entries_of(output) == undisturbed.entries
    assert not (output / "sparse").exists()
    assert run_process(*words).code == 0
    assert_same(output, undisturbed, tmp_path)
