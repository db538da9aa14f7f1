"""Binary files of COLMAP models that were cut off or changed."""

import shutil
from pathlib import Path

import pytest

from lgsfm.errors import InputError
from lgsfm.model_files import check_lengths, write_model
from lgsfm.poses import load_poses, read_reconstruction

pycolmap = pytest.importorskip("pycolmap")
BINARY = ("rigs.bin", "frames.bin", "images.bin", "points3D.bin")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two rigs with two cameras each, and so with a pose of a camera in its rig."""
    folder = tmp_path_factory.mktemp("model")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = 2, 2, 3, 40
    pycolmap.synthesize_dataset(options).write(folder)
    return folder


def test_a_whole_model_passes(whole: Path, tmp_path: Path) -> None:
    check_lengths(whole)
    assert read_reconstruction(whole).num_reg_images() == 12
    old = shutil.copytree(whole, tmp_path / "old")  # as COLMAP before 3.12 wrote it
    (old / "rigs.bin").unlink()
    (old / "frames.bin").unlink()
    check_lengths(old)
    (old / "cameras.bin").unlink()  # the text files count then
    (old / "points3D.bin").write_bytes(b"")
    check_lengths(old)


@pytest.mark.parametrize("name", BINARY)
def test_a_file_that_is_cut_off_anywhere_is_told(whole: Path, tmp_path: Path, name: str) -> None:
    cut = shutil.copytree(whole, tmp_path / "cut")
    data = (whole / name).read_bytes()
    for length in {*range(min(len(data), 200)), *range(0, len(data), 97), len(data) - 1}:
        (cut / name).write_bytes(data[:length])
        with pytest.raises(ValueError, match=f"{name} is cut off"):
            check_lengths(cut)


@pytest.mark.parametrize("limit", [0, 100, 500, 1500])
def test_what_a_full_disk_does_not_take_is_told(whole: Path, tmp_path: Path, limit: int) -> None:
    """COLMAP says nothing: of pycolmap 4.2, writing to a full disk gave files of any length, and no error."""
    resource = pytest.importorskip("resource", reason="Windows has no limit of file sizes")
    model = pycolmap.Reconstruction(whole)
    write_model(model, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # longer files get no more bytes
    try:
        with pytest.raises(OSError, match="cut off"):
            write_model(model, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_colmap_never_sees_a_length_that_would_take_all_memory(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file cut off at 50 bytes COLMAP made a track of 17 GB, or one that no memory holds."""
    damaged = shutil.copytree(whole, tmp_path / "damaged")
    monkeypatch.setattr(pycolmap, "Reconstruction", lambda folder: pytest.fail("COLMAP has read the files"))
    data = bytearray((whole / "points3D.bin").read_bytes())
    for changed in (data[:50], data[:51] + (1 << 40).to_bytes(8, "little") + data[59:]):  # the length of a track
        (damaged / "points3D.bin").write_bytes(changed)
        with pytest.raises(InputError, match="incomplete or damaged"):
            read_reconstruction(damaged)


@pytest.mark.parametrize("name", BINARY)
def test_a_length_beyond_all_files_is_told(whole: Path, tmp_path: Path, name: str) -> None:
    """Each eight bytes in turn are the largest number there is: places then lie beyond what a machine can count."""
    damaged = shutil.copytree(whole, tmp_path / "damaged")
    data = (whole / name).read_bytes()
    refused = 0
    for at in range(0, min(len(data) - 8, 400)):
        (damaged / name).write_bytes(data[:at] + b"\xff" * 8 + data[at + 8 :])
        try:
            check_lengths(damaged)
        except ValueError:  # and no other error
            refused += 1
    assert refused >= 8


def test_what_colmap_reads_and_cannot_answer_for_is_an_input_error(whole: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(whole, tmp_path / "damaged")
    data = (whole / "images.bin").read_bytes()
    name = pycolmap.Reconstruction(whole).images[1].name.encode()
    assert data.count(name + b"\0") == 1
    (damaged / "images.bin").write_bytes(data.replace(name + b"\0", b"\xff" + name[1:] + b"\0"))
    with pytest.raises(InputError, match="incomplete or damaged"):
        load_poses(damaged)
