"""LightGlue equals the reference network: golden files of `tests/golden/make_golden.py`, on the rendered scene."""

import numpy as np
import pytest
import torch

from lgsfm import weights
from lgsfm.errors import LgsfmError, WeightsError
from lgsfm.models import lightglue_fast
from lgsfm.models.attention import attend_jagged
from lgsfm.models.lightglue import (
    ACTIVATIONS,
    Adaptivity,
    LightGlue,
    from_original,
    network_from_weights,
    normalize_keypoints,
)
from lgsfm.models.lightglue_fast import FastLightGlue

MODES = {"full": Adaptivity(-1, -1, 0.1), "adaptive": Adaptivity(0.95, 0.99, 0.1)}
SCORE_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def golden(golden_dir):
    return np.load(golden_dir / "lightglue_aliked.npz")


@pytest.fixture(scope="module")
def state():
    try:
        return weights.load(weights.fetch("lightglue-aliked"))
    except LgsfmError as exc:
        pytest.skip(f"no weights of LightGlue: {exc}")


def inputs(golden):
    keypoints = tuple(
        normalize_keypoints(torch.from_numpy(golden[f"keypoints{i}"]), *map(float, golden[f"size{i}"])) for i in (0, 1)
    )
    descriptors = tuple(torch.from_numpy(golden[f"descriptors{i}"].astype(np.float32)) for i in (0, 1))
    return keypoints, descriptors


def run_fast(network, keypoints, descriptors, adaptivity):
    fast = FastLightGlue(network)
    prepared = [fast.prepare(k, d) for k, d in zip(keypoints, descriptors, strict=True)]
    return fast(*prepared, adaptivity)


def run_plain(network, keypoints, descriptors, adaptivity):
    return network(keypoints, descriptors, adaptivity)


def random_pair(seed, m=60, n=45, dim=256):
    generator = torch.Generator().manual_seed(seed)
    keypoints = tuple(torch.rand(k, 2, generator=generator) * 2 - 1 for k in (m, n))
    descriptors = tuple(torch.nn.functional.normalize(torch.randn(k, dim, generator=generator), dim=1) for k in (m, n))
    return keypoints, descriptors


@pytest.mark.parametrize("run", [run_plain, run_fast])
@pytest.mark.parametrize("mode", MODES)
def test_equals_the_reference(run, mode, golden, state):
    found = run(network_from_weights(state), *inputs(golden), MODES[mode])
    assert found.layers == int(golden[f"{mode}/layers"])
    assert found.indices.tolist() == golden[f"{mode}/matches"].tolist()
    assert len(found.indices) > 100
    assert np.abs(found.scores.numpy() - golden[f"{mode}/scores"]).max() < SCORE_TOLERANCE


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("adaptivity", [Adaptivity(-1, -1, 0.0), Adaptivity(0.5, 0.5, 0.0), Adaptivity(-1, 0.6, 0.0)])
def test_fast_path_equals_the_plain_one_for_random_weights(seed, adaptivity):
    torch.manual_seed(seed)
    network = LightGlue(layers=4).eval()
    pair = random_pair(seed)
    plain, fast = run_plain(network, *pair, adaptivity), run_fast(network, *pair, adaptivity)
    assert plain.layers == fast.layers
    assert plain.indices.tolist() == fast.indices.tolist()
    assert torch.allclose(plain.scores, fast.scores, atol=1e-5)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize(("bias", "activation"), [(True, "relu"), (False, "gelu_new")])
def test_fast_path_equals_the_plain_one_for_other_architectures(kv_heads, bias, activation):
    torch.manual_seed(kv_heads)
    network = LightGlue(layers=3, kv_heads=kv_heads, bias=bias, activation=ACTIVATIONS[activation]).eval()
    adaptivity = Adaptivity(-1, 0.6, 0.0)
    plain, fast = (run(network, *random_pair(3), adaptivity) for run in (run_plain, run_fast))
    assert plain.indices.tolist() == fast.indices.tolist()
    assert torch.allclose(plain.scores, fast.scores, atol=1e-5)
    again = network_from_weights(network.state_dict())  # the sizes follow the weights; the activation cannot
    assert again.transformer_layers[0].self_attention.kv_heads == kv_heads
    assert (again.transformer_layers[0].self_attention.q_proj.bias is not None) == bias


