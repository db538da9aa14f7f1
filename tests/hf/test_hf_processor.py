"""Image processors: every kind of picture, sizes, options, files, and pictures of matches."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from lgsfm.errors import InputError, WeightsError
from lgsfm.hf import AutoImageProcessor, LightGlueImageProcessor, LightGlueImageProcessorFast


def array(height=60, width=90, seed=0):
    smooth = np.random.default_rng(seed).integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    return np.asarray(Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def processor():
    return LightGlueImageProcessor(size={"height": 40, "width": 50})


def test_all_kinds_of_pictures_are_one(processor):
    rgb = array().copy()
    kinds = [
        Image.fromarray(rgb),
        Image.fromarray(rgb).convert("RGBA"),
        rgb,
        np.moveaxis(rgb, 2, 0),
        torch.from_numpy(rgb),
        torch.from_numpy(rgb).permute(2, 0, 1),
        np.dstack((rgb, rgb[..., :1])),
    ]
    expected = processor([kinds[0], kinds[0]], return_tensors="pt").pixel_values
    assert expected.shape == (1, 2, 3, 40, 50)
    assert expected.dtype == torch.float32
    for picture in kinds:
        assert torch.equal(processor((picture, picture), return_tensors="pt").pixel_values, expected)
    floats = [rgb.astype(np.float32), rgb.astype(np.float64) / 255]
    for picture, rescale in zip(floats, (True, False), strict=True):  # not rounded in between
        found = processor([picture, picture], return_tensors="pt", do_rescale=rescale).pixel_values
        torch.testing.assert_close(found, expected, atol=0.003, rtol=0)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "I;16", "F"])
def test_all_modes_of_pillow(processor, mode):
    gray = Image.fromarray(array()).convert("L")
    picture = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if mode == "I;16" else gray.convert(mode)
    found = processor([picture, gray], return_tensors="pt").pixel_values[0]
    tolerance = 1 if mode == "1" else 0.01
    torch.testing.assert_close(found[0], found[1], atol=tolerance, rtol=0)


def test_two_dimensional_arrays(processor):
    gray = array()[..., 0]
    found = processor([gray, gray[..., None]], return_tensors="pt").pixel_values[0]
    assert torch.equal(found[0], found[1])


def test_layouts(processor):
    ambiguous = np.zeros((3, 40, 3), np.uint8)
    ambiguous[:, :20] = 255
    pair = [ambiguous, ambiguous]
    first, last = (
        processor(pair, return_tensors="pt", do_resize=False, input_data_format=layout).pixel_values.shape[2:]
        for layout in ("channels_first", "channels_last")
    )
    assert (tuple(first), tuple(last)) == ((3, 40, 3), (3, 3, 40))
    out = processor(pair, return_tensors="np", data_format="channels_last")["pixel_values"]
    assert out.shape == (1, 2, 40, 50, 3)
    assert isinstance(out, np.ndarray)
    lists = processor([pair, pair]).pixel_values
    assert [len(lists), len(lists[0]), lists[0][0].shape] == [2, 2, (3, 40, 50)]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ({"height": 30, "width": 40}, (30, 40)),
        ((30, 40), (30, 40)),
        ({"longest_edge": 45}, (30, 45)),
        ({"longest_edge": 180}, (120, 180)),
        ({"shortest_edge": 30}, (30, 45)),
        (20, (20, 30)),
        ({"max_height": 30, "max_width": 30}, (20, 30)),
    ],
)
def test_sizes(size, expected):
    processor = LightGlueImageProcessor(size=size)
    assert processor([array(), array()], return_tensors="pt").pixel_values.shape[3:] == expected


def test_keep_aspect_fits_into_the_box(processor):
    inputs = processor([[array(60, 90), array(90, 60)]], return_tensors="pt", keep_aspect=True)
    assert inputs.image_sizes.tolist() == [[[33, 50], [40, 27]]]
    assert inputs.pixel_values.shape == (1, 2, 3, 40, 50)
    assert not inputs.pixel_values[0, 0, :, 33:].any()
    assert not inputs.pixel_values[0, 1, :, :, 27:].any()
    assert "image_sizes" not in processor([array(), array(90, 60)], return_tensors="pt")


@pytest.mark.parametrize("resample", [0, 2, 3])
@pytest.mark.parametrize("size", [(40, 50), (90, 150)])
def test_fast_equals_slow(resample, size):
    options = {"size": size, "resample": resample, "do_grayscale": False}
    pair = [array(), Image.fromarray(array(seed=1))]
    slow, fast = (
        kind(**options)(pair, return_tensors="pt", device="cpu").pixel_values
        for kind in (LightGlueImageProcessor, LightGlueImageProcessorFast)
    )
    difference = (slow - fast).abs()
    assert difference.max() <= 2.01 / 255 or resample == 0
    assert difference.mean() < 0.3 / 255 or resample == 0
    assert fast.shape == slow.shape


def test_fast_refuses_what_torch_cannot():
    with pytest.raises(InputError, match="Available: 0, 2, 3"):
        LightGlueImageProcessorFast(resample=1)([array(), array()])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p([array()]), "a pair of images or a list of pairs"),
        (lambda p: p([[array(), array()], [array()]]), "a pair of images or a list of pairs"),
        (lambda p: p(["a.jpg", "b.jpg"]), "a pair of images or a list of pairs"),
        (lambda p: p([]), "a pair of images or a list of pairs"),
        (lambda p: p([np.zeros((5, 5, 7), np.uint8)] * 2), "has not 1, 3 or 4 channels"),
        (lambda p: p([array() / 255] * 2), "give do_rescale=False"),
        (lambda p: p([array()] * 2, do_grayscal=True), "Did you mean 'do_grayscale'"),
        (lambda p: p([array()] * 2, return_tensors="tf"), "Available: None, np, pt"),
        (lambda p: p([array()] * 2, data_format="hwc"), "Available: channels_first, channels_last"),
        (lambda p: p([array()] * 2, size={"height": 3}), "is none of: height and width"),
        (lambda p: p([array()] * 2, size={"height": 3, "width": -1}), "is none of"),
        (lambda p: p([array()] * 2, resample=9), "Unknown resample"),
        (lambda p: LightGlueImageProcessor(do_resise=False), "Did you mean 'do_resize'"),
        (lambda p: p.visualize_keypoint_matching([array()] * 2, []), "1 pairs of images but the matches of 0"),
    ],
)
def test_wrong_calls_are_named(processor, call, message):
    with pytest.raises(InputError, match=message):
        call(processor)


def test_files_go_both_ways(tmp_path):
    reference = transformers.models.lightglue.image_processing_pil_lightglue.LightGlueImageProcessorPil()
    reference.save_pretrained(tmp_path / "theirs")
    read = AutoImageProcessor.from_pretrained(tmp_path / "theirs")
    assert read.to_dict() == LightGlueImageProcessor().to_dict()
    changed = AutoImageProcessor.from_pretrained(tmp_path / "theirs", do_grayscale=False, keep_aspect=True)
    changed.save_pretrained(tmp_path / "ours")
    assert AutoImageProcessor.from_pretrained(tmp_path / "ours", use_fast=True).keep_aspect
    assert transformers.AutoImageProcessor.from_pretrained(tmp_path / "ours").do_grayscale is False
    plain = json.loads((tmp_path / "theirs" / "preprocessor_config.json").read_text())
    assert read.to_dict() == plain
    with pytest.raises(WeightsError, match=r"no preprocessor_config\.json"):
        AutoImageProcessor.from_pretrained(tmp_path)


def test_a_batch_moves_and_casts(processor):
    batch = processor([[array(), array(90, 60)]], return_tensors="pt", keep_aspect=True)
    half = batch.to("cpu", torch.float16)
    assert half["pixel_values"].dtype == half.pixel_values.dtype == torch.float16
    assert batch.to(dtype=torch.float16).image_sizes.dtype == torch.int64
    assert batch.to(torch.device("cpu")).keys() == batch.data.keys() == {"pixel_values", "image_sizes"}
    with pytest.raises(AttributeError, match="no 'pixels' in this batch"):
        batch.pixels  # noqa: B018


@pytest.mark.parametrize("sizes", [[(1, 2)], [[(1, 2)]], [[(1, 2), (3, 4)]] * 2, "ab", [[(1, 2), (3,)]]])
def test_wrong_target_sizes(sizes):
    output = transformers.models.lightglue.modeling_lightglue.LightGlueKeypointMatchingOutput(
        mask=torch.ones(1, 2, 1), keypoints=torch.zeros(1, 2, 1, 2), matches=torch.zeros(1, 2, 1)
    )
    with pytest.raises(InputError, match="target_sizes"):
        LightGlueImageProcessor().post_process_keypoint_matching(output, sizes)


def test_matches_are_drawn_where_they_are():
    images = [array(60, 90), np.moveaxis(array(80, 70), 2, 0)]
    result = {
        "keypoints0": torch.tensor([[10.0, 20.0]]),
        "keypoints1": torch.tensor([[30.0, 20.0]]),
        "matching_scores": torch.tensor([1.0]),
    }
    drawn = LightGlueImageProcessor().visualize_keypoint_matching(
        [images, images], [result, result | {"matching_scores": torch.tensor([0.0])}]
    )
    sure, unsure = map(np.asarray, drawn)
    assert sure.shape == (80, 160, 3)
    assert sure[20, 60].tolist() == [0, 255, 0]
    assert unsure[20, 60].tolist() == [255, 0, 0]
    assert sure[20, 10].tolist() == sure[20, 90 + 30].tolist() == [0, 0, 0]
    assert np.array_equal(sure[40:60, :90], images[0][40:60])
    assert not sure[60:, :90].any()


def test_bfloat16_pictures_are_read():
    pair = [torch.rand(3, 40, 60).mul(255).bfloat16() for _ in range(2)]
    for kind in (LightGlueImageProcessor, LightGlueImageProcessorFast):
        pixels = kind(size={"height": 20, "width": 30})(pair, return_tensors="pt")["pixel_values"]
        assert pixels.shape == (1, 2, 3, 20, 30)
        assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1
