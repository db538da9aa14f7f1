"""ALIKED equals the reference network: golden files of `tests/golden/make_golden.py`, on the rendered scene."""

import numpy as np
import pytest
import torch

from lgsfm import weights
from lgsfm.errors import LgsfmError
from lgsfm.images import read_photo
from lgsfm.models import photo_tensor
from lgsfm.models.aliked import VARIANTS, Aliked, deform_conv, detect
from lgsfm.models.aliked_fast import FastAliked

KEYPOINT_TOLERANCE_PX = 1e-3
SCORE_TOLERANCE = 1e-4
DESCRIPTOR_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def golden(golden_dir):
    return np.load(golden_dir / "aliked.npz")


def network(variant):
    try:
        file = weights.fetch(variant)
    except LgsfmError as exc:
        pytest.skip(f"no weights of {variant}: {exc}")
    net = Aliked(variant).eval()
    weights.load_into(net, file)
    return net


def assert_equal_features(found, descriptors, golden, prefix):
    keypoints = golden[f"{prefix}/keypoints"]
    assert len(found.keypoints) == len(keypoints)
    distance = np.linalg.norm(found.keypoints.numpy()[:, None] - keypoints[None], axis=2)
    nearest = distance.argmin(0)  # ours, for each of the reference
    assert distance.min(0).max() < KEYPOINT_TOLERANCE_PX
    assert np.abs(found.scores.numpy()[nearest] - golden[f"{prefix}/scores"]).max() < SCORE_TOLERANCE
    expected = golden[f"{prefix}/descriptors"]
    assert np.abs(descriptors.numpy()[nearest[: len(expected)]] - expected).max() < DESCRIPTOR_TOLERANCE


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("path", [lambda net: net, FastAliked], ids=["plain", "fast"])
def test_equals_the_reference(variant, path, golden, courtyard):
    net = path(network(variant))
    for name in ("view00.jpg", "view04.jpg"):
        image = photo_tensor(read_photo(courtyard / "images" / name).rgb, torch.device("cpu"))
        found, descriptors = net(image, 512, 0.2)
        assert_equal_features(found, descriptors, golden, f"{variant}/{name}")


@pytest.mark.parametrize("size", [(97, 131), (64, 64), (33, 200), (16, 16)])
def test_fast_path_equals_the_plain_one_at_any_size(size):
    torch.manual_seed(0)
    plain = Aliked("aliked-n16").eval()
    image = torch.rand(1, 3, *size)
    found, descriptors = plain(image, 100, 0.0)
    fast_found, fast_descriptors = FastAliked(plain)(image, 100, 0.0)
    assert torch.allclose(found.keypoints, fast_found.keypoints, atol=1e-3)
    assert torch.allclose(found.scores, fast_found.scores, atol=1e-5)
    assert torch.allclose(descriptors, fast_descriptors, atol=1e-4)


@pytest.mark.parametrize("variant", ["aliked-n16", "aliked-t16"])
@pytest.mark.parametrize("path", [lambda net: net, FastAliked], ids=["plain", "fast"])
def test_an_image_without_keypoints_has_no_descriptors(variant, path):
    net = path(Aliked(variant).eval())
    found, descriptors = net(torch.rand(1, 3, 4, 40), 100, 0.0)  # all within the border
    assert len(found.keypoints) == len(found.scores) == 0
    assert descriptors.shape == (0, VARIANTS[variant].dim)


def test_deformable_convolution_with_whole_pixel_offsets_is_a_shifted_convolution():
    torch.manual_seed(1)
    x, weight = torch.rand(1, 4, 9, 12), torch.rand(5, 4, 3, 3)
    offsets = torch.zeros(1, 18, 9, 12)
    plain = torch.nn.functional.conv2d(x, weight, padding=1)
    assert torch.allclose(deform_conv(x, offsets, weight), plain, atol=1e-5)
    offsets[:, 0::2] = 1  # one pixel down
    padded = torch.nn.functional.pad(x, (1, 1, 1, 2))[:, :, 1:]
    assert torch.allclose(deform_conv(x, offsets, weight), torch.nn.functional.conv2d(padded, weight), atol=1e-5)


def test_detection_finds_sub_pixel_peaks_best_first():
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    truth = torch.tensor([[20.3, 30.0], [50.0, 12.6]])
    scores = sum(
        height * torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)
        for height, (px, py) in zip((0.6, 0.9), truth, strict=True)
    )
    found = detect(scores[None, None], 0, 0.55)
    assert torch.allclose(found.keypoints, truth.flip(0), atol=0.25)
    assert found.scores[0] > found.scores[1]
    assert len(detect(scores[None, None], 1, 0.3).keypoints) == 1
