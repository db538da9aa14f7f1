"""Whether the files of an output folder are what was written: looks at all that a run reads, and changes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..child import run_in_child
from ..database_reading import report_on
from ..database_record import DatabaseRecord, misfits_of_record
from ..errors import CacheError, InputError, InUseError, LgsfmError, NewerVersionError, in_short
from ..files import read_json_strictly
from ..healing import are_second_looks
from ..manifest import changed_since
from ..mapping.folder import changed_files, written_files
from ..model_files import check_lengths
from ..poses import load_poses
from ..records import misfits_of_options
from ..salvage import kind_of_name, survey
from ..store import FeatureStore
from ..summary import misfits_of_summary
from ..types import Progress
from ..upright import are_turns
from ..workspace import Workspace

__all__ = ["Finding", "Report", "findings", "leftovers", "name_of", "opened", "size_of", "verify"]

MODEL_S = 600.0  # that reading a model may take
DATABASE_S, DATABASE_BYTES_S = 120.0, 2e6  # that reading a database may take: so much, and by its size
Report = Callable[[str], Progress | None]


@dataclass(frozen=True)
class Finding:
    """One file or folder of an output folder.

    path: relative to it
    kind: "features", "matches", "database", "model", "snapshot", "record" or "leftover"
    num_bytes: its size
    num_entries: photos, pairs or lines in it that are whole
    problem: what is wrong with it as a whole, "" if nothing is
    damaged: entry -> what is wrong with it
    changed: what in it can be read, but is not as it was written: other bytes, of another program, or gone
    unfinished: entries that a killed process left
    note: what else is to be said
    is_in_use: another process has it open for writing, so it could not be looked at
    is_newer: a newer lgsfm wrote it, so it could not be looked at
    """

    path: str
    kind: str
    num_bytes: int
    num_entries: int = 0
    problem: str = ""
    damaged: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    note: str = ""
    is_in_use: bool = False
    is_newer: bool = False

    @property
    def is_damaged(self) -> bool:
        """Whether something in it cannot be used."""
        return bool(self.problem or self.damaged)

    @property
    def is_as_written(self) -> bool:
        """Whether all in it is what was written."""
        return not self.is_damaged and not self.changed


def verify(output: str | Path, *, report: Report | None = None) -> list[Finding]:
    """Looks at every file of an output folder that a run reads, all of it. Changes nothing.

    Args:
        output: the folder.
        report: called with the name of each store, gives what is called with (done, total) entries of it.

    Raises:
        InputError: it is no output folder of lgsfm.
    """
    workspace = opened(output)
    with tempfile.TemporaryDirectory(prefix="lgsfm-") as folder:
        return list(findings(workspace, Path(folder) / "child.log", report or (lambda name: None)))


def opened(output: str | Path) -> Workspace:
    """An output folder. Raises `InputError` if it is none of lgsfm."""
    workspace = Workspace.of_run(output)
    if not workspace.options.exists() and not workspace.stores():
        raise InputError(f"'{output}' is no output folder of lgsfm: it has neither options.json nor features.")
    return workspace


def findings(workspace: Workspace, log: Path, report: Report) -> Iterator[Finding]:
    """What `verify` finds, one after the other; what child processes print goes to the log."""
    for path in workspace.stores():
        yield _store(workspace, path, log, report(path.name))
    for path, problem_of in _records(workspace).items():
        if path.exists():
            yield _record(workspace, path, problem_of)
    if workspace.database.exists():
        yield _database(workspace, log)
    for kind, folder in _models(workspace):
        yield _model(workspace, kind, folder, log)
    if workspace.manifest.exists():
        yield _manifest(workspace)
    for path in leftovers(workspace):
        yield Finding(name_of(workspace, path), "leftover", size_of(path), note="lgsfm cache prune removes it")


def name_of(workspace: Workspace, path: Path) -> str:
    """A path in an output folder, relative to it."""
    return path.relative_to(workspace.root).as_posix()


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a folder; 0 if it is not there."""
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size if path.exists() else 0


def _store(workspace: Workspace, path: Path, log: Path, progress: Progress | None) -> Finding:
    kind = "features" if kind_of_name(path) is FeatureStore else "matches"
    found = Finding(name_of(workspace, path), kind, size_of(path))
    if not path.is_file():
        return _with(found, problem="it is no file")
    try:
        state = survey(path, log, progress=progress)
    except InUseError:
        return _with(found, is_in_use=True)
    except NewerVersionError as exc:
        return _with(found, is_newer=True, note=str(exc))
    except CacheError as exc:
        return _with(found, problem=str(exc))
    note = f"{state.num_uncheckable} without a hash of their content, of an older version" * bool(state.num_uncheckable)
    return _with(
        found,
        num_entries=state.num_entries,
        problem=state.problem,
        damaged=state.damaged,
        unfinished=state.unfinished,
        note=note,
    )


def _with(found: Finding, **more: Any) -> Finding:
    return Finding(**{**vars(found), **more})


def _records(workspace: Workspace) -> dict[Path, Callable[[Path], str]]:
    """The small files -> what says what is wrong with one, "" if nothing is; raises ValueError where it is cut off."""
    return {
        workspace.options: lambda path: _in_words(misfits_of_options(read_json_strictly(path))),
        workspace.upright: lambda path: "" if are_turns(read_json_strictly(path)) else WRONG_TYPES,
        workspace.pairs: _problem_of_pairs,
        workspace.second_looks: lambda path: "" if are_second_looks(read_json_strictly(path)) else WRONG_TYPES,
        workspace.database_identity: _problem_of_database_record,
        workspace.summary: lambda path: _in_words(misfits_of_summary(read_json_strictly(path))),
    }


