"""How pairs are selected: the options of all methods, and the names of the methods."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError, unknown_name
from ..options import Options, option
from .files import is_file, split_methods

__all__ = ["AUTO_EXHAUSTIVE", "LAST", "LOOK_AT_ALL", "MOST_SIMILAR", "NAMES", "PairOptions"]

NAMES = ("covisibility", "exhaustive", "prematch", "retrieval", "sequential", "spatial", "transitive")
LAST = ("transitive",)  # methods that begin with what the others have selected
AUTO_EXHAUSTIVE = 60  # up to so many images "auto" matches all pairs
LOOK_AT_ALL, MOST_SIMILAR = 300, 100  # up to so many images prematch looks at all pairs, else so many partners of each


@dataclass(frozen=True, kw_only=True)
class PairOptions(Options):
    """How pairs are selected."""

    pairs: str = option(
        "auto",
        f"{', '.join(NAMES)}, or a file with two names per line; several joined with +; "
        f"auto: exhaustive up to {AUTO_EXHAUSTIVE} images, then retrieval, with spatial where photos have GPS "
        "positions and sequential where their names or times make a sequence",
    )
    overlap: int = option(
        10,
        "sequential: next photos, in natural order of the names in a folder, that each is matched with; "
        "where the camera comes back to a place, sequential+retrieval closes the loop",
        minimum=1,
    )
    quadratic: bool = option(False, "sequential: with overlap photos, but those 1, 2, 4, 8, ... on (as COLMAP)")
    neighbors: int = option(
        20,
        "retrieval, spatial, covisibility: most similar, nearest, most overlapping photos that each is matched with",
        minimum=1,
    )
    mutual: bool = option(
        False, "retrieval: only pairs that are among the most similar of both photos: fewer and surer ones"
    )
    min_neighbors: int = option(
        5, "retrieval with --mutual: most similar photos that each is matched with in any case", minimum=1
    )
    max_distance_m: float = option(100.0, "spatial: photos farther apart are no pair", minimum=0)
    gps_altitude: bool = option(False, "spatial: the altitude counts too; that of phones is often wrong")
    covisibility_model: str = option("", "covisibility: folder of a COLMAP model of (some of) the photos")
    min_strong_matches: int = option(
        30, "transitive: matches that make a pair strong; photos with a strong pair in common are matched", minimum=1
    )
    prematch_keypoints: int = option(256, "prematch: strongest keypoints of each photo that are matched", minimum=1)
    prematch_min_matches: int = option(15, "prematch: matches among them that select the pair", minimum=1)
    prematch_candidates: int = option(
        0,
        f"prematch: most similar photos of each that are looked at; 0: all pairs of up to {LOOK_AT_ALL} photos, "
        f"{MOST_SIMILAR} most similar ones of more",
        minimum=0,
    )

    @property
    def is_listed(self) -> bool:
        """Whether all pairs come from files."""
        return not {*NAMES, "auto"} & set(split_methods(self.pairs))

    def methods(self) -> list[str]:
        """The methods by name, also "auto", each once; a path stands for itself.

        Raises:
            InputError: neither a method nor a file, or none that begins.
        """
        chosen = split_methods(self.pairs)
        for method in chosen:
            if method not in (*NAMES, "auto") and not is_file(method):
                raise unknown_name("pair selection (and no such file)", method, (*NAMES, "auto", "FILE"))
        if all(method in LAST for method in chosen):
            raise InputError(
                f"--pairs {self.pairs} has no pairs to begin with. Join it with another way to select pairs, "
                f"for example --pairs sequential+{chosen[0]}."
            )
        return list(dict.fromkeys(chosen))
