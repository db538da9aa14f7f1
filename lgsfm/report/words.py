"""Numbers and findings as people read them."""

from __future__ import annotations

import math

from ..evaluation import Evaluation
from .collect import Collected

__all__ = [
    "MEANINGS",
    "count",
    "decimal",
    "degrees",
    "duration",
    "evaluation_rows",
    "headline",
    "percent",
    "photos",
    "scene_name",
    "share_text",
]

MEANINGS = {  # of the reasons of `lgsfm.diagnosis`
    "unreadable": "the file cannot be used",
    "masked out": "a mask hides all of it",
    "no features": "nothing in it to hold on to",
    "no candidate pair": "it was compared with no other photo",
    "few matches": "no other photo shows enough of the same",
    "failed verification": "its matches agree on no geometry",
    "own component": "tied to other photos, but not to the model",
    "rejected by the mapper": "tied to other photos, but the mapper could not place it",
}


def count(value: float) -> str:
    """A whole number with its thousands apart."""
    return f"{round(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def decimal(value: float | None, digits: int = 2) -> str:
    """A number; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """A share in whole percent; never 100 % of what is not all, never 0 % of what is something."""
    if share is None:
        return "–"
    value = round(100 * share)
    if share < 1:
        value = min(value, 99)
    if share > 0:
        value = max(value, 1)
    return f"{value}\N{NARROW NO-BREAK SPACE}%"


def duration(seconds: float) -> str:
    """A time, to two or three digits."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{round(whole / 60)} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def degrees(value: float | None) -> str:
    """An angle."""
    return "–" if value is None else f"{value:.3g}°"


def photos(number: int) -> str:
    """So many photos."""
    return f"{count(number)} photo{'' if number == 1 else 's'}"


def share_text(part: int, whole: int) -> str:
    """Some of all."""
    return f"{count(part)} of {count(whole)}"


def scene_name(collected: Collected) -> str:
    """What the photos are called by: their folder, or the one around it where that says nothing."""
    folder = collected.image_dir
    said = folder.parent if folder.name.lower() in ("images", "photos", "imgs", "input") else folder
    return said.name or collected.output.resolve().name


def headline(collected: Collected) -> str:
    """Did it work? In one sentence."""
    total = len(collected.photos)
    if not collected.scenes:
        missing = collected.examination.missing if collected.examination else ""
        if missing:
            return f"Not finished: the stage “{missing}” has not been run"
        return f"No model of {photos(total)}"
    inside = len(collected.scenes[0].cameras)
    if inside == total:
        return f"All {photos(total)} are in the model"
    return f"{share_text(inside, total)} photos are in the model"


def evaluation_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    """The comparison with a reference, row by row."""
    rows = [(f"Pose AUC@{threshold}°", f"{value:.1f} %") for threshold, value in evaluation.auc.items()]
    rows += [
        ("Reference images with a pose", share_text(evaluation.num_registered, evaluation.num_images)),
        ("Rotation error, median", degrees(evaluation.median_rotation_error_deg)),
        ("Direction error, median", degrees(evaluation.median_translation_error_deg)),
    ]
    if evaluation.centres:
        rows.append(("Centre error, median (reference units)", f"{evaluation.centres.median:.4g}"))
    return rows
