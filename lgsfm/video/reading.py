"""A video, frame by frame, by OpenCV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from ..decoding import quiet_opencv
from ..errors import InputError
from ..image_files import open_file
from ..image_headers import max_megapixels

__all__ = ["Clip"]

# Before FFmpeg is loaded, or it writes about every damaged frame on stderr; -8 is its word for nothing
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
MOST_MOOV_BYTES = 64_000_000  # of the index of an MP4 that is searched
MOST_BOXES = 1000
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # ITU-T H.273


class Clip:
    """A video that is open for reading from its start. Close it, or use it in a ``with`` block.

    size: (width, height) px as it is to be seen, turned as the metadata of phones say
    fps: frames a second on average; 30 if the file does not say
    num_announced: frames, by what the file says, 0 if it does not
    index, time_s: of the frame that `next_frame` came to

    Raises:
        InputError: it cannot be read, or its frames are too large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # The absolute path: FFmpeg takes a colon for the end of a protocol. By FFmpeg alone: other readers take a
        # percent sign for a series of pictures.
        with quiet_opencv():
            self._capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise InputError(
                f"{path}: the video cannot be opened: it is damaged, incomplete (a recording that was cut off has no "
                "index), or in a format that OpenCV does not decode. Write it anew, for example with "
                "`ffmpeg -i IN -c:v libx264 -crf 16 OUT.mp4`."
            )
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        width, height = (round(self._capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self.size = width, height
        if width * height > max_megapixels() * 1e6:
            self.close()
            raise InputError(f"{path}: frames of {width} x {height} px are more than {max_megapixels():g} megapixels.")
        fps, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if 0 < fps < 10_000 else 30.0
        self.num_announced = int(count) if 0 < count < 1e9 else 0
        self.index, self.time_s = -1, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the reading."""
        self._capture.release()

    @property
    def num_read(self) -> int:
        """The frames so far."""
        return self.index + 1

    def next_frame(self) -> bool:
        """Goes to the next frame; False at the end, or where nothing can be decoded any more."""
        with quiet_opencv():
            if not self._capture.grab():
                return False
        self.index += 1
        time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        # some files tell no times, and some wrong ones
        self.time_s = time_s if self.time_s < time_s < 1e6 else max(self.time_s, self.index / self.fps)
        return True

    def pixels(self) -> np.ndarray:
        """(h, w, 3) uint8 BGR of the frame, upright. Raises `InputError`."""
        try:
            with quiet_opencv():
                is_read, bgr = self._capture.retrieve()
        except cv2.error as exc:
            raise InputError(f"{self.path}: frame {self.index} cannot be decoded, perhaps for want of memory.") from exc
        if not is_read or bgr.ndim != 3:
            raise InputError(f"{self.path}: frame {self.index} cannot be decoded. The video is damaged.")
        return bgr

    def jpeg(self, quality: int) -> bytes:
        """The frame as a JPEG with full colours."""
        flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
        if hasattr(cv2, "IMWRITE_JPEG_SAMPLING_FACTOR"):
            flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        return bytes(cv2.imencode(".jpg", self.pixels(), flags)[1])

    def notes(self) -> Iterator[str]:
        """What people should know of it."""
        if transfer := hdr_transfer(self.path):
            yield (
                f"{self.path.name} is an HDR video ({transfer}), and its frames are written as they are, not mapped to "
                "the range of a screen: they look flat or dark. Matching works; for true colours convert it first "
                "(ffmpeg with the filters zscale and tonemap)."
            )


def hdr_transfer(path: Path) -> str:
    """The name of the HDR curve that an MP4 or MOV says it has, else ""."""
    with open_file(path) as stream:
        size = stream.seek(0, os.SEEK_END)
        at = 0
        for _ in range(MOST_BOXES):
            stream.seek(at)
            head = stream.read(16)
            if len(head) < 8:
                break
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:16], "big") if length == 1 else length or size - at
            if head[4:8] == b"moov":
                stream.seek(at)
                return _transfer_in(stream.read(min(length, MOST_MOOV_BYTES)))
            if length < 8 or at + length > size:
                break
            at += length
    return ""


def _transfer_in(moov: bytes) -> str:
    for kind in (b"colrnclx", b"colrnclc"):  # of MP4 and of QuickTime: then primaries, transfer, matrix
        at = moov.find(kind)
        if at >= 0:
            return HDR_TRANSFERS.get(int.from_bytes(moov[at + 10 : at + 12], "big"), "")
    return ""
