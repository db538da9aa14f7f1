"""What is in an output folder, whether it is what was written, and what may go: ``lgsfm cache``.

Nothing here makes anything again: what is removed, the next run does. `verify` changes nothing; `repair` removes only
what is damaged; `prune` removes what no longer serves the last run.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from .child import run_in_child
from .database_reading import report_on
from .database_record import DatabaseRecord
from .errors import CacheError, InputError, InUseError, LgsfmError, in_short
from .files import misfits, read_json, read_json_strictly
from .healing import SecondLooks, are_second_looks
from .images import list_images
from .model_files import check_lengths
from .poses import load_poses
from .salvage import is_openable, kind_of_name, remove, rewrite, survey
from .settings import finer_options
from .store import FeatureStore
from .summary import Summary
from .types import Progress
from .upright import are_turns
from .workspace import Workspace

__all__ = ["Action", "Finding", "prune", "repair", "verify"]

MODEL_S = 600.0  # that reading a model may take
DATABASE_S, DATABASE_BYTES_S = 120.0, 2e6  # that reading a database may take: so much, and by its size
WORTH_SHRINKING = 0.25  # of a file that is free space
OF_LAST_RUN = "of the last run"
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
    unfinished: entries that a killed process left
    note: what else is to be said
    is_in_use: another process has it open for writing, so it could not be looked at
    """

    path: str
    kind: str
    num_bytes: int
    num_entries: int = 0
    problem: str = ""
    damaged: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    note: str = ""
    is_in_use: bool = False

    @property
    def is_damaged(self) -> bool:
        """Whether something in it is not what was written."""
        return bool(self.problem or self.damaged)


@dataclass(frozen=True)
class Action:
    """What was done, or would be, to a file of an output folder.

    path: relative to it
    what: in words
    num_bytes: that this frees on the disk, about; 0 where that is not known
    """

    path: str
    what: str
    num_bytes: int = 0


# ------------------------------------------------------------------------------------------------- verify


def verify(output: str | Path, *, report: Report | None = None) -> list[Finding]:
    """Looks at every file of an output folder that a run reads, all of it. Changes nothing.

    Args:
        output: the folder.
        report: called with the name of each store, gives what is called with (done, total) entries of it.

    Raises:
        InputError: it is no output folder of lgsfm.
    """
    workspace = _opened(output)
    with tempfile.TemporaryDirectory(prefix="lgsfm-") as folder:
        return list(_findings(workspace, Path(folder) / "child.log", report or (lambda name: None)))


def _opened(output: str | Path) -> Workspace:
    workspace = Workspace(Path(output))
    if not workspace.options.exists() and not workspace.stores():
        raise InputError(f"'{output}' is no output folder of lgsfm: it has neither options.json nor features.")
    return workspace


def _findings(workspace: Workspace, log: Path, report: Report) -> Iterator[Finding]:
    for path in workspace.stores():
        yield _store(workspace, path, log, report(path.name))
    for path, problem_of in _records(workspace).items():
        if path.exists():
            yield _record(workspace, path, problem_of)
    if workspace.database.exists():
        yield _database(workspace, log)
    for kind, folder in _models(workspace):
        yield _model(workspace, kind, folder, log)
    for path in _leftovers(workspace):
        yield Finding(_name(workspace, path), "leftover", _bytes(path), note="lgsfm cache prune removes it")


def _name(workspace: Workspace, path: Path) -> str:
    return path.relative_to(workspace.root).as_posix()


def _bytes(path: Path) -> int:
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size if path.exists() else 0


def _store(workspace: Workspace, path: Path, log: Path, progress: Progress | None) -> Finding:
    kind = "features" if kind_of_name(path) is FeatureStore else "matches"
    found = Finding(_name(workspace, path), kind, _bytes(path))
    if not path.is_file():
        return _with(found, problem="it is no file")
    try:
        state = survey(path, log, progress=progress)
    except InUseError:
        return _with(found, is_in_use=True)
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
        workspace.options: lambda path: _misfits(read_json_strictly(path), OPTIONS),
        workspace.upright: lambda path: "" if are_turns(read_json_strictly(path)) else WRONG_TYPES,
        workspace.pairs: _problem_of_pairs,
        workspace.second_looks: lambda path: "" if are_second_looks(read_json_strictly(path)) else WRONG_TYPES,
        workspace.database_identity: _problem_of_database_record,
        workspace.summary: lambda path: _misfits(read_json_strictly(path), get_type_hints(Summary)),
    }


