"""Photos with the result of an undisturbed run over them, runs that are watched, and what is wrong with a result."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

from cli_helpers import command, copy_photos, summary_of, views  # noqa: E402
from outputs import Entries, entries_of, files_of, tables_of  # noqa: E402

COURTYARD = TESTS.parent / "datasets" / "courtyard" / "images"
STAGES = ("start", "extract", "pairs", "match", "database", "map", "finish")
PAUSE_S = 0.015
LIMIT_S = 120  # after which a run counts as hanging
LEFTOVERS = ("*.partial*", "sparse.before", "sparse.other*", "*.damaged*")
SIFT = ("--features", "sift", "--max-edge-px", "640", "--max-keypoints", "800", "--threads", "1")
ALIKED = ("--features", "aliked", "--max-edge-px", "320", "--max-keypoints", "256", "--threads", "1")


@dataclass(frozen=True)
class Scene:
    """Photos, options, and what an undisturbed run makes of them.

    former: models of an earlier run with another option, which a run replaces; their files
    seconds: how long each stage takes in a run with pauses
    """

    name: str
    images: Path
    words: tuple[str, ...]
    output: Path
    environment: dict[str, str]
    entries: Entries
    tables: dict[str, list[tuple[object, ...]]]
    model: dict[str, str]
    former_output: Path
    former: dict[str, str]
    seconds: dict[str, float]

    @classmethod
    def make(cls, folder: Path, name: str, numbers: Iterable[int], words: tuple[str, ...], **environment: str) -> Scene:
        """As `of_photos`, of some photos of the courtyard."""
        images = copy_photos(COURTYARD, folder / "images", views(*numbers))
        scene = cls.of_photos(folder, name, images, words, **environment)
        assert scene.model != scene.former
        return scene

    @classmethod
    def of_photos(cls, folder: Path, name: str, images: Path, words: tuple[str, ...], **environment: str) -> Scene:
        """Runs three times: undisturbed, with pauses to time the stages, and with an option that changes the models."""
        paused = Watched.start(folder, images, folder / "paused", words, pause_s=PAUSE_S, **environment)
        plain = Watched.start(folder, images, folder / "out", words, **environment)
        for run in (paused, plain):
            if run.wait() != 0:
                raise RuntimeError(run.said())
        shutil.copytree(folder / "out", folder / "former")
        other = Watched.start(folder, images, folder / "former", (*words, "--principal-point", "refined"))
        assert other.wait() == 0, other.said()
        scene = cls(
            name,
            images,
            words,
            folder / "out",
            environment,
            entries_of(folder / "out"),
            tables_of(folder / "out"),
            files_of(folder / "out" / "sparse"),
            folder / "former",
            files_of(folder / "former" / "sparse"),
            paused.seconds(),
        )
        problems = scene.problems_of_result(folder / "paused")
        assert not problems, f"two undisturbed runs differ: {problems}"
        return scene

    def run(self, folder: Path, output: Path, **options: object) -> Watched:
        """Begins the scene's command."""
        return Watched.start(folder, self.images, output, self.words, **{**self.environment, **options})  # type: ignore[arg-type]

    def problems_at_standstill(self, output: Path, models: list[dict[str, str]]) -> list[str]:
        """What is wrong with a folder in which a run was ended: entries that are not right, models that are not whole.

        Args:
            output: the folder.
            models: what ``sparse`` may hold, as files.
        """
        entries, found = entries_of(output), []
        if wrong := [key for key, value in entries.items() if self.entries.get(key) != value]:
            found.append(f"wrong entries that count as finished: {wrong}")
        if (there := files_of(output / "sparse")) not in models:
            found.append(f"models that are neither the old nor the new ones: {sorted(there)}")
        return found

    def problems_of_result(
        self, output: Path, *, is_subset: bool = False, leftovers: Iterable[str] = LEFTOVERS
    ) -> list[str]:
        """What in a finished output folder differs from the undisturbed one.

        Args:
            output: the folder.
            is_subset: there may be entries of other photos beside.
            leftovers: patterns of files that may not be there.
        """
        found = [f"left: {path.name}" for pattern in leftovers for path in output.rglob(pattern)]
        entries = entries_of(output)
        if is_subset:
            entries = {key: value for key, value in entries.items() if key in self.entries}
        if entries != self.entries:
            found.append("entries differ")
        if tables_of(output) != self.tables:
            found.append("database differs")
        if files_of(output / "sparse") != self.model:
            found.extend(self._problems_of_models(output))
        return found

    def _problems_of_models(self, output: Path) -> list[str]:
        """Of a model that grew on from a snapshot only the figures are the same."""
        here, there = summary_of(output), summary_of(self.output)
        if not any(model["resumed_from"] for model in here["models"]):
            return ["models differ"]
        same = here["num_reg_images"] == there["num_reg_images"]
        near = abs(here["num_points3D"] / max(there["num_points3D"], 1) - 1) < 0.1
        return [] if same and near else ["models differ in their figures"]


