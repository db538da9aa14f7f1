"""From photos to a model: the stages in order, and where each leaves its result.

OUT/features-<extractor>-<hash>.h5    hash of extractor, options, weights
OUT/pairs.txt                         one pair per line
OUT/matches-<matcher>-<hash>.h5       hash of matcher, options, weights, features
OUT/database.db  database.json        verified matches; what they were made of
OUT/sparse/0, 1, ...                  models, the best one first
OUT/summary.json  options.json        what came out, what was asked for
OUT/colmap.log                        what COLMAP printed
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .database import CameraGroup, DatabaseReport, build_database, group_cameras
from .errors import CacheError, InputError, ReconstructionError
from .extraction import ExtractionReport, extract_features
from .extractors import Extractor
from .images import list_images
from .mapping import ModelSummary, map_database
from .matchers import Matcher
from .matching import MatchingReport, match_features
from .options import digest
from .pairing import read_pairs, select_pairs, write_pairs
from .settings import Settings, choose_features
from .store import FORMAT, FeatureStore, MatchStore, sources_of
from .types import Pair, Progress

__all__ = ["Observer", "Run", "Summary", "Workspace", "reconstruct"]


class Observer:
    """Told what happens during a run; this one listens to nothing. Override what you want to hear."""

    def say(self, text: str) -> None:
        """One line for people."""

    def progress(self, stage: str) -> Progress | None:
        """The callback (done, total) for the items of a stage, or None."""
        return None


@dataclass(frozen=True)
class Workspace:
    """The output folder and the names in it."""

    root: Path

    @classmethod
    def open(cls, root: Path, image_dir: Path) -> Workspace:
        """Makes the folder.

        Raises:
            InputError: it is the image folder, cannot be written, or holds another program's reconstruction.
        """
        root = Path(root)
        if root.resolve() == Path(image_dir).resolve():
            raise InputError(f"The output folder {root} is the image folder. Choose another with -o.")
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise InputError(f"The output folder {root} cannot be made: {exc.strerror}. Choose another.") from exc
        if not os.access(root, os.W_OK):
            raise InputError(f"The output folder {root} may not be written to. Choose another with -o.")
        workspace = cls(root)
        foreign = [path.name for path in (workspace.database, workspace.sparse) if path.exists()]
        if foreign and not workspace.options.exists():
            raise InputError(
                f"The output folder {root} holds {' and '.join(foreign)} of another program, which would be "
                "overwritten. Choose another folder with -o."
            )
        return workspace

    @property
    def pairs(self) -> Path:
        """The pairs that are matched."""
        return self.root / "pairs.txt"

    @property
    def database(self) -> Path:
        """COLMAP's database."""
        return self.root / "database.db"

    @property
    def database_identity(self) -> Path:
        """What the database was made of."""
        return self.root / "database.json"

    @property
    def sparse(self) -> Path:
        """The models."""
        return self.root / "sparse"

    @property
    def summary(self) -> Path:
        """What came out."""
        return self.root / "summary.json"

    @property
    def options(self) -> Path:
        """What was asked for."""
        return self.root / "options.json"

    @property
    def log(self) -> Path:
        """COLMAP's output."""
        return self.root / "colmap.log"

    def features(self, identity: Mapping[str, Any]) -> Path:
        """The features that an extractor of this identity makes."""
        return self.root / f"features-{identity['extractor']}-{digest({'format': FORMAT, **identity})}.h5"

    def matches(self, identity: Mapping[str, Any], features: Path) -> Path:
        """The matches that a matcher of this identity makes of these features."""
        return self.root / f"matches-{identity['matcher']}-{digest({'features': features.name, **identity})}.h5"

    def recorded_flags(self) -> dict[str, Any]:
        """The flags of the last run, {} if there was none."""
        return dict(_read_json(self.options).get("flags", {}))


