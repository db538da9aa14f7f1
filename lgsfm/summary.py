"""What came out of a run: the content of ``summary.json``."""

from __future__ import annotations

import dataclasses
import platform
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

from . import __version__
from .camera_groups import CameraOptions
from .diagnosis import Diagnosis, Evidence, Split, diagnose, diagnose_splits
from .files import misfits, read_json, write_json
from .mapping import ModelSummary, pycolmap_version
from .records import SUMMARY_ROWS, names_a_path
from .settings import Settings

__all__ = ["MODEL_FIELDS", "Summary", "Tally", "misfits_of_summary", "read_summary"]

STAGES = ("extract", "pairs", "match", "finer", "database", "map")
MODEL_FIELDS = (  # what is said of the models in sparse/
    "best_model",
    "diagnoses",
    "look_alikes",
    "mapper",
    "mean_reprojection_error_px",
    "mean_track_length",
    "models",
    "num_points3D",
    "num_reg_images",
    "splits",
    "unregistered",
)


@dataclass
class Summary:
    """What came out of a run, stage by stage."""

    image_dir: str
    output: str
    num_images: int = 0
    num_reg_images: int = 0  # of the best model
    num_points3D: int = 0  # noqa: N815 - COLMAP's name; of the best model
    mean_track_length: float = 0.0  # images per point, of the best model
    mean_reprojection_error_px: float = 0.0  # of the best model
    best_model: str | None = None  # relative to the output folder
    models: list[dict[str, Any]] = field(default_factory=list)
    unregistered: list[str] = field(default_factory=list)  # images that are not in the best model
    diagnoses: list[dict[str, Any]] = field(default_factory=list)  # of each of them, see `lgsfm.diagnosis.Diagnosis`
    look_alikes: list[str] = field(default_factory=list)  # pairs that seem to mix up places that look alike, in words
    splits: list[dict[str, Any]] = field(default_factory=list)  # of each further model, see `lgsfm.diagnosis.Split`
    failed_images: dict[str, str] = field(default_factory=dict)  # unusable photo -> reason
    masked_out: list[str] = field(default_factory=list)  # photos whose masks leave no keypoint
    turned_deg: dict[str, int] = field(
        default_factory=dict
    )  # photo -> clockwise turn that made it upright, beyond EXIF
    features: str = ""
    features_reason: str = ""
    matcher: str = ""
    mapper: str = ""
    num_pairs: int = 0  # with matches
    num_pairs_verified: int = 0
    cameras: list[dict[str, Any]] = field(default_factory=list)
    reused: dict[str, int] = field(default_factory=dict)  # entries found finished, per stage
    computed: dict[str, int] = field(default_factory=dict)  # entries made, per stage
    weights: list[dict[str, Any]] = field(default_factory=list)  # files with sha256 and licence
    seconds: dict[str, float] = field(default_factory=dict)  # per stage and in all
    versions: dict[str, str] = field(default_factory=dict)
    finished: str = ""  # ISO 8601, local time

    def adopt(self, path: Path, names: Sequence[str] | None = None) -> None:
        """Takes over what an earlier command wrote: of the fields named, by default of all but those of the folders."""
        known = read_summary(path)
        for item in dataclasses.fields(self):
            is_wanted = item.name not in ("image_dir", "output", "num_images") if names is None else item.name in names
            if is_wanted and item.name in known:
                setattr(self, item.name, known[item.name])

    def set_models(self, models: Sequence[ModelSummary], names: Sequence[str]) -> None:
        """Notes the models, the best one first, and which of the images are not in it."""
        rows = [{**dataclasses.asdict(model), "path": f"sparse/{model.path}"} for model in models]
        self.models = [{key: value for key, value in row.items() if key != "registered"} for row in rows]
        best = self.models[0] if models else {}
        self.best_model = best.get("path")
        self.num_reg_images, self.num_points3D = best.get("num_reg_images", 0), best.get("num_points3D", 0)
        self.mean_track_length = best.get("mean_track_length", 0.0)
        self.mean_reprojection_error_px = best.get("mean_reprojection_error_px", 0.0)
        registered = set(models[0].registered) if models else set()
        self.unregistered = [name for name in names if name not in registered]

    def set_diagnosis(self, evidence: Evidence) -> None:
        """Notes why images are not in the best model, and why there are others."""
        self.diagnoses = [dataclasses.asdict(found) for found in diagnose(evidence)]
        self.splits = [dataclasses.asdict(found) for found in diagnose_splits(evidence)]

    def no_model(self, settings: Settings, log: Path, *, is_model_there: bool) -> str:
        """Why there is no model, and what may help."""
        model = settings.cameras.camera_model
        if self.num_pairs == 0:
            cause = "no pair of them has any matches"
            advice = "The photos may not overlap, or the pairs (--pairs) be the wrong ones"
        elif self.num_pairs_verified == 0:
            cause = f"none of the {self.num_pairs} matched pairs passed geometric verification"
            advice = "The photos may not overlap, or show too little texture"
        else:
            cause = f"none of the {self.num_pairs_verified} verified pairs was a good start"
            few = ", or be too few: two hardly ever make a model" if self.num_images < 4 else ", or show several places"
            advice = f"The photos may have been taken from one spot{few}"
        if self.num_pairs and model != CameraOptions().camera_model:
            advice += f", or not be of a camera of the model {model}"
        before = " The models of an earlier run are still there." if is_model_there else ""
        return (
            f"No model of the {self.num_images} images: {cause}. {advice}. More keypoints may help "
            f"(--quality high).{before} `lgsfm doctor {self.output}` tells of each photo; COLMAP's log is {log}."
        )

    def set_seconds(self, stage: str, seconds: float) -> None:
        """Notes the duration of a stage and the new total, which comes last."""
        known = {**self.seconds, stage: round(seconds, 3)}
        stages = {name: known[name] for name in STAGES if name in known}
        self.seconds = {**stages, "total": round(sum(stages.values()), 3)}

    def finish(self, components: Sequence[Any]) -> None:
        """Notes when a stage ended, what is installed, and the weights of the components that were used, if any."""
        self.versions = {"lgsfm": __version__, "pycolmap": pycolmap_version()}
        self.versions |= {name: version(name) for name in ("torch", "numpy", "h5py")}
        self.versions["python"] = platform.python_version()
        self.finished = datetime.now().astimezone().isoformat(timespec="seconds")
        if components:
            files = [getattr(component, "weight_file", None) for component in components]
            self.weights = [
                {"name": file.spec.name, "sha256": file.sha256, "licence": file.spec.licence} for file in files if file
            ]

    def write(self, path: Path) -> None:
        """Writes ``summary.json``. Raises `CacheError` if that fails."""
        write_json(path, dataclasses.asdict(self), is_checked=True)


