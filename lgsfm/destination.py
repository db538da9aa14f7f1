"""Where a file that the user names may go: over nothing that lgsfm has not written itself, as the same kind of thing.

A report replaces a report, a picture of matches such a picture. How a file tells that it is one is known where that
kind is written; what all kinds have in common is here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .errors import InputError
from .workspace import Workspace

__all__ = ["check_file", "refuse_link"]


def check_file(
    path: Path,
    what: str,
    is_ours: Callable[[Path], bool],
    *,
    run: Workspace | None = None,
    own_place: Path | None = None,
) -> None:
    """Raises `InputError` if a file may not be written to a path: something else is there, or belongs there.

    An empty file is nothing to lose: programs make them to have a name of their own.

    Args:
        path: the file.
        what: it will be, as "report".
        is_ours: whether a file that is there is one of these that lgsfm wrote; may raise OSError.
        run: the output folder that it is about, whose files stay.
        own_place: the place in that folder that is for it, where it is replaced whatever it is.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder. Name a file in it with -o.")
    if own_place is not None and path.resolve() == own_place.resolve():
        return
    refuse_link(path)
    if run is not None and run.owns(path):
        raise InputError(f"{path} is among the files of the run. Choose another place with -o.")
    if not path.exists():
        return
    if not path.is_file():
        raise InputError(f"{path} is a pipe or a device. Name a file with -o.")
    if path.stat().st_size and not _answer(is_ours, path):
        raise InputError(
            f"{path} is there, and it is no {what} that lgsfm wrote, so it is not replaced. Choose another name with "
            "-o, or move it away."
        )


def refuse_link(path: Path) -> None:
    """Raises `InputError` for a link: what takes its place would not be where it leads to."""
    if path.is_symlink():
        raise InputError(f"{path} is a link, and would be replaced. Name what it leads to, or another place, with -o.")


def _answer(is_ours: Callable[[Path], bool], path: Path) -> bool:
    try:
        return is_ours(path)
    except OSError:  # what cannot be read is not known as ours
        return False
