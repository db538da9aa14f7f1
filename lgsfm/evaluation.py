"""How exact are the poses of a COLMAP model? Comparison with reference poses.

    print(evaluate("out", "ground_truth.txt").table())

Pairs of images are judged by their relative pose, which needs no alignment of the two worlds: the error of
a pair is the greater of the angle of its relative rotation error and the angle between its relative
translation directions (Jin et al. 2021, "Image Matching across Wide Baselines"), and 180 degrees if one of
the two images has no pose. The AUC is the area under the recall curve up to a threshold (Sarlin et al. 2020,
"SuperGlue", section 5). Camera centres are compared after a robust similarity alignment.

Rotations are cam_from_world, cameras look along +z with x right and y down, and centres are in world units.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from .errors import InputError
from .poses import CameraPose, load_poses

__all__ = [
    "THRESHOLDS_DEG",
    "CentreErrors",
    "Evaluation",
    "Similarity",
    "evaluate",
    "fit_similarity",
    "pose_auc",
    "robust_similarity",
]

THRESHOLDS_DEG = (1, 3, 5, 10, 20)
_FAILED_DEG = 180.0  # the error of a pair without a relative pose
_NO_LENGTH = 1e-9  # relative to the extent of the scene: two centres so near are at one place
_MAX_TRIPLES = 1000  # that the alignment tries


Poses = Mapping[str, CameraPose]  # image name -> pose


@dataclass(frozen=True)
class CentreErrors:
    """Distances of the aligned camera centres to the reference's, over all registered images.

    median, mean, max: [reference units]
    scale: reference units per model unit
    num_inliers: images that the alignment rests on
    """

    median: float
    mean: float
    max: float
    scale: float
    num_inliers: int


@dataclass(frozen=True)
class Evaluation:
    """The comparison of a model with a reference.

    num_images: images of the reference
    num_registered: those of them that have a pose in the model
    num_extra: images of the model that the reference does not know; they count for nothing
    auc: threshold [deg] -> AUC [percent] of the pose error over all pairs of reference images
    median_rotation_error_deg: over the pairs with a pose; None if there is none
    median_translation_error_deg: the same for the direction, where the reference has one
    centres: None if fewer than three images are registered, or all of them at one place
    matched_by: "name", or "base name" where the folders before the file names differ
    """

    num_images: int
    num_registered: int
    num_extra: int
    auc: dict[int, float]
    median_rotation_error_deg: float | None
    median_translation_error_deg: float | None
    centres: CentreErrors | None
    matched_by: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values; the thresholds of ``auc`` become strings."""
        return dataclasses.asdict(self) | {"auc": {str(t): value for t, value in self.auc.items()}}

    def table(self) -> str:
        """The comparison for people, in a few lines."""
        auc = "   ".join(f"@{t}\N{DEGREE SIGN} {value:.2f}" for t, value in self.auc.items())
        rows = [
            ("registered", f"{self.num_registered} of {self.num_images} reference images"),
            ("pose AUC", f"{auc}   (percent)"),
            ("rotation", _median_text(self.median_rotation_error_deg)),
            ("direction", _median_text(self.median_translation_error_deg)),
        ]
        if self.centres is None:
            rows.append(("centres", "not aligned: needs three registered images at different places"))
        else:
            c = self.centres
            values = f"median {c.median:.4g}   mean {c.mean:.4g}   max {c.max:.4g}"
            rows.append(("centres", f"{values}   (reference units)"))
            inliers = f"{c.num_inliers} of {self.num_registered} images"
            rows.append(("alignment", f"scale {c.scale:.6g}, from {inliers}"))
        if self.num_extra:
            rows.append(("ignored", f"{self.num_extra} in the model but not in the reference"))
        if self.matched_by != "name":
            rows.append(("note", f"images are matched by {self.matched_by}"))
        return "\n".join(f"{key:<12}{text}" for key, text in rows)


def _median_text(degrees: float | None) -> str:
    return "no pair" if degrees is None else f"median {degrees:.4f}\N{DEGREE SIGN}"


