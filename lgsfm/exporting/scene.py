"""What is exported: one model of a finished run and its photos."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import pycolmap

from ..errors import InputError
from ..image_files import checked_name, image_path
from ..images import read_header
from ..poses import read_reconstruction
from ..summary import read_summary
from ..workspace import Workspace

__all__ = ["Scene", "flat_names", "open_scene"]


@dataclass(frozen=True, eq=False)
class Scene:
    """One model of a run.

    workspace: the output folder of the run
    number: of the model; 0 is the best
    model: as COLMAP read it; formats change copies only
    image_dir: of the photos; it need not be there for formats that hold none
    """

    workspace: Workspace
    number: int
    model: pycolmap.Reconstruction
    image_dir: Path

    @cached_property
    def images(self) -> list[pycolmap.Image]:
        """The registered images, by name; those whose pose is not a number are as good as not registered."""
        images = [self.model.image(number) for number in self.model.reg_image_ids()]
        finite = [image for image in images if np.isfinite(image.cam_from_world().matrix()).all()]
        if not finite:
            raise InputError(f"The model {self.workspace.sparse / str(self.number)} has no image with a pose.")
        for image in finite:
            checked_name(image.name)
        return sorted(finite, key=lambda image: image.name)

    @property
    def names(self) -> list[str]:
        """Of the registered images, sorted."""
        return [image.name for image in self.images]

    def photo(self, name: str) -> Path:
        """The file of a registered image.

        Raises:
            InputError: it is not there, no photo, or of another size than when the model was made.
        """
        path = image_path(self.image_dir, name)
        if not path.is_file():
            raise InputError(f"The photo {name} is not in '{self.image_dir}' any more. Say where: --images DIR.")
        found = read_header(path).size
        expected = self._sizes[name]
        if found != expected:
            raise InputError(
                f"{path} is of {found[0]} x {found[1]} px; the model was made of a photo of {expected[0]} x "
                f"{expected[1]} px. Say where that is: --images DIR."
            )
        return path

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, int]]:
        cameras = {image.name: self.model.camera(image.camera_id) for image in self.images}
        return {name: (camera.width, camera.height) for name, camera in cameras.items()}

    @cached_property
    def orientations(self) -> dict[str, int]:
        """Image -> EXIF code of its upright view, as far as photos are there and the run knows of turns beyond EXIF."""
        from ..exif import turned_clockwise

        turns = read_summary(self.workspace.summary).get("turned_deg", {})
        codes = {}
        for name in self.names:
            path = image_path(self.image_dir, name)
            code = read_header(path).exif.orientation if path.is_file() else 1
            codes[name] = turned_clockwise(code, round(turns.get(name, 0) / 90) % 4)
        return codes


def open_scene(output: Path, number: int = 0, image_dir: Path | None = None) -> Scene:
    """A model of an output folder of `lgsfm reconstruct`.

    Args:
        output: the folder.
        number: of the model; 0 is the best.
        image_dir: of the photos; None means where they were.

    Raises:
        InputError: there is no such model, or it is damaged, or ``image_dir`` is no folder.
    """
    workspace = Workspace.of_run(output)
    folders = workspace.sparse.iterdir() if workspace.sparse.is_dir() else ()
    numbers = sorted(int(path.name) for path in folders if path.name.isdecimal())
    if number not in numbers:
        advice = f"there is none; run `{workspace.command()}`"
        there = f"there are {', '.join(map(str, numbers))}" if numbers else advice
        raise InputError(f"There is no model {number} in {workspace.sparse}: {there}.")
    if image_dir is not None and not Path(image_dir).is_dir():
        raise InputError(f"There is no folder '{image_dir}'. Name that of the photos.")
    known = Path(image_dir or workspace.recorded_image_dir())
    return Scene(workspace, number, read_reconstruction(workspace.sparse / str(number)), known)


def flat_names(names: list[str]) -> dict[str, str]:
    """Image name -> name without folders, each one different: programs that take the last part of a path only would
    mix up a/1.jpg and b/1.jpg. Without folders the names stay as they are."""
    taken: set[str] = set()
    flat = {}
    for name in sorted(names, key=lambda name: ("/" in name, name)):  # those that may stay come first
        path = PurePosixPath(checked_name(name).replace("/", "_"))
        candidate, count = path.name, 1
        while candidate.lower() in taken:
            count += 1
            candidate = f"{path.stem}-{count}{path.suffix}"
        taken.add(candidate.lower())
        flat[name] = candidate
    return flat
