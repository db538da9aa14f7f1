"""Models and processors by the name of a folder or repository alone, as with transformers' Auto classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .config import LightGlueConfig
from .model import LightGlueForKeypointMatching
from .processor import LightGlueImageProcessor, LightGlueImageProcessorFast

__all__ = ["AutoImageProcessor", "AutoModel", "AutoModelForKeypointMatching"]


class AutoModel:
    """The model of a folder or hub repository; here that is always a `LightGlueForKeypointMatching`."""

    @staticmethod
    def from_pretrained(name: str | Path, **options: Any) -> LightGlueForKeypointMatching:
        """`LightGlueForKeypointMatching.from_pretrained`."""
        return LightGlueForKeypointMatching.from_pretrained(name, **options)

    @staticmethod
    def from_config(config: LightGlueConfig) -> LightGlueForKeypointMatching:
        """A model with random weights."""
        return LightGlueForKeypointMatching(config)


class AutoModelForKeypointMatching(AutoModel):
    """`AutoModel`: there are no other models."""


class AutoImageProcessor:
    """The processor of a folder or hub repository."""

    @staticmethod
    def from_pretrained(name: str | Path, *, use_fast: bool = False, **options: Any) -> LightGlueImageProcessor:
        """A `LightGlueImageProcessor`, or with ``use_fast`` a `LightGlueImageProcessorFast`."""
        processor = LightGlueImageProcessorFast if use_fast else LightGlueImageProcessor
        return processor.from_pretrained(name, **options)
