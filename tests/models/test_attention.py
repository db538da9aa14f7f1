"""Attention over sets of different sizes: each way gives what each set gives alone."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from lgsfm.models import attention
from lgsfm.models.attention import attend_flash, attend_jagged, attend_one_by_one, offsets

SIZES = [((5,), (9,)), ((3, 40, 17), (25, 1, 30)), ((7, 7), (7, 7)), ((1, 1, 1, 64), (2, 30, 1, 1))]


def sets(sizes_q, sizes_k):
    torch.manual_seed(0)
    return [torch.randn(sum(sizes), 4, 16) for sizes in (sizes_q, sizes_k, sizes_k)]


def by_hand(q, k, v, sizes_q, sizes_k):
    """Each set through softmax(q k' / sqrt(c)) v: (T, heads, c)."""
    parts = []
    for a, b, c in zip(q.split(sizes_q), k.split(sizes_k), v.split(sizes_k), strict=True):
        weights = torch.einsum("qhc,khc->hqk", a, b).div(a.shape[2] ** 0.5).softmax(-1)
        parts.append(torch.einsum("hqk,khc->qhc", weights, c))
    return torch.cat(parts)


@pytest.mark.parametrize(("sizes_q", "sizes_k"), SIZES)
def test_one_by_one_and_jagged_equal_the_definition(sizes_q, sizes_k):
    q, k, v = sets(sizes_q, sizes_k)
    expected = by_hand(q, k, v, sizes_q, sizes_k)
    out = torch.full((len(q), 100), 7.0)
    attend_one_by_one(q, k, v, sizes_q, sizes_k, out[:, 20:84])
    assert torch.allclose(out[:, 20:84], expected.flatten(1), atol=1e-6)
    assert (out[:, :20] == 7).all()
    assert (out[:, 84:] == 7).all()
    assert torch.allclose(attend_jagged(q, k, v, sizes_q, sizes_k), expected, atol=1e-6)


def test_the_flash_kernel_is_called_as_its_documentation_says(monkeypatch):
    """The kernel needs a GPU; a stand-in with its signature reads the offsets as it does."""
    pytest.importorskip("torch.nn.attention.varlen")
    sizes_q, sizes_k = SIZES[1]
    q, k, v = sets(sizes_q, sizes_k)

    def varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k):
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        assert (max_q, max_k) == (40, 30)
        parts = []
        for i in range(len(cu_seq_q) - 1):
            rows, columns = slice(*cu_seq_q[i : i + 2].tolist()), slice(*cu_seq_k[i : i + 2].tolist())
            one = [t.transpose(0, 1)[None] for t in (query[rows], key[columns], value[columns])]
            parts.append(scaled_dot_product_attention(*one)[0].transpose(0, 1))
        return torch.cat(parts)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    assert torch.allclose(attend_flash(q, k, v, sizes_q, sizes_k), by_hand(q, k, v, sizes_q, sizes_k), atol=1e-6)


def test_without_a_gpu_there_is_no_flash_kernel():
    attention.has_flash.cache_clear()
    assert not attention.has_flash(torch.device("cpu"), torch.float16)


def test_offsets():
    assert offsets([3, 1, 4], torch.device("cpu")).tolist() == [0, 3, 4, 8]
