"""Which frames of a video are taken."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from ..options import Options, option

__all__ = ["FrameOptions"]


@dataclass(frozen=True, kw_only=True)
class FrameOptions(Options):
    """Which frames of a video are taken."""

    frames: int = option(
        0, "video: so many frames, as far apart in motion as that allows; 0: as many as --frame-motion makes", minimum=0
    )
    fps: float = option(0.0, "video: so many frames a second, whatever moves; 0: by motion", minimum=0)
    max_frames: int = option(500, "video: never more frames, chosen by motion", minimum=2)
    frame_motion: float = option(
        0.06,
        "video: a new frame when the picture has moved by this share of its long edge; of those nearby the sharpest",
        minimum=0.001,
        maximum=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames and self.fps:
            raise InputError("--frames and --fps exclude each other: the one asks for a number, the other for a rate.")
        if self.frames == 1:
            raise InputError("--frames must be at least 2, or 0 for as many as --frame-motion makes.")
