"""Name -> component: one line for each extractor, matcher, retriever and estimator, and those of other packages.

Another package adds its own through an entry point in the group ``lgsfm.extractors``, ``lgsfm.matchers``,
``lgsfm.retrievers`` or ``lgsfm.estimators``, whose value is ``module:Class`` like the lines below.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import InputError, unknown_name
from .extractors import ExtractorOptions
from .options import Options

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
        "disk": "lgsfm.extractors.disk:DiskExtractor",
        "imported": "lgsfm.extractors.imported:ImportedExtractor",
        "sift": "lgsfm.extractors.sift:SiftExtractor",
        "superpoint": "lgsfm.extractors.superpoint:SuperPointExtractor",
        "xfeat": "lgsfm.extractors.xfeat:XFeatExtractor",
    },
    "matcher": {
        "imported": "lgsfm.matchers.imported:ImportedMatcher",
        "lightglue": "lgsfm.matchers.lightglue:LightGlueMatcher",
        "nearest": "lgsfm.matchers.nearest:NearestMatcher",
    },
    "retriever": {
        "asmk": "lgsfm.retrievers.asmk:AsmkRetriever",
        "dinov2": "lgsfm.retrievers.dinov2:Dinov2Retriever",
        "vlad": "lgsfm.retrievers.vlad:VladRetriever",
    },
}


NEEDED = {  # what a component of a kind must have, beside options
    "estimator": ("relative_pose", "fundamental", "homography"),
    "extractor": ("kind", "matcher", "extract"),
    "matcher": ("prepare", "match_prepared"),
    "retriever": ("describe",),
}


@cache
def available(kind: str) -> dict[str, str]:
    """The components of a kind ("extractor", "matcher", "retriever", "estimator"): name -> "module:Class", sorted.

    A built-in name cannot be taken over by another package.
    """
    others = {name: point.value for name, point in _of_packages(kind).items()}
    return dict(sorted({**others, **BUILT_IN[kind]}.items()))


def _of_packages(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"lgsfm.{kind}s")}


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
        component = getattr(import_module(module), class_name)
        problem = _problem(kind, component)
    except (Exception, SystemExit) as exc:  # a module of others raises anything when it is imported
        raise InputError(_broken(kind, name, f"cannot be loaded: {exc or type(exc).__name__}")) from exc
    if problem:
        raise InputError(_broken(kind, name, problem))
    return component


def _problem(kind: str, component: Any) -> str:
    """What keeps a class from being a component of the kind, "" if nothing does."""
    missing = [name for name in NEEDED[kind] if not hasattr(component, name)]
    if missing:
        return f"lacks {', '.join(missing)}"
    if kind == "estimator":
        return ""
    options = getattr(component, "options_class", None)
    if not isinstance(options, type) or not issubclass(options, Options):
        return "lacks options_class, a subclass of lgsfm.options.Options"
    if kind == "extractor" and not issubclass(options, ExtractorOptions):
        return "has an options_class that is no subclass of lgsfm.extractors.ExtractorOptions"
    plain = [field.name for field, _ in options.fields() if "help" not in field.metadata]
    return f"has options that were not made by lgsfm.options.option: {', '.join(plain)}" if plain else ""


def _broken(kind: str, name: str, problem: str) -> str:
    point = None if name in BUILT_IN[kind] else _of_packages(kind).get(name)
    package = f"its package '{point.dist.name}'" if point and point.dist else "its package"
    return f"The {kind} '{name}' ({available(kind)[name]}) {problem}. Repair or remove {package}."


@cache
def component_classes(kind: str) -> dict[str, Any]:
    """The components of a kind that can be used: name -> class. One that is broken must not stop the others."""
    classes = {}
    for name in available(kind):
        try:
            classes[name] = component_class(kind, name)
        except InputError as exc:
            logger.warning("%s", exc)
    return classes
