import numpy as np
import pytest

from lgsfm.errors import InputError
from lgsfm.extractors.sift import SiftExtractor, SiftOptions, best_first, root_sift
from lgsfm.images import Photo

SIGMA = 3.0  # of the blobs [px]


def photo(gray, orientation=1):
    rgb = np.repeat(gray[..., None], 3, 2)
    size = gray.shape[:2] if orientation > 4 else gray.shape[1::-1]
    return Photo(rgb=rgb, size=size, orientation=orientation, scale=(1.0, 1.0), digest="d")


def blobs(height=240, width=320):
    """Gaussian blobs around known places that are no whole pixels."""
    y, x = np.mgrid[20 : height - 20 : 30, 20 : width - 20 : 30]
    centres = np.stack((x.ravel(), y.ravel()), 1) + np.random.default_rng(0).uniform(-1, 1, (x.size, 2))
    rows, columns = np.mgrid[:height, :width]
    image = np.full((height, width), 60.0)
    for cx, cy in centres:
        image += 120 * np.exp(-((columns - cx) ** 2 + (rows - cy) ** 2) / (2 * SIGMA**2))
    return image.round().astype(np.uint8), centres


def extract(gray, **options):
    return SiftExtractor(SiftOptions(**options), "cpu", None).extract(photo(gray))


def test_keypoints_have_no_bias():
    image, centres = blobs()
    keypoints = extract(image).keypoints
    distance = np.linalg.norm(keypoints[:, None] - centres, axis=2)
    errors = (keypoints - centres[distance.argmin(1)])[distance.min(1) < 1]
    assert len(errors) >= len(centres)
    assert np.abs(errors.mean(0)).max() < 0.01
    assert np.abs(errors).max() < 0.1


def test_features_are_best_first_and_normalised():
    features = extract(blobs()[0], max_keypoints=30)
    assert len(features) == 30
    assert features.extractor == "sift"
    assert (np.diff(features.scores) <= 0).all()
    assert features.keypoints.dtype == features.descriptors.dtype == features.scores.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-6)


def test_same_photo_same_features():
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)
    first, second = extract(noise), extract(noise)
    np.testing.assert_array_equal(first.keypoints, second.keypoints)
    np.testing.assert_array_equal(first.descriptors, second.descriptors)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (40, 40)])
def test_nothing_to_see(shape):
    features = extract(np.full(shape, 128, np.uint8))
    assert features.keypoints.shape == (0, 2)
    assert features.descriptors.shape == (0, 128)


def test_keypoints_are_in_the_stored_image():
    image, _ = blobs()
    upright = SiftExtractor(SiftOptions(), "cpu", None).extract(photo(image)).keypoints
    turned = SiftExtractor(SiftOptions(), "cpu", None).extract(photo(image, orientation=6))
    assert turned.image_size == (240, 320)
    np.testing.assert_allclose(turned.upright_keypoints, upright, atol=1e-3)
    assert np.abs(turned.keypoints - upright).max() > 10


def test_best_first_orders_equal_scores_by_position():
    keypoints = np.array([[5, 5], [9, 1], [2, 1], [0, 0]], np.float32)
    assert best_first(np.array([1, 1, 1, 3], np.float32), keypoints, 3).tolist() == [3, 2, 1]


def test_root_sift():
    histogram = np.array([[9, 16, 0, 0], [0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(root_sift(histogram), [[0.6, 0.8, 0, 0], [0, 0, 0, 0]])


def test_presets_are_valid_options():
    for preset in SiftOptions.presets.values():
        SiftOptions(**preset)
    assert SiftOptions(**SiftOptions.presets["medium"]) == SiftOptions()
    with pytest.raises(InputError, match="contrast_threshold"):
        SiftOptions(contrast_threshold=-1)