@dataclass
class Watched:
    """A run in a session of its own, its ledger (see ``hooks/sitecustomize.py``) and what it says."""

    process: subprocess.Popen[bytes]
    ledger: Path
    errors: Path
    output: Path
    terminal: int = -1  # the other end of its terminal
    prepare: list[Callable[[], None]] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        folder: Path,
        images: Path,
        output: Path,
        words: Iterable[str],
        *,
        pause_s: float = 0,
        has_terminal: bool = False,
        before_start: Callable[[], None] | None = None,
        **environment: str,
    ) -> Watched:
        """Begins ``lgsfm reconstruct``; the ledger and what it says go to new files in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("ledger-*")))
        ledger, errors = folder / f"ledger-{number}", folder / f"said-{number}"
        ledger.touch()
        path = os.pathsep.join([str(TESTS / "faults" / "hooks"), os.environ.get("PYTHONPATH", str(TESTS.parent))])
        terminal, inner = pty.openpty() if has_terminal else (-1, -1)

        def begin() -> None:
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)  # programs in the background of a shell ignore the first
            if has_terminal:
                import fcntl
                import termios

                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if before_start:
                before_start()

        with errors.open("wb") as file:
            process = subprocess.Popen(
                command("reconstruct", images, "-o", output, *words),
                stdin=inner if has_terminal else subprocess.DEVNULL,
                stdout=inner if has_terminal else subprocess.DEVNULL,
                stderr=inner if has_terminal else file,
                env={
                    **os.environ,
                    "PYTHONPATH": path,
                    "LGSFM_RATES": "",
                    "FAULTS_LEDGER": str(ledger),
                    "FAULTS_PAUSE_S": str(pause_s),
                    **environment,
                },
                start_new_session=True,
                preexec_fn=begin,
            )
        if has_terminal:
            os.close(inner)
            os.set_blocking(terminal, False)
        return cls(process, ledger, errors, output, terminal)

    def wait(self, limit_s: float = LIMIT_S) -> int | None:
        """The exit code; None for a run that did not end in time, which is killed."""
        end = time.monotonic() + limit_s
        while self.process.poll() is None and time.monotonic() < end:
            self.drain()
            time.sleep(0.01)
        code = self.process.poll()
        if code is None:
            self._note_stacks()
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return code

    def _note_stacks(self) -> None:
        """Writes where a hanging run and its children stand to a file beside the ledger, if py-spy is installed."""
        if py_spy := shutil.which("py-spy"):
            with self.ledger.with_name(f"stacks-{self.ledger.name}").open("wb") as file:
                for pid in [self.process.pid, *self.children()]:
                    subprocess.run([py_spy, "dump", "--native", "--pid", str(pid)], stdout=file, check=False)

    def drain(self) -> None:
        """Takes what it has written on its terminal, or it would wait for ever."""
        if self.terminal >= 0:
            with suppress(OSError):
                os.read(self.terminal, 65536)

    def close_terminal(self) -> None:
        """Closes the other end of its terminal."""
        if self.terminal >= 0:
            os.close(self.terminal)
        self.terminal = -1

    def lines(self) -> list[dict[str, object]]:
        """The whole lines of the ledger."""
        return [json.loads(line) for line in self.ledger.read_bytes().split(b"\n")[:-1]]

    def stage(self) -> str:
        """The stage that it is in."""
        stages = [str(line["stage"]) for line in self.lines() if "stage" in line]
        return stages[-1] if stages else "start"

    def finished(self) -> set[tuple[str, object]]:
        """The entries that it was told are finished: (file, key)."""
        rows = [row for line in self.lines() for row in line.get("entries", ())]  # type: ignore[attr-defined]
        return {(name, tuple(key) if isinstance(key, list) else key) for name, key in rows}

    def seconds(self) -> dict[str, float]:
        """How long each stage took."""
        begun = [(str(line["stage"]), float(line["time"])) for line in self.lines() if "stage" in line]  # type: ignore[arg-type]
        ends = [moment for _, moment in begun[1:]] + [self.ledger.stat().st_mtime + 0.1]
        taken = {"start": 2.0}
        for (stage, start), end in zip(begun, ends, strict=True):
            taken[stage] = taken.get(stage, 0.0) + end - start
        return taken

    def said(self) -> str:
        """What it said on stderr; of one with a terminal nothing is kept."""
        return self.errors.read_text(encoding="utf-8", errors="replace")

    def survivors(self, seconds: float = 5) -> list[int]:
        """Processes of its session that are still there after some seconds."""
        end = time.monotonic() + seconds
        while (left := _session(self.process.pid)) and time.monotonic() < end:
            time.sleep(0.02)
        return left

    def children(self) -> list[int]:
        """The processes that it has started."""
        try:
            tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
            return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
        except OSError:
            return []


def _session(leader: int) -> list[int]:
    """The processes of a session that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, _, session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state not in "ZX":
                found.append(int(path.name))
    return found