def test_lifetimes_count_the_layers_of_each_point():
    torch.manual_seed(0)
    network = LightGlue(layers=4).eval()
    keypoints, descriptors = random_pair(5)
    adaptivity = Adaptivity(-1, 0.5, 0.0)
    plain, fast = (torch.zeros(len(keypoints[0]) + len(keypoints[1]), dtype=torch.int32) for _ in range(2))
    found = network(keypoints, descriptors, adaptivity, plain)
    compiled = FastLightGlue(network)
    compiled(*map(compiled.prepare, keypoints, descriptors), adaptivity, fast)
    assert torch.equal(plain, fast)
    assert 1 <= plain.min() < plain.max() == found.layers
    assert (plain[found.indices[:, 0]] == found.layers).all()


BATCH_MODES = [Adaptivity(-1, -1, 0.0), Adaptivity(0.5, 0.5, 0.0), Adaptivity(-1, 0.6, 0.0), Adaptivity(0.52, -1, 0.0)]
BATCH_MODES += [Adaptivity(0.5, 0.5, 0.0, hopeless=5), Adaptivity(-1, -1, 0.0, hopeless=5)]


@pytest.mark.parametrize("adaptivity", BATCH_MODES)
@pytest.mark.parametrize("attend", ["one by one", "jagged"])
def test_a_batch_gives_each_pair_what_it_gets_alone_in_the_callers_order(adaptivity, attend, monkeypatch):
    def jagged(*sets):
        sets[-1].copy_(attend_jagged(*sets[:-1]).flatten(1))

    if attend == "jagged":  # what a GPU does
        monkeypatch.setattr(lightglue_fast, "attend", jagged)
    torch.manual_seed(0)
    network = LightGlue(layers=5).eval()
    for confidence in network.token_confidence:
        confidence.token.weight.data *= 10  # points of all degrees of confidence
    fast = FastLightGlue(network)
    sizes = [(60, 45), (0, 9), (200, 3), (33, 33), (5, 0), (1, 150), (90, 120), (64, 64)]
    pairs = []
    for seed, size in enumerate(sizes):
        keypoints, descriptors = random_pair(seed, *size)
        pairs.append(tuple(map(fast.prepare, keypoints, descriptors)))
    pairs.append((pairs[0][1], pairs[6][0]))  # an image may be in several pairs
    alone = [fast(*pair, adaptivity) for pair in pairs]
    together = fast.match_pairs(pairs, adaptivity)
    assert [found.layers for found in together] == [found.layers for found in alone]
    assert [found.indices.tolist() for found in together] == [found.indices.tolist() for found in alone]
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one.scores, other.scores, atol=1e-4)
    if adaptivity.depth > 0 and not adaptivity.hopeless:
        layers = {found.layers for found in together if len(found.indices)}
        assert len(layers) > 1  # pairs did leave at different times


@pytest.mark.parametrize("run", [run_plain, run_fast])
def test_a_hopeless_pair_is_given_up_and_a_hopeful_one_is_not_touched(run, golden, state):
    network = network_from_weights(state)
    keypoints, descriptors = inputs(golden)
    watchful = MODES["adaptive"]._replace(hopeless=8)
    found, expected = (run(network, keypoints, descriptors, mode) for mode in (watchful, MODES["adaptive"]))
    assert found.indices.tolist() == expected.indices.tolist()
    generator = torch.Generator().manual_seed(0)
    foreign = torch.nn.functional.normalize(torch.randn(descriptors[1].shape, generator=generator), dim=1)
    given_up = run(network, keypoints, (descriptors[0], foreign), watchful)
    assert len(given_up.indices) == 0
    assert given_up.layers in (2, 3)
    assert given_up.layers < run(network, keypoints, (descriptors[0], foreign), MODES["full"]).layers


