"""What an output folder tells of a run, as plain data; whatever is missing or damaged is noted and left out."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..database_reading import VerifiedPair, read_verified_pairs
from ..database_record import DatabaseRecord
from ..diagnosis import Diagnosis, Split
from ..doctor import Examination, examine
from ..errors import InputError, LgsfmError
from ..evaluation import Evaluation, evaluate
from ..images import list_images
from ..store import FeatureStore, num_keypoints, orientation_of
from ..summary import read_summary
from ..types import Pair
from ..view_graph import ViewGraph
from ..workspace import Workspace
from .scene import Scene, SceneCamera, read_scene

__all__ = ["Collected", "PhotoRow", "collect", "coverage"]

GRID = 16  # cells along each side of a photo, of which keypoints cover some
DAMAGED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # what files of other versions give
Value = TypeVar("Value")


@dataclass(frozen=True)
class PhotoRow:
    """What became of one photo.

    name: relative to the folder of the photos
    model: the number of the best model that it is in, None if it is in none
    is_open: the run has not come so far that its state could be known
    diagnosis: why it is not in the best model
    keypoints: None where it has no features
    points: 3D points that it sees in its model
    covered: share of the photo, in cells, in which it sees them; of one without a model, None
    error_px: mean reprojection error of these points
    neighbors: photos that a verified pair ties to it
    orientation: EXIF code of its upright view
    """

    name: str
    model: int | None = None
    is_open: bool = False
    diagnosis: Diagnosis | None = None
    keypoints: int | None = None
    points: int = 0
    covered: float | None = None
    error_px: float | None = None
    neighbors: int = 0
    orientation: int = 1

    @property
    def state(self) -> str:
        """In one word: registered, other (in another model), open or failed."""
        if self.model == 0:
            return "registered"
        if self.model is not None:
            return "other"
        return "open" if self.is_open and self.diagnosis is None else "failed"


@dataclass(frozen=True)
class Collected:
    """All that the report tells.

    output, image_dir: folders of the run and of its photos, which may be gone
    summary, options: what the run wrote
    photos: all of them, sorted by name
    scenes: of the models, the best one first
    pairs: of the matched pairs, what verification made of them
    graph: of the photos with features
    doubtful: verified pairs that were left out, as they seem to mix up places that look alike
    examination: the doctor's
    evaluation: against the reference, if there is one
    reference: its name
    notes: what is missing, in words
    """

    output: Path
    image_dir: Path
    summary: dict[str, Any]
    options: dict[str, Any]
    photos: list[PhotoRow]
    scenes: list[Scene]
    pairs: dict[Pair, VerifiedPair]
    graph: ViewGraph
    doubtful: list[Pair] = field(default_factory=list)
    examination: Examination | None = None
    evaluation: Evaluation | None = None
    reference: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def workspace(self) -> Workspace:
        """The output folder and the names in it."""
        return Workspace(self.output)

    @property
    def features_path(self) -> Path | None:
        """The features that the database was made of; None if nothing was extracted."""
        return self.workspace.features(self.options["extractor"]) if "extractor" in self.options else None

    @property
    def matches_path(self) -> Path | None:
        """The matches that the database was made of; None if nothing was matched."""
        if self.features_path is None or "matcher" not in self.options:
            return None
        return self.workspace.matches(self.options["matcher"], self.features_path)


class _Notes(list[str]):
    """What went wrong where, while the rest goes on."""

    def attempt(self, what: str, read: Callable[[], Value]) -> Value | None:
        try:
            return read()
        except LgsfmError as exc:
            self.append(f"{what}: {exc}")
        except DAMAGED as exc:
            self.append(f"{what}: a file of the run is damaged ({type(exc).__name__}: {exc}). Run it again.")
        return None


def collect(output: Path, reference: Path | None = None, image_dir: Path | None = None) -> Collected:
    """Everything that an output folder tells.

    Args:
        output: folder of a run, finished or not.
        reference: COLMAP model or text file of poses to compare with.
        image_dir: of the photos; None means where they were.

    Raises:
        InputError: the folder is no output folder of lgsfm, its best model cannot be read, or the reference cannot be
            used.
    """
    workspace = Workspace.of_run(output)
    summary, options = read_summary(workspace.summary), workspace.read_options()
    record = DatabaseRecord.read(workspace.database_identity)
    options |= record.made  # what the database was made with; a later command may have had other options
    notes = _Notes()
    photo_dir = image_dir or workspace.recorded_image_dir()
    if not photo_dir.is_dir():
        notes.append(f"Photos: the folder '{photo_dir}' is not there, so there are no pictures. Name it: --images DIR.")
    scenes = _scenes(workspace, notes)
    if reference and not scenes:
        notes.append("Reference: there is no model to compare with it.")
    examination = notes.attempt("Diagnosis", lambda: examine(output)) or _noted_examination(summary)
    pairs = notes.attempt("Pairs", lambda: _pairs(workspace)) or {}
    rows = notes.attempt("Features", lambda: _with_features(workspace, options)) or {}
    names = _names(summary, scenes, examination, rows, photo_dir)
    graph = ViewGraph((name for name in names if rows.get(name, (0, 1))[0] or not rows), pairs)
    return Collected(
        output=output,
        image_dir=photo_dir,
        summary=summary,
        options=options,
        photos=_photos(names, scenes, examination, rows, graph),
        scenes=scenes,
        pairs={pair: found for pair, found in pairs.items() if set(pair) <= set(graph.names)},
        graph=graph,
        doubtful=[(first, second) for first, second in record.dropped],
        examination=examination,
        evaluation=evaluate(workspace.sparse / "0", reference) if reference and scenes else None,
        reference=str(reference or ""),
        notes=notes,
    )


def _noted_examination(summary: Mapping[str, Any]) -> Examination | None:
    """What was found at the end of the run; None if that is not known, or was noted by another version."""
    try:
        diagnoses = [Diagnosis(**row) for row in summary["diagnoses"]]
        splits = [Split(**row) for row in summary["splits"]]
        return Examination(summary["num_images"], summary["num_reg_images"], diagnoses, splits)
    except (KeyError, TypeError):
        return None


def _scenes(workspace: Workspace, notes: _Notes) -> list[Scene]:
    """The models 0, 1, ... up to the first that cannot be read.

    Raises:
        InputError: that is the best one, without which a report tells less than the one of before.
    """
    scenes: list[Scene] = []
    while (folder := workspace.sparse / str(len(scenes))).is_dir():
        scene = notes.attempt("Models", partial(read_scene, folder))
        if scene is None and not scenes:
            raise InputError(
                f"{notes.pop().removeprefix('Models: ')} `lgsfm cache repair {shlex.quote(str(workspace.root))}` sets "
                "it aside; the next run makes it again."
            )
        if scene is None:
            break
        scenes.append(scene)
    return scenes


def _pairs(workspace: Workspace) -> dict[Pair, VerifiedPair]:
    """The matched pairs; none where there is no database."""
    return read_verified_pairs(workspace.database) if workspace.database.is_file() else {}


def _with_features(workspace: Workspace, options: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Image name -> number of keypoints and EXIF code of the upright view."""
    path = workspace.features(options["extractor"]) if "extractor" in options else None
    if path is None or not path.is_file():
        return {}
    with FeatureStore(path) as store:
        return {name: (num_keypoints(store, name) or 0, orientation_of(store, name) or 1) for name in store}


