"""Formats of photos: those that lgsfm always reads, and those that need another library."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

__all__ = ["EXTRA_SUFFIXES", "PLAIN_SUFFIXES", "is_readable", "pip_command"]

PLAIN_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".pbm", ".pnm")
)
_RAW_SUFFIXES = (
    *(".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw"),
    *(".3fr", ".fff", ".iiq", ".x3f"),
)
# suffix -> the kind of photo that it promises; what a file is, its first bytes say
EXTRA_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    ".avif": "AVIF",
    **dict.fromkeys(_RAW_SUFFIXES, "RAW"),
}
_MODULES = {"HEIC": "pillow_heif", "AVIF": "PIL._avif", "RAW": "rawpy"}
_REQUIREMENTS = {"HEIC": "lgsfm[heic]", "AVIF": "pillow>=11.3", "RAW": "lgsfm[raw]"}  # for pip


def is_readable(kind: str) -> bool:
    """Whether the library that reads photos of a kind is here."""
    return kind not in _MODULES or find_spec(_MODULES[kind]) is not None


def pip_command(kinds: Iterable[str]) -> str:
    """The command that installs what reads photos of some kinds.

    >>> pip_command({"RAW", "HEIC"})
    "pip install 'lgsfm[heic]' 'lgsfm[raw]'"
    """
    return " ".join(["pip install", *(f"'{_REQUIREMENTS[kind]}'" for kind in sorted(kinds))])
