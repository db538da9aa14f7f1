"""COLMAP's mappers, each as one way from a database to models; this runs in the child process."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pycolmap

from ..database_reading import fingerprint, read_verified_pairs
from ..disk import check_free
from ..errors import CacheError, CrashError, InputError, LgsfmError, is_memory_shortage
from ..model_files import write_model
from ..options import Options, digest, option
from ..rigs import rigs_digest
from ..types import Progress
from .choice import MIN_PAIR_INLIERS, Missing, missing_images, score
from .colours import recolour
from .principal_point import refine_principal_points, shift
from .rigged import copy_database, rigged
from .snapshots import SNAPSHOT_IMAGES, Snapshots

__all__ = ["MAPPERS", "WAYS", "MappingOptions", "ModelSummary", "map_in_child", "summarize_model"]

MAPPERS = ("auto", "incremental", "global", "hierarchical")
PRINCIPAL_POINTS = ("auto", "fixed", "refined")
WAYS = {  # beyond the mappers, those that "auto" has; and how people are told
    "continued": "incremental with weaker poses",  # goes on from the best model
    "looser": "incremental with a weaker start",  # and weaker poses
}
LOOSE_POSE_INLIERS = 15  # matches with 3D points for a pose; COLMAP asks for 30
LOOSE_START_INLIERS = 50  # of the first pair; COLMAP asks for 100
LOOSE_START_ANGLE_DEG = 8.0  # between its rays; COLMAP asks for 16


@dataclass(frozen=True, kw_only=True)
class MappingOptions(Options):
    """How models are made from verified matches."""

    mapper: str = option(
        "auto", "COLMAP's mapper; auto: incremental, and where it leaves photos out others", choices=MAPPERS
    )
    min_model_size: int = option(3, "models with fewer images are dropped", minimum=2)
    seed: int = option(
        0, "of the random numbers; -1 for a new one each time; the mapper is exact only with --threads 1", minimum=-1
    )
    threads: int = option(-1, "CPU threads of the networks and of the mapper; -1 takes all cores", minimum=-1)
    principal_point: str = option(
        "auto", "auto: refined where the photos determine it; fixed: at the centre; refined", choices=PRINCIPAL_POINTS
    )
    rig: str = option(
        "",
        "JSON file of cameras that are mounted together (COLMAP's rig_config.json): photos whose names differ only by "
        "the image_prefix of their camera share a pose",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mapper == "hierarchical" and not hasattr(pycolmap, "hierarchical_mapping"):
            raise InputError(
                f"pycolmap {pycolmap.__version__} has no hierarchical mapper: choose another --mapper, or "
                "pip install -U pycolmap."
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
    num_firm_images: int = 0  # of the registered: those whose pose stands firm, see `lgsfm.mapping.choice`
    mapper: str = ""  # the way it was made
    resumed_from: int = 0  # images of the snapshot that a killed run left and this one went on from; 0: from the start
    attempts: tuple[dict[str, Any], ...] = ()  # of the first model: the ways that were tried, with their figures


def map_in_child(
    *,
    database: str,
    image_dir: str,
    output: str,
    options: dict[str, Any],
    report: Progress,
    way: str = "incremental",
    start: str = "",
    snapshots: str = "",
) -> dict[str, Any]:
    """One way from a database to models, inside the child process.

    Args:
        database: COLMAP's.
        image_dir: for the colours of the points.
        output: folder for the models of two images or more: 0, 1, ..., the best one first.
        options: of `MappingOptions`.
        report: called with (registered images, all images).
        way: "incremental", "global", "hierarchical" or one of `WAYS`.
        start: folder of the models that "continued" starts from.
        snapshots: folder of the incremental mapper's snapshots; "" makes none.

    Returns:
        ``models`` (see `ModelSummary`), ``num_images`` of the database, ``way`` in words; with "auto" ``missing``, the
        fields of `Missing`, and where there is a choice to make, ``score``, those of `Score`.
    """
    wanted = MappingOptions.from_dict(options)
    work = Path(output) / "work"
    try:
        work.mkdir(parents=True)
        here = _Mapping(Path(database), Path(image_dir), work, wanted, report)
        models, words = here.run(way, Path(start), Path(snapshots) if snapshots else None)
    except OSError as exc:
        raise _unwritable(work, exc) from exc
    except LgsfmError:
        raise
    except Exception as exc:
        if is_memory_shortage(exc):  # which says nothing about the photos
            raise
        try:
            check_free(work)  # COLMAP has no word for that
        except OSError as full:
            raise _unwritable(work, full) from exc
        # not of the photos: where these make no model, the mappers give none and raise nothing
        raise CrashError(f"The {way} mapper failed: {exc}") from exc
    models = sorted(
        (model for model in models if model.num_reg_images() > 1),
        key=lambda model: (-model.num_reg_images(), -model.num_points3D()),
    )
    if wanted.principal_point != "fixed":
        is_forced = wanted.principal_point == "refined"
        models = [refine_principal_points(model, is_forced=is_forced, threads=wanted.threads) for model in models]
    for model in models:
        recolour(model, Path(image_dir))
    _write(models, Path(output))
    found = [summarize_model(model, str(i)) for i, model in enumerate(models)]
    rows = [asdict(model) | {"mapper": words, "resumed_from": here.resumed_from} for model in found]
    answer: dict[str, Any] = {"models": rows, "num_images": here.num_images, "way": words}
    if wanted.mapper == "auto":
        missing = _missing(here.database, found, min(wanted.min_model_size, here.num_images), here.num_images)
        answer["missing"] = asdict(missing)
        if missing.is_any or way != "incremental":
            answer["score"] = asdict(score(models))
    return answer


def _write(models: list[pycolmap.Reconstruction], output: Path) -> None:
    try:
        shutil.rmtree(output / "work")
        for i, model in enumerate(models):
            folder = output / str(i)
            folder.mkdir()
            write_model(model, folder)
    except OSError as exc:
        raise _unwritable(output, exc) from exc


def _unwritable(path: Path, exc: OSError) -> Exception:
    if is_memory_shortage(exc):
        return MemoryError(exc.strerror)
    return CacheError(f"{path} cannot be written: {exc.strerror or exc}. Check the folder and the disk space.")


def _missing(database: Path, found: list[ModelSummary], least: int, num_images: int) -> Missing:
    """What the models of ``least`` images or more lack; nothing is read where one model holds all."""
    large = [model.registered for model in found if model.num_reg_images >= least]
    if [len(names) for names in large] == [num_images]:
        return Missing((), 0, num_images)
    from ..view_graph import ViewGraph  # not before it is needed, see lgsfm.mapping.choice

    pairs = read_verified_pairs(database)
    strong = {pair: seen for pair, seen in pairs.items() if seen.num_inliers >= MIN_PAIR_INLIERS}
    return missing_images(ViewGraph({name for pair in strong for name in pair}, strong), large, least)


class _Mapping:
    """One database and the ways to map it."""

    def __init__(self, database: Path, image_dir: Path, work: Path, wanted: MappingOptions, report: Progress) -> None:
        self.database, self.image_dir, self.work = database, image_dir, work
        self.wanted, self.report = wanted, report
        self.resumed_from = 0
        handle = pycolmap.Database.open(database)
        try:
            self.num_images = handle.num_images()
            self.is_guessed = any(not camera.has_prior_focal_length for camera in handle.read_all_cameras())
        finally:
            handle.close()

        if wanted.rig:
            self.database = rigged(database, Path(wanted.rig), work / "rigged.db", self.without_rigs)

    def without_rigs(self) -> list[pycolmap.Reconstruction]:
        """Models that heed no rigs; nothing is reported of them."""
        apart = self.work / "apart"
        apart.mkdir()
        return list(pycolmap.incremental_mapping(self.database, self.image_dir, apart, self.options()).values())

    def run(self, way: str, start: Path, snapshots: Path | None) -> tuple[list[pycolmap.Reconstruction], str]:
        """The models, and the way in words."""
        words = WAYS.get(way, way)
        if way == "global":
            return self.globally()
        if way == "hierarchical":
            clusters = pycolmap.HierarchicalPipelineOptions(incremental_options=self.options())
            models = pycolmap.hierarchical_mapping(self.database, self.image_dir, self.work, clusters)
            return list(models.values()), words
        if way == "continued":
            return self.continued(start), words
        options = self.options()
        if way == "looser":
            _weaken_poses(options)
            options.mapper.init_min_num_inliers = LOOSE_START_INLIERS
            options.mapper.init_min_tri_angle = LOOSE_START_ANGLE_DEG
        return (self.with_snapshots(options, snapshots) if snapshots else self.incrementally(options)), words

    def options(self) -> pycolmap.IncrementalPipelineOptions:
        return pycolmap.IncrementalPipelineOptions(
            random_seed=self.wanted.seed, min_model_size=self.wanted.min_model_size, num_threads=self.wanted.threads
        )

    def incrementally(
        self, options: pycolmap.IncrementalPipelineOptions, start: Path | None = None, after_image: Any = None
    ) -> list[pycolmap.Reconstruction]:
        """Models by the incremental mapper, from the start or from the model in a folder."""
        registered = pycolmap.Reconstruction(start).num_reg_images() if start else 0

        def count(first: int) -> None:
            nonlocal registered
            registered = min(registered + first, self.num_images)
            if after_image:
                after_image()
            self.report(registered, self.num_images)

        found = pycolmap.incremental_mapping(
            self.database,
            self.image_dir,
            self.work,
            options,
            input_path=start or "",
            initial_image_pair_callback=lambda: count(2),
            next_image_callback=lambda: count(1),
        )
        return list(found.values())

    def with_snapshots(
        self, options: pycolmap.IncrementalPipelineOptions, folder: Path
    ) -> list[pycolmap.Reconstruction]:
        """The same, from the newest snapshot of a killed run if there is one, and making snapshots."""
        choices = {**self.wanted.to_dict(), "mapper": "incremental"}
        made_of = [fingerprint(self.database), choices, pycolmap.__version__]
        identity = digest([*made_of, rigs_digest(self.wanted.rig)] if self.wanted.rig else made_of)
        snapshots = Snapshots(folder, identity)
        options.snapshot_path, options.snapshot_frames_freq = str(folder), SNAPSHOT_IMAGES
        start = snapshots.newest()
        if start:
            self.resumed_from = pycolmap.Reconstruction(start).num_reg_images()
        return self.incrementally(options, start, snapshots.settle)

    def continued(self, start: Path) -> list[pycolmap.Reconstruction]:
        """The best model of a folder, with those images that weaker poses bring in; and what else lies there."""
        before = [pycolmap.Reconstruction(path) for path in sorted(start.iterdir(), key=lambda path: int(path.name))]
        options = self.options()
        options.multiple_models = False
        _weaken_poses(options)
        models = self.incrementally(options, start / "0")
        held = {image.name for model in models for image in model.images.values() if image.has_pose}
        others = [
            model
            for model in before[1:]
            if not {image.name for image in model.images.values() if image.has_pose} <= held
        ]
        return models + others

    def globally(self) -> tuple[list[pycolmap.Reconstruction], str]:
        """Models by the global mapper; focal lengths that are guesses are calibrated first, in a copy."""
        database, words = self.database, "global"
        if self.is_guessed and hasattr(pycolmap, "calibrate_view_graph"):
            copy = self.work / "database.db"
            copy_database(database, copy)
            # Not estimating the relative poses anew: with 50 photos that took twenty times as long as mapping and gave
            # AUC@5 80.5 instead of 88.2; on collections of ten it made no difference worth that.
            calibration = pycolmap.ViewGraphCalibrationOptions(random_seed=self.wanted.seed)
            calibration.reestimate_relative_pose = False
            if pycolmap.calibrate_view_graph(copy, calibration):
                database, words = copy, "global, calibrated"
        options = pycolmap.GlobalPipelineOptions(random_seed=self.wanted.seed, num_threads=self.wanted.threads)
        # Younger than the oldest pycolmap supported. It drops small models silently; we tell of them.
        for name, value in (("min_model_size", 2), ("image_path", str(self.image_dir))):
            if hasattr(options, name):
                setattr(options, name, value)
        return list(pycolmap.global_mapping(database, self.image_dir, self.work, options).values()), words


def _weaken_poses(options: pycolmap.IncrementalPipelineOptions) -> None:
    options.mapper.abs_pose_min_num_inliers = LOOSE_POSE_INLIERS
    # Poses without any 3D point: with so few matches they take nearly all of the time, and bring in what then sees
    # almost no point (four photos of other landmarks: 49 seconds instead of 0.5, and no photo more that stands firm).
    if hasattr(options, "structure_less_registration_fallback"):  # younger than the oldest pycolmap supported
        options.structure_less_registration_fallback = False


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
        num_firm_images=score([model]).firm_images,
    )
