"""The files of a folder of photos: which there are, where one lies, and the opening of one.

A folder of photos may come from anybody. Names lead nowhere but into the folder, and reading does not hang: a pipe, a
device or a socket under the name of a photo is refused, links to folders are followed once.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from .errors import InputError, in_short
from .input_kinds import is_url, kind_of, way_out
from .photo_formats import EXTRA_SUFFIXES, PLAIN_SUFFIXES, is_readable, pip_command

__all__ = [
    "IMAGE_SUFFIXES",
    "NoFileError",
    "UnusableError",
    "checked_name",
    "image_path",
    "list_images",
    "open_file",
    "walk_files",
]

IMAGE_SUFFIXES = PLAIN_SUFFIXES | EXTRA_SUFFIXES.keys()
_ARCHIVE_SUFFIXES = frozenset((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"))
OUTPUT_SIGNS = (("options.json",), ("views", "views.json"))  # of output folders, whose first file is .lock
MADE = ("export", "frames", "replaced", "views")  # folders of them, whose pictures are made of others
MOST_NAMED = 20  # of names that cannot be used
_log = logging.getLogger(__name__)


class NoFileError(OSError):
    """What a path leads to can be opened, but is no file; the text says what it is."""


class UnusableError(Exception):
    """The reason why a file cannot be used, without its name."""


def list_images(folder: Path, *, quiet: bool = False) -> list[str]:
    """The images in ``folder`` and its sub-folders: relative POSIX paths, sorted by code point.

    An image is what has one of `IMAGE_SUFFIXES`, in any case. Hidden files and folders are left out, and so are
    pictures that lgsfm made, in output folders within the folder. Links are followed, also out of the folder; but a
    folder that several paths lead to is listed once. Of a HEIC, AVIF or raw photo beside a JPEG, PNG or TIFF of the
    same name only the latter is listed: they show the same.
    Photos that are left out or cannot be read are named in the log, unless ``quiet``.
    Raises `InputError` if there is no image, or none for which the library that reads it is here.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise InputError(_no_folder(folder))
    left_out: list[str] = []
    names = sorted(walk_files(folder, left_out))
    images = [name for name in names if _suffix(name) in IMAGE_SUFFIXES]
    others = Counter(_suffix(name) for name in names if _suffix(name) not in IMAGE_SUFFIXES)
    if not images:
        raise InputError(_no_images(folder, others))
    _check_names(images, folder)
    if not quiet:
        _tell_left_out(sorted(left_out), folder)
    images = _without_doubles(images, folder, quiet)
    _check_libraries(images, folder, quiet)
    return images


def _tell_left_out(names: list[str], folder: Path) -> None:
    """Says which photos are not taken since they, or the folders that they lie in, are none of the user's photos."""
    hidden = [
        name for name in names if _suffix(name) in IMAGE_SUFFIXES and not name.rpartition("/")[2].startswith("._")
    ]
    outputs = [name for name in names if name.endswith("/")]
    if hidden:
        _log.info("%d hidden photos in '%s' are left out (%s).", len(hidden), folder, in_short(hidden))
    if outputs:
        _log.info("Pictures that lgsfm made in '%s' are left out (%s).", folder, in_short(outputs))


def _without_doubles(names: list[str], folder: Path, quiet: bool) -> list[str]:
    """The names without those photos that a camera or a phone saved in two formats: one of them is enough."""
    plain = {_stem(name) for name in names if _suffix(name) in PLAIN_SUFFIXES}
    doubles = {name for name in names if _suffix(name) in EXTRA_SUFFIXES and _stem(name) in plain}
    if doubles and not quiet:
        _log.info(
            "%d HEIC, AVIF or raw photos in '%s' are left out: there is a JPEG, PNG or TIFF of the same name (%s).",
            len(doubles),
            folder,
            in_short(sorted(doubles)),
        )
    return [name for name in names if name not in doubles]


def _check_libraries(names: list[str], folder: Path, quiet: bool) -> None:
    """Names the photos that cannot be read for want of a library; an error if these are all."""
    kinds = {name: EXTRA_SUFFIXES.get(_suffix(name), "") for name in names}
    missing = {kind for kind in set(kinds.values()) if not is_readable(kind)}
    unread = [name for name in names if kinds[name] in missing]
    if not unread:
        return
    text = (
        f"{len(unread)} of the {len(names)} photos in '{folder}' cannot be read without another library "
        f"({in_short(unread)}). Install it: {pip_command(missing)}"
    )
    if len(unread) == len(names):
        raise InputError(f"{text}. Or convert the photos to JPEG.")
    if not quiet:
        _log.warning("%s", text)


