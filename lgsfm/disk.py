"""What is free on a disk, and what to do where the system refuses a file.

Some network file systems do not say what is free, and nothing is held against them.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

__all__ = ["NO_LOCKS", "check_free", "free_bytes", "remedy"]

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)  # of file systems that have none

FULL_BYTES = 1 << 16  # a disk with less is full
REMEDIES = {
    "Move away what is there: a folder stands in the place of a file, or a file in that of a folder.": (
        *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
    ),
    "Check the permissions of the file and of its folder.": (errno.EACCES, errno.EPERM),
    "The disk can only be read: choose another place.": (errno.EROFS,),
    "Free some disk space.": (errno.ENOSPC, errno.EDQUOT),
    "Check the path.": (errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP),
}


def remedy(exc: OSError) -> str:
    """What to do about a file or folder that cannot be opened or written."""
    return next(
        (words for words, numbers in REMEDIES.items() if exc.errno in numbers), "Check the folder and the disk."
    )


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
