"""The report of a run: one HTML file that tells what came out, opens offline and holds its pictures itself.

    write_report("out/courtyard")    # out/courtyard/report.html

`collect` reads the output folder, `scene` the models, `pictures` and `charts` draw, `page` pours it into templates.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..destination import check_file
from ..files import write_text
from ..workspace import Workspace

__all__ = ["is_report", "try_report", "write_report"]

GENERATOR = b'<meta name="generator" content="lgsfm '  # in the template
BEGINNING = 4096  # bytes of a page, within which that comes


def write_report(
    output: str | Path,
    reference: str | Path | None = None,
    path: str | Path | None = None,
    *,
    image_dir: str | Path | None = None,
) -> Path:
    """Writes the report of a run.

    Args:
        output: the output folder of `lgsfm reconstruct`, finished or not.
        reference: COLMAP model or text file of poses to compare the model with, as for `lgsfm.evaluate`.
        path: of the file; None means ``report.html`` in the output folder. A report that lgsfm wrote is replaced there,
            nothing else.
        image_dir: folder of the photos; None means where they were. Without them there are no pictures.

    Returns:
        The path of the file.

    Raises:
        InputError: the folder is no output folder, its best model is damaged, the reference cannot be read, or
            something else is where the file is to go. Nothing is written then, and a report of before stays.
        CacheError: the file cannot be written.
    """
    from .collect import collect  # pycolmap and Jinja take a moment to load
    from .page import render

    workspace = Workspace.of_run(output)
    target = Path(path) if path else workspace.report
    check_file(target, "report", is_report, run=workspace, own_place=workspace.report)
    found = collect(Path(output), Path(reference) if reference else None, Path(image_dir) if image_dir else None)
    write_text(target, render(found))
    return target


def is_report(path: Path) -> bool:
    """Whether a file is a report that lgsfm wrote. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return GENERATOR in file.read(BEGINNING)


def try_report(output: Path, say: Callable[[str], None]) -> None:
    """The report at the end of a run, which must not fail for it: an error becomes a warning."""
    try:
        say(f"Report: {write_report(output)}")
    except Exception as exc:  # whatever it is: the model is there, and the report can be made again
        say(f"Warning: no report.html: {exc or type(exc).__name__}. Try again: lgsfm report {output}")