@dataclass
class Summary:
    """What came out of a run; written as ``summary.json``."""

    image_dir: str
    output: str
    num_images: int = 0
    num_reg_images: int = 0  # of the best model
    num_points3D: int = 0  # noqa: N815 - COLMAP's name; of the best model
    mean_track_length: float = 0.0
    mean_reprojection_error_px: float = 0.0
    best_model: str | None = None  # relative to the output folder
    models: list[dict[str, Any]] = field(default_factory=list)
    unregistered: list[str] = field(default_factory=list)  # images that are not in the best model
    failed_images: dict[str, str] = field(default_factory=dict)  # unusable photo -> reason
    features: str = ""
    features_reason: str = ""
    matcher: str = ""
    mapper: str = ""
    num_pairs: int = 0
    num_pairs_verified: int = 0
    cameras: list[dict[str, Any]] = field(default_factory=list)
    reused: dict[str, int] = field(default_factory=dict)  # entries found finished, per stage
    computed: dict[str, int] = field(default_factory=dict)  # entries made by this run, per stage
    weights: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # per stage and in all
    versions: dict[str, str] = field(default_factory=dict)
    finished: str = ""  # ISO 8601, local time


class Run:
    """One run over one folder of photos: each method is a stage, reuses what is finished, and may be called alone.

    Args:
        image_dir: folder of photos.
        output: folder of the results; None means beside the photos, ``images-lgsfm`` for ``images``.
        settings: all choices.
        observer: told what happens.
    """

    def __init__(
        self, image_dir: Path, output: Path | None, settings: Settings, observer: Observer | None = None
    ) -> None:
        self.image_dir = Path(image_dir)
        self.names = list_images(self.image_dir)
        if len(self.names) < 2:
            raise InputError(f"{self.image_dir} holds one image, {self.names[0]}. A reconstruction needs at least two.")
        self.settings = settings
        self.observer = observer or Observer()
        self.workspace = Workspace.open(output or default_output(self.image_dir), self.image_dir)
        self.summary = Summary(str(self.image_dir), str(self.workspace.root), num_images=len(self.names))
        self.summary.mapper = settings.mapping.mapper
        settings.pairs.methods(len(self.names))  # a bad choice shows before the work, not after it

    # ---------------------------------------------------------------------------- components
    @cached_property
    def extractor(self) -> Extractor:
        """The chosen extractor; its weights are fetched here."""
        name, reason = choose_features(self.settings.run)
        self.observer.say(f"Features: {name} ({reason}).")
        self.summary.features, self.summary.features_reason = name, reason
        extractor = self.settings.make_extractor(name, progress=self.observer.progress("weights"))
        self._record_weights(extractor)
        return extractor

    @cached_property
    def matcher(self) -> Matcher:
        """The chosen matcher; its weights are fetched here."""
        matcher = self.settings.make_matcher(
            self.settings.run.matcher, self.extractor, progress=self.observer.progress("weights")
        )
        self.summary.matcher = str(matcher.identity["matcher"])
        self._record_weights(matcher)
        return matcher

    @property
    def features_path(self) -> Path:
        """The feature store of this run."""
        return self.workspace.features(self.extractor.identity)

    @property
    def matches_path(self) -> Path:
        """The match store of this run."""
        return self.workspace.matches(self.matcher.identity, self.features_path)

    # ---------------------------------------------------------------------------- stages
    def extract(self) -> ExtractionReport:
        """Stage 1: features of all images."""
        identity = self.extractor.identity
        self._write_options()
        with self._timed("extract"), FeatureStore(self.features_path, identity) as store:
            report = extract_features(
                self.image_dir,
                self.names,
                self.extractor,
                store,
                is_strict=self.settings.run.strict,
                progress=self.observer.progress("extract"),
            )
        self._count("extract", report.computed, report.reused)
        self.summary.failed_images = report.failed
        for name, reason in report.failed.items():
            self.observer.say(f"Skipped {name}: {reason}")
        if len(report.computed) + len(report.reused) < 2:
            raise InputError(
                f"Only one photo in {self.image_dir} can be used. A reconstruction needs at least two. "
                f"Skipped: {', '.join(report.failed)}."
            )
        return report

    def select_pairs(self) -> list[Pair]:
        """Stage 2: the pairs to match."""
        with self._timed("pairs"):
            methods = self.settings.pairs.methods(len(self.names))
            if "retrieval" in methods:
                retriever = self.settings.make_retriever()
                with self._finished_features() as features:
                    pairs = select_pairs(self.names, self.settings.pairs, features=features, retriever=retriever)
            else:
                pairs = select_pairs(self.names, self.settings.pairs)
            write_pairs(self.workspace.pairs, pairs)
        self.observer.say(f"Pairs: {len(pairs)} ({' + '.join(methods)}).")
        return pairs

    def match(self, pairs: list[Pair] | None = None) -> MatchingReport:
        """Stage 3: matches of the pairs; by default of those that stage 2 wrote."""
        pairs = self._selected_pairs() if pairs is None else pairs
        matcher = self.matcher
        self._write_options()
        with (
            self._timed("match"),
            self._finished_features() as features,
            MatchStore(self.matches_path, matcher.identity) as store,
        ):
            report = match_features(features, pairs, matcher, store, progress=self.observer.progress("match"))
        self._count("match", report.computed, report.reused)
        return report

    def build_database(self, pairs: list[Pair] | None = None) -> DatabaseReport:
        """Stage 4: COLMAP database with verified matches; an existing one of the same content is kept."""
        pairs = self._selected_pairs() if pairs is None else pairs
        options = self.settings.cameras
        with (
            self._timed("database"),
            self._finished_features() as features,
            self._finished_matches() as matches,
        ):
            names = [name for name in self.names if name in features]
            pairs = [pair for pair in pairs if pair in matches and pair[0] in features and pair[1] in features]
            groups = group_cameras(self.image_dir, names, options)
            self.summary.cameras = [_camera_row(group, options.camera_model) for group in groups]
            identity = digest(
                {
                    "features": self.features_path.name,
                    "matches": self.matches_path.name,
                    "images": [(name, sources_of(features, name)) for name in names],
                    "pairs": [(*pair, *sources_of(matches, pair)) for pair in pairs],
                    "cameras": self.summary.cameras,
                    "verification": self.settings.verification.to_dict(),
                }
            )
            known = _read_json(self.workspace.database_identity)
            is_reused = known.get("identity") == identity and self.workspace.database.is_file()
            if is_reused:
                report = DatabaseReport(**known["report"])
            else:
                self.workspace.database_identity.unlink(missing_ok=True)
                report = build_database(
                    self.workspace.database,
                    features,
                    matches,
                    pairs,
                    groups,
                    camera_model=options.camera_model,
                    verification=self.settings.verification,
                    log_path=self.workspace.log,
                )
                _write_json(self.workspace.database_identity, {"identity": identity, "report": asdict(report)})
        self._count("database", [] if is_reused else pairs, pairs if is_reused else [])
        self._summarize_database(report)
        return report

    def map(self) -> list[ModelSummary]:
        """Stage 5: models, the best one first.

        Raises:
            ReconstructionError: there is no model; ``summary.json`` is written all the same.
        """
        if not self.workspace.database_identity.is_file():
            raise InputError(f"There is no finished database in {self.workspace.root}. Run `lgsfm database`.")
        self.extractor, self.matcher  # noqa: B018 - for the summary
        self._summarize_database(DatabaseReport(**_read_json(self.workspace.database_identity)["report"]))
        with self._timed("map"):
            models = map_database(
                self.workspace.database,
                self.image_dir,
                self.workspace.sparse,
                self.settings.mapping,
                log_path=self.workspace.log,
                progress=self.observer.progress("map"),
            )
        self._summarize(models)
        if not models:
            raise ReconstructionError(
                f"No model: none of the {self.summary.num_pairs_verified} verified pairs of "
                f"{self.summary.num_images} images was a good start. The photos may not overlap, may be taken from "
                f"one spot, or need more keypoints (--quality high). COLMAP's log is {self.workspace.log}."
            )
        return models

    def reconstruct(self) -> Summary:
        """All stages."""
        self.extractor, self.matcher  # noqa: B018 - fetch all weights before any work
        self.extract()
        pairs = self.select_pairs()
        self.match(pairs)
        self.build_database(pairs)
        self.map()
        return self.summary

    # ---------------------------------------------------------------------------- helpers
    @contextmanager
    def _finished_features(self) -> Iterator[FeatureStore]:
        if not self.features_path.is_file():
            raise InputError(f"There are no features in {self.workspace.root} for these options. Run `lgsfm extract`.")
        with FeatureStore(self.features_path) as store:
            yield store

    @contextmanager
    def _finished_matches(self) -> Iterator[MatchStore]:
        if not self.matches_path.is_file():
            raise InputError(f"There are no matches in {self.workspace.root} for these options. Run `lgsfm match`.")
        with MatchStore(self.matches_path) as store:
            yield store

    def _selected_pairs(self) -> list[Pair]:
        if not self.workspace.pairs.is_file():
            raise InputError(f"There is no {self.workspace.pairs}. Run `lgsfm pairs`.")
        return sorted(set(read_pairs(self.workspace.pairs, self.names)))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.summary.seconds[stage] = round(time.perf_counter() - start, 3)
        self.summary.seconds["total"] = round(sum(v for k, v in self.summary.seconds.items() if k != "total"), 3)

    def _count(self, stage: str, computed: list[Any], reused: list[Any]) -> None:
        self.summary.computed[stage], self.summary.reused[stage] = len(computed), len(reused)

    def _record_weights(self, component: Any) -> None:
        file = getattr(component, "weight_file", None)
        if file is not None:
            row = {"name": file.spec.name, "sha256": file.sha256, "licence": file.spec.licence}
            self.summary.weights.append(row)

    def _write_options(self) -> None:
        components = {"extractor": self.extractor.identity, "matcher": self.matcher.identity}
        settings = self.settings
        stages = {
            name: getattr(settings, name).to_dict() for name in ("run", "pairs", "cameras", "verification", "mapping")
        }
        _write_json(self.workspace.options, {"flags": dict(settings.flags), **components, **stages})

    def _summarize_database(self, report: DatabaseReport) -> None:
        self.summary.num_pairs, self.summary.num_pairs_verified = report.num_pairs, report.num_verified

    def _summarize(self, models: list[ModelSummary]) -> None:
        summary = self.summary
        summary.models = [{**asdict(model), "path": f"sparse/{model.path}"} for model in models]
        for row in summary.models:
            del row["registered"]
        if models:
            best = models[0]
            summary.best_model = f"sparse/{best.path}"
            summary.num_reg_images, summary.num_points3D = best.num_reg_images, best.num_points3D
            summary.mean_track_length = best.mean_track_length
            summary.mean_reprojection_error_px = best.mean_reprojection_error_px
        registered = set(models[0].registered) if models else set()
        summary.unregistered = [name for name in self.names if name not in registered]
        summary.versions = {name: version(name) for name in ("lgsfm", "pycolmap", "torch", "numpy")}
        summary.versions["python"] = platform.python_version()
        summary.finished = datetime.now().astimezone().isoformat(timespec="seconds")
        _write_json(self.workspace.summary, asdict(summary))


