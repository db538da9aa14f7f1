"""hloc's features and matches become those of an output folder, from which the later stages go on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, in_short
from ..image_files import image_path
from ..images import file_digest, read_header
from ..observer import Observer
from ..options import digest
from ..pairing import read_pairs, write_pairs
from ..registry import available
from ..run import Run
from ..settings import Settings
from ..store import FeatureStore, MatchStore, digest_of, num_keypoints
from ..types import Features, Matches, Pair, canonical_pair
from .hloc import FeatureFile, MatchFile, RawFeatures

__all__ = ["ImportReport", "import_features"]

FOREIGN = "imported"  # kind of descriptors that no extractor here makes
WITH_LIGHTGLUE = ("aliked", "disk", "superpoint", "xfeat")  # kinds that LightGlue has weights for
MARGIN_PX = 2.0  # how far out of the photo a keypoint may lie


@dataclass(frozen=True)
class ImportReport:
    """What was imported.

    output: the output folder
    features: hash of what was imported as features, part of the name of their file
    matches: the same of the matches; "" without any
    num_images: with features
    without_features: photos that the file has none of
    skipped: photo that cannot be read -> why
    num_pairs: with an entry in the file of matches
    num_matches: of all of them
    notes: what there is to know, in words
    """

    output: Path
    features: str
    matches: str
    num_images: int
    without_features: tuple[str, ...]
    skipped: Mapping[str, str]
    num_pairs: int
    num_matches: int
    notes: tuple[str, ...]


def import_features(
    output: str | Path,
    features: str | Path,
    matches: str | Path | None,
    image_dir: str | Path,
    *,
    pairs: str | Path | None = None,
    kind: str = FOREIGN,
    observer: Observer | None = None,
) -> ImportReport:
    """Writes hloc's features and matches into an output folder; `lgsfm database` and `lgsfm map` go on from there.

    Args:
        output: the folder; what other options left in it stays.
        features: hloc's feature file, with keypoints in pixels of the photos as they are stored.
        matches: hloc's match file of these features; None: they are to be matched here (``lgsfm pairs``, ``match``).
        image_dir: folder of the photos, by whose relative names the files know them.
        pairs: file of the pairs, two names per line; None: all pairs of the match file.
        kind: what the descriptors are: the name of an extractor, whose matcher then takes them as its own, else
            "imported".
        observer: told how far it is.

    Raises:
        InputError: a file cannot be read, does not belong to the photos or to the other one, or holds none of them.
        CacheError: the output folder cannot be written.
    """
    if kind not in (FOREIGN, *available("extractor")):
        raise InputError(f"Unknown kind '{kind}'. Available: {', '.join(available('extractor'))}.")
    if pairs is not None and matches is None:
        raise InputError("A file of pairs says which matches are imported, and no file of matches is named: --matches.")
    with FeatureFile(Path(features)) as source:
        flags = _flags(Path(output), features, matches, pairs, kind)
        settings = Settings.from_flags(flags)
        with Run(Path(image_dir), Path(output), settings, observer, first="database") as run:
            known = [name for name in run.names if name in source.names]
            _check_known(source, known, run)
            if matches is None:
                _check_described(source, known)
            half = _write_features(run, source)
            report = run.extract()
            num_pairs = num_matches = 0
            if matches is not None:
                with MatchFile(Path(matches)) as found:
                    num_pairs, num_matches = _write_matches(run, found, known, None if pairs is None else Path(pairs))
                run.match()
    present = {*report.computed, *report.reused}
    return ImportReport(
        Path(output),
        flags["imported"],
        flags.get("imported_matches", ""),
        len(present & {*known}),
        tuple(name for name in run.names if name in present and name not in source.names),
        dict(report.failed),
        num_pairs,
        num_matches,
        tuple(_notes(source, known, half)),
    )


def _flags(
    output: Path, features: str | Path, matches: str | Path | None, pairs: str | Path | None, kind: str
) -> dict[str, str]:
    """What the stages after are to go on with."""
    flags = {"features": FOREIGN, "imported": _identity(kind, [features]), "upright": "off"}
    if kind != FOREIGN:
        flags["imported_kind"] = kind
    if matches is None:
        return {**flags, "matcher": "lightglue" if kind in WITH_LIGHTGLUE else "nearest"}
    found = {"matcher": FOREIGN, "imported_matches": _identity("", [matches, pairs])}
    return {**flags, **found, "pairs": str((output / "pairs.txt").resolve())}


def _identity(kind: str, files: Sequence[str | Path | None]) -> str:
    """Hash of all that decides what is imported. Raises `InputError` for a file that cannot be read."""
    return digest([kind, *(None if path is None else _digest(Path(path)) for path in files)])


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror}. Check the path.") from exc


def _check_known(source: FeatureFile, known: Sequence[str], run: Run) -> None:
    if len(known) < 2:
        raise InputError(
            f"{source.path} has features of {len(known)} of the {len(run.names)} photos in {run.image_dir}; it knows "
            f"{in_short(sorted(source.names))}, the folder holds {in_short(run.names)}. Name the folder that these "
            "names are relative to."
        )


def _check_described(source: FeatureFile, known: Sequence[str]) -> None:
    """Raises `InputError` where there is nothing to match by."""
    if not source.read(known[0]).descriptors.shape[1]:
        raise InputError(
            f"{source.path} has no descriptors of {known[0]}, by which to match it here. Name its matches: --matches."
        )


def _notes(source: FeatureFile, known: Sequence[str], half: Sequence[str]) -> list[str]:
    notes = []
    if others := len(source.names) - len(known):
        notes.append(f"{others} images of {source.path} are not among the photos, and left out.")
    if half:
        notes.append(
            f"Warning: the keypoints of {len(half)} photos are kept in half precision, which moves them by up to half "
            "a pixel (hloc's as_half); poses are less exact than from float32."
        )
    return notes


# --------------------------------------------------------------------------------- features
def _write_features(run: Run, source: FeatureFile) -> list[str]:
    """Features of all photos that can be read, none for those that the file lacks; gives those in half precision."""
    progress = run.observer.progress("extract")
    half = []
    dimension = 0
    with FeatureStore(run.features_path, run.settings.identity_of(run.extractor)) as store:
        for done, name in enumerate(sorted(run.names, key=lambda name: name not in source.names), start=1):
            path = image_path(run.image_dir, name)
            try:
                size, photo = read_header(path).size, file_digest(path)
            except InputError:
                continue  # who reads photos next says why
            raw = source.read(name) if name in source.names else _nothing(dimension)
            dimension = raw.descriptors.shape[1]
            _check_size(f"{source.path}, {name}", raw, size)
            store[name] = Features(raw.keypoints, raw.descriptors, raw.scores, size, run.extractor.kind, 1, photo)
            if raw.is_half:
                half.append(name)
            if progress:
                progress(done, len(run.names))
    return half


def _nothing(dimension: int) -> RawFeatures:
    empty = np.zeros(0, np.float32)
    return RawFeatures(empty.reshape(0, 2), empty.reshape(0, dimension), empty, None, False)


def _check_size(where: str, raw: RawFeatures, size: tuple[int, int]) -> None:
    """Raises `InputError` unless features can be of a photo of this size, as it is stored."""
    photo = f"the photo has {size[0]}x{size[1]} pixels as it is stored"
    if raw.image_size == size[::-1] != size:
        raise InputError(
            f"{where}: features of an upright view ({size[1]}x{size[0]}), but {photo} and EXIF turns it. COLMAP takes "
            "photos as they are stored: extract from photos that are turned in the file."
        )
    if raw.image_size not in (None, size):
        known = "x".join(map(str, raw.image_size or ()))
        raise InputError(f"{where}: features of a photo of {known} pixels, but {photo}. Name the photos of these.")
    if len(raw.keypoints) and (
        raw.keypoints.min() < -MARGIN_PX or (raw.keypoints.max(axis=0) > np.array(size) - 1 + MARGIN_PX).any()
    ):
        x, y = raw.keypoints.max(axis=0)
        raise InputError(
            f"{where}: keypoints reach to ({x:.0f}, {y:.0f}), but {photo}. They must be in pixels of the photo itself, "
            "not of a resized one."
        )


# --------------------------------------------------------------------------------- matches
def _write_matches(run: Run, source: MatchFile, known: Sequence[str], pairs: Path | None) -> tuple[int, int]:
    """Matches of pairs of the known photos, and the list of these; gives how many pairs and matches there are."""
    progress = run.observer.progress("match")
    total = 0
    with run.finished_features() as features:
        names = [name for name in known if name in features]
        if pairs is None:
            groups = source.pairs_among(names)
        else:
            groups = source.groups_of(dict.fromkeys(read_pairs(pairs, names, skip_unknown=True)))
        if not groups:
            raise InputError(
                f"{source.path} has matches of no pair of these photos{'' if pairs is None else f' that {pairs} lists'}"
                f"; it knows {in_short(sorted(source.groups))}. Name the match file of these features."
            )
        with MatchStore(run.matches_path, run.settings.identity_of(run.matcher)) as store:
            for done, (pair, group) in enumerate(groups.items(), start=1):
                counts = [num_keypoints(features, name) or 0 for name in pair]
                indices, scores = source.read(group, (counts[0], counts[1]))
                digests = {name: str(digest_of(features, name)) for name in pair}
                store[canonical_pair(*pair)] = _in_order(pair, indices, scores, digests)
                total += len(indices)
                if progress:
                    progress(done, len(groups))
    write_pairs(run.workspace.pairs, sorted(canonical_pair(*pair) for pair in groups))
    return len(groups), total


def _in_order(pair: Pair, indices: np.ndarray, scores: np.ndarray, digests: Mapping[str, str]) -> Matches:
    """Matches of the pair with the lesser name first, from those in its own order."""
    first, second = canonical_pair(*pair)
    if (first, second) != pair:
        order = np.argsort(indices[:, 1], kind="stable")
        indices, scores = np.ascontiguousarray(indices[order, ::-1]), scores[order]
    return Matches(indices, scores, (digests[first], digests[second]))
