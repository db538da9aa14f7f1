"""The pipeline: one pair or many, files or images, and matches that are right in a scene with known truth."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from hf_helpers import SMALL, textures, theirs
from PIL import Image

import lgsfm.hf
from lgsfm import weights
from lgsfm.errors import InputError, WeightsError
from lgsfm.hf import LightGlueForKeypointMatching, LightGlueImageProcessor, pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipeline")
    theirs(11, **SMALL, depth_confidence=0.5, width_confidence=0.5).save_pretrained(path)
    LightGlueImageProcessor(size={"height": 96, "width": 128}).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def matcher(folder):
    return pipeline("keypoint-matching", model=folder)


@pytest.fixture(scope="module")
def images():
    return [Image.fromarray((t * 255).byte().permute(1, 2, 0).numpy()) for t in textures(4, 150, 210, seed=3)]


def test_one_pair_and_many(matcher, images):
    alone = [matcher([image, image]) for image in images]
    assert all(len(found) > 10 for found in alone)
    assert matcher([(image, image) for image in images]) == alone
    assert matcher([[images[0], images[0]]]) == alone[0]  # as transformers: one pair, one list
    scores = [match["score"] for match in alone[0]]
    assert scores == sorted(scores, reverse=True)
    kept = matcher([images[0], images[0]], threshold=scores[5])
    assert [match["score"] for match in kept] == scores[:5]
    point = alone[0][0]["keypoint_image_0"]
    assert isinstance(point["x"], float)
    assert point == alone[0][0]["keypoint_image_1"]


def test_files_are_seen_upright(matcher, images, save_photo, tmp_path):
    upright = np.asarray(images[0])
    turned = save_photo(tmp_path / "turned é.png", upright, orientation=6)
    plain = save_photo(tmp_path / "plain.png", upright)
    expected = matcher([images[0], images[0]])
    assert matcher([str(turned), plain]) == expected


def test_what_is_no_pair(matcher, images, tmp_path):
    for wrong in (None, [], images, [images[0]], [[images[0]], images[:2]], "ab", [1, 2]):
        with pytest.raises(InputError, match="must be a pair of images"):
            matcher(wrong)
    with pytest.raises(InputError, match="does not exist"):
        matcher([str(tmp_path / "no.jpg"), images[0]])
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(InputError, match="not an image"):
        matcher([tmp_path / "text.jpg", images[0]])


def test_addresses(matcher, images, monkeypatch):
    with pytest.raises(InputError, match="not an https address"):
        matcher(["http://example.org/a.jpg", images[0]])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"Cannot fetch https.*offline.*\n.*give its path"):
        matcher(["https://example.org/a.jpg", images[0]])


def test_addresses_are_fetched(matcher, images, monkeypatch):
    def download(url, path, limit):
        assert (url, limit) == ("https://example.org/a.png", 100 << 20)
        images[0].save(path, "PNG")

    monkeypatch.setattr("lgsfm.hf.pixels.download_url", download)
    assert matcher(["https://example.org/a.png", images[0]]) == matcher([images[0], images[0]])


def test_models_and_options(folder, images):
    model = LightGlueForKeypointMatching.from_pretrained(folder)
    processor = LightGlueImageProcessor.from_pretrained(folder)
    made = pipeline("keypoint-matching", model, image_processor=processor, device=-1)
    pair = [images[0], images[0]]
    assert made.device.type == "cpu"
    assert made(pair) == pipeline(model=str(folder), model_kwargs={"filter_threshold": 0.1})(pair)
    assert pipeline(model=folder, dtype="float16").model.dtype == torch.float16
    assert made(pair, timeout=1.0, batch_size=2) == made(pair)
    assert pipeline(model=model, legacy=True, use_fast=True).image_processor.legacy
    model.config.legacy = False
    assert len(pipeline(model=folder, use_fast=True)(pair)) > 10
    kept = pipeline(model=folder, image_processor=LightGlueImageProcessor(size={"longest_edge": 128}))(pair)
    assert max(match["keypoint_image_0"]["x"] for match in kept) > 150
    with pytest.raises(InputError, match="Available: keypoint-matching"):
        pipeline("object-detection")
    with pytest.raises(InputError, match="mean nothing where the model itself is given"):
        pipeline(model=model, revision="main")
    with pytest.raises(InputError, match="Unknown argument of LightGlueConfig 'threshhold'"):
        pipeline(model=folder, threshhold=1)
    with pytest.raises(InputError, match="cannot be used here"):
        pipeline(model=folder, device="cuda:99")


def test_a_model_that_is_given_stays_as_it_is(folder, images):
    model = LightGlueForKeypointMatching.from_pretrained(folder)
    faulty = pipeline(model=model, legacy=True, image_processor=folder)
    assert faulty.model.config.legacy
    assert not model.config.legacy
    assert faulty.image_processor.size["height"] == 96
    assert len(faulty([images[0], images[0]])) > 10


def test_the_default_model_is_the_documented_one(monkeypatch, tmp_path):
    for variable in ("LGSFM_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("LGSFM_OFFLINE", "1")
    with pytest.raises(WeightsError, match="lightglue-superpoint"):
        pipeline()


@pytest.mark.parametrize("options", [{}, {"size": {"longest_edge": 800}}, {"keep_aspect": True}])
def test_matches_of_aliked_are_right(courtyard, options):
    """Rays of the exact cameras of the rendered scene meet at the matches."""
    if not (weights.find("aliked-n16") and weights.find("lightglue-aliked")):
        pytest.skip("the ALIKED and LightGlue weights are not here: lgsfm weights fetch")
    pycolmap = pytest.importorskip("pycolmap")
    scene = pycolmap.Reconstruction(courtyard / "sparse")
    views = [next(i for i in scene.images.values() if i.name == name) for name in ("view00.jpg", "view04.jpg")]
    processor = LightGlueImageProcessor.from_pretrained("lgsfm/lightglue_aliked", **options)
    matcher = pipeline(model="lgsfm/lightglue_aliked", image_processor=processor)
    found = matcher([courtyard / "images" / view.name for view in views], threshold=0.5)
    assert len(found) > 300
    error = epipolar_error_px(found, views)
    assert np.median(error) < 0.6
    assert (error < 3).mean() > 0.95


def epipolar_error_px(found, views):
    """Distance of keypoint 1 from the epipolar line of keypoint 0."""
    rays = [
        np.array([[match[f"keypoint_image_{side}"][axis] for axis in "xy"] for match in found]) + 0.5 for side in (0, 1)
    ]
    rays = [
        np.c_[view.camera.cam_from_img(points), np.ones(len(points))] for view, points in zip(views, rays, strict=True)
    ]
    relative = views[1].cam_from_world() * views[0].cam_from_world().inverse()
    x, y, z = relative.translation
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ relative.rotation.matrix()
    lines = rays[0] @ essential.T
    return np.abs((lines * rays[1]).sum(1)) / np.hypot(lines[:, 0], lines[:, 1]) * views[1].camera.mean_focal_length()


def test_public_names_are_sorted_and_resolve():
    assert lgsfm.hf.__all__ == sorted(lgsfm.hf.__all__) == sorted(lgsfm.hf._HOMES)
    for name in lgsfm.hf.__all__:
        assert getattr(lgsfm.hf, name).__module__ == f"lgsfm.hf.{lgsfm.hf._HOMES[name]}"
        assert getattr(lgsfm.hf, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'pipelin'"):
        lgsfm.hf.pipelin  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import lgsfm.hf", ["torch", "numpy", "PIL"]),
        ("from lgsfm.hf import *", ["transformers", "torchvision", "huggingface_hub", "requests", "pycolmap", "h5py"]),
    ],
)
def test_heavy_and_foreign_libraries_stay_out(statement, absent):
    code = f"import sys; exec({statement!r}); print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
