"""Matches that another program made, see `lgsfm.importing`: whatever was imported is used, nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from ..errors import InputError
from ..extractors import Fetch
from ..options import Options, option
from ..types import Features

__all__ = ["ImportedMatcher", "ImportedMatcherOptions"]


@dataclass(frozen=True, kw_only=True)
class ImportedMatcherOptions(Options):
    """Which matches were imported."""

    imported_matches: str = option("", "which imported matches, as `lgsfm import` names them")


class ImportedMatcher:
    """Stands for matches that are in the store already."""

    options_class: ClassVar[type[ImportedMatcherOptions]] = ImportedMatcherOptions

    def __init__(self, options: ImportedMatcherOptions, device: str, fetch: Fetch, kind: str) -> None:
        self.options = options

    @property
    def identity(self) -> dict[str, Any]:
        """All that the matches depend on but the features."""
        return {"matcher": "imported", "version": 1, "options": self.options.to_dict()}

    def prepare(self, features: Features) -> NoReturn:
        """Raises `InputError`: whoever is asked here has no imported matches."""
        raise InputError(
            "Matches are asked for of pairs that were not imported. The matcher 'imported' makes none: name the pairs "
            "that were imported (--pairs OUT/pairs.txt, no --budget), or match anew (--matcher lightglue or nearest)."
        )

    def match_prepared(self, prepared0: Any, prepared1: Any) -> NoReturn:
        """Raises `InputError` likewise."""
        raise InputError("The matcher 'imported' makes no matches: name another --matcher.")
