"""What may help a photo that is not in the model, as a command: never what was done already."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .extractors import ExtractorOptions
from .mapping import MappingOptions
from .pairing import AUTO_EXHAUSTIVE, PairOptions
from .pairing.files import split_methods
from .registry import component_class

__all__ = ["REMEDIES", "command", "reconstruct_command"]

QUALITIES = tuple(ExtractorOptions.presets)
WITH_NEIGHBORS = ("covisibility", "retrieval", "spatial")  # methods of selecting pairs that --neighbors speaks to
OTHER_MAPPERS = {  # auto: nothing, as it has tried incremental, and global where much was missing
    "incremental": "global",
    "global": "incremental",
    "hierarchical": "incremental",
}
Flags = Mapping[str, Any]  # what was asked for


def _closer(flags: Flags, num_images: int) -> dict[str, Any]:
    """Larger pictures and more keypoints."""
    if flags.get("features") == "imported":
        return {}
    quality = flags.get("quality", "medium")
    if "max_keypoints" in flags or "max_edge_px" in flags:
        used = {**_presets(str(flags.get("features", "auto")))[quality], **flags}
        return {name: 2 * used[name] for name in ("max_keypoints", "max_edge_px") if used.get(name)}  # 0: all there is
    place = QUALITIES.index(quality) + 1
    return {"quality": QUALITIES[place]} if place < len(QUALITIES) else {}


def _presets(features: str) -> Mapping[str, Mapping[str, int]]:
    """What the qualities mean to an extractor; "auto" is one of those that leave them as they are."""
    options: type[ExtractorOptions] = ExtractorOptions
    if features != "auto":
        options = component_class("extractor", features).options_class
    return options.presets


def _pairs(flags: Flags, num_images: int) -> dict[str, Any]:
    """All pairs, or of a large collection more of them."""
    if flags.get("matcher") == "imported":
        return {}
    chosen = str(flags.get("pairs", "auto"))
    methods = split_methods(chosen)
    if "exhaustive" in methods or (chosen == "auto" and num_images <= AUTO_EXHAUSTIVE):
        return {}
    if num_images <= 4 * AUTO_EXHAUSTIVE:
        return {"pairs": "exhaustive"}
    if not {"auto", *WITH_NEIGHBORS} & set(methods):
        return {"pairs": f"{chosen}+retrieval"}
    return {"neighbors": 2 * int(flags.get("neighbors", PairOptions().neighbors))}


def _mapper(flags: Flags, num_images: int) -> dict[str, Any]:
    """Another mapper."""
    other = OTHER_MAPPERS.get(str(flags.get("mapper", MappingOptions().mapper)))
    return {"mapper": other} if other else {}


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
    return reconstruct_command(image_dir, output, {**flags, **new})


def reconstruct_command(image_dir: str, output: str, flags: Flags) -> str:
    """`lgsfm reconstruct` in full, as a shell takes it."""
    words = ["lgsfm", "reconstruct", image_dir, "-o", output]
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        if value is False:
            words.append(f"--no-{flag[2:]}")
        else:
            words += [flag] if value is True else [flag, str(value)]
    return shlex.join(words)
