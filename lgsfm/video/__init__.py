"""Frames of a video as photos: which ones, by sharpness and motion; and the folder that they are written to.

A video is looked at once, small, for how sharp each frame is and how far the picture has moved; then the frames are
chosen, and read again at full size. What was chosen is noted beside them (`NAME.frames.json`), so that the same command
goes on where it was stopped, and decodes nothing if all is there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from ..errors import CacheError, InputError
from ..files import fits, read_json, write_bytes, write_json
from ..image_files import open_file
from ..images import file_digest
from ..input_kinds import kind_of
from ..types import Progress
from .choice import Choice, Look, choose
from .motion import Tracker
from .options import FrameOptions
from .reading import Clip

__all__ = ["FrameOptions", "Frames", "default_folder", "extract_frames", "frames_in", "is_video", "stem_of"]

RECORD = ".frames.json"
FORMAT = 1  # of the record, and of the choice: a newer one chooses anew
MOST_LOOKS_PER_S = 30.0  # of a faster video not each frame is looked at
JPEG_QUALITY = 95
SHORT_SHARE = 0.9  # of the frames that a video announces; with less it breaks off


@dataclass(frozen=True)
class Frames:
    """The frames of a video that are in a folder."""

    folder: Path
    names: list[str]  # in the order of time
    times_s: list[float]
    written: int  # how many of them were not there before
    notes: list[str]  # for people


def is_video(path: Path | str) -> bool:
    """Whether a path leads to a video, by the first bytes of the file."""
    if not os.path.isfile(path):
        return False
    try:
        with open_file(path) as stream:
            return kind_of(stream) == "video"
    except OSError:
        return False


def default_folder(video: Path) -> Path:
    """Beside the video: ``walk-frames`` for ``walk.mp4``."""
    resolved = video.resolve()
    return resolved.with_name(f"{resolved.stem}-frames")


def extract_frames(
    video: Path,
    folder: Path,
    options: FrameOptions | None = None,
    *,
    progress: Callable[[str], Progress | None] = lambda stage: None,
) -> Frames:
    """Writes frames of a video as JPEGs; what an earlier call with the same options has written is kept.

    Args:
        video: MP4, MOV, MKV, WebM, AVI, MPEG or WMV; what it holds counts, not its name.
        folder: where they go; other files in it stay, but frames that earlier calls took from a video of this name and
            that are not chosen any more are removed.
        options: which frames, see `FrameOptions`.
        progress: stage ("look", then "frames") -> callback (done, total).

    Raises:
        InputError: it is no video, or a damaged one; it is too short; or a file that is in the way is none of ours.
        CacheError: the folder cannot be written.
    """
    video, folder, wanted = Path(video), Path(folder), options or FrameOptions()
    if not is_video(video):
        raise InputError(f"'{video}' is no video of a kind that is read here (MP4, MOV, MKV, WebM, AVI, MPEG, WMV).")
    record = folder / f"{stem_of(video)}{RECORD}"
    source = {"format": FORMAT, "sha256": file_digest(video), "options": wanted.to_dict()}
    known = _read_record(record, video)
    if known.get("video", video.name) != video.name:
        raise InputError(
            f"{folder} holds frames of {known['video']}, whose names would be those of {video.name}. Choose "
            "another folder with -o, or rename the video."
        )
    if {name: known.get(name) for name in source} != source:
        new = {**source, "video": video.name, **_planned(video, wanted, progress("look"))}
        _check_names(folder, new, known, video)
        _make_folder(folder, stem_of(video))
        is_same_video = known.get("sha256") == source["sha256"]  # else a name may stay, the picture does not
        for name in set(_names(known)) - (set(_names(new)) if is_same_video else set()):  # while they are on record
            (folder / name).unlink(missing_ok=True)
        if known and not is_same_video:
            new["notes"] = [*new["notes"], f"The frames of another {video.name}, which were there, are replaced."]
        write_json(record, new, is_checked=True)  # before any frame: from here on these names are ours
        known = new
    missing = [row for row in known["frames"] if not (folder / row["name"]).is_file()]
    if missing:
        _write(video, folder, missing, progress("frames"))
    times = [row["time_s"] for row in known["frames"]]
    return Frames(folder, _names(known), times, len(missing), list(known["notes"]))


# --------------------------------------------------------------------------------- looking and choosing
def _planned(video: Path, options: FrameOptions, progress: Progress | None) -> dict[str, Any]:
    """What the record says of a video: the frames that are chosen, by how all of it looks."""
    with Clip(video) as clip:
        looks = list(_looks(clip, options, progress))
        notes = list(clip.notes())
        if clip.num_read < SHORT_SHARE * clip.num_announced:
            notes.append(
                f"Warning: {video.name} breaks off after {clip.num_read} of {clip.num_announced} frames: it is "
                "damaged, or a part of it is missing. The frames before are used."
            )
        size = list(clip.size)
    if not looks:
        raise InputError(f"{video}: no frame of it can be decoded. The video is damaged or empty.")
    choice: Choice = choose(looks, options)
    rows = [
        {
            "name": f"{stem_of(video)}_{look.index:06d}.jpg",
            "index": look.index,
            "time_s": round(look.time_s, 3),
            "sharpness": round(look.sharpness, 1),
        }
        for look in choice.looks
    ]
    return {"size": size, "num_frames": looks[-1].index + 1, "frames": rows, "notes": [*notes, *choice.notes]}


def _looks(clip: Clip, options: FrameOptions, progress: Progress | None) -> Iterable[Look]:
    tracker = Tracker()
    step = max(1, round(clip.fps / max(MOST_LOOKS_PER_S, options.fps)))
    while clip.next_frame():
        if clip.index % step == 0:
            yield tracker.look(clip.pixels(), clip.index, clip.time_s)
        if progress:
            progress(clip.index + 1, max(clip.num_announced, clip.index + 1))
    if progress:
        progress(clip.num_read, clip.num_read)


# --------------------------------------------------------------------------------- the folder
def _write(video: Path, folder: Path, rows: list[dict[str, Any]], progress: Progress | None) -> None:
    """Writes frames that the record names, each as a whole or not at all."""
    todo = {row["index"]: row["name"] for row in rows}
    done = 0
    with Clip(video) as clip:
        while done < len(todo) and clip.next_frame():
            if name := todo.get(clip.index):
                write_bytes(folder / name, clip.jpeg(JPEG_QUALITY))
                done += 1
                if progress:
                    progress(done, len(todo))
    if done < len(todo):
        raise InputError(f"{video}: frames that could be decoded before cannot be now. Is the file being changed?")


def _make_folder(folder: Path, stem: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f".{escape(stem)}_*.jpg.*.partial"):  # of a run that was killed
            path.unlink(missing_ok=True)
    except OSError as exc:
        raise CacheError(f"The folder {folder} cannot be made: {exc.strerror}. Choose another with -o.") from exc


def stem_of(video: Path) -> str:
    """How the names of its frames begin: the name of the video, without what no name of a photo may have."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff/\\:]", "_", video.stem).lstrip(".") or "video"


