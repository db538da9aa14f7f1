"""What may help a photo that is not in the model, as a command: never what was done already."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .extractors import ExtractorOptions
from .mapping import MappingOptions
from .pairing import AUTO_EXHAUSTIVE, PairOptions

__all__ = ["REMEDIES", "command"]

QUALITIES = tuple(ExtractorOptions.presets)
Flags = Mapping[str, Any]  # what was asked for


def _closer(flags: Flags, num_images: int) -> dict[str, Any]:
    """Larger pictures and more keypoints."""
    if "max_keypoints" in flags or "max_edge_px" in flags:
        each = {"max_keypoints": 2048, "max_edge_px": 1024}
        return {name: 2 * value for name, default in each.items() if (value := flags.get(name, default))}
    place = QUALITIES.index(flags.get("quality", "medium")) + 1
    return {"quality": QUALITIES[place]} if place < len(QUALITIES) else {}


def _pairs(flags: Flags, num_images: int) -> dict[str, Any]:
    """All pairs, or of a large collection more of them."""
    chosen = str(flags.get("pairs", "auto"))
    if "exhaustive" in chosen or (chosen == "auto" and num_images <= AUTO_EXHAUSTIVE):
        return {}
    if num_images <= 4 * AUTO_EXHAUSTIVE:
        return {"pairs": "exhaustive"}
    if "sequential" in chosen and "retrieval" not in chosen:
        return {"pairs": f"{chosen}+retrieval"}
    return {"neighbors": 2 * int(flags.get("neighbors", PairOptions().neighbors))}


def _mapper(flags: Flags, num_images: int) -> dict[str, Any]:
    """Another mapper."""
    others = {"incremental": "global", "global": "incremental"}
    return {"mapper": others.get(str(flags.get("mapper", MappingOptions().mapper)), "incremental")}


REMEDIES: dict[str, Callable[[Flags, int], dict[str, Any]]] = {"closer": _closer, "pairs": _pairs, "mapper": _mapper}


def command(remedies: Iterable[str], image_dir: str, output: str, flags: Flags, num_images: int) -> str:
    """The command that tries some of `REMEDIES`; "" where they were all tried.

    Args:
        remedies: what to try.
        image_dir: folder of the photos.
        output: folder of the results.
        flags: what was asked for; it stays.
        num_images: of the collection.
    """
    new: dict[str, Any] = {}
    for remedy in remedies:
        new |= REMEDIES[remedy](flags, num_images)
    if not new:
        return ""
    words = ["lgsfm", "reconstruct", image_dir, "-o", output]
    for name, value in {**flags, **new}.items():
        flag = f"--{name.replace('_', '-')}"
        if value is False:
            words.append(f"--no-{flag[2:]}")
        else:
            words += [flag] if value is True else [flag, str(value)]
    return shlex.join(words)
