"""Whole runs on real photos, from the folder that LGSFM_TEST_DATA names."""

import shutil

import pytest

import lgsfm
from lgsfm import weights

SMALL = {"features": "aliked", "max_keypoints": 1024, "max_edge_px": 800}


@pytest.fixture(autouse=True)
def needs_weights():
    if not (weights.find("aliked-n16") and weights.find("lightglue-aliked")):
        pytest.skip("the ALIKED and LightGlue weights are not here: lgsfm weights fetch")


def test_a_planar_facade_has_exact_poses(real_photos, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((real_photos / "lund-door" / "images").iterdir())[::2]:
        shutil.copy(path, images)
    summary = lgsfm.reconstruct(images, tmp_path / "out", **SMALL)
    assert summary.num_reg_images == summary.num_images == 6
    assert summary.cameras[0]["focal_px"]  # from EXIF
    truth = lgsfm.evaluate(tmp_path / "out", real_photos / "lund-door" / "ground_truth.txt")
    assert truth.num_registered == 6
    assert truth.median_rotation_error_deg < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kermit", "monstree-exif6", "sacre-coeur"])
def test_all_photos_register(name, real_photos, tmp_path):
    """Little texture; EXIF orientations 1 and 6 mixed; ten cameras."""
    summary = lgsfm.reconstruct(real_photos / name / "images", tmp_path / "out", features="aliked")
    assert summary.unregistered == []
