"""Linear layers through oneDNN equal PyTorch's, wherever and however they are used."""

import copy

import pytest
import torch
import torch.nn.functional as F

from lgsfm.models import linear
from lgsfm.models.linear import InferenceLinear


@pytest.mark.parametrize("rows", [0, 1, 7, 1000])
def test_equals_the_layer_that_it_was_made_of(rows):
    layer = torch.nn.Linear(96, 40)
    x = torch.randn(rows, 96)
    with torch.inference_mode():
        assert torch.allclose(InferenceLinear.of(layer)(x), layer(x), atol=1e-5)


def test_inputs_need_not_be_contiguous():
    layer, wide = torch.nn.Linear(32, 8), torch.randn(50, 64)
    with torch.inference_mode():
        assert torch.allclose(InferenceLinear.of(layer)(wide[:, 32:]), layer(wide[:, 32:]), atol=1e-5)


def test_a_changed_type_or_a_copy_does_not_keep_the_old_weights():
    layer, x = InferenceLinear(torch.randn(4, 8), torch.randn(4)), torch.randn(3, 8)
    first = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), first)
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert torch.allclose(half(x.bfloat16()).float(), first, atol=0.1)
    with torch.no_grad():
        layer.weight.zero_()
    assert torch.allclose(layer.float()(x), layer.bias.expand(3, 4))


def test_works_without_onednn(monkeypatch):
    monkeypatch.setattr(linear, "onednn", lambda: None)
    layer, x = torch.nn.Linear(8, 4), torch.randn(3, 8)
    assert torch.equal(InferenceLinear.of(layer)(x), F.linear(x, layer.weight, layer.bias))
