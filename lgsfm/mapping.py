"""Stage 5: database -> COLMAP models, the best one first."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pycolmap

from .child import run_in_child
from .errors import CacheError, ReconstructionError
from .options import Options, option
from .principal_point import MIN_IMAGES, refine_principal_points, shift
from .types import Progress

__all__ = [
    "MAPPERS",
    "MappingOptions",
    "ModelSummary",
    "map_database",
    "principal_point_note",
    "replace_models",
    "summarize_model",
]

MAPPERS = ("incremental", "global", "hierarchical")
PRINCIPAL_POINTS = ("auto", "fixed", "refined")


@dataclass(frozen=True, kw_only=True)
class MappingOptions(Options):
    """How models are made from verified matches."""

    mapper: str = option("incremental", "COLMAP's mapper", choices=MAPPERS)
    min_model_size: int = option(3, "models with fewer images are dropped", minimum=2)
    seed: int = option(
        0, "of the random numbers; -1 for a new one each time; the mapper is exact only with --threads 1", minimum=-1
    )
    threads: int = option(-1, "CPU threads of the networks and of the mapper; -1 takes all cores", minimum=-1)
    principal_point: str = option(
        "auto", "auto: refined where the photos determine it; fixed: at the centre; refined", choices=PRINCIPAL_POINTS
    )


@dataclass(frozen=True)
class ModelSummary:
    """One model in figures."""

    path: str  # of its folder, relative to the folder of all models
    num_reg_images: int
    num_points3D: int  # noqa: N815 - COLMAP's name
    mean_track_length: float  # images per point
    mean_reprojection_error_px: float
    principal_points_refined: int  # cameras whose principal point is not at the centre
    registered: tuple[str, ...]  # image names


def map_database(
    database: Path,
    image_dir: Path,
    output: Path,
    options: MappingOptions | None = None,
    *,
    log_path: Path,
    progress: Progress | None = None,
) -> list[ModelSummary]:
    """Makes models in a child process and puts them into ``output`` as 0, 1, ..., the one with most images first.

    Args:
        database: from `lgsfm.database.build_database`.
        image_dir: for the colours of the points.
        output: folder of the models; those that it held before are replaced once there are new models and they are
            whole. Whatever else lies there is kept.
        options: see `MappingOptions`.
        log_path: COLMAP's output is appended here.
        progress: called with (registered images, all images).

    Returns:
        The models, the best one first; empty if no image pair could be a start.

    Raises:
        ReconstructionError: COLMAP failed, or all models are smaller than ``min_model_size``.
        CacheError: a folder cannot be written.
    """
    output = Path(output)
    partial, before = output.with_name(f"{output.name}.partial"), output.with_name(f"{output.name}.before")
    try:
        if before.exists():  # a run was killed while it replaced the models
            _settle(before, output)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as exc:
        raise CacheError(f"{partial} cannot be made: {exc.strerror}. Check the folder and the disk space.") from exc
    arguments = {
        "database": str(database),
        "image_dir": str(image_dir),
        "output": str(partial),
        "options": (options or MappingOptions()).to_dict(),
    }
    found = run_in_child("lgsfm.mapping:map_in_child", arguments, log_path, progress=progress)
    if found:
        replace_models(partial, output)
    else:
        shutil.rmtree(partial)
    return [ModelSummary(**{**model, "registered": tuple(model["registered"])}) for model in found]


def replace_models(new: Path, old: Path) -> None:
    """Puts a folder of models in the place of another; one of the two is whole at any moment.

    Raises:
        CacheError: a folder cannot be renamed.
    """
    aside = old.with_name(f"{old.name}.before")
    try:
        if old.exists():
            old.rename(aside)
        new.rename(old)
        _settle(aside, old)
    except OSError as exc:
        raise CacheError(f"{old} cannot be replaced by {new}: {exc.strerror}. Check its permissions.") from exc


def _settle(aside: Path, output: Path) -> None:
    """Takes from the folder of old models what is not ours, and deletes the rest; without new models it comes back."""
    if not output.exists() and aside.exists():
        aside.rename(output)
    for path in sorted(aside.iterdir()) if aside.exists() else ():
        is_model = path.name.isdecimal() and any(path.glob("cameras.*"))
        if not is_model and not (output / path.name).exists():
            path.rename(output / path.name)
    shutil.rmtree(aside, ignore_errors=True)


def map_in_child(
    *, database: str, image_dir: str, output: str, options: dict[str, Any], report: Progress
) -> list[dict[str, Any]]:
    """`map_database` inside the child process: writes numbered models into ``output``, the best one first."""
    wanted = MappingOptions.from_dict(options)
    work = Path(output) / "work"
    try:
        work.mkdir()
        models = list(_run_mapper(Path(database), Path(image_dir), work, wanted, report).values())
    except OSError as exc:
        raise _unwritable(work, exc) from exc
    except Exception as exc:
        raise ReconstructionError(f"The {wanted.mapper} mapper failed: {exc}") from exc
    models = _large_enough(models, min(wanted.min_model_size, _num_images(Path(database))))
    if wanted.principal_point != "fixed":
        is_forced = wanted.principal_point == "refined"
        models = [refine_principal_points(model, is_forced=is_forced, threads=wanted.threads) for model in models]
    try:
        shutil.rmtree(work)
        for i, model in enumerate(models):
            folder = Path(output) / str(i)
            folder.mkdir()
            model.write(folder)
    except (OSError, RuntimeError, ValueError) as exc:  # the last two are COLMAP's
        raise _unwritable(Path(output), exc) from exc
    return [asdict(summarize_model(model, str(i))) for i, model in enumerate(models)]


def _large_enough(models: list[pycolmap.Reconstruction], least: int) -> list[pycolmap.Reconstruction]:
    """The models of at least so many images, the best one first."""
    models = sorted(models, key=lambda model: (-model.num_reg_images(), -model.num_points3D()))
    kept = [model for model in models if model.num_reg_images() >= least]
    sizes = [model.num_reg_images() for model in models if model.num_reg_images() > 1]
    if sizes and not kept:
        raise ReconstructionError(
            f"No model: {len(sizes)} {'was' if len(sizes) == 1 else 'were'} found, the largest of {sizes[0]} images, "
            f"which is smaller than --min-model-size {least}. Lower it to get "
            f"{'it' if len(sizes) == 1 else 'them'}."
        )
    return kept


def _unwritable(path: Path, exc: Exception) -> CacheError:
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc).partition("\n")[0]
    return CacheError(f"{path} cannot be written: {reason}. Check the folder and the disk space.")


def principal_point_note(options: MappingOptions, models: Sequence[ModelSummary]) -> str:
    """What a user who asked for refined principal points must hear if there are none, else ""."""
    if options.principal_point != "refined" or not models or models[0].principal_points_refined:
        return ""
    return (
        "Principal points: none refined, though asked for: that takes a camera model that has one and at least "
        f"{MIN_IMAGES} registered photos of one camera."
    )


def _run_mapper(
    database: Path, image_dir: Path, work: Path, wanted: MappingOptions, report: Progress
) -> dict[int, pycolmap.Reconstruction]:
    if wanted.mapper == "global":  # it drops small models silently; we tell of them
        options = pycolmap.GlobalPipelineOptions(random_seed=wanted.seed, min_model_size=2, num_threads=wanted.threads)
        options.image_path = str(image_dir)
        return pycolmap.global_mapping(database, image_dir, work, options)
    incremental = pycolmap.IncrementalPipelineOptions(
        random_seed=wanted.seed, min_model_size=wanted.min_model_size, num_threads=wanted.threads
    )
    if wanted.mapper == "hierarchical":
        return pycolmap.hierarchical_mapping(
            database, image_dir, work, pycolmap.HierarchicalPipelineOptions(incremental_options=incremental)
        )
    total = _num_images(database)
    registered = 0

    def count(first: int) -> None:
        nonlocal registered
        registered = min(registered + first, total)
        report(registered, total)

    return pycolmap.incremental_mapping(
        database,
        image_dir,
        work,
        incremental,
        initial_image_pair_callback=lambda: count(2),
        next_image_callback=lambda: count(1),
    )


def _num_images(database: Path) -> int:
    handle = pycolmap.Database.open(database)
    try:
        return handle.num_images()
    finally:
        handle.close()


def summarize_model(model: pycolmap.Reconstruction, path: str) -> ModelSummary:
    """A model in figures."""
    return ModelSummary(
        path=path,
        num_reg_images=model.num_reg_images(),
        num_points3D=model.num_points3D(),
        mean_track_length=round(model.compute_mean_track_length(), 4),
        mean_reprojection_error_px=round(model.compute_mean_reprojection_error(), 4),
        principal_points_refined=sum(shift(camera) > 1e-9 for camera in model.cameras.values()),
        registered=tuple(sorted(image.name for image in model.images.values() if image.has_pose)),
    )
