"""The page: what was collected, poured into the templates; one file that needs nothing else.

Its scripts and styles are named by their hashes in the content security policy, which allows nothing but them and
pictures within the page: no network, and no script that hides in the name of a photo.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np

from .. import __version__
from ..diagnosis import REASONS, Diagnosis
from ..printable import printable
from ..weights import MODELS
from . import words
from .cameras import camera_rows
from .charts import draw_graph, error_histogram, match_matrix
from .collect import Collected, PhotoRow
from .pairs import choose_pairs, draw_pairs
from .pictures import Picture, matrix_picture, plan_picture, thumbnails
from .scene import upright_frame
from .shown import pack_keypoints, pack_scene

__all__ = ["render"]

MOST_SCENES = 5  # that can be turned; further ones are named
MOST_TOLD = 4000  # pairs whose numbers the match matrix tells
ASSETS = ("report.js", "viewer.js")
STAGES = {
    "extract": "Features",
    "pairs": "Pair selection",
    "match": "Matching",
    "finer": "Finer looks",
    "database": "Verification",
    "map": "Mapping",
}


def render(collected: Collected) -> str:
    """The report as HTML."""
    style, script = _asset("report.css"), "\n".join(_asset(name) for name in ASSETS)
    values = _values(collected)
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
    policy += "base-uri 'none'; form-action 'none'"
    page = _environment().get_template("page.html")
    return page.render(style=style, script=script, policy=policy, version=__version__, **values)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lgsfm.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("count", "decimal", "degrees", "duration", "percent", "photos"):
        environment.filters[name] = getattr(words, name)
    return environment


def _shown(value: Any) -> Any:
    """What a template puts into the page: names in files of others may turn the direction of writing."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return printable(value)


def _asset(name: str) -> str:
    return (files("lgsfm.report") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _values(collected: Collected) -> dict[str, Any]:
    """What the templates show."""
    # photos that need a look come first, should not all of them get a picture
    urgent = sorted(collected.photos, key=lambda photo: photo.state == "registered")
    pictures = thumbnails(collected.image_dir, {photo.name: _view(photo) for photo in urgent})
    scenes = collected.scenes[:MOST_SCENES]
    orientations = {photo.name: photo.orientation for photo in collected.photos}
    frames = [upright_frame(scene, orientations) for scene in scenes]
    return {
        "run": collected,
        "summary": collected.summary,
        "scene_name": words.scene_name(collected),
        "headline": words.headline(collected),
        "states": Counter(photo.state for photo in collected.photos),
        "failures": _failures(collected),
        "reasons": _reasons(collected),
        "meanings": words.MEANINGS,
        "pictures": pictures,
        "plans": [
            (plan_picture(scene, frame, (0, 2)), plan_picture(scene, frame, (0, 1)))
            for scene, frame in zip(scenes[:1], frames, strict=False)
        ],
        "drawing": draw_graph(collected.graph, collected.photos) if collected.graph.names else None,
        "matrix": _matrix(collected),
        "shown_pairs": draw_pairs(collected, choose_pairs(collected)),
        "errors": error_histogram(collected.scenes[0].errors_px) if scenes else None,
        "tracks": error_histogram(collected.scenes[0].track_lengths, whole=True) if scenes else None,
        "cameras": camera_rows(collected),
        "stages": _stages(collected),
        "evaluation": words.evaluation_rows(collected.evaluation) if collected.evaluation else [],
        "weights": _weights(collected),
        "groups": {name: value for name, value in collected.options.items() if isinstance(value, dict)},
        "data": {
            "photos": _photo_data(collected, pictures),
            "scenes": [pack_scene(scene, frame, collected.photos) for scene, frame in zip(scenes, frames, strict=True)],
            "pairs": _pair_data(collected),
        },
    }


def _view(photo: PhotoRow) -> int | None:
    """The EXIF code of the view to show: the one the extractor saw, or the file's own."""
    return None if photo.keypoints is None else photo.orientation


def _failures(collected: Collected) -> list[tuple[str, list[tuple[int, PhotoRow]], list[Diagnosis]]]:
    """Reason, numbers and rows of its photos, and diagnoses with different advice."""
    found = []
    for reason in REASONS:
        rows = [(i, row) for i, row in enumerate(collected.photos) if row.diagnosis and row.diagnosis.reason == reason]
        advice = {(row.diagnosis.advice, row.diagnosis.command): row.diagnosis for _, row in rows if row.diagnosis}
        if rows:
            found.append((reason, rows, list(advice.values())))
    return found


def _reasons(collected: Collected) -> str:
    """How many photos failed of what, in words."""
    return ", ".join(f"{len(rows)} {reason}" for reason, rows, _ in _failures(collected))


def _matrix(collected: Collected) -> Picture | None:
    if not collected.pairs:
        return None
    names = [photo.name for photo in collected.photos]
    return matrix_picture(*match_matrix(names, collected.pairs))


def _stages(collected: Collected) -> list[dict[str, Any]]:
    seconds = {name: value for name, value in collected.summary.get("seconds", {}).items() if name != "total"}
    longest = max(seconds.values(), default=0.0) or 1.0
    computed, reused = (collected.summary.get(key, {}) for key in ("computed", "reused"))
    return [
        {
            "name": STAGES.get(name, name),
            "seconds": value,
            "share": value / longest,
            "computed": computed.get(name),
            "reused": reused.get(name),
        }
        for name, value in seconds.items()
    ]


def _weights(collected: Collected) -> list[dict[str, Any]]:
    """The weight files that were used, with what their licence allows and whom to cite."""
    specs = {spec.name: spec for alternatives in MODELS.values() for spec in alternatives}
    rows = []
    for row in collected.summary.get("weights", []):
        spec = specs.get(row.get("name", ""))
        rows.append(
            {
                **row,
                "commercial_use": spec.commercial_use if spec else None,
                "citation": spec.citation if spec else "",
            }
        )
    return rows


def _photo_data(collected: Collected, pictures: dict[str, Picture]) -> list[dict[str, Any]]:
    """What the script knows of each photo."""
    seen = pack_keypoints(collected.scenes, collected.photos)
    return [
        {"name": photo.name, "state": photo.state, "has": photo.name in pictures, "seen": seen.get(photo.name, "")}
        for photo in collected.photos
    ]


def _pair_data(collected: Collected) -> list[list[int]]:
    """Numbers of both photos, matches, inliers; of the pairs with most inliers."""
    numbers = {photo.name: i for i, photo in enumerate(collected.photos)}
    rows = [
        [numbers[a], numbers[b], found.num_matches, found.num_inliers if found.is_verified else 0]
        for (a, b), found in collected.pairs.items()
    ]
    order = np.argsort([-row[3] for row in rows], kind="stable")[:MOST_TOLD]
    return [rows[i] for i in order]
