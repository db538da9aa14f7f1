"""What a finished run knows of its pairs: features, matches, inliers and cameras, without computing anything again."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from .cameras import Camera, camera_of_exif, camera_of_model
from .database_reading import read_inlier_matches
from .database_record import DatabaseRecord
from .errors import InputError
from .images import image_path, read_header
from .pair import MatchedPair
from .poses import load_poses
from .records import known_options
from .store import FeatureStore, MatchStore
from .types import Matches, canonical_pair
from .workspace import Workspace

__all__ = ["FinishedRun"]


class FinishedRun:
    """An output folder of `lgsfm reconstruct`.

    Args:
        output: the folder.
        image_dir: of the photos; None means where they were.

    Raises:
        InputError: it is none, or its features or matches are missing.
    """

    def __init__(self, output: Path, image_dir: Path | None = None) -> None:
        self.workspace = Workspace.of_run(output)
        self._cameras: dict[str, Camera] = {}
        record = DatabaseRecord.read(self.workspace.database_identity)
        # what the models were made with; a later command may have had other options, or was killed on its way
        self.options = known_options(self.workspace.options) if record.made else self.workspace.read_options()
        if record.made:
            self.options |= {**record.made, "flags": record.flags}
        self.image_dir = Path(image_dir or self.workspace.recorded_image_dir())
        if not self.image_dir.is_dir():
            raise InputError(f"The photos of {output} are not in '{self.image_dir}' any more. Name them: --images DIR.")

    @cached_property
    def features(self) -> FeatureStore:
        """The features of the last command."""
        return FeatureStore(self._existing(self._features_path))

    @cached_property
    def names(self) -> list[str]:
        """The photos that have features and are still in the folder, sorted; entries of others stay behind."""
        return [name for name in sorted(self.features) if self.photo(name).is_file()]

    @cached_property
    def matches(self) -> MatchStore:
        """The matches of the last command."""
        if "matcher" not in self.options:
            raise InputError(f"There are no matches in {self.workspace.root}. Run `{self.workspace.command()}`.")
        return MatchStore(self._existing(self.workspace.matches(self.options["matcher"], self._features_path)))

    @property
    def _features_path(self) -> Path:
        if "extractor" not in self.options:
            raise InputError(f"There are no features in {self.workspace.root}. Run `{self.workspace.command()}`.")
        return self.workspace.features(self.options["extractor"])

    def _existing(self, path: Path) -> Path:
        if not path.is_file():
            raise InputError(f"There is no {path.name} in {self.workspace.root}. Run `{self.workspace.command()}`.")
        return path

    def name_of(self, text: str) -> str:
        """The image that a user means: by its name, its path, or the only name that ends so.

        Raises:
            InputError: none, or several.
        """
        wanted = Path(text).as_posix()
        if wanted in self.features:
            return wanted
        with suppress(ValueError):  # not below the folder
            relative = Path(text).resolve().relative_to(self.image_dir.resolve()).as_posix()
            if relative in self.features:
                return relative
        found = [name for name in self.features if f"/{name}".endswith(f"/{wanted}")]
        if len(found) != 1:
            problem = "no image" if not found else f"{len(found)} images"
            raise InputError(f"{self.workspace.root} has {problem} named '{text}'. Names are relative to the photos.")
        return found[0]

    def photo(self, name: str) -> Path:
        """The file of an image. Raises `InputError` if its name leads out of the folder of the photos."""
        return image_path(self.image_dir, name)

    def pair(self, name0: str, name1: str) -> MatchedPair:
        """The matches of two images, in the order asked for. Raises `InputError` if the pair was not matched."""
        key = canonical_pair(name0, name1)
        if key not in self.matches:
            raise InputError(f"The run in {self.workspace.root} did not match {name0} with {name1}.")
        found = self.matches[key]
        indices, scores = found.indices, found.scores
        if key != (name0, name1):
            order = np.argsort(indices[:, 1], kind="stable")
            indices, scores = np.ascontiguousarray(indices[order, ::-1]), scores[order]
        return MatchedPair(indices, scores, features=(self.features[name0], self.features[name1]))

    def inliers(self, name0: str, name1: str, matches: Matches) -> np.ndarray | None:
        """(K,) bool: which of the matches passed geometric verification; None where there is no database."""
        if not self.workspace.database.is_file():
            return None
        verified = {tuple(row) for row in read_inlier_matches(self.workspace.database, name0, name1).tolist()}
        return np.array([tuple(row) in verified for row in matches.indices.tolist()], bool)

    def camera(self, name: str) -> Camera:
        """The refined camera of an image in the best model; where it is not registered, that of EXIF or a guess."""
        if name not in self._cameras:
            size = self.features[name].image_size
            if name in self._registered:
                self._cameras[name] = camera_of_model(self.workspace.sparse / "0", name, size)
            else:
                self._cameras[name] = camera_of_exif(read_header(self.photo(name)).exif, size)
        return self._cameras[name]

    @cached_property
    def _registered(self) -> set[str]:
        """The images in the best model."""
        model = self.workspace.sparse / "0"
        return set(load_poses(model)) if model.is_dir() else set()
