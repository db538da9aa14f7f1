"""Commands on the output folder of a run that is going on: an answer or a clear message, and no harm to the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_helpers import Ran, copy_photos, python_path, run, run_process, views
from outputs import entries_of, files_of, tables_of
from started import SMALL, Started, started, wait_until

from lgsfm import hdf5

pytestmark = pytest.mark.slow  # each of some ten processes
HOOKS = Path(__file__).resolve().parent.parent / "faults" / "hooks"
NUM_PHOTOS = 5
FIRST, SECOND = views(0, 1)


@dataclass(frozen=True)
class Alone:
    """A run that nobody else looked at."""

    images: Path
    output: Path


@pytest.fixture(scope="module")
def alone(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    folder = tmp_path_factory.mktemp("alone")
    images = copy_photos(courtyard / "images", folder / "images", views(*range(NUM_PHOTOS)))
    ended = run_process("reconstruct", images, "-o", folder / "out", *SMALL)
    assert ended.code == 0, ended.err
    return Alone(images, folder / "out")


@contextmanager
def halted(stage: str, images: Path, output: Path, folder: Path, *words: str) -> Iterator[tuple[Started, Path]]:
    """A run that stands still in a stage, and the file that lets it go on."""
    ledger, go = folder / "ledger", folder / "go"
    environment = {
        "PYTHONPATH": python_path(HOOKS),
        "FAULTS_LEDGER": str(ledger),
        "FAULTS_HALT": f"{stage}:{2 if stage in ('extract', 'match') else 0}",
        "FAULTS_GO": str(go),
    }
    with started("reconstruct", images, "-o", output, *SMALL, *words, **environment) as process:
        wait_until(lambda: _has_halted(ledger) or process.process.poll() is not None)
        assert _has_halted(ledger), process.said
        yield process, go


def _has_halted(ledger: Path) -> bool:
    return ledger.exists() and any("halted" in json.loads(line) for line in ledger.read_bytes().splitlines())


def commands_on(output: Path, folder: Path) -> dict[str, list[str | Path]]:
    """What people may ask of an output folder at any time."""
    return {
        "doctor": ["doctor", output],
        "report": ["report", output, "-o", folder / "report.html"],
        "verify": ["cache", "verify", output],
        "prune": ["cache", "prune", output],
        "manifest": ["manifest", output],
        "export": ["export", output, "nerfstudio", "-o", folder / "nerfstudio"],
        "hloc": ["export", output, "hloc", "-o", folder / "hloc"],
        "show": ["show", FIRST, SECOND, "--run", output, "-o", folder / "pair.jpg"],
        "pose": ["pose", FIRST, SECOND, "--run", output],
        "evaluate": ["evaluate", output, output],
    }


def assert_clear(name: str, ended: Ran) -> None:
    """It has answered, or says in one line why it cannot."""
    where = f"{name}: {ended}"
    assert "Traceback" not in ended.err, where
    assert ended.code in (0, 1), where
    if ended.code:
        assert ended.err.splitlines()[-1].startswith("Error: "), where
    else:
        assert ended.out.strip(), where


# the stage -> the commands that have an answer in it already, of a run that is the first in its folder
ANSWERED = {
    "extract": {"report", "verify"},
    "match": {"doctor", "report", "verify"},
    "database": {"doctor", "report", "verify", "show", "pose"},
    "map": {"doctor", "report", "verify", "show", "pose"},
}
WRITTEN = {"extract": "features-sift-", "match": "matches-nearest-"}  # what is being written in these stages


@pytest.mark.parametrize("stage", list(ANSWERED))
def test_commands_beside_a_first_run_answer_or_say_why_not(
    alone: Alone, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    monkeypatch.setattr(hdf5, "WAIT_S", 0.2)
    with halted(stage, alone.images, output, tmp_path) as (first, go):
        ended = {name: run(*words) for name, words in commands_on(output, tmp_path).items()}
        second = run_process("reconstruct", alone.images, "-o", output, *SMALL)
        go.touch()
        assert first.end().code == 0, first.said
    for name, each in ended.items():
        assert_clear(name, each)
    assert {name for name, each in ended.items() if each.code == 0} == ANSWERED[stage]
    lines = [line for line in ended["verify"].out.splitlines() if "in use by another process, not looked at" in line]
    assert [line.startswith(WRITTEN.get(stage, "")) for line in lines] == [True] * (stage in WRITTEN)
    in_use = (
        f"Error: The output folder {output} is in use by another process (number {first.process.pid}). "
        "Wait for it to end, or choose another folder with -o."
    )
    assert ended["prune"].err.splitlines()[-1] == in_use
    assert (second.code, second.out, second.err.splitlines()[-1]) == (1, "", in_use)
    assert_as_alone(output, alone)
    again = run_process("reconstruct", alone.images, "-o", output, *SMALL)
    assert again.code == 0, again.err
    assert_as_alone(output, alone)


@pytest.mark.parametrize("stage", ["extract", "map"])
def test_commands_beside_a_run_with_other_options_answer_of_the_model_that_is_there(
    alone: Alone, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = shutil.copytree(alone.output, tmp_path / "out")
    monkeypatch.setattr(hdf5, "WAIT_S", 0.2)
    with halted(stage, alone.images, output, tmp_path, "--max-edge-px", "480") as (first, go):
        ended = {name: run(*words) for name, words in commands_on(output, tmp_path).items()}
        model = files_of(output / "sparse")
        go.touch()
        assert first.end().code == 0, first.said
    for name, each in ended.items():
        assert_clear(name, each)
    wanted = {"manifest", "prune"}  # of a run that is over
    if stage == "map":  # the features that belong to the database are not those of the model any more
        wanted.add("hloc")
        assert "is not of the features that belong to the database now" in ended["hloc"].err
    assert {name for name, each in ended.items() if each.code} == wanted
    assert ended["doctor"].out.startswith(f"Registered {NUM_PHOTOS} of {NUM_PHOTOS} photos in the best model.")
    assert model == files_of(alone.output / "sparse")
    assert run("cache", "verify", output).code == 0
    back = run_process("reconstruct", alone.images, "-o", output, *SMALL)
    assert back.code == 0, back.err
    assert tables_of(output) == tables_of(alone.output)
    assert files_of(output / "sparse") == files_of(alone.output / "sparse")


def assert_as_alone(output: Path, alone: Alone) -> None:
    """The run came to what it would have come to."""
    assert entries_of(output) == entries_of(alone.output)
    assert tables_of(output) == tables_of(alone.output)
    assert files_of(output / "sparse") == files_of(alone.output / "sparse")
    assert run("cache", "verify", output).code == 0
    assert [path.name for pattern in ("*.damaged*", "*.partial*") for path in output.rglob(pattern)] == []