def evaluate(
    model: Poses | str | os.PathLike[str],
    reference: Poses | str | os.PathLike[str],
    *,
    min_baseline: float = 0.0,
) -> Evaluation:
    """Compares the poses of a model with those of a reference; each is poses or a path for `load_poses`.

    min_baseline [reference units]: pairs of reference cameras that are not farther apart than this have no
    translation direction and count by their rotation alone; 0 means only those at the same place.
    Raises `InputError` if something cannot be read, or if model and reference have no image in common.
    """
    if not (math.isfinite(min_baseline) and min_baseline >= 0):
        raise InputError(f"min_baseline must be a finite number and at least 0, not {min_baseline}.")
    poses = model if isinstance(model, Mapping) else load_poses(model)
    truth = reference if isinstance(reference, Mapping) else load_poses(reference)
    if len(truth) < 2:
        raise InputError(f"The reference has {len(truth)} poses; pairs need two images or more.")
    names, matched_by = _common_names(poses, truth)
    found = [poses[model_name] for _, model_name in names]
    wanted = [truth[name] for name, _ in names]

    same_place = _NO_LENGTH * _extent(np.array([pose.centre for pose in truth.values()]))
    rotation_deg, direction_deg = _pair_errors(found, wanted, max(min_baseline, same_place))
    failed = np.full(math.comb(len(truth), 2) - len(rotation_deg), _FAILED_DEG)
    return Evaluation(
        num_images=len(truth),
        num_registered=len(names),
        num_extra=len(poses) - len(names),
        auc=pose_auc(np.concatenate([np.fmax(rotation_deg, direction_deg), failed])),
        median_rotation_error_deg=_median(rotation_deg),
        median_translation_error_deg=_median(direction_deg[~np.isnan(direction_deg)]),
        centres=_centre_errors(np.array([p.centre for p in found]), np.array([p.centre for p in wanted])),
        matched_by=matched_by,
    )


def _common_names(model: Poses, reference: Poses) -> tuple[list[tuple[str, str]], str]:
    """(reference name, model name) of the common images, sorted, and what they were matched by."""
    if common := sorted(set(reference) & set(model)):
        return [(name, name) for name in common], "name"
    by_base = {_base(name): name for name in model}
    matches = sorted((name, by_base[_base(name)]) for name in reference if _base(name) in by_base)
    bases = {_base(name) for name, _ in matches}
    repeated = [b for names in (model, reference) for b, k in Counter(map(_base, names)).items() if k > 1]
    if matches and bases.isdisjoint(repeated):
        return matches, "base name"
    hint = "Is this the reference of another scene?"
    if matches:
        example = min(bases.intersection(repeated))
        hint = (
            f"Their base names agree but are not unique ('{example}'), so they cannot be matched by them; "
            "give both the same sub-folder prefix."
        )
    raise InputError(
        f"Model and reference have no image in common: the model's are {_examples(model)}, "
        f"the reference's {_examples(reference)}. {hint}"
    )


def _base(name: str) -> str:
    """The file name without its folders."""
    return PurePosixPath(name).name


def _examples(names: Iterable[str]) -> str:
    some = sorted(names)
    return ", ".join(f"'{name}'" for name in some[:2]) + (", ..." if len(some) > 2 else "") or "none"


# ---- pairs ----


def pose_auc(errors_deg: np.ndarray, thresholds_deg: Sequence[int] = THRESHOLDS_DEG) -> dict[int, float]:
    """Area under the recall curve up to each threshold [percent], from the errors (N,) of N > 0 pairs.

    Recall is linear between (0, 0) and the points (k-th least error, k / N), and constant after the last
    error below the threshold: what SuperGlue's ``pose_auc`` and its followers report.
    """
    errors = np.concatenate([[0.0], np.sort(errors_deg)])
    recall = np.arange(len(errors)) / len(errors_deg)
    auc = {}
    for threshold in thresholds_deg:
        k = max(1, int(np.searchsorted(errors, threshold)))
        under_lines = np.sum(np.diff(errors[:k]) * (recall[1:k] + recall[: k - 1])) / 2
        after_last = (threshold - errors[k - 1]) * recall[k - 1]
        auc[threshold] = float(100 * (under_lines + after_last) / threshold)
    return auc


def _pair_errors(
    model: Sequence[CameraPose], reference: Sequence[CameraPose], same_place: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and translation direction errors [deg] of the N (N - 1) / 2 pairs of N cameras.

    The direction error is NaN if the reference's cameras are within ``same_place``, 180 if only the model's
    are at one place.
    """
    R_model, c_model = _stacked(model)
    R_truth, c_truth = _stacked(reference)
    # world_model_from_world_truth by each camera: equal for 0 and 1 where the relative rotation is right
    world = np.swapaxes(R_model, 1, 2) @ R_truth
    rotation, direction = [np.zeros(0)], [np.zeros(0)]
    for i in range(len(model) - 1):  # by rows: memory stays linear in N
        rotation.append(_rotation_angle(world[i].T @ world[i + 1 :]))
        # translations of cam1_from_cam0, with camera 0 the i-th and camera 1 each one after it
        t_model = np.einsum("nij,nj->ni", R_model[i + 1 :], c_model[i] - c_model[i + 1 :])
        t_truth = np.einsum("nij,nj->ni", R_truth[i + 1 :], c_truth[i] - c_truth[i + 1 :])
        angle = _vector_angle(t_model, t_truth)
        angle[~t_model.any(axis=1)] = _FAILED_DEG
        angle[np.linalg.norm(t_truth, axis=1) <= same_place] = np.nan
        direction.append(angle)
    return np.concatenate(rotation), np.concatenate(direction)


def _stacked(poses: Sequence[CameraPose]) -> tuple[np.ndarray, np.ndarray]:
    """The (N, 3, 3) rotations and (N, 3) centres."""
    return np.array([pose.rotation for pose in poses]), np.array([pose.centre for pose in poses])


def _rotation_angle(R: np.ndarray) -> np.ndarray:
    """Angles [deg] of rotations (N, 3, 3); by both sine and cosine, so exact near 0 and near 180."""
    axis = [R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]]
    return np.degrees(np.arctan2(np.linalg.norm(axis, axis=0), np.trace(R, axis1=1, axis2=2) - 1))


def _vector_angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles [deg] between the rows of (N, 3) and (N, 3)."""
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), np.sum(a * b, axis=1)))


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


