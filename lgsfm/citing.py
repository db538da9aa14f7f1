"""Whom to thank for a model: the papers behind all that a finished run has used, by its own records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .citations import BIBTEX, COMPONENTS
from .database_record import DatabaseRecord
from .files import read_json
from .pairing.options import AUTO_EXHAUSTIVE
from .summary import read_summary
from .workspace import Workspace

__all__ = ["Citation", "cite"]

LGSFM = """@software{{lgsfm,
  author  = {{{{The lgsfm contributors}}}},
  title   = {{{{lgsfm}}: from a folder of photos to a {{COLMAP}} model with learned features}},
  version = {{{version}}}
}}"""


@dataclass(frozen=True)
class Citation:
    """One paper, or a component of which none is known.

    key: of the BibTeX entry; "" if none is known
    used_for: what used it, as "extractor aliked"
    licences: of the weights that were used for it, SPDX expressions
    bibtex: the entry; "" if none is known
    """

    key: str
    used_for: list[str]
    licences: list[str]
    bibtex: str


def cite(output: str | Path) -> list[Citation]:
    """The papers behind a finished run: features, matcher, retriever, verification, mapper, COLMAP, and lgsfm.

    Args:
        output: folder of `lgsfm reconstruct`.

    Raises:
        InputError: it is none.
    """
    workspace = Workspace.of_run(output)
    options, summary = workspace.read_options(), read_summary(workspace.summary)
    record = DatabaseRecord.read(workspace.database_identity)
    licences = {row["sha256"]: row["licence"] for row in summary.get("weights", [])}
    found: dict[str, Citation] = {}
    for kind, name, weights in _used(workspace, {**options, **record.made}, summary, record):
        keys = COMPONENTS[kind].get(name)
        for key in ("",) if keys is None else keys:
            entry = found.setdefault(key or f"{kind} {name}", Citation(key, [], [], BIBTEX.get(key, "")))
            entry.used_for.append(f"{kind} {name}")
            if (licence := licences.get(weights, "")) and licence not in entry.licences:
                entry.licences.append(licence)
    own = summary.get("versions", {}).get("lgsfm", __version__)
    return [*found.values(), Citation("lgsfm", ["lgsfm"], [], LGSFM.format(version=own))]


def _used(
    workspace: Workspace, made: dict[str, Any], summary: dict[str, Any], record: DatabaseRecord
) -> Iterator[tuple[str, str, str]]:
    """(kind, name, sha256 of the weights) of what was used, in the order of the stages."""
    for kind in ("extractor", "matcher"):
        if kind in made:
            yield kind, str(made[kind][kind]), str(made[kind].get("weights", ""))
    if _has_retrieved(workspace, made, summary):
        name = str(made.get("run", {}).get("retriever", "asmk"))
        others = {str(made[kind].get("weights", "")) for kind in ("extractor", "matcher") if kind in made}
        own = [row["sha256"] for row in summary.get("weights", []) if row["sha256"] not in others]
        yield "retriever", name, own[0] if name == "dinov2" and own else ""
    if summary.get("num_pairs_verified") or record.report:
        yield "verification", "colmap", ""
    if record.dropped or record.doubts:
        yield "look-alikes", "consensus", ""
    ways = [model.get("mapper") or summary.get("mapper", "") for model in summary.get("models", [])]
    for way in dict.fromkeys("incremental" if way in ("", "auto") else way for way in ways):
        yield "mapper", str(way), ""


def _has_retrieved(workspace: Workspace, made: dict[str, Any], summary: dict[str, Any]) -> bool:
    """Whether photos were compared as wholes: for pairs, to find those that lie on their side, or for second looks."""
    methods = str(made.get("pairs", {}).get("pairs", "")).split("+")
    is_large = "auto" in methods and summary.get("num_images", 0) > AUTO_EXHAUSTIVE
    has_voted = bool(read_json(workspace.upright).get("voted"))
    return "retrieval" in methods or is_large or has_voted or bool(read_json(workspace.second_looks).get("rounds"))
