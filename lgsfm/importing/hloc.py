"""hloc's files (cvg/Hierarchical-Localization) are read: features and matches in HDF5, in its own layout.

features   image name -> keypoints (N, 2), descriptors (D, N), scores (N,), image_size (2,)
matches    name0/name1 with - for / in the names -> matches0 (N0,), -1 for none, matching_scores0 (N0,);
           files of before 2022 have name0_name1 in one word

As here, the centre of the first pixel is (0, 0). A file may come from anybody: links in it are not followed, and what
does not fit together is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import h5py
import numpy as np

from ..errors import InputError, in_short
from ..exporting.hloc import pair_key
from ..types import Pair, canonical_pair

__all__ = ["FeatureFile", "MatchFile", "RawFeatures", "sparse_matches"]

READING_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError)
MOST_NUMBERS = 1 << 28  # of an array; a damaged shape may ask for any memory
INT16 = 1 << 16


@dataclass(frozen=True)
class RawFeatures:
    """Features of an image as a file has them.

    keypoints: (N, 2) float32 [px], the centre of the first pixel is (0, 0)
    descriptors: (N, D) float32; D is 0 where the file has none
    scores: (N,) float32; 1 where the file has none
    image_size: (width, height) [px]; None where the file does not say
    is_half: keypoints are kept in half precision, which rounds them
    """

    keypoints: np.ndarray
    descriptors: np.ndarray
    scores: np.ndarray
    image_size: tuple[int, int] | None
    is_half: bool


class _File:
    """An HDF5 file that is read. Raises `InputError` if it is none."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with self.reading():
            self.file = h5py.File(self.path, "r")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()

    @contextmanager
    def reading(self, entry: str = "") -> Iterator[None]:
        """What reading raises becomes an `InputError` that names the file and the entry."""
        try:
            yield
        except READING_ERRORS as exc:
            reason = " ".join(str(exc).strip("'\"").split())[:160]
            what = f"{self.path}, {entry}" if entry else str(self.path)
            raise InputError(f"{what}: cannot be read as a file of hloc: {reason}. Write it again.") from exc

    def groups_with(self, name: str) -> list[str]:
        """The paths of the groups that hold a dataset, however deep; links lead nowhere."""
        found: list[str] = []

        def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset) and path.rpartition("/")[2] == name:
                found.append(path.rpartition("/")[0])

        with self.reading():
            self.file.visititems(visit)
        return sorted(group for group in found if group)


