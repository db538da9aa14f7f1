"""Thousands of damaged COLMAP models, binary and text, through all that reads models.

    python tests/fuzz/models.py --count 2000            # of each format; --seed, --kind, --keep FOLDER

Every model must be read or refused by an `InputError`, in time, within 1 GiB and without an end of the process.
"""

import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pycolmap
from mutations import NUMBERS, mutated
from sandbox import fuzz

from lgsfm.errors import InputError
from lgsfm.poses import load_poses, read_reconstruction, read_shared_points

__all__ = ["FORMATS", "damaged", "intact", "model_case"]

FORMATS = ("bin", "txt")
WORDS = (
    "",
    "0",
    "-1",
    "nan",
    "inf",
    "1e400",
    "99999999999999999999",
    "4294967295",
    "18446744073709551615",
    "x",
    "PINHOLE",
    "\0",
)


@cache
def intact(kind: str) -> dict[str, bytes]:
    """The files of a small model: name -> bytes."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 2, 2, 2
    options.num_points3D = 12
    model = pycolmap.synthesize_dataset(options)
    with tempfile.TemporaryDirectory() as folder:
        model.write_binary(folder) if kind == "bin" else model.write_text(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def damaged(kind: str, seed: int, number: int) -> dict[str, bytes]:
    """The files of the model of this number: one of them damaged, missing, or empty."""
    rng = np.random.default_rng((seed, FORMATS.index(kind), number))
    files = dict(intact(kind))
    name = sorted(files)[rng.integers(len(files))]
    what = rng.random()
    if what < 0.03:
        del files[name]
    elif what < 0.06:
        files[name] = b""
    elif kind == "txt" and what < 0.6:
        files[name] = _word_changed(files[name], rng)
    elif kind == "bin" and what < 0.5:
        files[name] = _number_changed(files[name], rng)
    else:
        files[name] = mutated(files[name], rng)
    return files


def _word_changed(data: bytes, rng: np.random.Generator) -> bytes:
    """One word of a line that is no comment is another; or the line is repeated, or left out."""
    lines = data.split(b"\n")
    choice = [i for i, line in enumerate(lines) if line and not line.startswith(b"#")]
    if not choice:
        return data
    at = choice[rng.integers(len(choice))]
    words = lines[at].split(b" ")
    what = rng.integers(6)
    if what == 0:
        lines.insert(at, lines[at])
    elif what == 1:
        del lines[at]
    else:
        words[rng.integers(len(words))] = WORDS[rng.integers(len(WORDS))].encode()
        lines[at] = b" ".join(words)
    return b"\n".join(lines)


def _number_changed(data: bytes, rng: np.random.Generator) -> bytes:
    """A 4 or 8 byte number, at any place or the first, is another."""
    size = (4, 8)[rng.integers(2)]
    at = 0 if rng.random() < 0.1 else int(rng.integers(max(1, len(data) - size)))
    value = NUMBERS[rng.integers(len(NUMBERS))] * (1 if size == 4 else (1 << 32) + 1 if rng.random() < 0.3 else 1)
    return data[:at] + int(value).to_bytes(8, "little")[:size] + data[at + size :]


def model_case(kind: str, seed: int, folder: Path, number: int) -> str:
    """Reads a model in every way; the outcome in words."""
    model = folder / "model"
    shutil.rmtree(model, ignore_errors=True)
    model.mkdir()
    for name, data in damaged(kind, seed, number).items():
        (model / name).write_bytes(data)
    return " ".join(_tried(read, model) for read in (_poses, read_reconstruction, read_shared_points))


def _poses(folder: Path) -> None:
    for pose in load_poses(folder).values():
        assert np.isfinite(pose.rotation).all()
        assert np.isfinite(pose.centre).all()


def _tried(read, folder: Path) -> str:
    try:
        read(folder)
    except InputError:
        return "refused"
    return "read"


def main() -> int:
    return fuzz(__doc__.splitlines()[0], FORMATS, damaged, model_case, count=2000, legend="poses, model, shared points")


if __name__ == "__main__":
    sys.exit(main())