def _check_names(names: list[str], folder: Path) -> None:
    """Raises `InputError` if names cannot be used; it tells of all of them at once, so that one renaming will do."""
    wrong = {
        # tab and newline separate names in the pair file, others control the terminals that show names
        "a control character": [name for name in names if _has_control_character(name)],
        # how Python reads such bytes
        "bytes that are not UTF-8": [name for name in names if any("\ud800" <= each <= "\udfff" for each in name)],
    }
    parts = [f"{in_short(map(repr, found), MOST_NAMED)} with {what}" for what, found in wrong.items() if found]
    if parts:
        raise InputError(f"Names of photos in '{folder}' cannot be used: {'; '.join(parts)}. Rename the files.")


def image_path(folder: Path | str, name: str) -> Path:
    """Where an image of a folder lies, by a name that came out of a file: a store, a database, a model, a list.

    Raises:
        InputError: see `checked_name`.
    """
    return Path(folder) / checked_name(name)


def checked_name(name: str) -> str:
    """The name of an image that came out of a file, if it stays in the folder that it is put into.

    Raises:
        InputError: it leads out of any folder, on this system or another (``../a.jpg``, ``/a.jpg``, ``C:a.jpg``), or it
            has a control character.
    """
    windows = PureWindowsPath(name)
    is_outside = PurePosixPath(name).is_absolute() or windows.anchor or ".." in windows.parts
    if not name or is_outside or _has_control_character(name):
        raise InputError(f"{name!r} is no name of a photo: names are relative and stay in the folder of the photos.")
    return name


def _has_control_character(name: str) -> bool:
    return any(unicodedata.category(letter) == "Cc" for letter in name)


def open_file(path: Path | str) -> io.BufferedReader:
    """Opens a file for reading, and nothing that is none: of a pipe or a device there might be no end.

    Raises:
        OSError: it cannot be opened; `NoFileError` if it is no file.
    """
    # without O_NONBLOCK the opening of a pipe waits for a writer; for files it means nothing
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    raise NoFileError("is a folder, not a file" if stat.S_ISDIR(mode) else "is a pipe or a device, not a file")


def walk_files(folder: Path | str, left_out: list[str] | None = None) -> Iterator[str]:
    """Relative POSIX paths of what is no folder below a folder; links to folders are followed.

    Each folder is walked once, by a path without links if there is one; so links cannot make endless paths, nor
    thousands of paths to the same few files. What is hidden is left out, and so are pictures that lgsfm made in output
    folders below the folder: the names come into ``left_out``, those of folders with / at the end. Raises `InputError`
    where a folder cannot be listed.
    """
    seen: set[str] = set()
    folders, links = [(os.fspath(folder), "")], list[tuple[str, str]]()
    while folders or links:
        path, prefix = folders.pop() if folders else links.pop(0)
        if (real := os.path.realpath(path)) in seen:
            continue
        seen.add(real)
        made = MADE if prefix and _is_output(path) else ()
        for entry in _entries(path):
            is_folder = os.path.isdir(entry.path)
            if entry.name.startswith(".") or (is_folder and entry.name in made):
                if left_out is not None:
                    is_output = is_folder and not entry.name.startswith(".")
                    left_out.append(f"{prefix}{entry.name}{'/' if is_output else ''}")
            elif is_folder:
                (links if entry.is_symlink() else folders).append((entry.path, f"{prefix}{entry.name}/"))
            else:  # a broken link or a pipe is named when it is read
                yield f"{prefix}{entry.name}"


def _is_output(folder: str) -> bool:
    """Whether a folder is one that runs write: photos in it are made of others."""
    return os.path.isfile(os.path.join(folder, ".lock")) and any(
        os.path.isfile(os.path.join(folder, *sign)) for sign in OUTPUT_SIGNS
    )


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as exc:
        raise InputError(f"The folder '{folder}' cannot be listed: {exc.strerror}.") from exc


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")).lower()


def _no_folder(path: Path) -> str:
    if not os.path.exists(path):
        if is_url(path):
            address = path.as_posix().replace(":/", "://", 1)
            return f"'{address}' is an address, and nothing is downloaded. Download it, and give the folder of photos."
        return f"The image folder '{path}' does not exist. Check the path."
    try:
        with open_file(path) as stream:
            return f"'{path}' is not a folder. {way_out(path, kind_of(stream))}"
    except OSError:
        return f"'{path}' is not a folder. Give the folder that holds the photos."


def _no_images(folder: Path, others: Counter[str]) -> str:
    kinds = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in others.most_common(5))
    found = f"; found {others.total()} other files: {kinds}" if others else "; the folder is empty"
    advice = " Unpack the archives: nothing is read inside of them." if _ARCHIVE_SUFFIXES & others.keys() else ""
    if ".gif" in others:
        advice += " GIFs are not read: they have 256 colours. Take the photos or the video that they were made of."
    looked_for = f"{' '.join(sorted(PLAIN_SUFFIXES))}, HEIC, AVIF and raw photos"
    return f"No images in '{folder}' or below (looked for {looked_for}{found}).{advice}"
