"""Cameras of single photos: where they come from and what they see."""

import numpy as np
import pycolmap
import pytest

from lgsfm.cameras import Camera, camera_of_exif, camera_of_model, parse_camera
from lgsfm.errors import InputError
from lgsfm.exif import Exif

SIZE = (1600, 1200)


def test_exif_tells_the_focal_length_and_its_lack_is_a_guess():
    told = camera_of_exif(Exif(focal_35mm=36), SIZE)
    assert (told.source, told.is_guess) == ("EXIF", False)
    assert told.focal_px == pytest.approx(36 * 2000 / np.hypot(36, 24))
    guess = camera_of_exif(Exif(), SIZE)
    assert guess.is_guess
    assert guess.focal_px == pytest.approx(1.2 * 1600)
    assert guess.params[1:] == (800, 600)


def test_text_may_be_a_focal_length_or_a_model():
    assert parse_camera("1200", "a.jpg", SIZE) == Camera("SIMPLE_PINHOLE", SIZE, (1200.0, 800.0, 600.0), "given")
    assert parse_camera("pinhole, 1000,1100, 790,610", "a.jpg", SIZE).params == (1000, 1100, 790, 610)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wide", "'wide' is no camera. Give a focal length in pixels"),
        ("PINHOLE,1,2,3", "PINHOLE has the parameters fx, fy, cx, cy, not 3 numbers"),
        ("PINHOL,1,2,3,4", "Did you mean 'PINHOLE'"),
        ("-5", "focal length positive"),
        ("PINHOLE,1000,1000,2000,600", "principal point \\(2000, 600\\) of a camera must lie in its photo"),
        ("", "is no camera"),
        ("nan", "must be finite"),
        ("PINHOLE,a,2,3,4", "is no camera"),
    ],
)
def test_other_text_is_refused_with_the_reason(text, message):
    with pytest.raises(InputError, match=message):
        parse_camera(text, "a.jpg", SIZE)


def test_ideal_points_are_measured_from_the_principal_point():
    camera = Camera("PINHOLE", SIZE, (1000.0, 2000.0, 800.0, 600.0), "given")
    ideal = camera.ideal_points(np.array([[799.5, 599.5], [899.5, 599.5], [799.5, 699.5]]))
    assert np.allclose(ideal, [[0, 0], [150, 0], [0, 75]])  # the mean focal length is 1500
    assert camera.ideal_points(np.zeros((0, 2))).shape == (0, 2)


def test_ideal_points_undo_distortion_of_all_models():
    points = np.random.default_rng(0).uniform((300, 300), (1300, 900), (50, 2))
    rays = np.column_stack(((points + 0.5 - np.divide(SIZE, 2)) / 1500, np.ones(50)))
    for model, params in (
        ("SIMPLE_RADIAL", (1500, 800, 600, -0.1)),
        ("OPENCV", (1500, 1500, 800, 600, -0.1, 0.01, 0.001, -0.002)),
        ("OPENCV_FISHEYE", (1500, 1500, 800, 600, 0.01, 0.0, 0.0, 0.0)),
    ):
        camera = Camera(model, SIZE, tuple(map(float, params)), "given")
        seen = np.asarray(camera.colmap.img_from_cam(rays)) - 0.5
        assert np.allclose(camera.ideal_points(seen), rays[:, :2] * 1500, atol=1e-3)


def test_a_camera_follows_its_photo_to_another_size():
    half = Camera("SIMPLE_RADIAL", SIZE, (1500.0, 800.0, 600.0, -0.1), "given").scaled_to((800, 600))
    assert half.params == (750, 400, 300, -0.1)
    with pytest.raises(InputError, match="1600x1200 px, the photo has 800x800"):
        Camera("SIMPLE_PINHOLE", SIZE, (1500.0, 800.0, 600.0), "given").scaled_to((800, 800))


def test_a_model_gives_the_camera_of_its_image(tmp_path):
    model = pycolmap.synthesize_dataset(
        pycolmap.SyntheticDatasetOptions(num_rigs=1, num_frames_per_rig=3, num_points3D=20)
    )
    model.write(tmp_path)
    image = next(iter(model.images.values()))
    truth = model.cameras[image.camera_id]
    size = (truth.width, truth.height)
    camera = camera_of_model(tmp_path, f"photos/{image.name}", size)
    assert camera.params == pytest.approx(tuple(truth.params))
    assert "model" in camera.source
    assert parse_camera(str(tmp_path), image.name, size) == camera
    twin = pycolmap.Image(name=f"sub/{image.name}", camera_id=image.camera_id, image_id=99, frame_id=99)
    frame = pycolmap.Frame(frame_id=99, rig_id=image.frame.rig_id)
    frame.add_data_id(twin.data_id)
    model.add_frame(frame)
    model.add_image(twin)
    model.write(tmp_path)
    assert camera_of_model(tmp_path, image.name, size) == camera  # the exact name comes first
    with pytest.raises(InputError, match=r"has no image named 'other\.jpg'"):
        camera_of_model(tmp_path, "other.jpg", size)
    with pytest.raises(InputError, match="No COLMAP model"):
        camera_of_model(tmp_path / "..", "a.jpg", size)
