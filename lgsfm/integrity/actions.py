"""What may go from an output folder: what is damaged (`repair`), and what no longer serves the last run (`prune`)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..database_record import DatabaseRecord
from ..disk import remedy
from ..errors import CacheError, InputError, LgsfmError
from ..files import read_json
from ..healing import SecondLooks
from ..images import list_images
from ..salvage import is_newer, is_openable, remove, rewrite, survey
from ..settings import finer_options
from ..workspace import Workspace
from .findings import Finding, Report, findings, leftovers, name_of, opened, size_of

__all__ = ["Action", "prune", "repair"]

WORTH_SHRINKING = 0.25  # of a file that is free space


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


# ------------------------------------------------------------------------------------------------- repair


@contextmanager
def _locked(output: str | Path) -> Iterator[tuple[Workspace, Path]]:
    """An output folder for this process alone, and a file for what child processes print."""
    workspace = opened(output)
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
        damaged = [each for each in findings(workspace, log, report or (lambda name: None)) if each.is_damaged]
        if damaged:
            workspace.manifest.unlink(missing_ok=True)  # the folder will not be what it says
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
    if found.kind in ("record", "manifest") and (path.is_file() or not path.exists()):
        path.unlink(missing_ok=True)
        return Action(found.path, "removed", found.num_bytes)
    aside = path.with_name(f"{path.name}.damaged")
    if aside.exists():
        _delete(aside)
    path.rename(aside)
    return Action(found.path, f"set aside as {aside.name}")


# ------------------------------------------------------------------------------------------------- prune


def prune(output: str | Path, *, is_dry: bool = True, report: Report | None = None) -> list[Action]:
    """Removes from an output folder what no longer serves the last run; see `Action` for what that is.

    Stores of other options, entries of photos that are gone, entries that were not finished, and what killed runs and
    damage have left. Damaged stores stay as they are (see `repair`), and those that a newer lgsfm wrote.

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
            raise InputError(
                f"{workspace.root} does not say what the last run was made with. Run `{workspace.command()}`."
            )
        actions = []
        for path in leftovers(workspace):
            actions.append(Action(name_of(workspace, path), "left over", size_of(path)))
            if not is_dry:
                _delete(path)
        for path in workspace.stores():
            if is_newer(path):  # what it is good for is known to the version that wrote it
                continue
            if path not in current:
                actions.append(Action(name_of(workspace, path), "of other options", size_of(path)))
                if not is_dry:
                    _delete(path)
            elif path.is_file() and (action := _prune_store(workspace, path, log, is_dry, report)):
                actions.append(action)
                if not is_dry:
                    workspace.manifest.unlink(missing_ok=True)
        return actions


def _delete(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as exc:
        raise CacheError(f"{path} cannot be removed: {exc.strerror}. {remedy(exc)}") from exc


def _prune_store(workspace: Workspace, path: Path, log: Path, is_dry: bool, report: Report | None) -> Action | None:
    """Entries of photos that are gone and unfinished ones; also free space alone, if that is much."""
    if not is_openable(path):
        return None
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
        num_bytes = before - size_of(path)
    return Action(name_of(workspace, path), ", ".join(parts), num_bytes)


def _photos(workspace: Workspace) -> set[str] | None:
    """The photos of the last run that are still there; None if their folder is gone, and nobody can say."""
    folder = read_json(workspace.summary).get("image_dir")
    if not isinstance(folder, str) or not Path(folder).is_dir():
        return None
    try:
        return set(list_images(Path(folder), quiet=True))
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
