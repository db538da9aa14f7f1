"""What a run reads: a folder of photos as it is, or what is made of the input first: frames of a video, views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import InputError
from .observer import Observer
from .panoramas import CAMERAS, RIG, split_panoramas
from .settings import Settings
from .video import FrameOptions, Frames, extract_frames, frames_in, is_video, stem_of
from .workspace import FRAMES, VIEWS, Workspace, default_output

__all__ = ["Source", "in_words", "open_source"]

VIDEO_PAIRS = "sequential+retrieval"  # neighbours in time, and where the camera comes back to a place


@dataclass(frozen=True)
class Source:
    """The photos of a run, where its results go, and its choices."""

    image_dir: Path
    output: Path | None
    settings: Settings


def open_source(
    source: Path, output: Path | None, settings: Settings, observer: Observer, *, is_continued: bool = False
) -> Source:
    """The photos that an input leads to.

    Of a video, frames are taken into ``frames`` in the output folder; of panoramas, if these are said to be some, views
    into ``views``.

    Args:
        source: folder of photos, or a video.
        output: folder of the results; None means beside the source, ``walk-lgsfm`` for ``walk.mp4``.
        settings: all choices; of a video pairs are sequential with loops closed, if nothing else was asked for.
        observer: told what happens.
        is_continued: choices may be those of an earlier command, which are no error where they do not fit.

    Raises:
        InputError: the video cannot be used, its choices were made for a folder of photos, or the output folder holds
            the frames of another one.
        CacheError: the output folder cannot be written, or another process is at work there.
    """
    if output and Path(source).resolve() in {(Path(output) / name).resolve() for name in (FRAMES, VIEWS)}:
        return Source(source, output, settings)  # made before, and recorded choices may say of what
    if not is_video(source):
        asked = [field.name for field, _ in FrameOptions.fields() if field.name in settings.flags]
        if asked and not is_continued:
            raise InputError(f"--{asked[0].replace('_', '-')} is for videos, and {source} is none.")
        return (
            _of_panoramas(source, output, settings, observer)
            if settings.panoramas.panoramas
            else Source(source, output, settings)
        )
    if settings.panoramas.panoramas:
        raise InputError("--panoramas is for photos. Take frames first: lgsfm frames VIDEO -o FOLDER.")
    root = output or default_output(source)
    workspace = Workspace.open(root, source)
    with workspace.lock():
        if others := frames_in(workspace.frames) - {stem_of(source)}:
            raise InputError(
                f"{workspace.frames} holds frames of another video, {min(others)}. Choose another folder with -o. For "
                "one model of several videos: lgsfm frames VIDEO -o FOLDER, for each; then lgsfm reconstruct FOLDER."
            )
        taken = extract_frames(source, workspace.frames, settings.video, progress=observer.progress)
    for line in in_words(taken):
        observer.say(line)
    if "pairs" not in settings.flags:
        settings = settings.changed({"pairs": VIDEO_PAIRS})
    return Source(workspace.frames, root, settings)


def _of_panoramas(source: Path, output: Path | None, settings: Settings, observer: Observer) -> Source:
    """The views of panoramas, in ``views`` in the output folder, and choices that say how their cameras stand."""
    root = output or default_output(source)
    workspace = Workspace.open(root, source)
    own = {"rig": workspace.views / RIG, "cameras": workspace.views / CAMERAS}
    for flag, path in own.items():
        given = Path(str(settings.flags.get(flag, path.resolve())))
        if given.parts[-2:] != path.parts[-2:]:  # the folder may have been moved since that was noted
            raise InputError(
                f"--panoramas and --{flag} exclude each other: the cameras of the views are known exactly."
            )
    with workspace.lock():
        views = split_panoramas(source, workspace.views, settings.panoramas, observer.progress("panoramas"))
    observer.say(
        f"Panoramas: {views.num_panoramas}, {settings.panoramas.panorama_views} views each, in {views.folder} "
        f"({views.rendered} split now)."
    )
    known = {flag: str(path.resolve()) for flag, path in own.items()}
    fixed = {} if "principal_point" in settings.flags else {"principal_point": "fixed"}
    upright = {} if "upright" in settings.flags else {"upright": "exif"}
    return Source(views.folder, root, settings.changed({**known, **fixed, **upright}))


def in_words(frames: Frames) -> list[str]:
    """What people should hear of the frames that were taken."""
    how = "all there" if not frames.written else f"{frames.written} written"
    gaps, span_s = len(frames.names) - 1, frames.times_s[-1] - frames.times_s[0]
    apart = f", {span_s / gaps:.2f} s apart on average" if gaps else ""
    return [f"Frames: {len(frames.names)}{apart}, in {frames.folder} ({how}).", *frames.notes]
