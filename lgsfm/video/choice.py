"""Which frames are taken: far enough from each other, and of those nearby the sharpest.

A frame follows the one taken before it when the picture has moved by a share of its long edge. Where the camera creeps,
a frame is taken after a while all the same; where it stands, none is; where the thread is lost (a cut, a swing), the
first sharp one after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .options import FrameOptions

__all__ = ["Choice", "Look", "choose"]

NEAR, FAR = 0.7, 1.3  # shares of the wanted motion between which the sharpest frame is taken
CREEP, CREEP_S = 0.5, 3.0  # so little motion is enough after so long
ROUNDED = 0.05  # of a stretch: times in MKV are whole milliseconds
LEAST_MOTION = 0.002  # below it, frames are the same
ROUNDS = 14  # of halving, to find the motion that makes a number of frames
GRID = np.array([(x, y, 1.0) for x in (-0.4, 0.0, 0.4) for y in (-0.4, 0.0, 0.4)])  # in widths and heights


@dataclass(frozen=True, eq=False)
class Look:
    """What is known of a frame without keeping it."""

    index: int  # of all frames, from 0
    time_s: float
    sharpness: float  # comparable among frames that show the same
    step: np.ndarray | None  # (2, 3) similarity from the look before, in long edges from the middle; None: lost
    aspect: float = 1.0  # height / width


@dataclass(frozen=True)
class Choice:
    """The frames that are taken, in the order of time, and what people should know of it."""

    looks: list[Look]
    notes: list[str]


def choose(looks: Sequence[Look], options: FrameOptions) -> Choice:
    """The frames to take. Raises `InputError` if a rate makes more than ``max_frames``."""
    if options.fps:
        return Choice(_at_rate(looks, options), [])
    if options.frames:
        found = _at_most(looks, options.frames)
        if len(found) < options.frames:
            text = f"The camera moves too little for {options.frames} frames: {len(found)} differ enough."
            return Choice(found, [text])
        return Choice(found, [])
    found = by_motion(looks, options.frame_motion)
    if len(found) <= options.max_frames:
        return Choice(found, [])
    fewer = _at_most(looks, options.max_frames)
    text = (
        f"{len(found)} frames differ by --frame-motion {options.frame_motion:g}; {len(fewer)} are taken, farther "
        f"apart (--max-frames {options.max_frames})."
    )
    return Choice(fewer, [text])


def by_motion(looks: Sequence[Look], motion: float) -> list[Look]:
    """Frames that are about ``motion`` apart, as a share of the long edge."""
    chosen: list[Look] = []
    at = -1
    while (window := _window_after(looks, at, motion)) is not None:
        at = max(window, key=lambda i: looks[i].sharpness)
        chosen.append(looks[at])
    return chosen


def _window_after(looks: Sequence[Look], at: int, motion: float) -> list[int] | None:
    """The candidates for the frame after one, which is the look of this number (-1: the first); None at the end."""
    if at < 0:
        return _alike(looks, 0, motion) if looks else None
    window, creeping = list[int](), list[int]()
    moved = np.eye(3)
    for i in range(at + 1, len(looks)):
        step, waited_s = looks[i].step, looks[i].time_s - looks[at].time_s
        if step is None:
            return window or _alike(looks, i, motion)
        moved = np.vstack((step, (0, 0, 1))) @ moved
        distance = displacement(moved, looks[i].aspect)
        if distance > FAR * motion:
            return window or creeping[-1:] or [i]
        if distance >= NEAR * motion:
            window.append(i)
        elif distance >= CREEP * motion and waited_s >= CREEP_S / 2:
            creeping.append(i)
        if waited_s >= CREEP_S and (window or creeping):
            return window or creeping
    return window or None


def _alike(looks: Sequence[Look], start: int, motion: float) -> list[int]:
    """A look and those after it that show about the same: where a video begins, or begins anew."""
    found, moved = [start], np.eye(3)
    for i in range(start + 1, len(looks)):
        step = looks[i].step
        if step is None or looks[i].time_s - looks[start].time_s > CREEP_S:
            break
        moved = np.vstack((step, (0, 0, 1))) @ moved
        if displacement(moved, looks[i].aspect) > motion / 2:
            break
        found.append(i)
    return found


def displacement(moved: np.ndarray, aspect: float = 1.0) -> float:
    """How far a (3, 3) motion takes the points of a picture: the median over a grid, as a share of its long edge."""
    grid = GRID * ((1, aspect, 1) if aspect < 1 else (1 / aspect, 1, 1))
    return float(np.median(np.linalg.norm((grid @ moved.T - grid)[:, :2], axis=1)))


def _at_most(looks: Sequence[Look], count: int) -> list[Look]:
    """The most frames, but no more than a number, that some motion makes them apart."""
    low, high = math.log(LEAST_MOTION), math.log(4.0)
    best = by_motion(looks, LEAST_MOTION)
    if len(best) <= count:
        return best
    found = [by_motion(looks, 4.0)]
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        chosen = by_motion(looks, math.exp(middle))
        if len(chosen) > count:
            low = middle
        else:
            high = middle
            found.append(chosen)
    best = max(found, key=len)
    return best if len(best) <= count else _evenly(best, count)  # cuts make frames whatever the motion


def _evenly(looks: list[Look], count: int) -> list[Look]:
    return [looks[round(i)] for i in np.linspace(0, len(looks) - 1, count)]


def _at_rate(looks: Sequence[Look], options: FrameOptions) -> list[Look]:
    """The sharpest frame of each stretch of time."""
    stretches: dict[int, list[Look]] = {}
    for look in looks:
        stretches.setdefault(math.floor((look.time_s - looks[0].time_s) * options.fps + ROUNDED), []).append(look)
    if len(stretches) > options.max_frames:
        raise InputError(
            f"--fps {options.fps:g} makes {len(stretches)} frames of this video, more than --max-frames "
            f"{options.max_frames}. Lower the one or raise the other."
        )
    return [max(group, key=lambda look: look.sharpness) for group in stretches.values()]
