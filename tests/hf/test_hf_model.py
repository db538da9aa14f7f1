"""The model: round trips with transformers, what it returns, and that its two networks are one."""

import copy
import pickle

import pytest
import torch
import transformers
from hf_helpers import SMALL, pairs, theirs

from lgsfm.errors import InputError, WeightsError
from lgsfm.hf import (
    AlikedConfig,
    AutoModel,
    AutoModelForKeypointMatching,
    LightGlueConfig,
    LightGlueForKeypointMatching,
)

EARLY = {"depth_confidence": 0.5, "width_confidence": 0.5}
SEED = 11


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    theirs(SEED, **SMALL | EARLY).save_pretrained(path)
    return path


@pytest.fixture
def model(folder):
    return LightGlueForKeypointMatching.from_pretrained(folder)


@pytest.fixture(scope="module")
def pixels():
    return pairs(3, seed=SEED)


@pytest.mark.parametrize("changes", [{}, {"num_key_value_heads": 1, "attention_bias": False, "descriptor_dim": 32}])
def test_round_trip_with_transformers(changes, tmp_path):
    reference = theirs(0, **SMALL | changes)
    reference.save_pretrained(tmp_path / "theirs")
    ours = LightGlueForKeypointMatching.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    back, info = transformers.AutoModelForKeypointMatching.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    expected = reference.state_dict()
    for state in (ours.state_dict(), back.state_dict()):
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_default_architecture_is_that_of_transformers():
    ours = LightGlueForKeypointMatching(LightGlueConfig()).state_dict()
    reference = transformers.LightGlueForKeypointMatching(transformers.LightGlueConfig()).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in reference.items()}
    for name, value in ours.items():  # and so are the initial weights
        if value.ndim > 1 and value.numel() > 1000:
            assert float(value.std()) == pytest.approx(float(reference[name].std()), abs=1e-3)
        elif value.ndim == 1:
            assert torch.equal(value, reference[name])


def test_one_pair_equals_transformers(tmp_path):
    """With the default configuration keypoints, matches, scores and layers of one pair are the same."""
    reference = theirs(SEED, filter_threshold=0.001)
    reference.save_pretrained(tmp_path)
    pixels = pairs(1, seed=SEED)
    with torch.no_grad():
        expected = reference(pixels)
    found = LightGlueForKeypointMatching.from_pretrained(tmp_path)(pixels)
    assert (found.matches > -1).sum() > 20
    assert list(found) == list(expected)
    for name in ("matches", "mask", "keypoints", "prune"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=0, check_dtype=False)
    torch.testing.assert_close(found.matching_scores, expected.matching_scores, atol=3e-4, rtol=0)


def test_output_behaves_like_that_of_transformers(model, pixels):
    output = model(pixels)
    reference = transformers.models.lightglue.modeling_lightglue.LightGlueKeypointMatchingOutput(**output)
    assert list(output) == list(reference) == ["matches", "matching_scores", "keypoints", "prune", "mask"]
    assert list(output.keys()) == list(reference.keys())
    assert output[0] is output.matches is output["matches"] is output.to_tuple()[0]
    assert len(output[:2]) == 2
    assert len(output) == len(reference.to_tuple()) == 5
    assert output.loss is output.hidden_states is None
    assert dict(**output).keys() == output.keys()
    assert isinstance(model(pixels, return_dict=False), tuple)
    output.matches = output.matches + 1
    assert output["matches"] is output.matches
    with pytest.raises(TypeError, match="cannot be removed"):
        output.pop("matches")
    for copied in (pickle.loads(pickle.dumps(output)), copy.deepcopy(output)):
        assert torch.equal(copied.matches, output.matches)
        assert torch.equal(copied.image_sizes, output.image_sizes)


def test_output_shapes_and_padding(model, pixels):
    output = model(pixels)
    n = output.mask.shape[2]
    assert output.matches.shape == output.matching_scores.shape == output.prune.shape == (3, 2, n)
    assert output.keypoints.shape == (3, 2, n, 2)
    padding = output.mask == 0
    assert padding.any()
    assert (output.matches[padding] == -1).all()
    assert not any(output[name][padding].any() for name in ("matching_scores", "keypoints"))
    assert (output.matching_scores[output.matches > -1] > model.config.filter_threshold).all()
    assert output.image_sizes.tolist() == [[[96, 128]] * 2] * 3
    output.matches[0] = 0  # outputs are plain tensors, which may be changed


