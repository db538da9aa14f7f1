"""What the database was made of (``database.json``): whether it can stay, and if not, which verified pairs can.

A database whose photos, features, matches, cameras and options are those that are wanted stays as it is. Of another
one the pairs are taken over whose two images have the same features and cameras: photos that are added, or pairs of a
second look, cost the verification of what is new.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from .camera_groups import CameraGroup
from .database import VerificationOptions
from .database_reading import DatabaseReport, checksum, fingerprint, report_on
from .errors import CacheError
from .files import misfits, read_json, write_json
from .mapping import pycolmap_version
from .options import digest
from .records import Flags, known_parts
from .replaced import put_beside
from .types import Pair

__all__ = ["DatabaseContent", "DatabaseRecord", "misfits_of_record"]

logger = logging.getLogger(__name__)
FORMAT = 2  # of the database; 2: with relative poses


@dataclass(frozen=True)
class DatabaseContent:
    """All that decides what is in a database.

    images: image name -> hash of its features and its camera
    pairs: what is imported
    finer: those of the pairs that have matches of a finer look beside -> hash of these
    origin: hash of what all pairs have in common: where the matches come from, how they are verified, by what
    doppelgangers: what becomes of doubtful pairs, see `lgsfm.view_graph.doppelgangers`
    """

    images: Mapping[str, str]
    pairs: Sequence[Pair]
    finer: Mapping[Pair, str]
    origin: str
    doppelgangers: str = "off"

    @classmethod
    def of(
        cls,
        features: Mapping[str, str],
        cameras: Iterable[CameraGroup],
        camera_model: str,
        pairs: Sequence[Pair],
        *,
        matches: str,
        verification: VerificationOptions,
        finer: Mapping[Pair, str],
        doppelgangers: str = "off",
    ) -> DatabaseContent:
        """From image name -> hash of its features, the name that stands for all matches, and the choices."""
        images: dict[str, str] = {}
        for group in cameras:
            camera = {key: value for key, value in group.row(camera_model).items() if key not in OF_THE_GROUP}
            images |= {name: digest([features[name], camera]) for name in group.names}
        common = {"matches": matches, "verification": verification.to_dict(), "format": FORMAT}
        return cls(images, pairs, finer, digest({**common, "pycolmap": pycolmap_version()}), doppelgangers)

    @property
    def identity(self) -> str:
        """Hash of all of it."""
        made_of = sorted(self.images.items()), sorted(self.pairs), sorted(self.finer.items())
        return digest([*made_of, self.origin, self.doppelgangers])


OF_THE_GROUP = ("images", "num_images", "label")  # in a camera's row: of no consequence for a pair of its images


@dataclass(frozen=True)
class DatabaseRecord:
    """What is noted beside a database.

    identity: of its content, "" if there is none
    fingerprint: of the file, see `lgsfm.database_reading.fingerprint`
    report: what was said when it was made
    images, finer, origin: as in `DatabaseContent`
    dropped: verified pairs that were taken out as doubtful
    doubts: what people should hear of doubtful pairs
    checksum_of_data: hash of keypoints, matches and geometries; "" if an older version made the database
    flags, made, rules: the choices of the run that made it, for those who go on from it
    """

    identity: str = ""
    fingerprint: str = ""
    report: dict[str, int] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    finer: list[list[str]] = field(default_factory=list)
    origin: str = ""
    dropped: list[list[str]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    flags: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    rules: str = ""
    checksum_of_data: str = ""

    @classmethod
    def read(cls, path: Path) -> DatabaseRecord:
        """What is noted in a file; nothing if it is missing or of another version."""
        known = read_json(path)
        is_of_this_version = set(cls.__dataclass_fields__) - set(known) <= {"checksum_of_data"}
        if not is_of_this_version or set(known) - set(cls.__dataclass_fields__):
            return cls()
        return cls() if misfits_of_record(known) else cls(**known)

    def brought_up_to_date(
        self,
        path: Path,
        database: Path,
        content: DatabaseContent,
        build: Callable[[set[Pair]], tuple[list[Pair], list[str]]],
    ) -> tuple[DatabaseRecord, set[Pair]]:
        """The record of the database once it is of a content, and those of its pairs that were there.

        Args:
            path: where this record is kept; it is removed before another database takes the place of this one.
            database: the file; what this record tells of it counts only if it is whole and untouched.
            content: that is wanted.
            build: makes the database, keeping these pairs; gives those that were dropped as doubtful, and the doubts.

        Raises:
            CacheError: a database that was changed since it was made cannot be moved out of the way, see `put_beside`.
        """
        is_whole = self.is_of(database)
        if is_whole and self.identity == content.identity:
            return self, set(content.pairs)
        kept = self.kept_pairs(content) if is_whole else set()
        if not is_whole and database.exists() and path.exists():  # without a record a killed run has made it
            self._put_beside(database)
        path.unlink(missing_ok=True)
        dropped, doubts = build(kept)
        return DatabaseRecord.about(database, content, dropped=list(map(list, dropped)), doubts=doubts), kept

    @staticmethod
    def _put_beside(database: Path) -> None:
        """Keeps a database that was changed since it was made: by hand, by another program, or by damage."""
        files = [path for path in (database, *(Path(f"{database}{end}") for end in ("-wal", "-shm"))) if path.exists()]
        try:
            target = put_beside(database.parent, files)
        except OSError as exc:
            raise CacheError(f"{database} cannot be moved: {exc.strerror}. Check its permissions.") from exc
        logger.warning(
            "%s was changed since it was made. It is made again; the changed one is in %s.", database, target
        )

    @classmethod
    def about(cls, database: Path, content: DatabaseContent, **more: Any) -> DatabaseRecord:
        """What to note of a database that was just made."""
        return cls(
            content.identity,
            fingerprint(database),
            asdict(report_on(database)),
            dict(content.images),
            sorted(map(list, content.finer)),
            content.origin,
            checksum_of_data=checksum(database),
            **more,
        )

    def write(self, path: Path) -> None:
        """Writes it. Raises `CacheError` if that fails."""
        write_json(path, asdict(self), is_checked=True)

    def is_of(self, database: Path) -> bool:
        """Whether this is about the database as it is now, whole and untouched."""
        if not self.fingerprint or fingerprint(database) != self.fingerprint:
            return False
        return self.checksum_of_data in ("", checksum(database))

    def kept_pairs(self, content: DatabaseContent) -> set[Pair]:
        """The wanted pairs of which the database, if it has them, holds just what would be made again."""
        if self.origin != content.origin:
            return set()
        same = {name for name, image in content.images.items() if self.images.get(name) == image}
        others = {*map(tuple, self.finer), *content.finer, *map(tuple, self.dropped)}
        return {pair for pair in content.pairs if pair[0] in same and pair[1] in same and pair not in others}


def misfits_of_record(known: Mapping[str, Any]) -> list[str]:
    """The names of those parts of a record, of whatever version, that are not of the types that they are read as."""
    pairs = list[tuple[str, str]]
    hints = {**get_type_hints(DatabaseRecord), "finer": pairs, "dropped": pairs, "flags": Flags}
    wrong = misfits(known, hints)
    if "made" not in wrong and not known_parts(known.get("made", {})):
        wrong.append("made")
    numbers = {each.name for each in fields(DatabaseReport)}
    if "report" not in wrong and known.get("fingerprint") and set(known.get("report", numbers)) != numbers:
        wrong.append("report")
    return wrong