def _names(
    summary: Mapping[str, Any],
    scenes: Iterable[Scene],
    examination: Examination | None,
    features: Iterable[str],
    image_dir: Path,
) -> list[str]:
    """All photos: those that the run told of; before there are models those with features, as far as they are there."""
    told = {name for scene in scenes for name in scene.cameras}
    told |= {*summary.get("unregistered", []), *summary.get("failed_images", {}), *summary.get("masked_out", [])}
    if examination is not None:
        told |= {each.image for each in examination.diagnoses}
    if "map" in summary.get("seconds", {}):
        return sorted(told)
    try:
        listed = set(list_images(image_dir, quiet=True))
    except InputError:
        listed = set(features)
    return sorted(told | (set(features) & listed))


def _photos(
    names: Iterable[str],
    scenes: list[Scene],
    examination: Examination | None,
    features: Mapping[str, tuple[int, int]],
    graph: ViewGraph,
) -> list[PhotoRow]:
    diagnoses = {each.image: each for each in examination.diagnoses} if examination else {}
    is_open = examination is None or bool(examination.missing)
    rows = []
    for name in names:
        number = next((number for number, scene in enumerate(scenes) if name in scene.cameras), None)
        camera = None if number is None else scenes[number].cameras[name]
        keypoints, orientation = features.get(name, (None, 1))
        rows.append(
            PhotoRow(
                name=name,
                model=number,
                is_open=is_open,
                diagnosis=diagnoses.get(name),
                keypoints=keypoints,
                points=0 if camera is None else len(camera.seen),
                covered=None if camera is None else coverage(camera.seen, camera.size),
                error_px=_error(camera),
                neighbors=len(graph.neighbors(name)),
                orientation=orientation,
            )
        )
    return rows


def _error(camera: SceneCamera | None) -> float | None:
    return None if camera is None or np.isnan(camera.error_px) else camera.error_px


def coverage(points: np.ndarray, size: tuple[int, int]) -> float:
    """The share of the cells of a photo, 16 along each side, in which any of the points (N, 2) [px] lies."""
    inside = points[((points >= -0.5) & (points < np.array(size) - 0.5)).all(axis=1)]
    cells = np.minimum(((inside + 0.5) / size * GRID).astype(int), GRID - 1)
    return len(np.unique(cells @ [1, GRID])) / GRID**2
