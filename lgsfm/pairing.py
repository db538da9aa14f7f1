"""Stage 2: which pairs of images to match."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from .errors import InputError, unknown_name
from .files import write_text
from .options import Options, option
from .retrievers import Retriever
from .types import Features, Pair, canonical_pair

__all__ = ["METHODS", "PairOptions", "absolute_files", "read_pairs", "select_pairs", "write_pairs"]

METHODS = ("exhaustive", "retrieval", "sequential")
AUTO_EXHAUSTIVE = 60  # up to so many images "auto" matches all pairs
BLOCK = 1024  # rows of the similarity matrix that are in memory at a time


@dataclass(frozen=True, kw_only=True)
class PairOptions(Options):
    """How pairs are selected."""

    pairs: str = option(
        "auto",
        "exhaustive, sequential, retrieval, or a file with two names per line; several joined with +; "
        f"auto: exhaustive up to {AUTO_EXHAUSTIVE} images, then retrieval+sequential",
    )
    overlap: int = option(10, "sequential: neighbours in name order that each image is matched with", minimum=1)
    neighbors: int = option(20, "retrieval: most similar images that each image is matched with", minimum=1)

    def methods(self, num_images: int) -> list[str]:
        """The methods by name, "auto" resolved for so many images; a path stands for itself.

        Raises:
            InputError: neither a method nor a file.
        """
        automatic = ["exhaustive"] if num_images <= AUTO_EXHAUSTIVE else ["retrieval", "sequential"]
        chosen = split_methods(self.pairs)
        for method in chosen:
            if method not in (*METHODS, "auto") and not is_file(method):
                raise unknown_name("pair selection (and no such file)", method, (*METHODS, "auto", "FILE"))
        return [method for name in chosen for method in (automatic if name == "auto" else [name])]


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


def select_pairs(
    names: Sequence[str],
    options: PairOptions,
    *,
    features: Mapping[str, Features] | None = None,
    retriever: Retriever | None = None,
) -> list[Pair]:
    """The pairs to match, sorted, without repetition.

    Args:
        names: the images.
        options: how to select.
        features: image name -> features; retrieval needs them.
        retriever: retrieval needs one.

    Raises:
        InputError: the pair file is unusable, or retrieval lacks what it needs.
    """
    pairs: set[Pair] = set()
    for method in options.methods(len(names)):
        if method == "exhaustive":
            pairs.update(combinations(sorted(names), 2))
        elif method == "sequential":
            pairs.update(sequential_pairs(names, options.overlap))
        elif method == "retrieval":
            if features is None or retriever is None:
                raise InputError("Retrieval needs features and a retriever: extract features first.")
            described = [name for name in names if name in features]
            pairs.update(similar_pairs(described, retriever.describe(described, features), options.neighbors))
        else:
            pairs.update(read_pairs(Path(method), names))
    return sorted(pairs)


def sequential_pairs(names: Iterable[str], overlap: int) -> set[Pair]:
    """Each image with the next ``overlap`` ones in name order."""
    ordered = sorted(names)
    return {(ordered[i], name) for i in range(len(ordered)) for name in ordered[i + 1 : i + 1 + overlap]}


def similar_pairs(names: Sequence[str], descriptors: np.ndarray, neighbors: int) -> set[Pair]:
    """Each image with those of the most similar global descriptors; (N, D) float32, L2-normalised.

    The (N, N) similarities are made in blocks of rows and never held as a whole.
    """
    pairs: set[Pair] = set()
    count = min(neighbors, len(names) - 1)
    if count <= 0:
        return pairs
    for start in range(0, len(names), BLOCK):
        similarity = descriptors[start : start + BLOCK] @ descriptors.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -np.inf
        best = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        for i, row in enumerate(best):
            pairs.update(canonical_pair(names[start + i], names[j]) for j in row)
    return pairs


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
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: names may hold other breaks
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"The pair file {path} cannot be read: {exc}.") from exc
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
