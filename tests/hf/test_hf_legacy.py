"""With ``legacy=True`` everything equals transformers, which runs beside it with the same weights and pixels."""

import numpy as np
import pytest
import torch
import transformers
from hf_helpers import SMALL, pairs, textures, theirs
from PIL import Image
from transformers.models.lightglue.image_processing_pil_lightglue import LightGlueImageProcessorPil

from lgsfm.errors import InputError
from lgsfm.hf import LightGlueForKeypointMatching, LightGlueImageProcessor, pipeline

SEED = 11
EARLY = {"depth_confidence": 0.5, "width_confidence": 0.5}  # pairs stop after different layers, and drop points
FULL = {"depth_confidence": -1.0, "width_confidence": -1.0}
DETECTOR = SMALL["keypoint_detector_config"]
CASES = {
    "adaptive": SMALL | EARLY,
    "full": SMALL | FULL,
    "shared key heads": SMALL | EARLY | {"num_key_value_heads": 2},
    "without bias": SMALL | FULL | {"num_key_value_heads": 1, "attention_bias": False, "hidden_act": "gelu_new"},
    "with projection": SMALL | FULL | {"descriptor_dim": 128, "hidden_act": "relu", "filter_threshold": 0.001},
    "best keypoints": SMALL | EARLY | {"keypoint_detector_config": DETECTOR | {"max_keypoints": 60}},
    "no keypoints": SMALL | EARLY | {"keypoint_detector_config": DETECTOR | {"keypoint_threshold": 1.0}},
    "default size": {"filter_threshold": 0.001},
}


def both(folder, seed=SEED, **config):
    model = theirs(seed, **config)
    model.save_pretrained(folder)
    return model, LightGlueForKeypointMatching.from_pretrained(folder, legacy=True)


def assert_equal(ours, theirs):
    assert list(ours) == list(theirs)
    for name in ("matches", "prune", "mask"):
        assert torch.equal(ours[name], theirs[name])
        assert ours[name].dtype == theirs[name].dtype
    torch.testing.assert_close(ours.keypoints, theirs.keypoints, atol=0, rtol=0)
    torch.testing.assert_close(ours.matching_scores, theirs.matching_scores, atol=3e-4, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_model(case, tmp_path):
    model, ours = both(tmp_path, **CASES[case])
    pixels = pairs(2 if case == "default size" else 5, seed=SEED)
    with torch.no_grad():
        expected = model(pixels)
    assert_equal(ours(pixels), expected)
    assert case == "no keypoints" or (expected.matches > -1).sum() > 20
    if case == "adaptive":
        assert len(set(expected.prune.flatten(1).amax(1).tolist())) > 1


def test_scores_are_float_exact_with_initial_weights(tmp_path):
    """They make no sharp matches, so that nothing magnifies the last bit of the detector."""
    model = theirs(0, num_hidden_layers=3, filter_threshold=1e-9)
    for name, value in model.state_dict().items():
        if value.ndim == 2:
            value.normal_(0, model.config.initializer_range, generator=torch.Generator().manual_seed(len(name)))
    model.save_pretrained(tmp_path)
    pixels = pairs(3)
    with torch.no_grad():
        expected = model(pixels)
    found = LightGlueForKeypointMatching.from_pretrained(tmp_path, legacy=True)(pixels)
    assert expected.mask.sum() > 100
    torch.testing.assert_close(found.matching_scores, expected.matching_scores, atol=1e-7, rtol=0)
    torch.testing.assert_close(found.keypoints, expected.keypoints, atol=0, rtol=0)


@pytest.mark.parametrize("case", ["adaptive", "full"])
def test_hidden_states_and_attentions(case, tmp_path):
    model, ours = both(tmp_path, **CASES[case])
    model.set_attn_implementation("eager")
    pixels = pairs(3, seed=SEED)
    with torch.no_grad():
        expected = model(pixels, output_hidden_states=True, output_attentions=True)
    found = ours(pixels, output_hidden_states=True, output_attentions=True)
    for name in ("hidden_states", "attentions"):
        assert len(found[name]) == len(expected[name])
        for mine, reference in zip(found[name], expected[name], strict=True):
            torch.testing.assert_close(mine, reference, atol=2e-5, rtol=0)


@pytest.mark.parametrize("confidences", [{"depth_confidence": -1.0}, {"width_confidence": -1.0}])
def test_what_theirs_cannot_do_is_said(confidences, tmp_path):
    model, ours = both(tmp_path, **SMALL | confidences)
    pixels = pairs(1)
    with torch.no_grad(), pytest.raises((UnboundLocalError, RuntimeError)):
        model(pixels)
    with pytest.raises(InputError, match="Set both or neither, or use legacy=False"):
        ours(pixels)


def test_batches_that_theirs_cannot_do_are_said(tmp_path):
    model, ours = both(tmp_path, 1, **SMALL | {"depth_confidence": 0.6, "width_confidence": 0.5})
    pixels = pairs(5, seed=1)
    with torch.no_grad(), pytest.raises(IndexError):
        model(pixels)
    with pytest.raises(InputError, match="some pairs stop early and others run all layers"):
        ours(pixels)


def test_outputs_that_theirs_cannot_read_are_said(tmp_path):
    model, ours = both(tmp_path, **CASES["full"])
    pixels, sizes = pairs(2), [[(96, 128)] * 2] * 2
    with torch.no_grad(), pytest.raises(IndexError):
        LightGlueImageProcessorPil().post_process_keypoint_matching(model(pixels), sizes)
    with pytest.raises(InputError, match="cannot read the matches"):
        LightGlueImageProcessor(legacy=True).post_process_keypoint_matching(ours(pixels), sizes)
    with pytest.raises(InputError, match="knows no image_sizes"):
        ours(pixels, image_sizes=torch.tensor(sizes))


def rgb(width, height, seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_resize": False},
        {"do_grayscale": False},
        {"size": {"height": 60, "width": 50}, "resample": 3},
        {"do_rescale": False},
        {"rescale_factor": 0.5},
    ],
)
def test_pixels(options):
    images = [rgb(90, 70, 0), rgb(90, 70, 1)]
    for kind in (list, lambda pair: [np.asarray(image) for image in pair], lambda pair: [p.convert("L") for p in pair]):
        expected = LightGlueImageProcessorPil(**options)(kind(images), return_tensors="pt").pixel_values
        found = LightGlueImageProcessor(**options, legacy=True)(kind(images), return_tensors="pt").pixel_values
        exact = options.get("do_rescale", True)  # else theirs is grey in float64
        torch.testing.assert_close(found, expected.expand_as(found).float(), atol=0 if exact else 1e-4, rtol=0)


