"""Which masks belong to which photo: black parts of a mask are parts of the photo in which no keypoints are looked for.

Names are COLMAP's. For the photo ``left/a.jpg``, in the folder of masks:

left/a.jpg.png   the mask of this photo; ``left/a.png`` is one only for a photo of that very name
left.png         the mask of all photos in the folder ``left`` and below it, such as of one camera of a rig

and one more mask may be for all photos. Where a photo has several, each one hides. A mask shows the photo as it is
stored, before EXIF turns it, at any size. `lgsfm.images.read_photo` reads them.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import InputError
from .options import Options, option

__all__ = ["MaskOptions", "find_masks"]

SUFFIX = ".png"
LISTED = 8  # files in a message
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MaskOptions(Options):
    """Which masks there are."""

    masks: str = option(
        "",
        "folder of masks, whose black (0) parts are ignored: PHOTO.JPG.png is of PHOTO.JPG, in the same sub-folder, "
        "and FOLDER.png of all photos in FOLDER; they show the photos as stored, before EXIF turns them",
    )
    camera_mask: str = option("", "file of a mask that holds for all photos, such as of the vehicle in the picture")


def find_masks(options: MaskOptions, names: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """The masks of those images that have any; a warning names the files in the folder of masks that are of no image.

    Args:
        options: see `MaskOptions`.
        names: image names.

    Raises:
        InputError: the folder or the file is not there, or no image has a mask in the folder.
    """
    common: tuple[Path, ...] = ()
    if options.camera_mask:
        common = (Path(options.camera_mask),)
        if not common[0].is_file():
            raise InputError(f"The camera mask '{options.camera_mask}' is no file. Check --camera-mask.")
    own = _masks_in(Path(options.masks), names) if options.masks else {}
    found = {name: (*common, *own.get(name, ())) for name in names}
    return {name: paths for name, paths in found.items() if paths}


def _masks_in(folder: Path, names: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """The masks of each image in a folder of masks."""
    if not folder.is_dir():
        raise InputError(f"The mask folder '{folder}' does not exist, or is no folder. Check --masks.")
    there = set(_files(folder))
    found = {name: [mask for mask in _candidates(name, there) if mask in there] for name in names}
    used = {mask for masks in found.values() for mask in masks}
    others = _others(sorted(there - used), [name for name in names if not found[name]])
    if not used:
        raise InputError(
            f"No photo has a mask in '{folder}'. The mask of {names[0]} is {names[0]}{SUFFIX}.{others and f' {others}'}"
        )
    if others:
        _log.warning("Masks: in '%s', %s", folder, others)
    return {name: tuple(folder / mask for mask in masks) for name, masks in found.items() if masks}


def _candidates(name: str, there: set[str]) -> Iterator[str]:
    """What the masks of an image may be called, relative to the folder: those of folders around it, then its own."""
    for parent in reversed(PurePosixPath(name).parents[:-1]):
        yield f"{parent}{SUFFIX}"
    own = f"{name}{SUFFIX}"
    # as in COLMAP: the mask of a PNG need not repeat the suffix
    yield name if name.endswith(SUFFIX) and own not in there else own


def _files(folder: Path) -> Iterator[str]:
    """Relative POSIX paths of the files below a folder, hidden ones left out."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(parent) / name).relative_to(folder).as_posix()


def _others(files: Sequence[str], unmasked: Sequence[str]) -> str:
    """Names files that are of no image, and for which image without a mask each was perhaps meant; "" if none."""
    if not files:
        return ""
    meant: dict[str, str] = {}
    for name in reversed(unmasked):
        meant |= {_stem(PurePosixPath(name).name): name, _stem(name): name}
    near = {file: meant.get(_stem(file)) or meant.get(_stem(PurePosixPath(file).name)) for file in files}
    ordered = sorted(files, key=lambda file: (near[file] is None, file))
    listed = [f"{file} (for {near[file]} call it {near[file]}{SUFFIX})" if near[file] else file for file in ordered]
    more = f" and {len(files) - LISTED} more" if len(files) > LISTED else ""
    verb = "file is the mask" if len(files) == 1 else "files are the masks"
    return f"{len(files)} {verb} of no photo: {', '.join(listed[:LISTED])}{more}"


def _stem(name: str) -> str:
    """A name without suffixes, in one case, and without what people add to masks: ``A_mask.jpg.png`` is ``a``."""
    folder, _, last = name.rpartition("/")
    bare = re.sub(r"[ ._-]*mask$", "", re.sub(r"(\.[a-z0-9]{1,5})+$", "", last.casefold()))
    return f"{folder}/{bare}"
