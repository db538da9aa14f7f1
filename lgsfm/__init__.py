"""From a folder of photos to a COLMAP model with learned features, from wheels only.

    import lgsfm
    summary = lgsfm.reconstruct("images", "out")

Names are imported when they are first used: ``import lgsfm`` is quick and does not load torch.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .database import build_database as build_database
    from .errors import LgsfmError as LgsfmError
    from .evaluation import evaluate as evaluate
    from .extraction import extract_features as extract_features
    from .images import list_images as list_images
    from .images import read_photo as read_photo
    from .mapping import map_database as map_database
    from .matchers import match as match
    from .matching import match_features as match_features
    from .pairing import select_pairs as select_pairs
    from .pipeline import Observer as Observer
    from .pipeline import reconstruct as reconstruct
    from .settings import Settings as Settings
    from .store import FeatureStore as FeatureStore
    from .store import MatchStore as MatchStore
    from .summary import Summary as Summary
    from .types import Features as Features
    from .types import Matches as Matches

_HOMES = {
    "FeatureStore": "store",
    "Features": "types",
    "LgsfmError": "errors",
    "MatchStore": "store",
    "Matches": "types",
    "Observer": "pipeline",
    "Settings": "settings",
    "Summary": "summary",
    "build_database": "database",
    "evaluate": "evaluation",
    "extract_features": "extraction",
    "list_images": "images",
    "map_database": "mapping",
    "match": "matchers",
    "match_features": "matching",
    "read_photo": "images",
    "reconstruct": "pipeline",
    "select_pairs": "pairing",
}

__all__ = [
    "FeatureStore",
    "Features",
    "LgsfmError",
    "MatchStore",
    "Matches",
    "Observer",
    "Settings",
    "Summary",
    "build_database",
    "evaluate",
    "extract_features",
    "list_images",
    "map_database",
    "match",
    "match_features",
    "read_photo",
    "reconstruct",
    "select_pairs",
]

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
