"""How many keypoints photos are likely to have."""

from __future__ import annotations

import numpy as np
import pytest

from lgsfm.extractors.sift import SiftExtractor, SiftOptions
from lgsfm.images import list_images, read_photo
from lgsfm.texture import expected_keypoints, textured_share


def test_the_share_is_that_of_what_is_not_plain():
    picture = np.full((240, 643, 3), 90, np.uint8)  # 643: what is left of a block does not count
    assert textured_share(picture) == 0
    picture[::2, :160] += 30
    assert textured_share(picture) == pytest.approx(0.25)
    picture[::2, 160:640] += 4  # noise of the sensor
    assert textured_share(picture) == pytest.approx(0.25)


def test_the_guess_is_near_what_is_found(courtyard):
    images = courtyard / "images"
    names = list_images(images)[::5]
    extractor = SiftExtractor(SiftOptions(max_keypoints=0, max_edge_px=600), "cpu", None)
    found = np.mean([len(extractor.extract(read_photo(images / name, 600))) for name in names])
    assert 0.5 < expected_keypoints(images, names, "sift", 600) / found < 2


def test_what_cannot_be_known_is_nothing(courtyard, tmp_path):
    assert expected_keypoints(courtyard / "images", ["view00.jpg"], "an extractor of another package", 600) == 0
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    assert expected_keypoints(tmp_path, ["a.jpg"], "sift", 600) == 0
    assert expected_keypoints(tmp_path, [], "sift", 600) == 0


def test_a_picture_smaller_than_a_block_has_nothing():
    assert textured_share(np.zeros((5, 400, 3), np.uint8)) == 0
