"""SIFT features through OpenCV: no network, no weights.

Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004. Descriptors are RootSIFT:
Arandjelović, Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from ..errors import MemoryShortageError, is_memory_shortage
from ..images import Photo
from ..options import option
from ..types import Features
from . import ExtractorOptions, Fetch

__all__ = ["SiftExtractor", "SiftOptions", "root_sift"]

NO_MEMORY = -4  # OpenCV's code for it


@dataclass(frozen=True, kw_only=True)
class SiftOptions(ExtractorOptions):
    """Options of SIFT. It lives on fine detail, so the presets work on larger photos than those of networks."""

    presets: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "low": {"max_edge_px": 1000, "max_keypoints": 2048},
        "medium": {"max_edge_px": 1600, "max_keypoints": 4096},
        "high": {"max_edge_px": 2400, "max_keypoints": 8192},
        "extreme": {"max_edge_px": 3200, "max_keypoints": 16384},
    }

    max_keypoints: int = option(4096, "keypoints kept per image, the best ones; 0 keeps all", minimum=0)
    max_edge_px: int = option(1600, "long edge to which photos are reduced; 0 keeps their size", minimum=0)
    contrast_threshold: float = option(
        0.01, "least contrast of a blob (OpenCV's default is 0.04); lower finds more in weak texture", minimum=0
    )
    edge_threshold: float = option(
        10.0, "largest ratio of the curvatures of a blob; lower drops more points on edges", minimum=1
    )


class SiftExtractor:
    """SIFT; a place with several dominant directions gives a keypoint for each."""

    kind: ClassVar[str] = "sift"
    options_class: ClassVar[type[SiftOptions]] = SiftOptions
    matcher: ClassVar[str] = "nearest"
    is_rotation_invariant: ClassVar[bool] = True
    heeds_masks: ClassVar[bool] = True

    def __init__(self, options: SiftOptions, device: str, fetch: Fetch) -> None:
        self.options = options

    @property
    def identity(self) -> dict[str, Any]:
        """All that the features depend on but the photo."""
        return {
            "extractor": "sift",
            "version": 1,
            "options": self.options.to_dict(),
            "opencv": cv2.__version__,  # whose SIFT has changed between versions
        }

    def extract(self, photo: Photo) -> Features:
        """Local features of a photo, the best first; scores are the contrast of the blobs."""
        options = self.options
        detector = cv2.SIFT.create(
            # OpenCV takes the best before it looks at the mask, so of a masked photo it takes all
            nfeatures=options.max_keypoints if photo.mask is None else 0,
            contrastThreshold=options.contrast_threshold,
            edgeThreshold=options.edge_threshold,
            enable_precise_upscale=True,  # without it all keypoints lie 0.25 px too far right and down
        )
        mask = None if photo.mask is None else photo.mask.astype(np.uint8)
        try:
            found, descriptors = detector.detectAndCompute(cv2.cvtColor(photo.rgb, cv2.COLOR_RGB2GRAY), mask)
        except cv2.error as exc:
            if exc.code != NO_MEMORY and not is_memory_shortage(exc):  # `std::bad_alloc` comes with another code
                raise
            raise MemoryShortageError(
                "Not enough memory for SIFT. What is finished is kept: go on with a smaller --max-edge-px."
            ) from exc
        keypoints = np.array([point.pt for point in found], np.float32).reshape(-1, 2)
        scores = np.array([point.response for point in found], np.float32)
        order = best_first(scores, keypoints, options.max_keypoints)
        descriptors = np.zeros((0, 128), np.float32) if descriptors is None else descriptors
        return Features(
            keypoints=photo.to_stored(keypoints[order]),
            descriptors=root_sift(descriptors[order]),
            scores=scores[order],
            image_size=photo.size,
            extractor=self.kind,
            orientation=photo.orientation,
            source=photo.digest,
        )


def best_first(scores: np.ndarray, keypoints: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` highest scores (0: of all); equal ones ordered by position.

    OpenCV gives no order, and more than it was asked for when the last scores are equal.
    """
    order = np.lexsort((keypoints[:, 0], keypoints[:, 1], -scores))
    return order[:count] if count > 0 else order


def root_sift(descriptors: np.ndarray) -> np.ndarray:
    """(N, 128) SIFT histograms -> (N, 128) float32 with L2 norm 1, whose dot product is the Hellinger kernel."""
    total = descriptors.sum(axis=1, keepdims=True)
    return np.sqrt(descriptors / np.maximum(total, np.float32(1e-12)))
