"""Stage 5: database -> COLMAP models, the best one first.

With ``mapper="auto"`` the incremental mapper goes first. If it registers all that the view graph ties together, that
was it. If not, up to three other ways are tried, each in a process of its own, so that one that fails costs nothing but
its time: the incremental mapper going on with weaker poses; and where much is missing, the incremental mapper with a
looser start, and the global mapper. `lgsfm.mapping.choice` says which models are the better ones.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pycolmap

from ..child import run_in_child
from ..errors import CacheError, LgsfmError, ReconstructionError
from ..types import Progress
from .choice import Missing, Score, objection
from .folder import record_models, replace_models, settle
from .mappers import MAPPERS, MappingOptions, ModelSummary, map_in_child, summarize_model
from .principal_point import MIN_IMAGES
from .snapshots import newest_snapshot, suspect

__all__ = [
    "MAPPERS",
    "MappingOptions",
    "ModelSummary",
    "map_database",
    "map_in_child",
    "mapping_note",
    "mapping_notes",
    "principal_point_note",
    "pycolmap_version",
    "replace_models",
    "summarize_model",
]

SNAPSHOTS = "snapshots"


def map_database(
    database: Path,
    image_dir: Path,
    output: Path,
    options: MappingOptions | None = None,
    *,
    is_resumable: bool = True,
    former_images: int = 0,
    log_path: Path,
    progress: Progress | None = None,
) -> list[ModelSummary]:
    """Makes models in child processes and puts them into ``output`` as 0, 1, ..., the one with most images first.

    Killed in the middle of a model of hundreds of images, it goes on from the last snapshot when it is called again
    with the same database and options.

    Args:
        database: from `lgsfm.database.build_database`; it is not changed.
        image_dir: for the colours of the points.
        output: folder of the models; those that it held before are replaced once there are new models and they are
            whole. Whatever else lies there is kept, see `lgsfm.mapping.folder`.
        options: see `MappingOptions`.
        is_resumable: with snapshots. A model that goes on from one is about as good as one from the start, but another.
        former_images: registered images of the best model that is there; it is kept beside one of fewer.
        log_path: COLMAP's output is appended here.
        progress: called with (registered images, all images).

    Returns:
        The models, the best one first; empty if no image pair could be a start. The first one tells of all ways that
        were tried, if it was more than one.

    Raises:
        ReconstructionError: COLMAP failed, or all models are smaller than ``min_model_size``.
        CacheError: a folder cannot be written.
    """
    output, wanted = Path(output), options or MappingOptions()
    partial, before = output.with_name(f"{output.name}.partial"), output.with_name(f"{output.name}.before")
    try:
        if before.exists():  # a run was killed while it replaced the models
            settle(before, output)
        partial.mkdir(parents=True, exist_ok=True)
        for path in partial.iterdir():  # what a killed run left half made
            if path.name != SNAPSHOTS or not is_resumable:
                shutil.rmtree(path, ignore_errors=True)
    except OSError as exc:
        raise CacheError(f"{partial} cannot be made: {exc.strerror}. Check the folder and the disk space.") from exc

    def run(way: str, start: Path | None) -> _Try:
        arguments = {
            "database": str(database),
            "image_dir": str(image_dir),
            "output": str(partial / way),
            "options": wanted.to_dict(),
            "way": way,
            "start": str(start or ""),
            "snapshots": str(partial / SNAPSHOTS) if way == "incremental" and is_resumable else "",
        }
        begin = time.perf_counter()
        snapshot = newest_snapshot(partial / SNAPSHOTS) if way == "incremental" else None
        try:
            answer = run_in_child("lgsfm.mapping:map_in_child", arguments, log_path, progress=progress)
        except ReconstructionError:
            if snapshot and newest_snapshot(partial / SNAPSHOTS) == snapshot:  # it may be what COLMAP failed of
                suspect(snapshot)
            raise
        return _Try.from_answer(answer, partial / way, time.perf_counter() - begin)

    if wanted.mapper == "auto":
        kept, attempts = _best_of(run)
    else:
        kept, attempts = run(wanted.mapper, None), ()
    try:
        models = _large_enough(kept.models, min(wanted.min_model_size, kept.num_images))
        if models:
            for model in kept.models[len(models) :]:
                shutil.rmtree(kept.folder / model.path, ignore_errors=True)
            record_models(kept.folder)
            replace_models(kept.folder, output, keep_because=_loss(former_images, models[0].num_reg_images))
            models[0] = replace(models[0], attempts=attempts)
    except ReconstructionError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(partial, ignore_errors=True)  # whatever else came between, the next run goes on from it
    return models


def _loss(before: int, now: int) -> str:
    """What people must hear of a model with fewer photos than the one in whose place it comes, else ""."""
    return (
        f"The model has {_photos(now)}, the one that was there had {before}; that one is kept." if now < before else ""
    )


# --------------------------------------------------------------------------------- several ways
@dataclass(frozen=True)
class _Try:
    """What one way gave."""

    way: str
    models: list[ModelSummary]  # of two images or more, the best one first
    num_images: int = 0  # in the database
    folder: Path = Path()
    seconds: float = 0.0
    missing: Missing = field(default_factory=lambda: Missing((), 0, 0))
    score: Score | None = None

    @classmethod
    def from_answer(cls, answer: dict[str, Any], folder: Path, seconds: float) -> _Try:
        missing, score = answer.get("missing"), answer.get("score")
        return cls(
            way=answer["way"],
            models=[ModelSummary(**{**model, "registered": tuple(model["registered"])}) for model in answer["models"]],
            num_images=answer["num_images"],
            folder=folder,
            seconds=seconds,
            missing=Missing(**{**missing, "images": tuple(missing["images"])}) if missing else Missing((), 0, 0),
            score=Score(**score) if score else None,
        )

    def row(self, reason: str) -> dict[str, Any]:
        """For ``summary.json``; ``reason`` is why it was not kept."""
        return {
            "way": self.way,
            "num_models": len(self.models),
            "num_reg_images": len({name for model in self.models for name in model.registered}),
            "num_missing": len(self.missing.images),
            "num_split": self.missing.num_split,
            **({} if self.score is None else vars(self.score)),
            "seconds": round(self.seconds, 3),
            "is_kept": not reason,
            "reason": reason,
        }


def _best_of(run: Callable[[str, Path | None], _Try]) -> tuple[_Try, tuple[dict[str, Any], ...]]:
    """The best of the ways that are worth trying, and a row for each if there was more than one."""
    kept = run("incremental", None)
    rows = [kept.row("")]
    for way in ("continued", "looser", "global"):
        is_possible = bool(kept.models) if way == "continued" else kept.missing.is_much
        if not kept.missing.is_any or not is_possible:
            continue
        try:
            new = run(way, kept.folder)
        except LgsfmError as exc:  # of a way that need not be: what is there stays
            rows.append(_Try(way, []).row(f"failed: {exc}"))
            continue
        assert new.score is not None
        assert kept.score is not None
        reason = objection(new.score, kept.score)
        rows.append(new.row(reason))
        if not reason:
            rows = [
                {**row, "is_kept": False, "reason": row["reason"] or f"{new.way}: more photos stand firm"}
                for row in rows
            ]
            rows[-1] = new.row("")
            kept = new
    return kept, tuple(rows) if len(rows) > 1 else ()


def mapping_notes(options: MappingOptions, models: Sequence[ModelSummary]) -> list[str]:
    """Lines for people about how the models were made."""
    return [note for note in (mapping_note(models), principal_point_note(options, models)) if note]


def mapping_note(models: Sequence[ModelSummary]) -> str:
    """What people should hear of the ways that were tried and of a snapshot that was gone on from, else ""."""
    if not models:
        return ""
    if models[0].resumed_from and not models[0].attempts:
        return f"Mapping went on from a model of {models[0].resumed_from} photos that a stopped run had left."
    if not models[0].attempts:
        return ""
    first, *others = models[0].attempts
    (kept,) = (row for row in models[0].attempts if row["is_kept"])
    lack = f"left out {_photos(first['num_missing'])} that matches tie to others" if first["num_missing"] else ""
    split = "gave several models of photos that hang together" if first["num_split"] else ""
    if kept is first:
        outcome = "No other way was better: " + ", ".join(f"{row['way']} ({row['reason']})" for row in others)
    else:
        outcome = f"Kept is {kept['way']}, with {kept['num_reg_images']} photos instead of {first['num_reg_images']}"
    return f"Mapping: incremental {' and '.join(filter(None, (lack, split)))}. {outcome}."


def _photos(count: int) -> str:
    return f"{count} photo{'s' if count != 1 else ''}"


def _large_enough(models: list[ModelSummary], least: int) -> list[ModelSummary]:
    """The models of at least so many images."""
    kept = [model for model in models if model.num_reg_images >= least]
    if models and not kept:
        raise ReconstructionError(
            f"No model: {len(models)} {'was' if len(models) == 1 else 'were'} found, the largest of "
            f"{models[0].num_reg_images} images, which is smaller than --min-model-size {least}. Lower it to get "
            f"{'it' if len(models) == 1 else 'them'}."
        )
    return kept


def pycolmap_version() -> str:
    """As the library says, not its wheel, which goes by several names (pycolmap-cuda12)."""
    return str(pycolmap.__version__)


def principal_point_note(options: MappingOptions, models: Sequence[ModelSummary]) -> str:
    """What a user who asked for refined principal points must hear if there are none, else ""."""
    if options.principal_point != "refined" or not models or models[0].principal_points_refined:
        return ""
    return (
        "Principal points: none refined, though asked for: that takes a camera model that has one and at least "
        f"{MIN_IMAGES} registered photos of one camera."
    )
