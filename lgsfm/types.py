"""The data that flows between the stages: numpy arrays with a meaning, said once.

Pixels: the centre of the top-left pixel is (0, 0); x points right, y down. (COLMAP's is (0.5, 0.5);
`lgsfm.database` converts.) Keypoints are pixels of the image file as it is stored, before any EXIF rotation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .errors import InputError
from .exif import stored_to_upright, upright_size

__all__ = ["Features", "Matches", "Pair", "Progress", "canonical_pair"]

Pair = tuple[str, str]  # two image names, name0 < name1 in everything that the stages write
Progress = Callable[[int, int], None]  # called with (done, total)


@dataclass(frozen=True, eq=False)
class Features:
    """Local features of one image.

    keypoints: (N, 2) float32 [px] in the stored (unrotated) image
    descriptors: (N, D) float32, L2-normalised rows
    scores: (N,) float32, detection confidence, higher is better
    image_size: (width, height) [px] of the stored image
    extractor: the kind of the descriptors ("aliked", "superpoint", "sift"); a matcher checks it
    orientation: EXIF code 1..8 of the view that the extractor saw
    source: sha256 of the bytes of the image file; "" where unknown
    """

    keypoints: np.ndarray
    descriptors: np.ndarray
    scores: np.ndarray
    image_size: tuple[int, int]
    extractor: str
    orientation: int = 1
    source: str = ""

    def __post_init__(self) -> None:
        n = len(self.keypoints)
        if self.keypoints.shape != (n, 2) or self.keypoints.dtype != np.float32:
            found = f"{self.keypoints.shape} {self.keypoints.dtype}"
            raise InputError(f"Features: keypoints must be (N, 2) float32, not {found}.")
        if self.descriptors.ndim != 2 or len(self.descriptors) != n or self.scores.shape != (n,):
            raise InputError(
                f"Features: {n} keypoints need (N, D) descriptors and (N,) scores, "
                f"not {self.descriptors.shape} and {self.scores.shape}."
            )

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def nbytes(self) -> int:
        """The size of the arrays."""
        return self.keypoints.nbytes + self.descriptors.nbytes + self.scores.nbytes

    def subset(self, chosen: np.ndarray) -> Features:
        """Some of the keypoints, by their (K,) indices in the order wanted, or by an (N,) mask."""
        return replace(
            self,
            keypoints=self.keypoints[chosen],
            descriptors=self.descriptors[chosen],
            scores=self.scores[chosen],
        )

    @cached_property
    def digest(self) -> str:
        """Hash of what matching sees; matches keep it, since their indices mean nothing for other keypoints."""
        parts = (self.keypoints, self.descriptors.astype(np.float16), np.array([*self.image_size, self.orientation]))
        return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()

    @property
    def upright_keypoints(self) -> np.ndarray:
        """(N, 2) float32 [px]: the keypoints in the upright view that the extractor saw."""
        return stored_to_upright(self.keypoints, self.image_size, self.orientation)

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) [px] of the upright view."""
        return upright_size(self.image_size, self.orientation)


@dataclass(frozen=True, eq=False)
class Matches:
    """Correspondences between the features of two images.

    indices: (K, 2) int32, rows (i0, i1) into the keypoints of image 0 and image 1, ascending in i0
    scores: (K,) float32 in [0, 1]
    sources: the `Features.digest` of both images; "" where unknown
    """

    indices: np.ndarray
    scores: np.ndarray
    sources: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        k = len(self.scores)
        if self.indices.shape != (k, 2) or self.indices.dtype != np.int32:
            found = f"{self.indices.shape} {self.indices.dtype}"
            raise InputError(f"Matches: indices must be ({k}, 2) int32, not {found}.")

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def digest(self) -> str:
        """Hash of indices and scores, by which two runs compare their matches without reading them."""
        parts = (self.indices, self.scores.astype(np.float32))
        return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()

    @property
    def nbytes(self) -> int:
        """The size of the arrays."""
        return self.indices.nbytes + self.scores.nbytes

    @classmethod
    def empty(cls, sources: tuple[str, str] = ("", "")) -> Matches:
        """No correspondences."""
        return cls(np.zeros((0, 2), np.int32), np.zeros(0, np.float32), sources)


def canonical_pair(name0: str, name1: str) -> Pair:
    """The pair in the order in which it is stored: the lesser name first."""
    return (name0, name1) if name0 < name1 else (name1, name0)
