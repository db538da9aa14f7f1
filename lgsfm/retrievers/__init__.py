"""Retrievers: one global descriptor per image, so that similar images can be found without matching.

A retriever is one file here and one line in `lgsfm.registry`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from ..options import Options
from ..types import Features

__all__ = ["Retriever"]


class Retriever(Protocol):
    """What the pair stage needs to know of a retriever."""

    options_class: ClassVar[type[Options]]
    options: Any

    def __init__(self, options: Any) -> None: ...

    def describe(self, names: Sequence[str], features: Mapping[str, Features]) -> np.ndarray:
        """(len(names), D) float32 L2-normalised global descriptors; the dot product is the similarity."""
        ...