def test_hidden_states_and_attentions_come_from_the_readable_network(model, pixels):
    plain, traced = model(pixels), model(pixels, output_hidden_states=True, output_attentions=True)
    assert torch.equal(plain.matches, traced.matches)
    assert torch.equal(plain.prune, traced.prune)
    torch.testing.assert_close(plain.matching_scores, traced.matching_scores, atol=2e-4, rtol=0)
    n, layers = plain.mask.shape[2], int(plain.prune.max())
    assert [state.shape for state in traced.hidden_states] == [
        (3, 2, n, width) for width in (64, 64, 128, 64, 64, 128, 64)
    ] * layers
    assert [attention.shape for attention in traced.attentions] == [(3, 2, 4, n, n)] * 2 * layers
    for step, attention in enumerate(traced.attentions):  # rows are distributions for whom takes part
        present = ((traced.prune > step // 2) & (traced.mask > 0)).float()[:, :, None].expand(-1, -1, 4, -1)
        torch.testing.assert_close(attention.sum(-1), present, atol=1e-5, rtol=0)
        assert not attention.masked_select(traced.mask[:, :, None, :, None] == 0).any()
    after, update, before = traced.hidden_states[1], traced.hidden_states[3], traced.hidden_states[0]
    torch.testing.assert_close(after, before + update)


def test_hidden_states_can_be_a_part_of_the_configuration(folder, pixels):
    model = LightGlueForKeypointMatching.from_pretrained(folder, output_hidden_states=True, return_dict=False)
    assert len(model(pixels[:1])) == 6


def test_images_without_keypoints(model, pixels):
    model.config.keypoint_detector_config.keypoint_threshold = 1.0
    output = model(pixels, output_hidden_states=True)
    assert output.matches.shape == (3, 2, 0)
    model.config.keypoint_detector_config.keypoint_threshold = 0.005
    blank = pixels.clone()
    blank[0, 1] = 0.5
    state = model.keypoint_detector.state_dict()
    state["keypoint_decoder.conv_score_b.bias"][:] = torch.tensor([0.0] * 64 + [5.0])  # flat regions are "none" now
    output = model(blank)
    counts = output.mask.sum(-1)
    assert counts[0, 0] > 0
    assert (output.matches[0][:, : int(counts[0].max())] >= -1).all()
    alone = model(blank[1:2])
    assert (output.matches[1] > -1).sum() == (alone.matches[0] > -1).sum()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", torch.float16])
def test_half_precision(dtype, folder, pixels, model):
    half = LightGlueForKeypointMatching.from_pretrained(folder, dtype=dtype)
    assert half.dtype == getattr(torch, str(dtype).removeprefix("torch."))
    output = half(pixels[:1].to(half.dtype))
    assert output.keypoints.dtype == output.matching_scores.dtype == torch.float32
    expected = model(pixels[:1].to(half.dtype))
    same = (output.matches > -1) & (output.matches == expected.matches)
    assert same.sum() > 0.4 * (expected.matches > -1).sum() > 40
    half.save_pretrained(folder / "half")
    assert LightGlueForKeypointMatching.from_pretrained(folder / "half").dtype == half.dtype
    assert LightGlueForKeypointMatching.from_pretrained(folder / "half", dtype=torch.float32).dtype == torch.float32


def test_changed_weights_are_used(model, folder, pixels):
    before = model(pixels)
    assert model.compiled() is model.compiled()  # made once
    twin = copy.deepcopy(model)
    with torch.no_grad():
        model.match_assignment_layers[0].matchability.bias -= 30
        model.match_assignment_layers[1].matchability.bias -= 30
    assert (model(pixels).matches == -1).all()
    assert torch.equal(twin(pixels).matches, before.matches)
    model.load_state_dict(twin.state_dict())
    assert torch.equal(model(pixels).matches, before.matches)
    model.config.filter_threshold = 0.99
    assert (model(pixels).matches > -1).sum() < (before.matches > -1).sum()


def test_grey_images_of_one_channel(model, pixels):
    assert torch.equal(model(pixels[:, :, :1]).matches, model(pixels).matches)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": torch.zeros(1)}, "not trainable"),
        ({"pixel_values": torch.zeros(2, 3, 96, 128)}, "must have the shape"),
        ({"pixel_values": torch.zeros(1, 3, 3, 96, 128)}, "must have the shape"),
        ({"image_sizes": torch.tensor([[96, 128]])}, r"shape \(3, 2, 2\)"),
        ({"image_sizes": torch.tensor([[[128, 96]] * 2] * 3)}, "between 1 and"),
    ],
)
def test_wrong_inputs(model, pixels, arguments, message):
    with pytest.raises(InputError, match=message):
        model(**{"pixel_values": pixels} | arguments)


def test_loading(folder, tmp_path):
    model = AutoModelForKeypointMatching.from_pretrained(folder, filter_threshold=0.4, device="cpu")
    assert (model.config.filter_threshold, model.training, model.device.type) == (0.4, False, "cpu")
    assert AutoModel.from_pretrained(str(folder), config=LightGlueConfig(**SMALL)).config.depth_confidence == 0.95
    assert isinstance(AutoModel.from_config(LightGlueConfig(**SMALL)), LightGlueForKeypointMatching)
    with pytest.raises(InputError, match="Did you mean 'filter_threshold'"):
        AutoModel.from_pretrained(folder, filter_treshold=0.4)
    with pytest.raises(InputError, match="never runs code"):
        AutoModel.from_pretrained(folder, trust_remote_code=True)
    with pytest.raises(InputError, match="Available: auto, bfloat16"):
        AutoModel.from_pretrained(folder, dtype="float8")
    with pytest.raises(WeightsError, match="do not fit its configuration"):
        AutoModel.from_pretrained(folder, num_hidden_layers=5)
    with pytest.raises(InputError, match="Unknown hidden_act 'gleu'"):
        LightGlueForKeypointMatching(LightGlueConfig(hidden_act="gleu"))


def test_aliked_is_a_detector_too(tmp_path):
    config = LightGlueConfig(num_hidden_layers=2, keypoint_detector_config=AlikedConfig(max_keypoints=50))
    model = LightGlueForKeypointMatching(config).eval()
    assert model.input_projection.in_features == 128
    model.save_pretrained(tmp_path)
    again = LightGlueForKeypointMatching.from_pretrained(tmp_path)
    pixels = torch.rand(1, 2, 3, 64, 96)
    assert torch.equal(again(pixels).keypoints, model(pixels).keypoints)
    assert again(pixels).mask.sum() <= 100
    assert again.compiled() is again.compiled()
