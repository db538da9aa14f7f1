"""The folder of the models (``sparse/``): new models take the place of old ones, and nobody loses what is theirs.

``models.json`` in it holds the hashes of the models' files as they were written. Old models that are still so are
deleted; others were changed by hand, or were put there, and go to ``OUT/replaced``. What is no model stays where it is.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from ..errors import CacheError
from ..files import read_json, replace_folder, write_json
from ..images import file_digest
from ..replaced import put_beside

__all__ = ["RECORD", "changed_files", "model_files", "record_models", "replace_models", "settle", "written_files"]

RECORD = "models.json"
logger = logging.getLogger(__name__)


def model_files(folder: Path) -> dict[str, str]:
    """File of a numbered model, relative to the folder of all of them -> its sha256."""
    paths = {
        path.relative_to(folder).as_posix(): path
        for model in folder.glob("*")
        if model.name.isdecimal() and model.is_dir()
        for path in model.rglob("*")
        if path.is_file()
    }
    return {name: file_digest(paths[name]) for name in sorted(paths)}


def record_models(folder: Path) -> None:
    """Notes the files of the models in a folder. Raises `CacheError` if one cannot be read or the note not written."""
    write_json(folder / RECORD, {"files": model_files(folder)}, is_checked=True)


def written_files(folder: Path) -> dict[str, str] | None:
    """What `record_models` noted; None if nothing is known: nothing was, or it is damaged."""
    files = read_json(folder / RECORD).get("files")
    return files if isinstance(files, dict) else None


def changed_files(folder: Path, number: str, written: dict[str, str] | None) -> list[str]:
    """The files of a model that are not as they were written, relative to its folder; all if nothing is known of them.

    Files that are gone are none: who deletes a model may be killed on the way.
    """
    return [
        path.relative_to(folder / number).as_posix()
        for path in sorted((folder / number).rglob("*"))
        if not path.is_dir()
        and (
            path.is_symlink()
            or file_digest(path) != (written or {}).get(f"{number}/{path.relative_to(folder / number).as_posix()}")
        )
    ]


def replace_models(new: Path, old: Path, *, keep_because: str = "") -> None:
    """Puts a folder of models in the place of another, see `replace_folder`; what a kill leaves, the next run ends.

    Args:
        new: the models, with their record.
        old: those there; of a model that is not as it was written, somebody hears where it is kept.
        keep_because: why the old models are kept in any case, "" if they are not.

    Raises:
        CacheError: a folder cannot be renamed.
    """
    aside = old.with_name(f"{old.name}.before")
    try:
        if keep_because:
            logger.warning("%s", keep_because)
            (old / RECORD).unlink(missing_ok=True)  # so that they are kept by the next run, too, if this one is killed
        replace_folder(new, old, aside)
        settle(aside, old)
    except OSError as exc:
        raise CacheError(f"{old} cannot be replaced by {new}: {exc.strerror}. Check its permissions.") from exc


def settle(aside: Path, output: Path) -> None:
    """Takes from the folder of old models what is not ours, and deletes the rest; without new models it comes back."""
    if not aside.exists():
        return
    if not output.exists():
        aside.rename(output)
        return
    written = written_files(aside)
    others: dict[Path, list[str]] = {}
    for path in sorted(aside.iterdir()):
        if path.name == RECORD:
            continue
        if _is_model(path) or _is_rest(aside, path, written):
            if changed := changed_files(aside, path.name, written):
                others[path] = changed
            else:
                shutil.rmtree(path, ignore_errors=True)
        elif (output / path.name).exists():
            others[path] = []
        else:
            path.rename(output / path.name)
    if others:
        named = [_in_words(path, files if written else []) for path, files in others.items()]
        target = put_beside(output.parent, list(others))
        logger.warning("Kept in %s, since not as this program wrote it, or to be kept: %s.", target, "; ".join(named))
    shutil.rmtree(aside, ignore_errors=True)


def _is_rest(folder: Path, path: Path, written: dict[str, str] | None) -> bool:
    """Whether a folder is what is left of a model of ours, whose deletion was stopped."""
    is_ours = any(name.startswith(f"{path.name}/") for name in written or ())
    return is_ours and path.is_dir() and not path.is_symlink() and not changed_files(folder, path.name, written)


def _is_model(path: Path) -> bool:
    return path.name.isdecimal() and not path.is_symlink() and any(path.glob("cameras.*"))


def _in_words(path: Path, changed: list[str]) -> str:
    what = f"model {path.name}" if _is_model(path) else path.name
    return f"{what} ({', '.join(changed)})" if changed else what
