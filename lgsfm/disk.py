"""What is free on a disk. Some network file systems do not say, and nothing is held against them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

__all__ = ["check_free", "free_bytes"]

FULL_BYTES = 1 << 16  # a disk with less is full


def free_bytes(folder: Path) -> int | None:
    """What is free for us where a folder lies; None where the system does not say."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free if usage.total > 0 else None  # some network file systems say 0 of 0


def check_free(folder: Path, needed: int = FULL_BYTES) -> None:
    """Raises OSError (ENOSPC) if less is free where a folder lies.

    Without ``needed`` it tells whether the disk is full: what a library wrote there, that does not look itself, may
    then be cut off.
    """
    free = free_bytes(folder)
    if free is not None and free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