WRONG_TYPES = "it holds values of other types"
OPTIONS = {"flags": dict[str, Any], "extractor": dict[str, Any], "matcher": dict[str, Any]}


def _misfits(values: dict[str, Any], hints: dict[str, Any]) -> str:
    wrong = misfits(values, hints)
    return f"{WRONG_TYPES}: {in_short(wrong)}" if wrong else ""


def _problem_of_pairs(path: Path) -> str:
    text = path.read_text(encoding="utf-8-sig")
    if text and not text.endswith("\n"):
        return "it is cut off"
    wrong = sum("\t" not in line for line in text.splitlines())
    return f"{wrong} lines are no pairs" if wrong else ""


def _problem_of_database_record(path: Path) -> str:
    read_json_strictly(path)
    return "" if DatabaseRecord.read(path) != DatabaseRecord() else WRONG_TYPES


def _record(workspace: Workspace, path: Path, problem_of: Callable[[Path], str]) -> Finding:
    found = Finding(_name(workspace, path), "record", _bytes(path))
    try:
        return _with(found, problem=problem_of(path), num_entries=_lines(path) if path == workspace.pairs else 0)
    except (OSError, ValueError) as exc:
        return _with(found, problem=f"it cannot be read: {exc}")


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _database(workspace: Workspace, log: Path) -> Finding:
    path = workspace.database
    found = Finding(_name(workspace, path), "database", _bytes(path))
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
        "problem": "" if is_same else "its content is not what was written",
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
    found = Finding(_name(workspace, folder), kind, _bytes(folder))
    try:
        check_lengths(folder)
        count = run_in_child(
            f"{__name__}:count_images", {"path": str(folder)}, log, limit_s=MODEL_S, program="Reading a model"
        )
    except (LgsfmError, ValueError, OSError) as exc:
        return _with(found, problem=str(exc).partition(" Nothing finished")[0])
    return _with(found, num_entries=count)


def count_images(*, path: str, report: Progress) -> int:
    """The registered images of a model; in a child process."""
    return len(load_poses(path))


def _leftovers(workspace: Workspace) -> list[Path]:
    """What killed runs and damage have left. Snapshots are no leftovers: the next run goes on from them."""
    patterns = ("*.partial", "*.damaged", "*.damaged-*", "*.before", f"{workspace.other_models.name}*")
    found = {path for pattern in patterns for path in workspace.root.glob(pattern)}
    kept = {
        path for path in found if any(path.glob("snapshots/*/whole")) or path.name == f"{workspace.log.name}.before"
    }
    return sorted(found - kept)


# ------------------------------------------------------------------------------------------------- repair


@contextmanager
def _locked(output: str | Path) -> Iterator[tuple[Workspace, Path]]:
    """An output folder for this process alone, and a file for what child processes print."""
    workspace = _opened(output)
    with closing(workspace.lock()), tempfile.TemporaryDirectory(prefix="lgsfm-") as folder:
        yield workspace, Path(folder) / "child.log"


def repair(output: str | Path, *, report: Report | None = None) -> list[Action]:
    """Removes from an output folder what is damaged, and nothing else; the next run makes it again.

    Entries of a store are removed, or, where the file itself is damaged, those that can be read are put into a new one
    and the old one is set aside. Other files are removed, models set aside.

    Raises:
        InputError: it is no output folder of lgsfm.
        CacheError: another process is at work there, or something cannot be removed.
    """
    with _locked(output) as (workspace, log):
        damaged = [each for each in _findings(workspace, log, report or (lambda name: None)) if each.is_damaged]
        return [_repair(workspace, found, log) for found in damaged]


def _repair(workspace: Workspace, found: Finding, log: Path) -> Action:
    path = workspace.root / found.path
    if found.kind in ("features", "matches") and path.is_file():
        if found.damaged and not found.problem:
            with suppress(LgsfmError):
                remove(path, found.damaged, log)
                return Action(found.path, f"removed {len(found.damaged)} damaged entries")
        kept, aside = rewrite(path, log)
        return Action(found.path, f"set aside as {aside.name}; {kept} entries could be read and are kept")
    if found.kind == "record" and path.is_file():
        path.unlink()
        return Action(found.path, "removed", found.num_bytes)
    aside = path.with_name(f"{path.name}.damaged")
    if aside.exists():
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
    path.rename(aside)
    return Action(found.path, f"set aside as {aside.name}")


