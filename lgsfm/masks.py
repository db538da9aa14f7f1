"""Which masks belong to which photo: black parts of a mask are parts of the photo in which no keypoints are looked for.

Names are COLMAP's. For the photo ``left/a.jpg``, in the folder of masks:

left/a.jpg.png   the mask of this photo; ``left/a.png`` is one only for a photo of that very name
left.png         the mask of all photos in the folder ``left`` and below it, such as of one camera of a rig

and one more mask may be for all photos. Where a photo has several, each one hides. A mask shows the photo as it is
stored, before EXIF turns it, at any size. `lgsfm.images.read_photo` reads them. Masks may lie among the photos: they
are none themselves.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from .errors import InputError
from .images import IMAGE_SUFFIXES, walk_files
from .options import Options, option

__all__ = ["MaskOptions", "find_masks", "in_words", "without_masks"]

SUFFIX = ".png"
LISTED = 8  # files in a message
_ENDINGS = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))
_ADDED = re.compile(rf"([ ._-]*mask)?({_ENDINGS})*([ ._-]*mask)?({_ENDINGS})*$")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MaskOptions(Options):
    """Which masks there are."""

    masks: str = option(
        "",
        "folder of masks, whose black (0) parts are ignored: PHOTO.JPG.png is of PHOTO.JPG, in the same sub-folder, "
        "and FOLDER.png of all photos in FOLDER; they show the photos as stored, before EXIF turns them",
    )
    camera_mask: str = option(
        "",
        "file of a mask that holds for all photos, such as of the vehicle in the picture; in a JPEG or WebP, which "
        "keep no pure black, what is darker than 128 is ignored",
    )


def without_masks(options: MaskOptions, image_dir: Path, names: Sequence[str]) -> list[str]:
    """The images of a folder that are photos: neither in the folder of masks nor the mask for all.

    Raises:
        InputError: the folder of masks is the folder of photos or one around it, or no photo is left.
    """
    if not options.masks and not options.camera_mask:
        return list(names)
    folder = Path(options.masks).resolve() if options.masks else None
    camera_mask = _place(Path(options.camera_mask)) if options.camera_mask else None
    if folder and image_dir.resolve().is_relative_to(folder):
        raise InputError(
            f"The folder of masks '{options.masks}' is or holds the folder of photos '{image_dir}', so photos could "
            "be taken for a mask. Put the masks into a folder of their own: --masks."
        )
    parents = {parent: (image_dir / parent).resolve() for parent in {PurePosixPath(name).parent for name in names}}

    def is_photo(name: str) -> bool:
        place = parents[PurePosixPath(name).parent] / PurePosixPath(name).name
        return place != camera_mask and not (folder and place.is_relative_to(folder))

    photos = [name for name in names if is_photo(name)]
    if not photos:
        raise InputError(f"All {len(names)} images in '{image_dir}' are masks. Check --masks.")
    return photos


def _place(path: Path) -> Path:
    """Where a file lies, itself perhaps a link."""
    return path.parent.resolve() / path.name


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


def in_words(masks: Mapping[str, Sequence[Path]], names: Sequence[str]) -> str:
    """For people: how many of the images have a mask."""
    without = len(names) - len(masks)
    rest = f"; {without} {'has' if without == 1 else 'have'} none" if without else ""
    return f"Masks: {len(masks)} of {len(names)} photos have one{rest}."


def _masks_in(folder: Path, names: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """The masks of each image in a folder of masks."""
    if not folder.is_dir():
        raise InputError(f"The mask folder '{folder}' does not exist, or is no folder. Check --masks.")
    there = {_composed(name): name for name in walk_files(folder)}
    found = {name: [there[mask] for mask in _candidates(_composed(name), there) if mask in there] for name in names}
    used = {mask for masks in found.values() for mask in masks}
    others = _others(sorted({*there.values()} - used), [name for name in names if not found[name]])
    if not used:
        raise InputError(
            f"No photo has a mask in '{folder}'. The mask of {names[0]} is {names[0]}{SUFFIX}.{others and f' {others}'}"
        )
    if others:
        _log.warning("Masks: in '%s', %s", folder, others)
    return {name: tuple(folder / mask for mask in masks) for name, masks in found.items() if masks}


def _composed(name: str) -> str:
    """A name with each accent in its letter: some systems store them apart, and both look the same."""
    return normalize("NFC", name)


def _candidates(name: str, there: Mapping[str, str]) -> Iterator[str]:
    """What the masks of an image may be called, relative to the folder: those of folders around it, then its own."""
    for parent in reversed(PurePosixPath(name).parents[:-1]):
        yield f"{parent}{SUFFIX}"
    own = f"{name}{SUFFIX}"
    # as in COLMAP: the mask of a PNG need not repeat the suffix
    yield name if name.endswith(SUFFIX) and own not in there else own


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
    """A name in one case, without suffixes of images and what people add to masks: ``A.1_mask.jpg.png`` is ``a.1``."""
    folder, _, last = _composed(name).rpartition("/")
    return f"{folder}/{re.sub(_ADDED, '', last.casefold())}"
