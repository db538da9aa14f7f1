"""From a folder of photos to a COLMAP model with learned features, from wheels only.

    import lgsfm
    summary = lgsfm.reconstruct("images", "out")
    pose = lgsfm.estimate_relative_pose("a.jpg", "b.jpg")

Names are imported when they are first used: ``import lgsfm`` is quick and does not load torch.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bars import Bars as Bars
    from .cameras import Camera as Camera
    from .citing import cite as cite
    from .database import build_database as build_database
    from .doctor import examine as examine
    from .errors import LgsfmError as LgsfmError
    from .evaluation import evaluate as evaluate
    from .exporting import Exported as Exported
    from .exporting import export as export
    from .extraction import extract_features as extract_features
    from .image_files import list_images as list_images
    from .images import read_photo as read_photo
    from .localization import Localizer as Localizer
    from .localization import localize as localize
    from .localization.model import write_localized_model as write_localized_model
    from .localization.result import Localization as Localization
    from .mapping import map_database as map_database
    from .matchers import match as match
    from .matching import match_features as match_features
    from .observer import Observer as Observer
    from .pair import FrameMatcher as FrameMatcher
    from .pair import PairMatcher as PairMatcher
    from .pair import estimate_relative_pose as estimate_relative_pose
    from .pair import match_pair as match_pair
    from .pairing import select_pairs as select_pairs
    from .pipeline import reconstruct as reconstruct
    from .settings import PairSettings as PairSettings
    from .settings import Settings as Settings
    from .store import FeatureStore as FeatureStore
    from .store import MatchStore as MatchStore
    from .summary import Summary as Summary
    from .two_view import TwoViewPose as TwoViewPose
    from .types import Features as Features
    from .types import Matches as Matches

_HOMES = {
    "Bars": "bars",
    "Camera": "cameras",
    "Exported": "exporting",
    "FeatureStore": "store",
    "Features": "types",
    "FrameMatcher": "pair",
    "LgsfmError": "errors",
    "Localization": "localization.result",
    "Localizer": "localization",
    "MatchStore": "store",
    "Matches": "types",
    "Observer": "observer",
    "PairMatcher": "pair",
    "PairSettings": "settings",
    "Settings": "settings",
    "Summary": "summary",
    "TwoViewPose": "two_view",
    "build_database": "database",
    "cite": "citing",
    "estimate_relative_pose": "pair",
    "evaluate": "evaluation",
    "examine": "doctor",
    "export": "exporting",
    "extract_features": "extraction",
    "list_images": "image_files",
    "localize": "localization",
    "map_database": "mapping",
    "match": "matchers",
    "match_features": "matching",
    "match_pair": "pair",
    "read_photo": "images",
    "reconstruct": "pipeline",
    "select_pairs": "pairing",
    "write_localized_model": "localization.model",
}

__all__ = [
    "Bars",
    "Camera",
    "Exported",
    "FeatureStore",
    "Features",
    "FrameMatcher",
    "LgsfmError",
    "Localization",
    "Localizer",
    "MatchStore",
    "Matches",
    "Observer",
    "PairMatcher",
    "PairSettings",
    "Settings",
    "Summary",
    "TwoViewPose",
    "build_database",
    "cite",
    "estimate_relative_pose",
    "evaluate",
    "examine",
    "export",
    "extract_features",
    "list_images",
    "localize",
    "map_database",
    "match",
    "match_features",
    "match_pair",
    "read_photo",
    "reconstruct",
    "select_pairs",
    "write_localized_model",
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
