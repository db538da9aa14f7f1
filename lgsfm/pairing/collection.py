"""What the methods of pair selection may ask of a collection of photos; each thing is made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError
from ..exif import Exif
from ..image_files import image_path
from ..images import Photo, read_header, read_photo
from ..matchers import Matcher
from ..retrievers import Retriever
from ..store import orientation_of
from ..types import Features, Matches, Pair, Progress
from .options import PairOptions

__all__ = ["Collection", "Method"]

Method = Callable[["Collection", "PairOptions"], Iterable[Pair]]
Thing = TypeVar("Thing")
Maker = Callable[[], Thing]


class Collection:
    """The images and, on demand, what is known of them.

    Args:
        names: the images; their order does not matter.
        image_dir: folder of the photos; without it there is no EXIF, and no retriever that looks at them.
        features: gives image name -> features.
        retriever: gives the retriever.
        matcher: gives the matcher of the features.
        matches: gives pair -> matches of a first round.
        prematches: gives where matches of few keypoints are kept, so that another run need not repeat them.
        progress: called with (done, total) while a method works long.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        image_dir: Path | None = None,
        features: Maker[Mapping[str, Features]] | None = None,
        retriever: Maker[Retriever] | None = None,
        matcher: Maker[Matcher] | None = None,
        matches: Maker[Mapping[Pair, Matches]] | None = None,
        prematches: Maker[MutableMapping[Pair, Matches]] = dict,
        progress: Progress | None = None,
    ) -> None:
        self.names = sorted(set(names))  # sorted: ties are broken alike, however the images come
        self.image_dir = image_dir
        self.progress = progress
        self.selected: set[Pair] = set()  # what the methods before have selected
        self.notes: list[str] = []  # for people, by the methods
        self._makers: dict[str, Any] = {
            "features": features,
            "retriever": retriever,
            "matcher": matcher,
            "matches": matches,
            "prematches": prematches,
        }

    def _made(self, thing: str, method: str, advice: str) -> Any:
        maker = self._makers[thing]
        if maker is None:
            raise InputError(f"{method} {advice}")
        return maker()

    @cached_property
    def features(self) -> Mapping[str, Features]:
        """Image name -> features. Raises `InputError` if there are none."""
        return self._made("features", "This way to select pairs", "needs features: extract features first.")

    @cached_property
    def retriever(self) -> Retriever:
        """Makes global descriptors. Raises `InputError` if there is none."""
        return self._made("retriever", "Retrieval", "needs features and a retriever: extract features first.")

    @cached_property
    def matcher(self) -> Matcher:
        """The matcher. Raises `InputError` if there is none."""
        return self._made("matcher", "The pre-match", "needs features and a matcher: extract features first.")

    @cached_property
    def matches(self) -> Mapping[Pair, Matches]:
        """Matches of a first round. Raises `InputError` if there are none."""
        return self._made("matches", "Friends of friends (transitive)", "need the matches of a first round.")

    @cached_property
    def prematches(self) -> MutableMapping[Pair, Matches]:
        """Where matches of few keypoints are kept."""
        return self._made("prematches", "", "")

    @cached_property
    def described(self) -> list[str]:
        """The images that have features."""
        return [name for name in self.names if name in self.features]

    def photo(self, name: str, max_edge_px: int) -> Photo:
        """A photo, upright as its features have seen it. Raises `InputError` if it, or the folder, is not there."""
        if self.image_dir is None:
            raise InputError("This retriever looks at the photos: say where their folder is (image_dir).")
        orientation = orientation_of(self.features, name)
        return read_photo(image_path(self.image_dir, name), max_edge_px, orientation=orientation)

    @cached_property
    def exif(self) -> dict[str, Exif]:
        """The EXIF data of each image; of a file that cannot be read, and without the folder, that of none."""
        return {name: self.exif_of(name) for name in self.names}

    def exif_of(self, name: str) -> Exif:
        """The EXIF data of one image, for who needs not all."""
        if self.image_dir is None:
            return Exif()
        try:
            return read_header(image_path(self.image_dir, name)).exif
        except InputError:  # extraction names and skips it
            return Exif()
