"""XFeat equals the reference network."""

import numpy as np
import pytest
import torch
from golden_features import MAX_KEYPOINTS, PHOTOS, assert_equal, assert_equal_matches, golden_of, image_of, tensors_of

from lgsfm.errors import WeightsError
from lgsfm.models.xfeat import EPS, STRIDE, ConvRelu, XFeat, folded, network_from_weights, resized


@pytest.fixture(scope="module")
def golden(golden_dir):
    return golden_of(golden_dir, "xfeat")


def test_equals_the_reference(golden, courtyard):
    network = network_from_weights(tensors_of("xfeat"))
    for name in PHOTOS:
        picture = image_of(courtyard, name)
        image = resized(picture)
        scale = np.array([picture.shape[3] / image.shape[3], picture.shape[2] / image.shape[2]])  # as the reference
        assert_equal(network(image, MAX_KEYPOINTS), scale, golden, name, score_tolerance=1e-4)


def test_its_lightglue_equals_the_reference(golden, courtyard):
    assert_equal_matches("xfeat", golden, courtyard)


@pytest.mark.parametrize(("size", "expected"), [((600, 800), (576, 800)), ((33, 95), (32, 64)), ((16, 700), (32, 672))])
def test_edges_become_multiples(size, expected):
    assert resized(torch.rand(1, 3, *size)).shape[-2:] == expected


def test_keypoints_lie_where_they_are_welcome():
    torch.manual_seed(0)
    network, image = XFeat().eval(), torch.rand(1, 3, 3 * STRIDE, 4 * STRIDE)
    visible = torch.zeros(image.shape[-2:], dtype=torch.bool)
    visible[20:50, 30:] = True
    everywhere, there = (network(image, threshold=0.0, visible=mask).keypoints for mask in (None, visible))
    x, y = everywhere.long().unbind(1)
    assert len(there) > 0
    assert {*map(tuple, there.tolist())} == {*map(tuple, everywhere[visible[y, x]].tolist())}


def test_a_folded_convolution_is_convolution_and_normalisation():
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False), torch.nn.BatchNorm2d(5, affine=False, eps=EPS).eval()
    norm.running_mean, norm.running_var = torch.randn(5), torch.rand(5) + 0.1
    state = {"a.layer.0.weight": conv.weight.detach()}
    state |= {f"a.layer.1.{key}": value for key, value in norm.state_dict().items()}
    layer = ConvRelu(3, 5)
    layer.load_state_dict({key.removeprefix("a."): value for key, value in folded(state).items()}, strict=True)
    x = torch.rand(1, 3, 12, 13)
    assert torch.allclose(layer(x), norm(conv(x)).relu(), atol=1e-5)


def test_weights_of_something_else_are_refused():
    for state in ({"skip1.9.weight": torch.zeros(3)}, {"block1.0.layer.0.weight": torch.zeros(4, 1, 3, 3)}):
        with pytest.raises(WeightsError, match="not the weights of an XFeat"):
            network_from_weights(state)
