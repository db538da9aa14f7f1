"""Features that another program made, see `lgsfm.importing`: whatever was imported is used, nothing is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from ..errors import InputError
from ..images import Photo
from ..options import option
from . import ExtractorOptions, Fetch

__all__ = ["ImportedExtractor", "ImportedOptions"]


@dataclass(frozen=True, kw_only=True)
class ImportedOptions(ExtractorOptions):
    """Which features were imported; how many there are, and from how large photos, was decided elsewhere."""

    presets: ClassVar[Mapping[str, Mapping[str, int]]] = {
        quality: {"max_edge_px": 0, "max_keypoints": 0} for quality in ExtractorOptions.presets
    }

    max_keypoints: int = option(0, "imported features stay as many as they are: 0", minimum=0, maximum=0)
    max_edge_px: int = option(0, "imported features stay as they are: 0", minimum=0, maximum=0)
    imported: str = option("", "which imported features, as `lgsfm import` names them")
    imported_kind: str = option(
        "imported", "what the imported descriptors are; those of an extractor here can be matched as its own"
    )


class ImportedExtractor:
    """Stands for features that are in the store already. It sees no photos."""

    options_class: ClassVar[type[ImportedOptions]] = ImportedOptions
    matcher: ClassVar[str] = "imported"
    is_rotation_invariant: ClassVar[bool] = True  # nobody turns photos for it
    heeds_masks: ClassVar[bool] = True  # it finds nothing under them

    def __init__(self, options: ImportedOptions, device: str, fetch: Fetch) -> None:
        self.options = options

    @property
    def kind(self) -> str:
        """What the descriptors are."""
        return self.options.imported_kind

    @property
    def identity(self) -> dict[str, Any]:
        """All that the features depend on."""
        return {"extractor": "imported", "version": 1, "options": self.options.to_dict()}

    def extract(self, photo: Photo) -> NoReturn:
        """Raises `InputError`: whoever is asked here has no imported features."""
        raise InputError(
            "There is a photo that was changed or added since features were imported, or other ones are asked for than "
            "those that were imported. The extractor 'imported' makes none: `lgsfm import` again, from a file that has "
            "them, or choose --features."
        )
