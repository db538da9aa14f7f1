"""ORB features for lgsfm, as an example of a package that adds an extractor.

Rublee et al., "ORB: an efficient alternative to SIFT or SURF", ICCV 2011; through OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from lgsfm import Features
from lgsfm.extractors import ExtractorOptions
from lgsfm.options import option

NUM_BITS = 256


@dataclass(frozen=True, kw_only=True)
class OrbOptions(ExtractorOptions):
    """Options of ORB; each becomes a flag of `lgsfm`, is checked before a run, and is part of the name of its files."""

    fast_threshold: int = option(12, "least contrast of a corner; lower finds more in weak texture", minimum=1)


class OrbExtractor:
    """ORB: corners with binary descriptors, here written so that a dot product compares them."""

    kind = "orb"  # of the descriptors; matchers compare it, so that no two kinds are mixed up
    options_class = OrbOptions
    matcher = "nearest"  # what --matcher auto takes
    is_rotation_invariant = True  # so it need not see photos upright
    heeds_masks = True

    def __init__(self, options: OrbOptions, device: str, fetch: Any) -> None:
        self.options = options  # device and fetch are for networks and their weights

    @property
    def identity(self) -> dict[str, Any]:
        """All that the features depend on but the photo. Raise the version when the code gives other features."""
        return {"extractor": "orb", "version": 1, "options": self.options.to_dict(), "opencv": cv2.__version__}

    def extract(self, photo: Any) -> Features:
        """The features of a `lgsfm.images.Photo`, the best first."""
        mask = None if photo.mask is None else photo.mask.astype(np.uint8)
        count = self.options.max_keypoints or 100_000  # 0: all
        detector = cv2.ORB.create(count, fastThreshold=self.options.fast_threshold)
        found, packed = detector.detectAndCompute(cv2.cvtColor(photo.rgb, cv2.COLOR_RGB2GRAY), mask)
        bits = np.unpackbits(np.zeros((0, NUM_BITS // 8), np.uint8) if packed is None else packed, axis=1)
        scores = np.array([point.response for point in found], np.float32)
        order = np.argsort(-scores, kind="stable")
        keypoints = np.array([point.pt for point in found], np.float32).reshape(-1, 2)
        return Features(
            keypoints=photo.to_stored(keypoints[order]),  # pixels of the file, as it lies on the disk
            descriptors=unit_vectors(bits)[order],
            scores=scores[order],
            image_size=photo.size,
            extractor=self.kind,
            orientation=photo.orientation,
            source=photo.digest,
        )


def unit_vectors(bits: np.ndarray) -> np.ndarray:
    """(N, D) bits -> (N, D) float32 of norm 1, whose dot product is 1 - 2 * (share of bits that differ)."""
    return ((bits * 2.0 - 1) / np.sqrt(bits.shape[1])).astype(np.float32)