WRONG_TYPES = "it holds values of other types"


def _in_words(wrong: list[str]) -> str:
    return f"{WRONG_TYPES}: {in_short(wrong)}" if wrong else ""


def _problem_of_pairs(path: Path) -> str:
    text = path.read_text(encoding="utf-8-sig")
    if text and not text.endswith("\n"):
        return "it is cut off"
    wrong = sum("\t" not in line for line in text.splitlines())
    return f"{wrong} lines are no pairs" if wrong else ""


def _problem_of_database_record(path: Path) -> str:
    known = read_json_strictly(path)
    return _in_words(misfits_of_record(known)) if known.keys() & DatabaseRecord.__dataclass_fields__ else WRONG_TYPES


def _record(workspace: Workspace, path: Path, problem_of: Callable[[Path], str]) -> Finding:
    found = Finding(name_of(workspace, path), "record", size_of(path))
    try:
        problem = problem_of(path)
        is_of_other_version = path == workspace.database_identity and DatabaseRecord.read(path) == DatabaseRecord()
        note = "of another version: the database is made again" * (is_of_other_version and not problem)
        return _with(found, problem=problem, note=note, num_entries=_lines(path) if path == workspace.pairs else 0)
    except (OSError, ValueError) as exc:
        return _with(found, problem=f"it cannot be read: {exc}")


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _database(workspace: Workspace, log: Path) -> Finding:
    path = workspace.database
    found = Finding(name_of(workspace, path), "database", size_of(path))
    arguments = {"path": str(path), "record": str(workspace.database_identity)}
    limit_s = DATABASE_S + found.num_bytes / DATABASE_BYTES_S
    try:
        more = run_in_child(
            f"{__name__}:look_at_database", arguments, log, limit_s=limit_s, program="Reading the database"
        )
    except LgsfmError as exc:
        more = {"problem": str(exc).partition(" Nothing finished")[0]}
    return _with(found, **more)


def look_at_database(*, path: str, record: str, report: Progress) -> dict[str, Any]:
    """What is in a database and whether it is what its record says; in a child process."""
    contents = report_on(Path(path))
    known = DatabaseRecord.read(Path(record))
    if not known.fingerprint:
        return {"num_entries": contents.num_pairs, "note": "nothing is known of what it was made of: it is made again"}
    is_same = known.is_of(Path(path))
    note = "" if known.checksum_of_data else "without a hash of its matches, of an older version"
    return {
        "num_entries": contents.num_pairs,
        "changed": [] if is_same else ["its content"],
        "note": note,
    }


def _models(workspace: Workspace) -> Iterator[tuple[str, Path]]:
    for folder in sorted(workspace.sparse.glob("*")) if workspace.sparse.is_dir() else ():
        if folder.name.isdecimal() and folder.is_dir():
            yield "model", folder
    for folder in sorted(workspace.root.glob("sparse*.partial/snapshots/*")):
        if folder.name.isdecimal() and (folder / "whole").exists():
            yield "snapshot", folder


def _model(workspace: Workspace, kind: str, folder: Path, log: Path) -> Finding:
    found = Finding(name_of(workspace, folder), kind, size_of(folder))
    try:
        check_lengths(folder)
        count = run_in_child(
            f"{__name__}:count_images", {"path": str(folder)}, log, limit_s=MODEL_S, program="Reading a model"
        )
    except (LgsfmError, ValueError, OSError) as exc:
        return _with(found, problem=str(exc).partition(" Nothing finished")[0])
    if kind == "snapshot":
        return _with(found, num_entries=count)
    written = written_files(workspace.sparse)
    if written is None:
        return _with(found, num_entries=count, note="without hashes of its files, of an older version")
    changed = changed_files(workspace.sparse, folder.name, written)
    gone = [name for name in written if name.startswith(f"{folder.name}/") and not (workspace.sparse / name).exists()]
    return _with(found, num_entries=count, changed=[*changed, *(f"{Path(name).name} is gone" for name in gone)])


def _manifest(workspace: Workspace) -> Finding:
    """Whether the folder is what its manifest says."""
    found = Finding(name_of(workspace, workspace.manifest), "manifest", size_of(workspace.manifest))
    try:
        return _with(found, changed=changed_since(workspace))
    except CacheError as exc:  # of a store or database, which is told of by itself
        return _with(found, note=f"it cannot be compared: {exc}")
    except InputError as exc:
        return _with(found, problem=str(exc))


def count_images(*, path: str, report: Progress) -> int:
    """The registered images of a model; in a child process."""
    return len(load_poses(path))


def leftovers(workspace: Workspace) -> list[Path]:
    """What killed runs and damage have left. Snapshots are no leftovers: the next run goes on from them."""
    patterns = ("*.partial", "*.damaged", "*.damaged-*", f"{workspace.other_models.name}*")
    found = {path for pattern in patterns for path in workspace.root.glob(pattern)}
    kept = {
        path for path in found if any(path.glob("snapshots/*/whole")) or path.name == f"{workspace.log.name}.before"
    }
    return sorted(found - kept)