def test_no_pairs_have_no_results():
    assert FastLightGlue(LightGlue(layers=2).eval()).match_pairs([], Adaptivity()) == []


def test_a_batch_of_real_pairs_equals_the_loop(golden, state):
    fast = FastLightGlue(network_from_weights(state))
    image0, image1 = map(fast.prepare, *inputs(golden))
    few = [type(image)(*(part[:150] for part in image)) for image in (image0, image1)]  # as if the best 150 only
    pairs = [(image0, image1), (few[0], image1), (image1, image0), (image0, image0), (few[1], few[0])]
    together = fast.match_pairs(pairs, MODES["adaptive"])
    for pair, found in zip(pairs, together, strict=True):
        alone = fast(*pair, MODES["adaptive"])
        assert found.layers == alone.layers
        assert found.indices.tolist() == alone.indices.tolist()
        assert torch.allclose(found.scores, alone.scores, atol=SCORE_TOLERANCE)


def test_both_layouts_of_the_weights_are_one_network(state):
    renamed = from_original(state)
    assert set(renamed) == set(network_from_weights(state).state_dict())
    again = network_from_weights({**renamed, "keypoint_detector.encoder.x": torch.zeros(1)})
    pair = random_pair(0, dim=128)
    first = run_plain(network_from_weights(state), *pair, MODES["full"])
    assert run_plain(again, *pair, MODES["full"]).indices.tolist() == first.indices.tolist()


def test_the_released_names_are_read_too(state):
    old = {key.replace("transformers.0.self_attn", "self_attn.0"): value for key, value in state.items()}
    assert old.keys() != state.keys()
    network_from_weights(old)


def test_equals_transformers_for_the_same_random_weights():
    """transformers numbers images and masks its own way; what is compared is the core: layers and assignment."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    config = transformers.LightGlueConfig(num_hidden_layers=3, depth_confidence=-1.0, width_confidence=-1.0)
    theirs = transformers.LightGlueForKeypointMatching(config).eval()
    ours = network_from_weights(theirs.state_dict())
    keypoints, descriptors = random_pair(7, m=40, n=40)
    pixels = torch.stack([(k + 1) * 320 for k in keypoints])[None]
    with torch.no_grad():
        found = theirs._match_image_pair(pixels, torch.stack(descriptors)[None], 640, 640, mask=torch.ones(1, 2, 40))
    matches = found[0].reshape(2, -1)[0]
    expected = {(i, int(j)) for i, j in enumerate(matches) if j >= 0}
    mine = run_fast(ours, keypoints, descriptors, Adaptivity(-1, -1, config.filter_threshold))
    assert {tuple(pair) for pair in mine.indices.tolist()} == expected


def test_swapping_the_images_swaps_the_matches(golden, state):
    network = network_from_weights(state)
    keypoints, descriptors = inputs(golden)
    there = run_fast(network, keypoints, descriptors, MODES["full"])
    back = run_fast(network, keypoints[::-1], descriptors[::-1], MODES["full"])
    assert {tuple(p) for p in there.indices.tolist()} == {(i, j) for j, i in back.indices.tolist()}


@pytest.mark.parametrize(("m", "n"), [(0, 5), (5, 0), (0, 0), (1, 1)])
def test_few_keypoints(m, n):
    network = LightGlue(layers=2).eval()
    pair = random_pair(0, m, n)
    for run in (run_plain, run_fast):
        assert len(run(network, *pair, Adaptivity())[0]) <= min(m, n)


def test_foreign_weights_are_named():
    with pytest.raises(WeightsError, match="LightGlue"):
        network_from_weights({"conv1a.weight": torch.zeros(1)})
