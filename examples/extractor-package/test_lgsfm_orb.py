"""What a package that adds an extractor should test; `python -m pytest` here, once it is installed."""

import numpy as np
import pytest
from lgsfm_orb import OrbExtractor, OrbOptions, unit_vectors
from PIL import Image

import lgsfm
from lgsfm.registry import component_class


@pytest.fixture
def photo(tmp_path):
    tiles = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(tiles.repeat(20, 0).repeat(20, 1)).save(tmp_path / "a.png")
    return lgsfm.read_photo(tmp_path / "a.png", 1024)


def test_lgsfm_finds_it_by_its_name():
    assert component_class("extractor", "orb") is OrbExtractor


def test_features_lie_in_the_photo_the_best_first(photo):
    found = OrbExtractor(OrbOptions(max_keypoints=500), "cpu", None).extract(photo)
    assert 100 < len(found.keypoints) <= 500
    assert (found.keypoints >= 0).all()
    assert (found.keypoints <= np.array(photo.size) - 1).all()
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)


def test_a_photo_without_texture_has_no_features_and_no_error(tmp_path):
    Image.new("RGB", (320, 240)).save(tmp_path / "black.png")
    photo = lgsfm.read_photo(tmp_path / "black.png", 1024)
    assert OrbExtractor(OrbOptions(), "cpu", None).extract(photo).keypoints.shape == (0, 2)


def test_the_dot_product_counts_bits():
    bits = np.zeros((2, 256), np.uint8)
    bits[1, :64] = 1  # a quarter differs
    vectors = unit_vectors(bits)
    assert vectors[0] @ vectors[1] == pytest.approx(1 - 2 * 64 / 256)
