"""DISK equals the reference network, and its fast path the readable one."""

import pytest
import torch
from golden_features import MAX_KEYPOINTS, PHOTOS, assert_equal, assert_equal_matches, golden_of, image_of, tensors_of

from lgsfm.errors import WeightsError
from lgsfm.models.disk import Disk, network_from_weights, normalized


@pytest.fixture(scope="module")
def golden(golden_dir):
    return golden_of(golden_dir, "disk")


def test_equals_the_reference(golden, courtyard):
    network = network_from_weights(tensors_of("disk"))
    for name in PHOTOS:
        assert_equal(network(image_of(courtyard, name), MAX_KEYPOINTS), 1, golden, name, score_tolerance=2e-3)


def test_its_lightglue_equals_the_reference(golden, courtyard):
    assert_equal_matches("disk", golden, courtyard)


@pytest.mark.parametrize("size", [(97, 131), (64, 48), (33, 200), (16, 16)])
def test_descriptors_at_keypoints_are_those_of_all_pixels(size):
    torch.manual_seed(0)
    network = Disk().eval()
    image = torch.rand(1, 3, *size)
    heat, descriptors = network.dense(image)
    found = network(image, threshold=-100.0)
    assert len(found.keypoints) > 0
    x, y = found.keypoints.long().unbind(1)
    assert torch.allclose(found.scores, heat[y, x], atol=1e-4)
    assert torch.allclose(found.descriptors, descriptors[:, y, x].T, atol=1e-4)
    for u, v, score in zip(x, y, found.scores, strict=True):  # higher than all of the 24 around it
        assert (heat[v - 2 : v + 3, u - 2 : u + 3] >= score - 1e-5).sum() == 1


def test_a_plain_wall_has_no_keypoints():
    torch.manual_seed(0)
    network = Disk().eval()
    for block in network.up:
        torch.nn.init.zeros_(block.conv.weight)
    assert len(network(torch.full((1, 3, 64, 64), 0.5), threshold=-100.0).keypoints) == 0


def test_keypoints_lie_where_they_are_welcome():
    torch.manual_seed(0)
    network, image = Disk().eval(), torch.rand(1, 3, 80, 90)
    visible = torch.zeros(80, 90, dtype=torch.bool)
    visible[20:50, 30:] = True
    everywhere, there = (network(image, threshold=-100.0, visible=mask).keypoints for mask in (None, visible))
    x, y = everywhere.long().unbind(1)
    assert there.tolist() == everywhere[visible[y, x]].tolist()


def test_instance_normalisation_is_that_of_torch():
    torch.manual_seed(0)
    x = (torch.randn(1, 5, 9, 11) * 3 + 7).contiguous(memory_format=torch.channels_last)
    assert torch.allclose(normalized(x), torch.nn.functional.instance_norm(x), atol=1e-5)


def test_weights_of_something_else_are_refused():
    with pytest.raises(WeightsError, match="not the weights of a DISK"):
        network_from_weights({"unet.path_up.9.conv.1.weight": torch.zeros(3)})
