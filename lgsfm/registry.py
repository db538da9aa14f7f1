"""Name -> component: one line for each extractor, matcher and retriever, and those of other packages.

Another package adds its own through an entry point in the group ``lgsfm.extractors``, ``lgsfm.matchers`` or
``lgsfm.retrievers``, whose value is ``module:Class`` like the lines below.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from .errors import unknown_name

__all__ = ["available", "component_class"]

BUILT_IN = {
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
    """The components of a kind ("extractor", "matcher", "retriever"): name -> "module:Class", sorted by name.

    A built-in name cannot be taken over by another package.
    """
    others = {point.name: point.value for point in entry_points(group=f"lgsfm.{kind}s")}
    return dict(sorted({**others, **BUILT_IN[kind]}.items()))


def component_class(kind: str, name: str) -> Any:
    """The class of a component, imported on demand. Raises `InputError` that lists the names there are."""
    known = available(kind)
    if name not in known:
        raise unknown_name(kind, name, known)
    module, _, class_name = known[name].partition(":")
    return getattr(import_module(module), class_name)
