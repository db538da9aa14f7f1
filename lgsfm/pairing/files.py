"""Pair files, and the text that joins methods and files: ``sequential+my pairs.txt``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError
from ..files import write_text
from ..types import Pair, canonical_pair

__all__ = ["absolute_files", "is_file", "read_pairs", "split_methods", "write_pairs"]


def is_file(path: str) -> bool:
    """Whether a text names a file; one that no file can be named is none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def split_methods(text: str) -> list[str]:
    """The parts that + joins; a + in the path of a file joins nothing."""
    parts, found = text.split("+"), []
    while parts:
        ends = [i for i in range(len(parts), 1, -1) if is_file("+".join(parts[:i]))]
        end = ends[0] if ends else 1
        found.append("+".join(parts[:end]))
        parts = parts[end:]
    return found


def absolute_files(text: str) -> str:
    """The same choice of pairs with the paths of its files absolute, for another working folder."""
    return "+".join(str(Path(part).resolve()) if is_file(part) else part for part in split_methods(text))


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Writes one pair per line, the names separated by a tab. Raises `CacheError` if that fails."""
    write_text(path, "".join(f"{name0}\t{name1}\n" for name0, name1 in pairs))


def read_pairs(path: Path, names: Iterable[str], *, skip_unknown: bool = False) -> list[Pair]:
    """Pairs from a file: two names per line, separated by a tab or a space; ``#`` begins a comment line.

    Names may contain spaces, and begin with ``#``. Raises `InputError` that names the line for a name that is not
    among ``names``, unless ``skip_unknown`` is set.
    """
    known = set(names)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: names may hold other breaks
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"The pair file {path} cannot be read: {exc}.") from exc
    if not _split_line(lines[0], known):  # else the mark that some editors begin a file with is of the first name
        lines[0] = lines[0].removeprefix("\ufeff")
    pairs = []
    for number, line in enumerate(lines, start=1):
        found = _split_line(line, known)
        if found is None and (not line.strip() or line.startswith("#")):
            continue
        if found is None and not skip_unknown:
            unknown = [name.strip() for name in line.split("\t") if name.strip() not in known]
            problem = f"{unknown[0]!r} is not among the {len(known)} images" if "\t" in line else f"got {line!r}"
            raise InputError(
                f"{path}, line {number}: expected two image names separated by a tab, {problem}. "
                "Names are relative to the image folder, with forward slashes."
            )
        if found and found[0] != found[1]:
            pairs.append(canonical_pair(*found))
    return pairs


def _split_line(line: str, known: set[str]) -> Pair | None:
    """The two known names of a line: at a tab, else at the one space that leaves two known names."""
    separator = "\t" if "\t" in line else " "
    parts = line.split(separator)
    for i in range(1, len(parts)):
        halves = separator.join(parts[:i]), separator.join(parts[i:])
        first, second = (half if half in known else half.strip() for half in halves)
        if first in known and second in known:
            return first, second
    return None