class FeatureFile(_File):
    """hloc's features of images.

    names: of the images that it has
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.names = frozenset(self.groups_with("keypoints"))
        if not self.names:
            self.file.close()
            raise InputError(f"{path} holds no features: there is no 'keypoints' of any image. Name hloc's feats-*.h5.")

    def read(self, name: str) -> RawFeatures:
        """The features of an image.

        Raises:
            InputError: they cannot be read, or the arrays do not fit together.
        """
        with self.reading(name):
            group = self.file[name]
            keypoints = _numbers(group, "keypoints")
            n = len(keypoints)
            if keypoints.shape != (n, 2) or not np.isfinite(keypoints).all():
                raise ValueError(f"keypoints must be (N, 2) finite numbers, not {keypoints.shape}")
            descriptors = _numbers(group, "descriptors") if "descriptors" in group else np.zeros((0, n), np.float32)
            scores = _numbers(group, "scores") if "scores" in group else np.ones(n, np.float32)
            if descriptors.ndim != 2 or descriptors.shape[1] != n or scores.shape != (n,):
                shapes = f"{descriptors.shape} and {scores.shape}"
                raise ValueError(f"{n} keypoints need (D, N) descriptors and (N,) scores, not {shapes}")
            size = _numbers(group, "image_size") if "image_size" in group else None
            if size is not None and size.shape != (2,):
                raise ValueError(f"image_size must be two numbers, not {size.shape}")
        return RawFeatures(
            keypoints.astype(np.float32),
            np.ascontiguousarray(descriptors.T, dtype=np.float32),
            scores.astype(np.float32),
            None if size is None else (int(size[0]), int(size[1])),
            keypoints.dtype == np.float16,
        )


class MatchFile(_File):
    """hloc's matches of pairs."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.groups = frozenset(self.groups_with("matches0"))
        if not self.groups:
            self.file.close()
            raise InputError(
                f"{path} holds no matches: there is no 'matches0' of any pair. Name hloc's *_matches-*.h5."
            )

    def pairs_among(self, names: Iterable[str]) -> dict[Pair, str]:
        """The pairs (in the order of the file) of these images -> their groups; those of other images are left out.

        Raises:
            InputError: a group may be of several pairs, since hloc writes - for / in names.
        """
        owners: dict[str, list[str]] = {}
        for name in sorted(names):
            owners.setdefault(name.replace("/", "-"), []).append(name)
        found: dict[Pair, str] = {}
        for group in sorted(self.groups):
            pairs = [
                (name0, name1)
                for first, second in _halves(group)
                for name0 in owners.get(first, ())
                for name1 in owners.get(second, ())
                if name0 != name1
            ]
            if len(pairs) > 1:
                listed = in_short(" with ".join(pair) for pair in pairs)
                raise InputError(
                    f"{self.path}: {group} may be of {listed}: hloc writes - for / in names. "
                    "Say which pairs there are: --pairs with hloc's file of pairs."
                )
            for pair in pairs:
                found[pair] = group
        return _each_once(found)

    def groups_of(self, pairs: Iterable[Pair]) -> dict[Pair, str]:
        """Those of the pairs that have matches, in the order of the file -> their groups; looked for as hloc does."""
        found: dict[Pair, str] = {}
        for pair in pairs:
            for name0, name1 in (pair, pair[::-1]):
                key = pair_key(name0, name1)
                group = next((group for group in (key, key.replace("/", "_")) if group in self.groups), None)
                if group:
                    found[name0, name1] = group
                    break
        return found

    def read(self, group: str, counts: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """`sparse_matches` of a group, of images with so many keypoints. Raises `InputError`."""
        with self.reading(group):
            dense = _numbers(self.file[group], "matches0")
            has_scores = "matching_scores0" in self.file[group]
            scores = _numbers(self.file[group], "matching_scores0") if has_scores else np.ones(len(dense), np.float32)
            return sparse_matches(dense, scores, counts)


def sparse_matches(dense: np.ndarray, scores: np.ndarray, counts: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """hloc's form of matches -> (K, 2) int32 indices, ascending in the first, and (K,) float32 scores in [0, 1].

    hloc cuts indices to 16 bits: where image 1 has more than 32,767 keypoints, those beyond have become negative. They
    are put right, but for number 65,535, which became the -1 of no match.

    Args:
        dense: (N0,) integers, the keypoint of image 1 for each of image 0, -1 for none.
        scores: (N0,).
        counts: N0 and N1.

    Raises:
        ValueError: they are of other keypoints.
    """
    if dense.shape != (counts[0],) or scores.shape != dense.shape or dense.dtype.kind not in "iu":
        raise ValueError(
            f"matches0 {dense.shape} and matching_scores0 {scores.shape} are not of the {counts[0]} keypoints of the "
            "first image; these features are not those that were matched"
        )
    if counts[1] > INT16 and dense.dtype.itemsize == 2:
        raise ValueError(f"16 bits cannot number the {counts[1]} keypoints of the second image")
    wide = dense.astype(np.int64)
    if dense.dtype == np.int16:
        wide[wide < -1] += INT16
    rows = np.flatnonzero(wide != -1)
    if len(rows) and (wide[rows].min() < 0 or wide[rows].max() >= counts[1]):
        raise ValueError(
            f"a match is with keypoint {wide[rows].max()} of the {counts[1]} of the second image; these features are "
            "not those that were matched"
        )
    found = np.clip(np.nan_to_num(scores[rows].astype(np.float32)), 0, 1)
    return np.stack([rows, wide[rows]], axis=1).astype(np.int32), found


def _halves(group: str) -> Iterator[tuple[str, str]]:
    """The two names, with - for /, that a group may stand for: at its /, or in old files at any _."""
    first, slash, second = group.partition("/")
    if slash:
        yield first, second
        return
    for i, letter in enumerate(group):
        if letter == "_":
            yield group[:i], group[i + 1 :]


def _each_once(groups: Mapping[Pair, str]) -> dict[Pair, str]:
    """Without the second of two entries for the same images in both orders, of which hloc reads the first."""
    kept: dict[Pair, Pair] = {}
    for pair in groups:
        kept.setdefault(canonical_pair(*pair), pair)
    return {pair: groups[pair] for pair in kept.values()}


def _numbers(group: h5py.Group, name: str) -> np.ndarray:
    """An array of numbers that lies in the file itself, of a size that memory suffices for."""
    if group.get(name, getlink=True).__class__ is not h5py.HardLink:
        raise ValueError(f"{name} is a link")
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "iuf" or dataset.shape is None:
        raise ValueError(f"{name} is no array of numbers")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} lies in another file")
    if dataset.size > MOST_NUMBERS:
        raise ValueError(f"{name} is larger than any features: {dataset.shape}")
    return np.asarray(dataset[()])
