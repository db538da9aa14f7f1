"""A finished model in the files of other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..observer import Observer
from ..workspace import EXPORTS
from .destination import check_destination, written_folder, written_whole
from .formats import FORMATS, Format, format_named
from .scene import Scene, open_scene

__all__ = ["FORMATS", "Exported", "export"]


@dataclass(frozen=True)
class Exported:
    """What was written.

    path: the file or folder
    format: by name
    model: number of the model
    num_images: registered images of it
    num_points3D: points of it
    notes: what there is to know, in words
    opened_by: the commands that read it
    """

    path: Path
    format: str
    model: int
    num_images: int
    num_points3D: int  # noqa: N815 - COLMAP's name
    notes: list[str]
    opened_by: str


def export(
    output: str | Path,
    format: str,
    destination: str | Path | None = None,
    *,
    model: int = 0,
    image_dir: str | Path | None = None,
    observer: Observer | None = None,
    **options: Any,
) -> Exported:
    """Writes a model of a finished run in the files of another program, as a whole or not at all.

    Photos in an export hold the pixels that the model is of: those stored in the file, not turned as EXIF says; the
    EXIF orientation of the copy says so. Names of photos without sub-folders.

    Args:
        output: folder of `lgsfm reconstruct`; nothing in it but ``output/export`` is changed.
        format: a name in `FORMATS`.
        destination: file or folder; None is in ``output/export``. A former export there is replaced, nothing else.
        model: number of the model; 0 is the best.
        image_dir: of the photos; None means where they were.
        observer: told how far it is.
        options: those of the format.

    Raises:
        InputError: the format, its options, the model, a photo or the destination is unusable.
        CacheError: the destination cannot be written.
        ReconstructionError: COLMAP fails of undistorting a photo.
    """
    chosen = format_named(format)
    values = chosen.options_class().from_dict(options)
    scene = open_scene(Path(output), model, None if image_dir is None else Path(image_dir))
    own_place = _default_place(scene, chosen)
    path = Path(destination) if destination is not None else own_place
    suffix = Path(chosen.place).suffix
    check_destination(scene.workspace, scene.image_dir, path, suffix=suffix, own_place=own_place, kind=format)
    images, points = len(scene.images), scene.model.num_points3D()
    place = (scene, values, observer or Observer())
    if chosen.is_folder:
        record = {"format": format, "model": model, "num_images": images, "options": values.to_dict()}
        with written_folder(path, record) as partial:
            notes = chosen.write(place[0], partial, *place[1:])
    else:
        with written_whole(path) as partial:
            notes = chosen.write(place[0], partial, *place[1:])
    return Exported(path, format, model, images, points, notes, chosen.opened_by.format(path=path))


def _default_place(scene: Scene, chosen: Format) -> Path:
    """In the output folder; models other than the best have their number in the name."""
    name = Path(chosen.place)
    number = f"-model{scene.number}" if scene.number else ""
    return scene.workspace.root / EXPORTS / f"{name.stem}{number}{name.suffix}"