def test_float_pixels():
    unit = [np.asarray(rgb(90, 70, seed), np.float32) / 255 for seed in (0, 1)]
    whole = [np.asarray(rgb(90, 70, seed), np.float64) for seed in (0, 1)]
    for images, options in ((unit, {"do_rescale": False}), (whole, {})):
        expected = LightGlueImageProcessorPil(**options)(images, return_tensors="pt").pixel_values
        found = LightGlueImageProcessor(**options, legacy=True)(images, return_tensors="pt").pixel_values
        assert torch.equal(found, expected.float())


def test_post_processing(tmp_path):
    model, ours = both(tmp_path, **CASES["adaptive"])
    pixels, sizes = pairs(5, seed=SEED), [[(333, 777), (480, 123)]] * 5
    with torch.no_grad():
        expected = LightGlueImageProcessorPil().post_process_keypoint_matching(model(pixels), sizes, 0.3)
    found = LightGlueImageProcessor(legacy=True).post_process_keypoint_matching(ours(pixels), sizes, 0.3)
    for mine, reference in zip(found, expected, strict=True):
        assert torch.equal(mine["keypoints0"], reference["keypoints0"])
        assert torch.equal(mine["keypoints1"], reference["keypoints1"])
        assert mine["keypoints0"].dtype == torch.int32
    assert sum(len(mine["matching_scores"]) for mine in found) > 20


def test_pipeline(tmp_path):
    """Sizes swapped and positions cut off, as theirs; one pair from files, many as images."""
    theirs(SEED, **CASES["adaptive"]).save_pretrained(tmp_path)
    LightGlueImageProcessorPil(size={"height": 96, "width": 128}).save_pretrained(tmp_path)
    images = [Image.fromarray((t * 255).byte().permute(1, 2, 0).numpy()) for t in textures(4, 150, 210, seed=3)]
    paths = [str(tmp_path / f"{i}.png") for i in range(4)]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    reference = transformers.pipeline("keypoint-matching", model=str(tmp_path))
    ours = pipeline("keypoint-matching", model=tmp_path, legacy=True)
    for inputs in ([images[0], images[0]], [images[0:2], images[2:4]], [paths[3], paths[3]]):
        assert_same_matches(ours(inputs, threshold=0.2), reference(inputs, threshold=0.2))
    assert len(ours([paths[3], paths[3]])) > 10


def assert_same_matches(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        if isinstance(mine, list):
            assert_same_matches(mine, reference)
        else:
            assert mine.keys() == reference.keys()
            assert mine["score"] == pytest.approx(reference["score"], abs=3e-4)
    if ours and isinstance(ours[0], dict):
        assert sorted(positions(match) for match in ours) == sorted(positions(match) for match in theirs)


def positions(match):
    return [match[f"keypoint_image_{i}"][axis] for i in (0, 1) for axis in "xy"]


def test_legacy_is_saved(tmp_path):
    _, ours = both(tmp_path / "theirs", **SMALL)
    ours.save_pretrained(tmp_path / "ours")
    LightGlueImageProcessor(legacy=True).save_pretrained(tmp_path / "ours")
    assert LightGlueForKeypointMatching.from_pretrained(tmp_path / "ours").config.legacy
    assert LightGlueImageProcessor.from_pretrained(tmp_path / "ours").legacy
    assert not LightGlueForKeypointMatching.from_pretrained(tmp_path / "ours", legacy=False).config.legacy
    transformers.LightGlueForKeypointMatching.from_pretrained(tmp_path / "ours")