# ------------------------------------------------------------------------------------------------- prune


def prune(output: str | Path, *, is_dry: bool = True, report: Report | None = None) -> list[Action]:
    """Removes from an output folder what no longer serves the last run; see `Action` for what that is.

    Stores of other options, entries of photos that are gone, entries that were not finished, and what killed runs and
    damage have left. Damaged stores stay as they are: see `repair`.

    Args:
        output: the folder.
        is_dry: only says what would go.
        report: as for `verify`.

    Raises:
        InputError: it is no output folder of lgsfm, or the options of the last run are not known.
        CacheError: another process is at work there, or something cannot be removed.
    """
    with _locked(output) as (workspace, log):
        current = current_stores(workspace)
        if not current:
            raise InputError(f"{workspace.root} does not say what the last run was made with. Run `lgsfm reconstruct`.")
        actions = []
        for path in _leftovers(workspace):
            actions.append(Action(_name(workspace, path), "left over", _bytes(path)))
            if not is_dry:
                _delete(path)
        for path in workspace.stores():
            if path not in current:
                actions.append(Action(_name(workspace, path), "of other options", _bytes(path)))
                if not is_dry:
                    _delete(path)
            elif is_openable(path) and (action := _prune_store(workspace, path, log, is_dry, report)):
                actions.append(action)
        return actions


def _delete(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as exc:
        raise CacheError(f"{path} cannot be removed: {exc.strerror}. Check its permissions.") from exc


def _prune_store(workspace: Workspace, path: Path, log: Path, is_dry: bool, report: Report | None) -> Action | None:
    """Entries of photos that are gone and unfinished ones; also free space alone, if that is much."""
    state = survey(path, log, progress=report(path.name) if report else None)
    if state.problem or state.damaged:
        return None
    here = _photos(workspace)
    gone = set() if here is None else set(state.names) - here
    num_bytes = max(0, path.stat().st_size - state.num_bytes) if not gone else 0
    is_worth_it = num_bytes > WORTH_SHRINKING * path.stat().st_size and num_bytes > 1 << 20
    if not gone and not state.unfinished and not is_worth_it:
        return None
    parts = [f"entries of {len(gone)} photos that are gone"] * bool(gone)
    parts += [f"{len(state.unfinished)} unfinished entries"] * bool(state.unfinished)
    parts += ["free space in the file"] * (is_worth_it and not gone)
    before = path.stat().st_size
    if not is_dry:
        kept, aside = rewrite(path, log, names=None if here is None else set(state.names) & here)
        if not kept and state.num_entries and not gone:
            raise CacheError(f"{path} could not be copied; the old one is {aside.name}.")
        aside.unlink()
        num_bytes = before - _bytes(path)
    return Action(_name(workspace, path), ", ".join(parts), num_bytes)


def _photos(workspace: Workspace) -> set[str] | None:
    """The photos of the last run that are still there; None if their folder is gone, and nobody can say."""
    folder = read_json(workspace.summary).get("image_dir")
    if not isinstance(folder, str) or not Path(folder).is_dir():
        return None
    try:
        return set(list_images(Path(folder)))
    except InputError:
        return None


def current_stores(workspace: Workspace) -> set[Path]:
    """The stores of the last command and those that the database is of, with those of their finer looks."""
    record = DatabaseRecord.read(workspace.database_identity)
    has_finer = bool(SecondLooks(workspace.second_looks).finer)
    found: set[Path] = set()
    for made in (record.made, read_json(workspace.options)):
        extractor, matcher = made.get("extractor"), made.get("matcher")
        if not isinstance(extractor, dict) or "extractor" not in extractor:
            continue
        for identity in [extractor, *([_finer(extractor)] if has_finer else [])]:
            features = workspace.features(identity)
            found.add(features)
            if isinstance(matcher, dict) and "matcher" in matcher:
                matches = workspace.matches(matcher, features)
                found |= {matches, workspace.prematches(matches)}
    return found


def _finer(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity of the extractor of a finer look, see `Settings.finer`."""
    options = dict(identity.get("options", {}))
    with suppress(KeyError, TypeError):
        options |= finer_options(options["max_edge_px"], options["max_keypoints"])
    return {**identity, "options": options}