# ---- centres ----


@dataclass(frozen=True, eq=False)
class Similarity:
    """target = scale * rotation @ source + translation, with rotation (3, 3) and translation (3,)."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Source points (N, 3) in the target frame."""
        return self.scale * points @ self.rotation.T + self.translation


def fit_similarity(source: np.ndarray, target: np.ndarray) -> Similarity:
    """The least-squares similarity between points (N, 3) and (N, 3), N >= 1 (Umeyama 1991, eq. 40-43).

    Where the points leave it open (fewer than three, or on a line) it is one of the best.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    s, t = source - source_mean, target - target_mean
    U, D, Vt = np.linalg.svd(t.T @ s)
    sign = np.array([1, 1, -1 if np.linalg.det(U) * np.linalg.det(Vt) < 0 else 1])  # no mirror image
    R = (U * sign) @ Vt
    spread = np.sum(s * s)
    scale = float(D @ sign / spread) if spread > 0 else 1.0
    return Similarity(scale, R, target_mean - scale * R @ source_mean)


def robust_similarity(source: np.ndarray, target: np.ndarray) -> tuple[Similarity, np.ndarray]:
    """The similarity that most of the points (N, 3) and (N, 3), N >= 3, agree on, and the (N,) inlier mask.

    Least median of squares over triples, up to a thousand drawn with a fixed seed (Rousseeuw and Leroy 1987,
    "Robust Regression and Outlier Detection"), then least squares over the points near that fit,
    until they no longer change.
    """
    n = len(source)
    if math.comb(n, 3) <= _MAX_TRIPLES:
        triples = [list(triple) for triple in combinations(range(n), 3)]
    else:
        rng = np.random.default_rng(0)
        triples = [rng.choice(n, 3, replace=False).tolist() for _ in range(_MAX_TRIPLES)]
    rank = n // 2 + 1  # of the median, counting up as a triple explains its own points
    # In small samples the least median is too low; 1 + 5 / (n - 3) is the book's correction. The median of
    # the length of a 3D Gaussian is 1.54 sigma, so this keeps all up to 4.6 sigma.
    cut = 3 * (1 + 5 / max(n - 3, 1))
    tolerance = _NO_LENGTH * _extent(target)

    def residuals(similarity: Similarity) -> np.ndarray:
        return np.linalg.norm(similarity(source) - target, axis=1)

    def median(values: np.ndarray) -> float:
        return float(np.partition(values, rank)[rank])

    fits = (fit_similarity(source[triple], target[triple]) for triple in triples)
    best = min(fits, key=lambda fit: median(residuals(fit)))
    inliers = np.zeros(n, bool)
    for _ in range(10):
        values = residuals(best)
        previous, inliers = inliers, values <= max(cut * median(values), tolerance)
        if np.array_equal(inliers, previous):
            break
        best = fit_similarity(source[inliers], target[inliers])
    return best, inliers


def _centre_errors(model: np.ndarray, reference: np.ndarray) -> CentreErrors | None:
    """Errors of centres (N, 3) after alignment; None where there is no alignment."""
    if len(model) < 3:
        return None
    if any(_extent(points) <= _NO_LENGTH * np.abs(points).max() for points in (model, reference)):
        return None
    similarity, inliers = robust_similarity(model, reference)
    errors = np.linalg.norm(similarity(model) - reference, axis=1)
    return CentreErrors(
        median=float(np.median(errors)),
        mean=float(errors.mean()),
        max=float(errors.max()),
        scale=similarity.scale,
        num_inliers=int(inliers.sum()),
    )


def _extent(points: np.ndarray) -> float:
    """The longest side of the box around points (N, 3)."""
    return float(np.ptp(points, axis=0).max())
