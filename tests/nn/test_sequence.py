"""Padding of jagged steps, and pooling by attention."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intarsia.core.errors import BuildError
from intarsia.nn.attention_pool import AttentionPool
from intarsia.nn.sequence import length_mask, to_padded


def test_to_padded_by_hand():
    values = torch.tensor([3, 5, 9, 1, 2])
    offsets = torch.tensor([0, 2, 2, 5])
    padded, lengths = to_padded(values, offsets)
    assert padded.tolist() == [[3, 5, 0], [0, 0, 0], [9, 1, 2]]
    assert lengths.tolist() == [2, 0, 3]
    padded, lengths = to_padded(values, offsets, max_len=2)
    assert padded.tolist() == [[3, 5], [0, 0], [9, 1]]
    assert lengths.tolist() == [2, 0, 2]
    assert to_padded(values, offsets, max_len=10)[0].shape == (3, 3)


def test_to_padded_without_steps_or_rows():
    padded, lengths = to_padded(torch.zeros(0, 4), torch.tensor([0, 0, 0]))
    assert padded.shape == (2, 1, 4)
    assert lengths.tolist() == [0, 0]
    assert to_padded(torch.zeros(0, 4), torch.tensor([0]))[0].shape == (0, 1, 4)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.integers(1, 8))
def test_to_padded_equals_a_loop_and_sends_gradients_back(lengths, max_len):
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    values = (torch.arange(1.0, sum(lengths) * 2 + 1).view(-1, 2)).requires_grad_()
    padded, kept = to_padded(values, offsets, max_len)
    seen = torch.zeros(sum(lengths))
    for b, n in enumerate(lengths):
        k = min(n, max_len)
        assert kept[b] == k
        assert torch.equal(padded[b, :k], values[offsets[b] : offsets[b] + k])
        assert not padded[b, k:].any()
        seen[offsets[b] : offsets[b] + k] = 1
    padded.sum().backward()
    assert torch.equal(values.grad[:, 0], seen)


def test_length_mask():
    assert length_mask(torch.tensor([0, 2, 9]), 3).int().tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_attention_pool_by_hand():
    pool = AttentionPool.from_inputs(((None, None, 2), (None,)))
    pool.score.weight.data = torch.tensor([[1.0, 0.0]])
    steps = torch.tensor([[[0.0, 1.0], [torch.log(torch.tensor(3.0)).item(), 5.0], [9.0, 9.0]]])
    out = pool((steps, torch.tensor([2])))
    torch.testing.assert_close(out, torch.tensor([[0.75 * 1.0986123, 0.25 + 3.75]]))


def test_attention_pool_padding_empty_rows_and_gradients():
    torch.manual_seed(0)
    pool = AttentionPool(dim=3)
    steps, lengths = torch.randn(4, 5, 3), torch.tensor([5, 2, 0, 1])
    out = pool((steps, lengths))
    dirty = torch.cat([steps, torch.randn(4, 2, 3)], 1)
    dirty[~length_mask(lengths, 7)] = torch.nan
    torch.testing.assert_close(pool((dirty, lengths)), out)
    assert out[2].tolist() == [0, 0, 0]
    torch.testing.assert_close(out[3], steps[3, 0])
    out.square().sum().backward()
    assert pool.score.weight.grad.abs().sum() > 0
    assert [tuple(p.shape) for p in pool.parameters()] == [(1, 3)]


def test_attention_pool_error():
    with pytest.raises(BuildError, match=r"`AttentionPool` reads a pair.*Received: \(B, 3\)\. Feed it an input_layer"):
        AttentionPool.from_inputs((None, 3))
