"""Name -> component: one line for each extractor, matcher, retriever and estimator, and those of other packages.

Another package adds its own through an entry point in the group ``lgsfm.extractors``, ``lgsfm.matchers``,
``lgsfm.retrievers`` or ``lgsfm.estimators``, whose value is ``module:Class`` like the lines below.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from .errors import InputError, unknown_name

__all__ = ["available", "component_class", "component_classes"]

logger = logging.getLogger(__name__)

BUILT_IN = {
    "estimator": {
        "colmap": "lgsfm.estimators.colmap:ColmapEstimator",
        "magsac": "lgsfm.estimators.opencv:MagsacEstimator",
        "poselib": "lgsfm.estimators.poselib:PoselibEstimator",
        "ransac": "lgsfm.estimators.opencv:RansacEstimator",
    },
    "extractor": {
        "aliked": "lgsfm.extractors.aliked:AlikedExtractor",
        "sift": "lgsfm.extractors.sift:SiftExtractor",
        "superpoint": "lgsfm.extractors.superpoint:SuperPointExtractor",
    },
    "matcher": {
        "lightglue": "lgsfm.matchers.lightglue:LightGlueMatcher",
        "nearest": "lgsfm.matchers.nearest:NearestMatcher",
    },
    "retriever": {
        "vlad": "lgsfm.retrievers.vlad:VladRetriever",
    },
}


@cache
def available(kind: str) -> dict[str, str]:
    """The components of a kind ("extractor", "matcher", "retriever", "estimator"): name -> "module:Class", sorted.

    A built-in name cannot be taken over by another package.
    """
    others = {point.name: point.value for point in entry_points(group=f"lgsfm.{kind}s")}
    return dict(sorted({**others, **BUILT_IN[kind]}.items()))


def component_class(kind: str, name: str) -> Any:
    """The class of a component, imported on demand.

    Raises:
        InputError: there is no such component (the message lists those there are), or its package is broken.
    """
    known = available(kind)
    if name not in known:
        raise unknown_name(kind, name, known)
    module, _, class_name = known[name].partition(":")
    try:
        return getattr(import_module(module), class_name)
    except (ImportError, AttributeError) as exc:
        raise InputError(
            f"The {kind} '{name}' ({known[name]}) cannot be loaded: {exc}. Repair or remove its package."
        ) from exc


@cache
def component_classes(kind: str) -> dict[str, Any]:
    """The components of a kind that can be loaded: name -> class. One that is broken must not stop the others."""
    classes = {}
    for name in available(kind):
        try:
            classes[name] = component_class(kind, name)
        except InputError as exc:
            logger.warning("%s", exc)
    return classes
