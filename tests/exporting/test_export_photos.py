"""Photos of an export: the stored pixels, and nothing in the file that turns them again."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from export_scenes import NAMES, make_world, picture, save_jpeg
from PIL import Image

from lgsfm import export
from lgsfm.errors import InputError
from lgsfm.exporting.photos import clear_orientation
from lgsfm.images import read_header, read_photo

TURNED = {"a/1.jpg": 6, "c.jpg": 8, "f.jpg": 3}


def stored_pixels(path) -> np.ndarray:
    """Not turned, whatever EXIF says."""
    return read_photo(path, orientation=1).rgb


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [2, 6, 8])
def test_only_the_orientation_is_taken_back(tmp_path, suffix, orientation):
    path = tmp_path / f"photo{suffix}"
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    Image.fromarray(picture(0)).save(path, exif=exif)
    before, size = stored_pixels(path), path.stat().st_size
    assert read_header(path).exif.orientation == orientation
    clear_orientation(path)
    after = read_header(path).exif
    assert (after.orientation, after.make) == (1, "maker")
    assert path.stat().st_size == size
    np.testing.assert_array_equal(stored_pixels(path), before)
    Image.open(path).load()  # of a PNG, the checksum of the chunk is right


def test_a_photo_without_orientation_stays_as_it_is(tmp_path):
    save_jpeg(tmp_path / "photo.jpg", picture(0))
    before = (tmp_path / "photo.jpg").read_bytes()
    clear_orientation(tmp_path / "photo.jpg")
    assert (tmp_path / "photo.jpg").read_bytes() == before


def test_orientation_in_the_byte_order_of_others(tmp_path):
    path = tmp_path / "photo.jpg"
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    Image.fromarray(picture(0)).save(path, exif=block)
    assert read_header(path).exif.orientation == 6
    clear_orientation(path)
    assert read_header(path).exif.orientation == 1


@pytest.mark.parametrize("name", ["nerfstudio", "bundler", "gaussians"])
def test_exported_photos_are_as_the_model_sees_them(tmp_path, name):
    """COLMAP itself keeps the tag when it undistorts, though it does not turn the pixels."""
    world = make_world(tmp_path, exif=lambda name, _: {"orientation": TURNED.get(name, 1)})
    folder = export(world.output, name, tmp_path / name).path / "images"
    exported = sorted(folder.iterdir())
    assert len(exported) == len(NAMES)
    for path in exported:
        assert read_header(path).exif.orientation == 1
    if name == "gaussians":
        assert all(Image.open(path).size[0] > Image.open(path).size[1] for path in exported)
    else:
        np.testing.assert_array_equal(stored_pixels(folder / "c.jpg"), stored_pixels(world.photos / "c.jpg"))
    assert read_header(world.photos / "c.jpg").exif.orientation == 8  # of the original


def test_webp_which_colmap_cannot_read(tmp_path):
    world = make_world(tmp_path, names=("a.jpg", "b.webp", "sub/c.webp"))
    for number, name in enumerate(("b.webp", "sub/c.webp")):
        (world.photos / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture(number)).save(world.photos / name, format="WEBP", lossless=True)
    folder = export(world.output, "gaussians", tmp_path / "gs").path
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert names == ["a.jpg", "b.webp.png", "sub_c.webp.png"]
    model = pycolmap.Reconstruction(folder / "sparse" / "0")
    assert sorted(image.name for image in model.images.values()) == names
    assert sorted(path.name for path in folder.iterdir()) == ["images", "lgsfm-export.json", "sparse"]


def test_other_photos_under_the_same_names_are_noticed(tmp_path):
    world = make_world(tmp_path)
    save_jpeg(world.photos / "c.jpg", picture(0)[:100])
    with pytest.raises(InputError, match=r"c.jpg is of 320 x 100 px; the model was made of a photo of 320 x 240 px"):
        export(world.output, "nerfstudio", tmp_path / "ns")
    (world.photos / "c.jpg").unlink()
    for name in ("nerfstudio", "gaussians"):
        with pytest.raises(InputError, match=r"c.jpg is not in .*--images"):
            export(world.output, name, tmp_path / "ns")
    assert not (tmp_path / "ns").exists()


def test_photos_that_have_moved(tmp_path):
    world = make_world(tmp_path)
    world.photos.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="--images"):
        export(world.output, "nerfstudio")
    assert export(world.output, "nerfstudio", image_dir=tmp_path / "moved").num_images == len(NAMES)
    assert export(world.output, "ply").num_points3D == 60  # which needs none
