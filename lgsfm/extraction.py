"""Stage 1: images -> features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from .background import read_ahead
from .errors import InputError, MemoryShortageError, in_short
from .extractors import Extractor, extract_visible, heeds_masks
from .images import MIN_EDGE_PX, Photo, file_digest, read_photo
from .machine import give_back_memory
from .store import damaged_in, digest_of, is_intact, orientation_of, source_of
from .types import Features, Progress

__all__ = ["ExtractionReport", "extract_features"]

_log = logging.getLogger(__name__)
TIDY_PHOTOS = 32  # after so many, memory that is free goes back to the system

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ExtractionReport:
    """What the feature stage did."""

    computed: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # image name -> reason, without the name
    masked_out: list[str] = field(default_factory=list)  # of those computed or reused: their masks leave no keypoint
    damaged: list[str] = field(default_factory=list)  # of those computed: their old entries could not be used

    def check_enough(self, image_dir: Path) -> None:
        """Raises `InputError` if fewer than two photos can be used."""
        if len(self.computed) + len(self.reused) < 2:
            raise InputError(
                f"Only one photo in {image_dir} can be used. A reconstruction needs at least two. "
                f"Skipped: {', '.join(self.failed)}."
            )

    def followed_by(self, later: ExtractionReport) -> ExtractionReport:
        """The report of both, where the later one did some images again."""
        again = {*later.computed, *later.failed}
        computed = [name for name in self.computed if name not in again] + later.computed
        reused = [name for name in self.reused if name not in again]
        masked_out = [name for name in self.masked_out if name not in again] + later.masked_out
        return ExtractionReport(
            computed, reused, {**self.failed, **later.failed}, masked_out, [*self.damaged, *later.damaged]
        )


def extract_features(
    image_dir: str | Path,
    names: Sequence[str],
    extractor: Extractor,
    store: MutableMapping[str, Features],
    *,
    orientations: Mapping[str, int] | None = None,
    masks: Mapping[str, Sequence[Path]] | None = None,
    is_strict: bool = False,
    at_once: int = 1,
    progress: Progress | None = None,
) -> ExtractionReport:
    """Fills the store with the features of the images; an intact entry of the same view of the same bytes is kept.

    Args:
        image_dir: the folder that ``names`` are relative to.
        names: image names.
        extractor: see `lgsfm.registry`.
        store: image name -> features.
        orientations: EXIF code of the view that the extractor is to see; an image that is not here is seen as its
            EXIF data says, and an entry of any view is kept.
        masks: mask files of those images that have any, see `lgsfm.masks`; other masks make other features.
        is_strict: an unusable photo is an error; by default it is skipped and named in the report.
        at_once: how many photos are at work at once, each on a core of its own; 1 has all cores.
        progress: called with (done, total) after each image.

    Raises:
        InputError: a photo or its mask is unusable and ``is_strict`` is set, or every photo is unusable or masked
            out; or the extractor cannot work at all, for want of the device say.
        MemoryShortageError: there is not enough memory for a photo no larger than those before. A larger one is
            skipped and named like an unusable one.
    """
    image_dir = Path(image_dir)
    views, masks = orientations or {}, masks or {}
    report = ExtractionReport()
    todo: list[str] = []

    def is_finished(name: str) -> bool:
        if not digest_of(store, name) or (name in views and orientation_of(store, name) != views[name]):
            return False
        is_same_photo = bool(source_of(store, name)) and source_of(store, name) == _digest(
            image_dir / name, masks.get(name, ())
        )
        return is_same_photo and is_intact(store, name)

    for name in names:
        (report.reused if is_finished(name) else todo).append(name)
    report.damaged.extend(sorted({*damaged_in(store)}.intersection(todo)))
    if report.damaged:
        _log.warning("Features of %s were damaged and are made again.", in_short(report.damaged))
    done = len(report.reused)
    if progress and todo:
        progress(done, len(names))

    def read(name: str) -> Photo:
        edge_px = extractor.options.max_edge_px or None
        return read_photo(image_dir / name, edge_px, orientation=views.get(name), masks=masks.get(name, ()))

    if masks.keys() & set(todo) and not heeds_masks(extractor):
        _log.warning(
            "The extractor '%s' knows no masks: keypoints under them are dropped afterwards, and masked photos keep "
            "fewer than --max-keypoints.",
            extractor.kind,
        )

    largest = 0  # pixels of a photo that memory sufficed for

    def see(item: tuple[str, Callable[[], Photo]]) -> Features | InputError:
        nonlocal largest
        name, result = item
        try:
            photo = result()
            _check_edges(image_dir / name, photo)
        except InputError as exc:
            return exc
        try:
            features = extract_visible(extractor, photo)
        except (MemoryShortageError, MemoryError) as exc:
            problem = _too_large(image_dir / name, photo, exc)
            if 0 < largest < _num_pixels(photo):  # this one alone
                return InputError(problem)
            raise MemoryShortageError(problem) from exc
        largest = max(largest, _num_pixels(photo))
        return features

    with read_ahead(todo, read, count=max(2, at_once)) as photos:
        for name, found in zip(todo, _each(see, photos, at_once), strict=True):
            if isinstance(found, Features):
                store[name] = found
                report.computed.append(name)
            elif is_strict:
                raise found
            else:
                report.failed[name] = str(found).removeprefix(f"{image_dir / name}: ")
                store.pop(name, None)
            done += 1
            if done % TIDY_PHOTOS == 0:
                give_back_memory()
            if progress:
                progress(done, len(names))
    if names and len(report.failed) == len(names):
        name, reason = next(iter(report.failed.items()))
        raise InputError(f"None of the {len(names)} photos in {image_dir} can be used. The first, {name}: {reason}")
    report.masked_out.extend(name for name in names if name in masks and name in store and not len(store[name]))
    if report.masked_out and len(report.masked_out) + len(report.failed) == len(names):
        raise InputError(
            f"The masks leave no keypoint in any photo, as in {report.masked_out[0]}. Black is what is ignored; "
            "are the masks the wrong way round?"
        )
    return report


def _each(function: Callable[[Item], Result], items: Iterable[Item], at_once: int) -> Iterator[Result]:
    """The results for the items, in their order, one by one or several at once, each on a core of its own."""
    if at_once <= 1:
        yield from map(function, items)
        return
    from .models import on_all_cores  # loads torch

    waiting = iter(items)
    while block := list(islice(waiting, at_once)):
        yield from on_all_cores(function, block)


def _too_large(path: Path, photo: Photo, exc: Exception) -> str:
    height, width = photo.rgb.shape[:2]
    reason = str(exc) or "Not enough memory. What is finished is kept: go on with a smaller --max-edge-px."
    return f"{path}: too large for the memory, with {width}x{height} pixels. {reason}"


def _num_pixels(photo: Photo) -> int:
    return photo.rgb.shape[0] * photo.rgb.shape[1]


def _check_edges(path: Path, photo: Photo) -> None:
    if min(photo.size) < MIN_EDGE_PX:
        raise InputError(f"{path}: smaller than {MIN_EDGE_PX} pixels.")
    height, width = photo.rgb.shape[:2]
    if min(width, height) < MIN_EDGE_PX:
        raise InputError(f"{path}: too narrow once reduced to {width}x{height} pixels. Raise --max-edge-px.")


def _digest(path: Path, masks: Sequence[Path]) -> str | None:
    """The hash of a photo and its masks, or None if one cannot be read (the reader behind will say why)."""
    try:
        return file_digest(path, masks)
    except InputError:
        return None
