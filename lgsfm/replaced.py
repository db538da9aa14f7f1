"""Where things of an output folder go that may be somebody's: ``OUT/replaced/1``, ``2``, ... Nothing reads them again.

A run makes its models and its database anew where photos or options changed. What it finds in their place may have
been changed by hand, or be better; then it is not deleted.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["KEPT", "put_beside"]

KEPT = "replaced"


def put_beside(output: Path, paths: list[Path]) -> Path:
    """Moves files and folders of an output folder to a new folder in ``replaced``, which it gives.

    Raises:
        OSError: something cannot be moved.
    """
    folder = output / KEPT
    folder.mkdir(exist_ok=True)
    number = 1
    while (target := folder / str(number)).exists():
        number += 1
    target.mkdir()
    for path in paths:
        path.rename(target / path.name)
    return target
