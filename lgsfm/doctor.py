"""What a run left in its output folder, examined: why photos did not register, and why models came out apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .database_reading import read_verified_pairs
from .database_record import DatabaseRecord
from .diagnosis import REASONS, Diagnosis, Evidence, Split, diagnose, diagnose_splits
from .errors import InputError
from .healing import SecondLooks
from .images import list_images
from .pairing import read_pairs
from .poses import load_poses
from .records import known_options
from .store import FeatureStore, num_keypoints
from .summary import read_summary
from .types import Pair
from .workspace import Workspace

BEFORE_PAIRS = ("unreadable", "masked out", "no features")  # reasons that are known before there is a database

__all__ = ["Examination", "examine", "gather"]


@dataclass(frozen=True)
class Examination:
    """What the doctor found.

    num_images: all photos
    num_registered: in the best model
    diagnoses: one for each of the others
    splits: one for each model beside the best one that has other photos
    missing: the stage that has not been run ("database" or "map"), before which not more can be said; "" if none
    """

    num_images: int
    num_registered: int
    diagnoses: list[Diagnosis]
    splits: list[Split]
    missing: str = ""

    def by_reason(self) -> dict[str, list[Diagnosis]]:
        """Reason -> its diagnoses, in the order of `lgsfm.diagnosis.REASONS`."""
        found = {reason: [each for each in self.diagnoses if each.reason == reason] for reason in REASONS}
        return {reason: each for reason, each in found.items() if each}


def examine(output: str | Path) -> Examination:
    """Why photos of a finished (or failed) run are not in its best model, and why there are others.

    Args:
        output: the output folder of `lgsfm reconstruct`.

    Raises:
        InputError: it is no such folder, or a model is damaged.
        CacheError: a file in it cannot be read.
    """
    workspace = Workspace.of_run(output)
    options, summary = known_options(workspace.options), read_summary(workspace.summary)
    record = DatabaseRecord.read(workspace.database_identity)
    made = record.made or options  # the database's, if there is one: a later command may have had other options
    if "extractor" not in made:
        raise InputError(f"'{output}' is no output folder of lgsfm, or nothing has been extracted there yet.")
    features = workspace.features(made["extractor"])
    failed = summary.get("failed_images", {})
    image_dir = Path(summary.get("image_dir", ""))
    models = _registered(workspace.sparse)
    names = sorted({*_names(features, failed, image_dir), *(name for model in models for name in model)})
    evidence = gather(
        workspace,
        names,
        features,
        failed=failed,
        masked_out=summary.get("masked_out", []),
        models=models,
        min_inliers=options.get("verification", {}).get("min_inliers", 15),
        image_dir=str(image_dir.resolve()),
        flags=record.flags or options.get("flags", {}),
    )
    missing = "" if workspace.database.is_file() else "database"
    if not missing and not evidence.models and "map" not in summary.get("seconds", {}):
        missing = "map"
    found = [each for each in diagnose(evidence) if not missing or each.reason in BEFORE_PAIRS]
    return Examination(len(names), len(evidence.registered), found, diagnose_splits(evidence), missing)


def _names(features: Path, failed: Mapping[str, str], image_dir: Path) -> list[str]:
    """All photos: of the folder, if it is still there, and those with features or an error."""
    names = set(failed)
    if features.is_file():
        with FeatureStore(features) as store:
            names |= set(store)
    with suppress(InputError):
        listed = set(list_images(image_dir, quiet=True))
        names = (names & listed) or names
    return sorted(names)


def _tried_pairs(workspace: Workspace, names: Sequence[str]) -> list[Pair]:
    """The pairs that were selected, and those of second looks; none where that is not known any more."""
    selected = read_pairs(workspace.pairs, names, skip_unknown=True) if workspace.pairs.is_file() else []
    looks = SecondLooks(workspace.second_looks)
    return sorted({*selected, *looks.pairs, *looks.finer})


def gather(
    workspace: Workspace,
    names: Sequence[str],
    features: Path,
    *,
    failed: Mapping[str, str],
    masked_out: Sequence[str],
    models: Sequence[Sequence[str]],
    min_inliers: int,
    image_dir: str,
    flags: Mapping[str, Any],
) -> Evidence:
    """The evidence of a run; of stages that have not run there is none.

    Args:
        workspace: its output folder.
        names: all photos.
        features: its feature store.
        failed: unusable photos -> why.
        masked_out: photos whose masks leave no keypoint.
        models: the registered images of each model, the best one first.
        min_inliers: that a pair needed.
        image_dir: folder of the photos.
        flags: what was asked for.

    Raises:
        CacheError: a file cannot be read.
        InputError: the pairs that were selected cannot be read.
    """
    keypoints: dict[str, int] = {}
    if features.is_file():
        with FeatureStore(features) as store:
            keypoints = {name: count for name in names if (count := num_keypoints(store, name)) is not None}
    record = DatabaseRecord.read(workspace.database_identity)
    return Evidence(
        names=names,
        failed=failed,
        masked_out=masked_out,
        keypoints=keypoints,
        pairs=_tried_pairs(workspace, names),
        verified=read_verified_pairs(workspace.database) if workspace.database.is_file() else {},
        models=models,
        min_inliers=min_inliers,
        doubtful=frozenset((first, second) for first, second in record.dropped),
        image_dir=image_dir,
        output=str(workspace.root.resolve()),
        flags=flags,
    )


def _registered(sparse: Path) -> list[list[str]]:
    """The registered images of each model 0, 1, ... in a folder."""
    models: list[list[str]] = []
    while (folder := sparse / str(len(models))).is_dir():
        models.append(sorted(load_poses(folder)))
    return models
