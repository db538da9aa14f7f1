"""Whether a run has room: an error before the start where the disk is too small, a warning where memory is.

An estimate may be wrong by half. So it is an error only if not even a part of what is needed is free, and a warning if
it may not suffice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .disk import free_bytes
from .errors import CacheError
from .estimate import size

__all__ = ["bytes_in", "check_disk", "memory_warning"]

SURE_SHARE = 0.5  # of the estimate that a run takes in any case
SPARE_BYTES = 100_000_000  # that a file system should have left
HELP = {  # stage -> what lets it do with less memory
    "extract": "--max-edge-px, or --quality low",
    "match": "--max-keypoints, or --quality low",
    "map": "--max-keypoints, or --quality low",
    "gpu": "--batch-size, --max-edge-px or --max-keypoints, or --device cpu",
}


def bytes_in(folder: Path) -> int:
    """The size of all files in a folder."""
    found = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                found += os.stat(os.path.join(root, name), follow_symlinks=False).st_size
            except OSError:  # gone meanwhile
                continue
    return found


def check_disk(folder: Path, needed: int) -> str:
    """A warning if so many further bytes may not fit where a folder lies, "" if they do.

    Raises:
        CacheError: they surely do not fit.
    """
    free = free_bytes(folder)
    if free is None or needed + SPARE_BYTES <= free or needed <= 0:
        return ""
    words = f"about {size(needed)} more, and {size(free)} are free"
    if SURE_SHARE * needed > free:
        raise CacheError(
            f"The disk of {folder} has not enough room: the run needs {words}. Free some space, choose another folder "
            "with -o, or need less with --quality low, --max-keypoints or --pairs retrieval."
        )
    return (
        f"Warning: the disk of {folder} may become full: the run needs {words}. What is finished then stays, and the "
        "same command goes on from there."
    )


def memory_warning(needed: Mapping[str, int], available: int | None, where: str = "") -> str:
    """A warning if a stage needs more memory than there is, with the flag that helps; "" if none does.

    Args:
        needed: stage -> bytes.
        available: bytes; None if that is not known.
        where: what has the memory, for people, if it is not the computer.
    """
    stage = max(needed, key=lambda name: needed[name])
    if available is None or needed[stage] <= available:
        return ""
    return (
        f"Warning: {'the GPU' if where else stage} needs about {size(needed[stage])} of memory, and "
        f"{size(available)} are free{where and f' on {where}'}. If it runs out, use a smaller "
        f"{HELP['gpu' if where else stage]}; what is finished stays."
    )
