"""What a file is by its first bytes, whatever its name says: a photo, a video, an archive; and what to do with it.

`lgsfm reconstruct` takes a folder of photos or a video. What else people give it is refused with the command that
makes such a folder of it: nothing is downloaded or unpacked here, where names may lead anywhere and a few bytes may
unpack to any size.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import BinaryIO

from .tiff_tags import Tiff, TiffError

__all__ = ["AVIF_BRANDS", "HEIF_BRANDS", "RAW_BRANDS", "brands", "is_url", "kind_of", "way_out"]

HEAD_BYTES = 400  # more than two packets of an MPEG transport stream, and the magic of tar at 257
MAX_BRANDS = 32
HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
AVIF_BRANDS = frozenset((b"avif", b"avis"))
RAW_BRANDS = frozenset((b"crx ",))
_QUICKTIME_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # before there was `ftyp`
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),  # an empty one
    *((magic, "tar") for magic in (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")),
    *((magic, "7z") for magic in (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")),
    (b"GIF8", "gif"),
    (b"%PDF-", "pdf"),
    (b"\x1a\x45\xdf\xa3", "video"),  # Matroska, WebM
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video"),  # ASF: Windows Media
    (b"\0\0\x01\xba", "video"),  # MPEG program stream
    (b"\0\0\x01\xb3", "video"),  # MPEG elementary stream
    (b"FLV\x01", "video"),
    (b"OggS", "video"),
    *((magic, "photo") for magic in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"FUJIFILMCCD-RAW")),
    *((magic, "tiff") for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
)
_SUBFILE, _REDUCED = 254, 1  # TIFF 6.0: NewSubfileType, a smaller version of another picture
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # pathlib drops the second slash; C:/ has one letter


def is_url(path: Path) -> bool:
    """Whether a path was meant as an address: https://, s3:// and their like."""
    return _URL.match(path.as_posix()) is not None


def kind_of(stream: BinaryIO) -> str:
    """What a file is: photo, tiff, pages (a TIFF of several), gif, video, zip, tar (also packed), 7z, pdf or ""."""
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return "pages" if kind == "tiff" and _has_pages(stream) else kind
    if head[:4] == b"RIFF":
        return {b"AVI ": "video", b"WEBP": "photo"}.get(head[8:12], "")
    if found := brands(head):
        return "photo" if found & (HEIF_BRANDS | AVIF_BRANDS | RAW_BRANDS) else "video"
    if head[4:8] in _QUICKTIME_BOXES or _is_transport_stream(head):
        return "video"
    return "tar" if head[257:262] == b"ustar" else ""


def brands(head: bytes) -> frozenset[bytes]:
    """The brands of an ISO base media file (MP4, HEIC, AVIF, CR3), by its first bytes; none if it is no such file."""
    if head[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(head[:4], "big"), len(head), 16 + 4 * MAX_BRANDS)
    return frozenset({head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))})


def way_out(path: Path, kind: str) -> str:
    """What to do with an input of that kind, which is no folder of photos: a sentence or two, with the command."""
    name, folder = shlex.quote(str(path)), shlex.quote(str(path.with_suffix("")))
    then = f"then: lgsfm reconstruct {folder}"
    return {
        "zip": f"It is a ZIP archive. Unpack it: python -m zipfile -e {name} {folder}; {then}",
        "tar": f"It is a packed archive. Unpack it: mkdir {folder} && tar -xf {name} -C {folder}; {then}",
        "7z": f"It is an archive. Unpack it: 7z x {name} -o{folder}; {then}",
        "gif": "It is a GIF, of 256 colours and mostly small. Take the photos or the video that it was made of; "
        f"or: mkdir {folder} && ffmpeg -i {name} {folder}/%05d.png; {then} --pairs sequential",
        "pages": "It is a TIFF of several pages, and of such files only the first is read. "
        f"Write them out: mkdir {folder} && magick {name} {folder}/%05d.png; {then}",
        "pdf": f"It is a PDF. Take its pictures out: mkdir {folder} && pdfimages -all {name} {folder}/page; {then}",
        "video": f"It is a video. Take frames from it: lgsfm frames {name} -o {folder}",
        "photo": "It is one photo. Give the folder that holds the photos.",
        "tiff": "It is one photo. Give the folder that holds the photos.",
    }.get(kind, "Give the folder that holds the photos.")


def _is_transport_stream(head: bytes) -> bool:
    """Packets of 188 bytes; of 192, with a time in front, on the cards of camcorders."""
    return any(
        all(head[at + i * size : at + i * size + 1] == b"G" for i in (0, 1)) for at, size in ((0, 188), (4, 192))
    )


def _has_pages(stream: BinaryIO) -> bool:
    try:
        tiff = Tiff(stream)
        second = tiff.following(tiff.first)
        if not second:
            return False
        kind = tiff.directory(second).get(_SUBFILE)
        return kind is None or tiff.value(kind) != _REDUCED  # a preview is no page
    except TiffError:
        return False
