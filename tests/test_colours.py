"""Points have the colours of photos that COLMAP cannot read."""

import numpy as np
import pycolmap
from PIL import Image

from lgsfm.mapping.colours import recolour


def world(names, seed=0):
    options = pycolmap.SyntheticDatasetOptions(num_frames_per_rig=len(names), num_points3D=40, num_rigs=1)
    options.num_cameras_per_rig = 1
    model = pycolmap.synthesize_dataset(options)
    for image, name in zip(model.images.values(), names, strict=True):
        image.name = name
    return model


def test_points_are_as_the_photos_that_colmap_cannot_read_show_them(tmp_path):
    names = ["a.webp", "b.webp", "c.jpg", "missing.heic"]
    model = world(names)
    camera = next(iter(model.cameras.values()))
    size = (camera.width, camera.height)
    colours = {"a.webp": (200, 100, 0), "b.webp": (100, 100, 200), "c.jpg": (0, 255, 0)}
    for name, colour in colours.items():
        Image.new("RGB", size, colour).save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    before = {number: tuple(point.color) for number, point in model.points3D.items()}
    by_number = {number: image.name for number, image in model.images.items()}
    recolour(model, tmp_path)
    changed = 0
    for number, point in model.points3D.items():
        seen = [by_number[element.image_id] for element in point.track.elements]
        shown = [colours[name] for name in seen if name.endswith("webp")]
        expected = np.mean(shown, axis=0) if shown else before[number]
        changed += bool(shown)
        np.testing.assert_allclose(point.color, expected, atol=2)
    assert changed > 10


def test_the_place_of_a_point_is_looked_at(tmp_path):
    """Left half red, right half blue, in a photo that is reduced for it."""
    model = world(["a.webp", "b.jpg"])
    camera = next(iter(model.cameras.values()))
    pixels = np.zeros((camera.height, camera.width, 3), np.uint8)
    pixels[:, : camera.width // 2, 0] = pixels[:, camera.width // 2 :, 2] = 255
    Image.fromarray(pixels).resize((2 * camera.width, 2 * camera.height), 0).save(tmp_path / "a.webp", lossless=True)
    image = next(image for image in model.images.values() if image.name == "a.webp")
    for point in image.points2D:
        point.xy = 2 * point.xy
    recolour(model, tmp_path)
    checked = 0
    for point in image.points2D:
        if point.has_point3D() and abs(point.x() - camera.width) > 8:
            red, _, blue = model.points3D[point.point3D_id].color
            assert (red > blue) == (point.x() < camera.width)
            checked += 1
    assert checked > 10
