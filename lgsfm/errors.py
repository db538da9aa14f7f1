"""The errors that lgsfm raises on purpose.

    LgsfmError
    ├── InputError            a photo, folder, option or file given by the user is unusable
    │   └── MemoryShortageError   there is not enough memory for a network
    ├── WeightsError          the weights of a network are missing, damaged or not to be downloaded
    ├── CacheError            a file in the output folder cannot be read or written
    │   ├── DamageError           what a store holds is not what was written
    │   ├── InUseError            another process has a file or the folder open for writing
    │   └── NewerVersionError     a newer lgsfm wrote the file, and it alone can read it
    ├── ReconstructionError   geometric verification or mapping failed
    │   └── CrashError            COLMAP failed of something else than the photos
    └── PoseError             two photos have no reliable relative pose

Every message says what happened, where, and what to do. Errors of other libraries are mapped to these
in the one module that calls the library (``raise ... from exc``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from errno import ENOMEM
from pathlib import Path
from typing import Any

__all__ = [
    "CacheError",
    "CrashError",
    "DamageError",
    "InUseError",
    "InputError",
    "LgsfmError",
    "MemoryShortageError",
    "NewerVersionError",
    "PoseError",
    "ReconstructionError",
    "WeightsError",
    "in_short",
    "is_memory_shortage",
    "lacks_memory",
    "no_memory_for",
    "unknown_name",
]

NO_MEMORY = (  # in errors of torch, OpenCV, C++ and the system; a thread needs memory for its stack
    "out of memory",
    "out_of_memory",
    "allocate memory",
    "not enough memory",
    "alloc_failed",
    "bad_alloc",
    "memoryerror",
    "start new thread",
    "failed to map segment",  # of a library that is to be loaded
)
PROBE_BYTES = 64 * 2**20


class LgsfmError(Exception):
    """Base class of all errors that lgsfm raises on purpose."""


class InputError(LgsfmError):
    """What the user gave (photo, folder, option, file) cannot be used."""


class MemoryShortageError(InputError):
    """There is not enough memory for a network and what it was given; less of it may fit."""


class WeightsError(LgsfmError):
    """The weights of a network are missing, damaged, or may not be downloaded."""


class CacheError(LgsfmError):
    """A file of the output folder cannot be read or written."""


class DamageError(CacheError):
    """What a store holds is not what was written to it: damaged entries, or a damaged file.

    path: of the file
    entries: paths in the file of the entries; none if it is the file
    """

    def __init__(self, message: str, path: Path | None = None, entries: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.path, self.entries = path, tuple(entries)


class InUseError(CacheError):
    """Another process has a file of the output folder, or all of the folder, open for writing; nothing is damaged."""


class NewerVersionError(CacheError):
    """A file of the output folder was written by a newer lgsfm, which alone can read it; nothing is damaged."""


class ReconstructionError(LgsfmError):
    """Geometric verification or mapping did not succeed."""


class CrashError(ReconstructionError):
    """COLMAP failed of something else than the photos, of a fault of its own, say, or of a want of memory."""


class PoseError(LgsfmError):
    """Two photos have no reliable geometry: honest, and better than a random pose.

    num_inliers: matches that agree with the best one found
    num_matches: all matches
    inliers: (K,) bool, which matches these are, where the matches are right and only the cameras leave the pose open
    """

    def __init__(
        self, num_inliers: int, num_matches: int, what: str = "pose", reason: str = "", inliers: Any = None
    ) -> None:
        super().__init__(f"no reliable {what}: {num_inliers} inliers of {num_matches} matches{reason}")
        self.num_inliers = num_inliers
        self.num_matches = num_matches
        self.inliers = inliers


def in_short(names: Iterable[str], most: int = 3) -> str:
    """The first of some names, and how many more there are.

    >>> in_short(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return f"{', '.join(known[:most])}{more}"


def lacks_memory(text: str) -> bool:
    """Whether a text of an error, of whatever library, is of a lack of memory.

    >>> lacks_memory("std::bad_alloc"), lacks_memory("std::bad_cast")
    (True, False)
    """
    return any(sign in text.lower() for sign in NO_MEMORY)


def is_memory_shortage(exc: BaseException) -> bool:
    """Whether an error of whatever library came for want of memory.

    SystemError, which Python raises of itself where it could not even make an exception, is taken for it only if
    there really is no memory.
    """
    if isinstance(exc, SystemError):
        try:
            bytearray(PROBE_BYTES)
        except MemoryError:
            return True
    return isinstance(exc, MemoryError) or (isinstance(exc, OSError) and exc.errno == ENOMEM) or lacks_memory(str(exc))


def no_memory_for(what: str, exc: BaseException | None = None) -> str:
    """The message of an error that `is_memory_shortage`.

    >>> no_memory_for("map", MemoryError())
    'Not enough memory for map. Nothing finished before is lost: the next run goes on from there.'
    """
    reason = str(exc or "").partition("\n")[0]
    why = f" ({reason})" if reason else ""
    what = f"loading {exc.name}" if isinstance(exc, ImportError) and exc.name else what
    return f"Not enough memory for {what}{why}. Nothing finished before is lost: the next run goes on from there."


def unknown_name(kind: str, name: str, available: Iterable[str]) -> InputError:
    """The error for a name that does not exist: lists the valid ones and the nearest.

    >>> str(unknown_name("extractor", "supperpoint", ["sift", "superpoint"]))
    "Unknown extractor 'supperpoint'. Available: sift, superpoint. Did you mean 'superpoint'?"
    """
    names = sorted(available)
    near = get_close_matches(name, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return InputError(f"Unknown {kind} '{name}'. Available: {', '.join(names)}.{hint}")