def reconstruct(
    image_dir: str | Path, output: str | Path | None = None, *, observer: Observer | None = None, **flags: Any
) -> Summary:
    """From a folder of photos to COLMAP models in ``output/sparse``; goes on where an interrupted run stopped.

    Args:
        image_dir: folder of photos, with sub-folders.
        output: folder of the results; None means beside the photos, ``images-lgsfm`` for ``images``.
        observer: told what happens.
        flags: any option of `lgsfm reconstruct`, for example ``features="aliked"``, ``max_keypoints=1024``,
            ``pairs="sequential"``, ``mapper="global"``.

    Returns:
        What came out; also in ``output/summary.json``.

    Raises:
        InputError: photos or flags are unusable.
        WeightsError: the weights of a network cannot be had.
        ReconstructionError: there is no model.
    """
    folder = None if output is None else Path(output)
    return Run(Path(image_dir), folder, Settings.from_flags(flags), observer).reconstruct()


def default_output(image_dir: Path) -> Path:
    """Beside the photos: ``images-lgsfm`` for ``images``."""
    resolved = image_dir.resolve()
    return resolved.with_name(f"{resolved.name}-lgsfm")


def _camera_row(group: CameraGroup, model: str) -> dict[str, Any]:
    return {
        "model": model,
        "width": group.size[0],
        "height": group.size[1],
        "focal_px": None if group.focal_px is None else round(group.focal_px, 2),
        "label": group.label,
        "num_images": len(group.names),
        "images": list(group.names),
    }


def _read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; {} if it does not exist or is damaged, since all of it can be made again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(path: Path, content: Any) -> None:
    """Writes a JSON file that is either the old or the new one, never half."""
    temporary = path.with_name(f"{path.name}.partial")
    try:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as exc:
        raise CacheError(f"{path} cannot be written: {exc.strerror}. Check the folder and the disk space.") from exc
