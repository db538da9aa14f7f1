"""The faults: each strikes a run that is going on, and says how that may end."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scene import LIMIT_S, Watched

CGROUP = Path("/sys/fs/cgroup/memory")
DISK_MB = 64


@dataclass(frozen=True)
class Fault:
    """Signals to the process, to its group, or to the child that COLMAP runs in.

    codes: exit codes that are right; 0 where the run was done before. None: any
    """

    name: str
    signals: tuple[int, ...] = ()
    target: str = "process"
    codes: frozenset[int] | None = None

    @contextmanager
    def prepared(self, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Gives an output folder and options for `Watched.start`."""
        yield folder / "out", {}

    def strike(self, run: Watched, rng: random.Random) -> None:
        """Does it."""
        for i, number in enumerate(self.signals):
            if i:
                time.sleep(rng.random() * 0.4)
            with suppress(ProcessLookupError):
                if self.target == "group":
                    os.killpg(run.process.pid, number)
                elif self.target == "child":
                    os.kill(_child(run), number)
                else:
                    os.kill(run.process.pid, number)

    def relax(self, folder: Path) -> None:
        """Ends the fault, for the next run."""


def _child(run: Watched) -> int:
    """The child, once there is one. Raises ProcessLookupError if the run ends before."""
    end = time.monotonic() + LIMIT_S
    while not (found := run.children()):
        if run.process.poll() is not None or time.monotonic() > end:
            raise ProcessLookupError
        time.sleep(0.002)
    return found[0]


@dataclass(frozen=True)
class Suspended(Fault):
    """As by a closed lid: all stands still for a second and goes on."""

    def strike(self, run: Watched, rng: random.Random) -> None:
        with suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGSTOP)
            time.sleep(1)
            os.killpg(run.process.pid, signal.SIGCONT)


@dataclass(frozen=True)
class TerminalClosed(Fault):
    """The window of the terminal is closed; with ``is_ignored`` for a run that ignores SIGHUP (nohup, disown)."""

    is_ignored: bool = False

    @contextmanager
    def prepared(self, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
        options: dict[str, Any] = {"has_terminal": True}
        if self.is_ignored:
            options["before_start"] = _ignore_hangup
        yield folder / "out", options

    def strike(self, run: Watched, rng: random.Random) -> None:
        run.close_terminal()


def _ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@dataclass(frozen=True)
class OutOfMemory(Fault):
    """The kernel kills for want of memory: the run's control group gets no more than it has."""

    @contextmanager
    def prepared(self, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
        group = CGROUP / f"lgsfm-faults-{os.getpid()}"
        group.mkdir(exist_ok=True)
        (group / "memory.limit_in_bytes").write_text("-1")
        try:
            yield folder / "out", {"before_start": lambda: (group / "cgroup.procs").write_text(str(os.getpid()))}
        finally:
            with suppress(OSError):
                group.rmdir()

    def strike(self, run: Watched, rng: random.Random) -> None:
        group = CGROUP / f"lgsfm-faults-{os.getpid()}"
        resident = sum(_resident_bytes(pid) for pid in [run.process.pid, *run.children()])
        for share in (1.0, 0.9, 0.8):
            with suppress(OSError):  # it would have to give back more than it can
                (group / "memory.limit_in_bytes").write_text(str(int(resident * share)))
            time.sleep(0.3)


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[2]) * resource.getpagesize()  # not of files
    except OSError:
        return 0


@dataclass(frozen=True)
class NoMoreMemory(Fault):
    """Every further allocation fails in the process, or in its child."""

    def strike(self, run: Watched, rng: random.Random) -> None:
        with suppress(OSError):
            pid = _child(run) if self.target == "child" else run.process.pid
            used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
            resource.prlimit(pid, resource.RLIMIT_AS, (used, used))


@dataclass(frozen=True)
class DiskFull(Fault):
    """The file system of the output folder has no byte left."""

    @contextmanager
    def prepared(self, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
        disk = folder / "disk"
        disk.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", disk], check=True)
        try:
            yield disk / "out", {}
        finally:
            subprocess.run(["umount", "-l", disk], check=True)

    def strike(self, run: Watched, rng: random.Random) -> None:
        disk = run.output.parent
        for _ in range(20):  # it grows meanwhile
            space = os.statvfs(disk)
            used = (space.f_blocks - space.f_bfree) * space.f_frsize
            wanted = ["mount", "-o", f"remount,size={used + 4096 * rng.randrange(8)}", "none", str(disk)]
            if subprocess.run(wanted, capture_output=True, check=False).returncode == 0:
                return

    def relax(self, folder: Path) -> None:
        subprocess.run(["mount", "-o", f"remount,size={DISK_MB}m", "none", folder / "disk"], check=True)


ENDED = frozenset((0, 1))
FAULTS = (
    Fault("kill -9", (signal.SIGKILL,)),
    Fault("kill -9 of all", (signal.SIGKILL,), "group"),
    Fault("SIGTERM", (signal.SIGTERM,), codes=frozenset((0, 143))),
    Fault("SIGTERM to all", (signal.SIGTERM,), "group", frozenset((0, 143))),
    Fault("Ctrl-C", (signal.SIGINT,), "group", frozenset((0, 130))),
    # the second may come when the interpreter has nearly ended, and ends it
    Fault("Ctrl-C twice", (signal.SIGINT, signal.SIGINT), "group", frozenset((0, 130, -signal.SIGINT))),
    TerminalClosed("terminal closed"),
    TerminalClosed("terminal closed, nohup", codes=frozenset((0,)), is_ignored=True),
    Suspended("suspended", codes=frozenset((0,))),
    OutOfMemory("killed for memory"),
    NoMoreMemory("no more memory", codes=ENDED),
    NoMoreMemory("no more memory, child", target="child", codes=ENDED),
    Fault("child kill -9", (signal.SIGKILL,), "child", ENDED),
    Fault("child aborts", (signal.SIGABRT,), "child", ENDED),
    Fault("child segfaults", (signal.SIGSEGV,), "child", ENDED),
    DiskFull("disk full", codes=ENDED),
)
