"""The output folder: what lies where, and who may write.

OUT/frames/                           frames of a video, if that is what was given
OUT/views/                            views of panoramas
OUT/features-<extractor>-<hash>.h5    hash of extractor, options, weights
OUT/upright.json                      photos that lie on their side, as the others see it
OUT/pairs.txt                         one pair per line
OUT/second-looks.json                 pairs that were tried beside, where photos hung by a thread
OUT/matches-<matcher>-<hash>.h5       hash of matcher, options, weights, features
OUT/prematches-<matcher>-<hash>.h5    the same of few keypoints, which select pairs (--pairs prematch)
OUT/database.db  database.json        verified matches; what they were made of
OUT/sparse/0, 1, ...  models.json     models, the best one first; hashes of their files
OUT/replaced/1, 2, ...                models and databases that were edited, or were better, see `lgsfm.replaced`
OUT/summary.json  options.json        what came out, what was asked for
OUT/manifest.json                     what it was made of and by, in hashes: what two runs differ in
OUT/report.html                       all of it for people, see `lgsfm.report`
OUT/colmap.log                        what COLMAP printed; before some megabytes ago, colmap.log.before

An output folder may come from anybody. What leads out of it is not followed, neither by those who write there nor by
those who only read.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .disk import NO_LOCKS, remedy
from .errors import CacheError, InputError, InUseError
from .files import clear_partial_files, read_json_strictly
from .options import digest
from .records import known_options, usable_options
from .remedies import reconstruct_command
from .store import FORMAT
from .summary import MODEL_FIELDS, read_summary

__all__ = ["FRAMES", "VIEWS", "Workspace", "default_output"]

FRAMES, VIEWS = "frames", "views"  # folders of photos that are made of the input
# How the names begin of what is written
WRITTEN = (
    *("features-", FRAMES, "matches-", "prematches-", "database.", "sparse", "colmap.log", ".lock", "replaced"),
    *("manifest.", "options.", "pairs.", "report.", "second-looks.", "summary.", "upright.", VIEWS),
)
EXPORTS = "export"  # the folder of exports, see `lgsfm.exporting`
UNFINISHED = ".partial"
RECORD_OF_MODELS = "models.json"
UNKNOWN_PHOTOS = "no folder of photos is known"
LOCKED_BYTE = 1 << 20  # on Windows
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """The output folder and the names in it."""

    root: Path

    @classmethod
    def open(cls, root: Path, image_dir: Path) -> Workspace:
        """Makes the folder.

        Raises:
            InputError: it is the image folder, cannot be written, holds another program's reconstruction, or
                something in it leads out of it (see `of_run`). The folder itself may be a link.
        """
        root = Path(root)
        if root.resolve() == Path(image_dir).resolve():
            raise InputError(f"The output folder {root} is the image folder. Choose another with -o.")
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise InputError(f"The output folder {root} cannot be made: {exc.strerror}. Choose another.") from exc
        if not os.access(root, os.W_OK):
            raise InputError(f"The output folder {root} may not be written to. Choose another with -o.")
        _refuse_ways_out(root)
        workspace = cls(root)
        foreign = [path.name for path in (workspace.database, workspace.sparse) if path.exists()]
        is_ours = workspace.options.exists() or workspace.database_identity.exists() or workspace.stores()
        if foreign and not is_ours:
            raise InputError(
                f"The output folder {root} holds {' and '.join(foreign)} of another program, which would be "
                "overwritten. Choose another folder with -o."
            )
        return workspace

    @classmethod
    def of_run(cls, root: str | Path) -> Workspace:
        """The folder of a run that is there, or not: for all who read what a run has left, or clear it up.

        Raises:
            InputError: a link in it leads out of it, or a pipe or a device has the name of a file of a run; whoever
                made the folder may have put it there. The folder itself may be a link.
        """
        workspace = cls(Path(root))
        if workspace.root.is_dir():
            _refuse_ways_out(workspace.root)
        return workspace

    def owns(self, path: Path) -> bool:
        """Whether a path is, or is in, a file or folder that runs write."""
        own, target = self.root.resolve(), path.resolve()
        return own in target.parents and _is_written(target.relative_to(own).parts[0])

    def lock(self) -> IO[str]:
        """Makes this process the only one that writes here, until it ends or closes what this returns.

        Raises:
            InUseError: another process is at work here.
            CacheError: the folder cannot be written.
        """
        path = self.root / ".lock"
        try:
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - stays open: that is the lock
        except OSError as exc:
            raise CacheError(f"{path} cannot be opened: {exc.strerror}. {remedy(exc)}") from exc
        try:
            is_locked = _lock(file)
            if is_locked:
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
        except OSError as exc:
            if exc.errno in (*NO_LOCKS, errno.EINVAL):
                logger.warning("%s: this file system has no locks. Do not start a second process here.", self.root)
                return file
            file.close()
            raise CacheError(f"{path} cannot be written: {exc.strerror}. Check the disk space.") from exc
        if is_locked:
            clear_partial_files(self.root)
            return file
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise InUseError(
            f"The output folder {self.root} is in use by another process (number {owner}). "
            "Wait for it to end, or choose another folder with -o."
        )

    @property
    def frames(self) -> Path:
        """The frames of a video, if that is what the run is over."""
        return self.root / FRAMES

    @property
    def views(self) -> Path:
        """The views of panoramas, if these were given."""
        return self.root / VIEWS

    @property
    def upright(self) -> Path:
        """Which photos lie on their side."""
        return self.root / "upright.json"

    @property
    def pairs(self) -> Path:
        """The pairs that are matched."""
        return self.root / "pairs.txt"

    @property
    def second_looks(self) -> Path:
        """Pairs that were tried beside, and those that had a finer look."""
        return self.root / "second-looks.json"

    @property
    def database(self) -> Path:
        """COLMAP's database."""
        return self.root / "database.db"

    @property
    def database_identity(self) -> Path:
        """What the database was made of."""
        return self.root / "database.json"

    @property
    def sparse(self) -> Path:
        """The models."""
        return self.root / "sparse"

    @property
    def other_models(self) -> Path:
        """The models of another attempt, until it is clear which are better."""
        return self.root / "sparse.other"

    def kept_fields(self) -> tuple[str, ...]:
        """The fields of the summary that hold until the mapper puts new models in the place of those that are here."""
        return MODEL_FIELDS if (self.sparse / "0").is_dir() else ()

    @property
    def summary(self) -> Path:
        """What came out."""
        return self.root / "summary.json"

    @property
    def options(self) -> Path:
        """What was asked for."""
        return self.root / "options.json"

    @property
    def manifest(self) -> Path:
        """What it was made of and by, in hashes."""
        return self.root / "manifest.json"

    @property
    def report(self) -> Path:
        """All of it for people."""
        return self.root / "report.html"

    @property
    def log(self) -> Path:
        """COLMAP's output."""
        return self.root / "colmap.log"

    def features(self, identity: Mapping[str, Any]) -> Path:
        """The features that an extractor of this identity makes."""
        return self.root / f"features-{identity['extractor']}-{digest({'format': FORMAT, **identity})}.h5"

    def matches(self, identity: Mapping[str, Any], features: Path) -> Path:
        """The matches that a matcher of this identity makes of these features."""
        return self.root / f"matches-{identity['matcher']}-{digest({'features': features.name, **identity})}.h5"

    def prematches(self, matches: Path) -> Path:
        """The matches of few keypoints, by the matcher and of the features of these matches."""
        return matches.with_name(f"pre{matches.name}")

    def stores(self) -> list[Path]:
        """All stores that are here, those of other options too."""
        return sorted(path for kind in ("features", "matches", "prematches") for path in self.root.glob(f"{kind}-*.h5"))

    def recorded_image_dir(self) -> Path:
        """The folder of the photos of the last run, as ``summary.json`` has it: whoever made the file chose it."""
        return Path(read_summary(self.summary).get("image_dir") or UNKNOWN_PHOTOS)

    def read_options(self) -> dict[str, Any]:
        """What was asked for.

        Raises:
            InputError: ``options.json`` is not there, so that this is no output folder, or it is damaged.
        """
        try:
            found, problem = usable_options(read_json_strictly(self.options)), "it holds nothing that is known"
        except FileNotFoundError:
            raise InputError(f"'{self.root}' is no output folder of lgsfm: it has no {self.options.name}.") from None
        except (OSError, ValueError) as exc:
            found, problem = {}, str(exc)
        if not found:
            raise InputError(
                f"{self.options} cannot be read: {problem}. `lgsfm cache repair {shlex.quote(str(self.root))}` removes "
                "it; the next run makes it again."
            )
        return found

    def command(self) -> str:
        """The command that goes on with the last run here, or begins one, in full."""
        known = self.recorded_image_dir()
        images = "IMAGES" if str(known) == UNKNOWN_PHOTOS else str(known)
        return reconstruct_command(images, str(self.root), self.recorded_flags())

    def recorded_flags(self) -> dict[str, Any]:
        """The flags of the last command, {} if there was none."""
        return dict(known_options(self.options).get("flags", {}))


