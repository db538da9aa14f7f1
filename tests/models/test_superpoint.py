from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from lgsfm.errors import WeightsError
from lgsfm.extractors.superpoint import SuperPointExtractor, SuperPointOptions
from lgsfm.images import Photo
from lgsfm.models.nms import window_max
from lgsfm.models.superpoint import HUGGING_FACE, Detection, SuperPoint, detect, network_from_weights

LIKE_TRANSFORMERS = Detection(far_border=0)


@pytest.fixture(scope="module")
def state():
    """Random weights, in the original layout, whose score map is as uneven as that of trained ones."""
    generator = torch.Generator().manual_seed(0)
    network = SuperPoint()
    for name, value in network.state_dict().items():
        std = (2 / value[0].numel()) ** 0.5 if value.ndim == 4 else 0.05
        value.normal_(0, 3 * std if name == "convPb.weight" else std, generator=generator)
    return network.state_dict()


@pytest.fixture(scope="module")
def network(state):
    return network_from_weights(state)


@pytest.fixture(scope="module")
def reference(state):
    transformers = pytest.importorskip("transformers")
    model = transformers.SuperPointForKeypointDetection(transformers.SuperPointConfig())
    model.load_state_dict(hugging_face_layout(state), strict=True)
    return model.eval()


def hugging_face_layout(state):
    split = {key: key.rpartition(".") for key in state}
    return {f"{HUGGING_FACE[split[key][0]]}.{split[key][2]}": value for key, value in state.items()}


def texture(height, width, seed=1):
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return torch.from_numpy((smooth - smooth.min()) / np.ptp(smooth))[None, None]


def run_reference(reference, image):
    with torch.inference_mode():
        out = reference(image.expand(1, 3, -1, -1))
    size = torch.tensor([image.shape[3], image.shape[2]])
    return (out.keypoints[0] * size).round(), out.scores[0], out.descriptors[0]


def by_position(keypoints, scores, descriptors):
    order = np.lexsort(keypoints.numpy().T)
    return keypoints[order], scores[order], descriptors[order]


@pytest.mark.parametrize("size", [(160, 208), (123, 157), (64, 15), (17, 200), (9, 9), (8, 8)])
def test_equals_transformers(network, reference, size):
    image = texture(*size)
    ours = by_position(*network(image, LIKE_TRANSFORMERS))
    theirs = by_position(*run_reference(reference, image))
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours[2], theirs[2], atol=1e-4, rtol=0)
    assert size[0] < 100 or len(ours[0]) > 50


def test_best_keypoints_equal_transformers(network, reference, monkeypatch):
    monkeypatch.setattr(reference.keypoint_decoder, "max_keypoints", 40)
    monkeypatch.setattr(reference.keypoint_decoder, "nms_radius", 2)
    monkeypatch.setattr(reference.keypoint_decoder, "keypoint_threshold", 0.02)
    image = texture(120, 160)
    ours = network(image, Detection(max_keypoints=40, threshold=0.02, nms_radius=2, far_border=0))
    theirs = run_reference(reference, image)
    assert torch.equal(ours.keypoints, theirs[0])
    torch.testing.assert_close(ours.descriptors, theirs[2], atol=1e-4, rtol=0)


def test_far_border_only_removes(network):
    image = texture(120, 163)
    everywhere, inside = network(image, LIKE_TRANSFORMERS), network(image)
    keep = (everywhere.keypoints < torch.tensor([160 - 4, 120 - 4])).all(1)
    assert 0 < keep.sum() < len(keep)
    assert torch.equal(inside.keypoints, everywhere.keypoints[keep])


def test_strips_do_not_change_the_map(network, monkeypatch):
    image = texture(101, 96)
    whole = network.encode(image)
    monkeypatch.setattr("lgsfm.models.superpoint.STRIP_BYTES", 1)
    torch.testing.assert_close(network.encode(image), whole, atol=1e-5, rtol=1e-5)


def test_keypoints_are_best_first_and_apart(network):
    found = network(texture(120, 160))
    assert found.keypoints.dtype == torch.float32
    assert (found.scores.diff() <= 0).all()
    assert (found.scores > 0.005).all()
    apart = (found.keypoints[:, None] - found.keypoints).abs().amax(-1)
    assert (apart + 99 * torch.eye(len(apart))).min() > 4
    torch.testing.assert_close(found.descriptors.norm(dim=1), torch.ones(len(found.scores)))


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (8, 8), (15, 9), (300, 8)])
def test_tiny_images(network, size):
    found = network(torch.rand(1, 1, *size))
    assert found.keypoints.shape == (len(found.scores), 2)
    assert found.descriptors.shape == (len(found.scores), 256)


def test_both_layouts(state, network):
    renamed = hugging_face_layout(state)
    inside_lightglue = {f"keypoint_detector.{key}": value for key, value in renamed.items()}
    inside_lightglue["input_projection.weight"] = torch.zeros(1)
    for other in (renamed, inside_lightglue):
        loaded = network_from_weights(other).state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


def test_wrong_weights(state):
    without_one = {key: value for key, value in state.items() if key != "convDb.bias"}
    for wrong in (
        {},
        without_one,
        {**state, "conv5a.weight": torch.zeros(1)},
        {**state, "convPb.bias": torch.zeros(9)},
    ):
        with pytest.raises(WeightsError, match="not the weights of a SuperPoint"):
            network_from_weights(wrong)


def test_extractor(state, tmp_path):
    weight_file = SimpleNamespace(path=tmp_path / "superpoint.safetensors", sha256="abc")
    save_file({key: value.contiguous() for key, value in state.items()}, weight_file.path)
    rgb = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
    photo = Photo(rgb=rgb, size=(160, 200), orientation=6, scale=(2.0, 2.0), digest="d")
    extractor = SuperPointExtractor(SuperPointOptions(max_keypoints=20), "cpu", {"superpoint": weight_file}.get)
    features = extractor.extract(photo)
    assert extractor.identity["weights"] == "abc"
    assert features.extractor == "superpoint"
    assert features.descriptors.shape == (20, 256)
    assert (features.keypoints >= 0).all()
    assert (features.keypoints < (160, 200)).all()
    seen = (features.upright_keypoints + 0.5) / 2 - 0.5  # whole pixels of the photo that the network saw
    np.testing.assert_allclose(seen, seen.round(), atol=1e-4)


def test_hidden_maxima_give_their_place_to_the_next_best_and_not_to_their_slopes():
    scores = torch.rand(64, 80, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(70, 90, dtype=torch.bool)  # of the image, which is larger than its whole cells
    visible[:, 40:] = False
    whole, _ = detect(scores, Detection())
    masked, masked_scores = detect(scores, Detection(max_keypoints=10), visible)
    assert torch.equal(masked, whole[whole[:, 0] < 40][:10])
    assert (masked_scores.diff() <= 0).all()


@pytest.mark.parametrize("radius", range(6))
def test_window_max(radius):
    scores = torch.randn(1, 1, 13, 40, generator=torch.Generator().manual_seed(0))
    expected = F.max_pool2d(scores, 2 * radius + 1, stride=1, padding=radius)
    assert torch.equal(window_max(scores, radius), expected)