def frames_in(folder: Path) -> set[str]:
    """The videos whose frames a folder holds, by `stem_of`."""
    return {path.name.removesuffix(RECORD) for path in folder.glob(f"*{RECORD}")}


def _read_record(path: Path, video: Path) -> dict[str, Any]:
    """The record of an earlier call; {} if there is none or it is damaged: then a name in it may be anything."""
    known = read_json(path)
    pattern = re.compile(re.escape(stem_of(video)) + r"_[0-9]{6,}\.jpg")
    rows = known.get("frames")
    if not fits(rows, list[dict[str, Any]]) or not fits(known.get("notes"), list[str]):
        return {}
    hints = {"name": str, "index": int, "time_s": float}
    is_whole = all(fits(row.get(key), hint) for row in rows or () for key, hint in hints.items())
    return known if is_whole and all(pattern.fullmatch(row["name"]) for row in rows or ()) else {}


def _names(record: dict[str, Any]) -> list[str]:
    return [row["name"] for row in record.get("frames", ())]


def _check_names(folder: Path, new: dict[str, Any], known: dict[str, Any], video: Path) -> None:
    if taken := sorted(name for name in set(_names(new)) - set(_names(known)) if os.path.lexists(folder / name)):
        raise InputError(
            f"{folder / taken[0]} is there already, and no record says that it is a frame of {video.name}. "
            "Choose another folder with -o, or rename the video."
        )
