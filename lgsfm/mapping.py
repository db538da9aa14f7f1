"""Stage 5: database -> COLMAP models, the best one first."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pycolmap

from .child import run_in_child
from .errors import CacheError, ReconstructionError
from .options import Options, option
from .principal_point import refine_principal_points
from .types import Progress

__all__ = ["MAPPERS", "MappingOptions", "ModelSummary", "map_database", "summarize_model"]

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
    threads: int = option(-1, "of the mapper; -1 takes all cores", minimum=-1)
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
        output: folder of the models; what it held before is replaced once there are new models and they are whole.
        options: see `MappingOptions`.
        log_path: COLMAP's output is appended here.
        progress: called with (registered images, all images).

    Returns:
        The models, the best one first; empty if no image pair could be a start.

    Raises:
        ReconstructionError: COLMAP failed.
    """
    output = Path(output)
    partial = output.with_name(f"{output.name}.partial")
    try:
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
        _replace_folder(partial, output)
    else:
        shutil.rmtree(partial)
    return [ModelSummary(**{**model, "registered": tuple(model["registered"])}) for model in found]


def _replace_folder(new: Path, old: Path) -> None:
    """Puts a folder in the place of another; one of the two is whole at any moment."""
    aside = old.with_name(f"{old.name}.before")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        if old.exists():
            old.rename(aside)
        new.rename(old)
    except OSError as exc:
        raise CacheError(f"{old} cannot be replaced by {new}: {exc.strerror}. Check its permissions.") from exc
    shutil.rmtree(aside, ignore_errors=True)


def map_in_child(
    *, database: str, image_dir: str, output: str, options: dict[str, Any], report: Progress
) -> list[dict[str, Any]]:
    """`map_database` inside the child process: writes numbered models into ``output``, the best one first."""
    wanted = MappingOptions.from_dict(options)
    work = Path(output) / "work"
    work.mkdir()
    try:
        models = list(_run_mapper(Path(database), Path(image_dir), work, wanted, report).values())
    except Exception as exc:
        raise ReconstructionError(f"The {wanted.mapper} mapper failed: {exc}") from exc
    shutil.rmtree(work)
    least = min(wanted.min_model_size, _num_images(Path(database)))
    models = [model for model in models if model.num_reg_images() >= least]
    models.sort(key=lambda model: (-model.num_reg_images(), -model.num_points3D()))
    if wanted.principal_point != "fixed":
        is_forced = wanted.principal_point == "refined"
        models = [refine_principal_points(model, is_forced=is_forced) for model in models]
    summaries = []
    for i, model in enumerate(models):
        folder = Path(output) / str(i)
        folder.mkdir()
        model.write(folder)
        summaries.append(asdict(summarize_model(model, str(i))))
    return summaries


def _run_mapper(
    database: Path, image_dir: Path, work: Path, wanted: MappingOptions, report: Progress
) -> dict[int, pycolmap.Reconstruction]:
    if wanted.mapper == "global":
        options = pycolmap.GlobalPipelineOptions(
            random_seed=wanted.seed, min_model_size=wanted.min_model_size, num_threads=wanted.threads
        )
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
        principal_points_refined=sum(
            abs(camera.principal_point_x - camera.width / 2) + abs(camera.principal_point_y - camera.height / 2) > 1e-6
            for camera in model.cameras.values()
        ),
        registered=tuple(sorted(image.name for image in model.images.values() if image.has_pose)),
    )
