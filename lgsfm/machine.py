"""The machine that lgsfm runs on: what it is called, and how fast it multiplies matrices."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

__all__ = ["Machine", "available_bytes", "cpu", "give_back_memory", "gpu_bytes", "machine_of", "memory_bytes"]

PROBE_S = 0.02
PROBE_SIZE = 96  # small enough that one thread does it: several would wait for each other where other programs work
PROBE_REPEATS = 10
THREAD_GAIN = 0.8  # twice the threads are 2^0.8 times as fast
GPU_PROBE_SIZE = 4096  # a GPU is not busy with less
MEMORY_LIMITS = (  # of a container, as it sees itself
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
MEMORY_USED = (  # what is taken of these
    Path("/sys/fs/cgroup/memory.current"),
    Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
MEMORY_STATES = (Path("/sys/fs/cgroup/memory.stat"), Path("/sys/fs/cgroup/memory/memory.stat"))  # what of it is files
MEMORY_INFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class Machine:
    """What computes.

    name: of the CPU or the GPU, as it calls itself
    device: "cpu", "cuda:0", "mps"
    threads: of the CPU
    """

    name: str
    device: str
    threads: int

    @property
    def is_gpu(self) -> bool:
        """Whether it is no CPU."""
        return self.device != "cpu"

    def gflops(self) -> float:
        """Speed of float32 matrix products [GFLOP/s], from a probe of 20 ms on a CPU (a GPU also has to wake up)."""
        return _gpu_gflops(self.device) if self.is_gpu else _core_gflops() * self.threads**THREAD_GAIN


def cpu(threads: int = -1) -> Machine:
    """The CPU; ``threads`` below 1 means those that programs take when nobody tells them."""
    return Machine(_cpu_name(), "cpu", threads if threads > 0 else _default_threads())


def machine_of(device: str, threads: int = -1) -> Machine:
    """The machine behind the name of a device. Loads torch unless it is "cpu".

    Raises:
        InputError: there is no such device here.
    """
    if device == "cpu":
        return cpu(threads)
    from .models import resolve_device

    found = resolve_device(device)
    if found.type == "cpu":
        return cpu(threads)
    import torch

    name = torch.cuda.get_device_name(found) if found.type == "cuda" else f"{_cpu_name()} GPU"
    return Machine(name, str(found), threads if threads > 0 else _default_threads())


def memory_bytes() -> int | None:
    """The memory of the machine, or what of it the container may use; None where the system does not say."""
    try:
        known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        known = []
    for path in MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # "max" where there is no limit
            known.append(int(path.read_text(encoding="utf-8")))
    return min((count for count in known if count > 0), default=None)


def available_bytes() -> int | None:
    """The memory that programs can have now without swapping; None where the system does not say.

    What the system keeps of files counts as available, in a container too: it is given back on demand.
    """
    known = [1024 * count for count in _numbers(MEMORY_INFO, "MemAvailable:")]
    for limit, used, state in zip(MEMORY_LIMITS, MEMORY_USED, MEMORY_STATES, strict=True):
        with suppress(OSError, ValueError):  # "max" where there is no limit
            total = int(limit.read_text(encoding="utf-8"))
            taken = int(used.read_text(encoding="utf-8")) - sum(_numbers(state, "inactive_file"))
            known.append(max(0, total - taken))
    if not known and (memory := memory_bytes()):
        known.append(memory)
    return min(known, default=None)


def _numbers(path: Path, key: str) -> list[int]:
    """The numbers behind a word at the beginning of a line; none where there is no such file."""
    with suppress(OSError, ValueError):
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        return [int(words[1]) for words in lines if len(words) > 1 and words[0] == key]
    return []


def gpu_bytes(machine: Machine) -> int | None:
    """The free memory of a GPU; None for a CPU, and where the GPU shares the memory of the computer."""
    if not machine.device.startswith("cuda"):
        return None
    import torch

    return int(torch.cuda.mem_get_info(torch.device(machine.device))[0])


def give_back_memory() -> None:
    """Has the allocator of the C library return to the system what is free, where it can (glibc); takes milliseconds.

    Else the large arrays of networks, with small ones that stay between them, leave gaps that the next ones do not fit
    into, and a process grows with all that it has ever computed.
    """
    if os.name == "posix":
        with suppress(AttributeError, OSError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)


def _default_threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


@cache
def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine() or "unknown CPU"


@cache
def _core_gflops() -> float:
    """The best of many products on one core: the others were disturbed."""
    matrix = np.full((PROBE_SIZE, PROBE_SIZE), 0.5, np.float32)
    best, now = float("inf"), time.perf_counter()
    end = now + PROBE_S
    while now < end:
        start = time.perf_counter()
        for _ in range(PROBE_REPEATS):
            matrix @ matrix
        now = time.perf_counter()
        best = min(best, now - start)
    return 2e-9 * PROBE_REPEATS * PROBE_SIZE**3 / best


@cache
def _gpu_gflops(device: str) -> float:
    import torch

    matrix = torch.full((GPU_PROBE_SIZE, GPU_PROBE_SIZE), 0.5, device=device)
    best = float("inf")
    for _ in range(3):
        float((matrix @ matrix)[0, 0])  # reading a value waits for the product
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])
        best = min(best, time.perf_counter() - start)
    return 2e-9 * GPU_PROBE_SIZE**3 / best