def read_summary(path: Path) -> dict[str, Any]:
    """What a ``summary.json`` says, by the names of the fields of `Summary`; {} if there is none.

    What is damaged of it, or of another version, is left out.
    """
    known = read_json(path)
    hints, damaged = get_type_hints(Summary), misfits_of_summary(known)
    return {name: value for name, value in known.items() if name in hints and name not in damaged}


def misfits_of_summary(known: Mapping[str, Any]) -> list[str]:
    """The names of those fields that nobody can use."""
    rows = {"diagnoses": list[Diagnosis], "splits": list[Split], **SUMMARY_ROWS}
    wrong = misfits(known, {**get_type_hints(Summary), **rows})
    folder = known.get("image_dir")
    return [*wrong, "image_dir"] if isinstance(folder, str) and not names_a_path(folder) else wrong


class Tally:
    """What the stages of one run did: added up, since a run in rounds calls a stage more than once."""

    def __init__(self) -> None:
        self._computed: defaultdict[str, set[Hashable]] = defaultdict(set)
        self._reused: defaultdict[str, set[Hashable]] = defaultdict(set)
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def count(self, stage: str, computed: Iterable[Hashable], reused: Iterable[Hashable]) -> tuple[int, int]:
        """How many entries the stage has made and found finished so far; what it made itself is not reused."""
        self._computed[stage].update(computed)
        self._reused[stage].update(reused)
        return len(self._computed[stage]), len(self._reused[stage] - self._computed[stage])

    def seconds_each(self, stage: str) -> float:
        """How long the stage took for each entry that it made; 0 if it made none."""
        made = len(self._computed[stage])
        return self._seconds[stage] / made if made else 0.0

    def add_seconds(self, stage: str, seconds: float) -> float:
        """How long the stage has taken so far."""
        self._seconds[stage] += seconds
        return self._seconds[stage]