def _refuse_ways_out(root: Path) -> None:
    """Nothing outside of an output folder is read or written by way of it, whoever it was that put links in it."""
    own = os.path.realpath(root)
    try:
        for path in _places(root):
            if path.is_symlink() and Path(own) not in Path(os.path.realpath(path)).parents:
                raise InputError(
                    f"{path} is a link that leads out of the output folder: it is not followed, since what is there "
                    "would be read or changed in place of the results. Remove the link. To keep results on another "
                    f"disk, link the whole folder {root}."
                )
            if path.exists() and stat.S_IFMT(path.stat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
                raise InputError(f"{path} is a pipe or a device in the place of a file. Remove it.")
    except OSError as exc:
        raise InputError(f"The output folder {root} cannot be listed: {exc.strerror}. Choose another.") from exc


def _places(root: Path) -> Iterator[Path]:
    """What lies at places that runs write or read: in the folder, in its models and in what is unfinished."""
    for path in root.iterdir():
        if not _is_written(path.name) and path.name != EXPORTS:
            continue
        yield path
        if path.is_symlink() or not path.is_dir():
            continue
        if path.suffix == UNFINISHED or path.name in (FRAMES, VIEWS):
            yield from _below(path)
        elif path.name.startswith("sparse"):  # what has no number is the user's own
            yield path / RECORD_OF_MODELS
            for model in (each for each in path.iterdir() if each.name.isdecimal()):
                yield from (model, *_below(model))


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):  # which follows no links
        yield from (Path(parent, name) for name in (*folders, *files))


def _is_written(name: str) -> bool:
    """Whether a name in an output folder is one of those that runs write."""
    return name.startswith(WRITTEN) or name.endswith(UNFINISHED)


def default_output(image_dir: Path) -> Path:
    """Beside the photos: ``images-lgsfm`` for ``images``; of a video, ``walk-lgsfm`` for ``walk.mp4``."""
    resolved = image_dir.resolve()
    return resolved.with_name(f"{resolved.stem if resolved.is_file() else resolved.name}-lgsfm")


def _lock(file: IO[str]) -> bool:
    """Takes an advisory lock that the system drops when the process ends, however it ends; False if it is taken.

    Raises OSError where there are no locks.
    """
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(LOCKED_BYTE)  # which nobody may read then, so not one of those that name the owner
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True
