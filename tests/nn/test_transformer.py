"""Transformer layers: attention with dropout of its weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from intarsia.nn.transformer import Packing, TransformerLayer, _attend_in_part


@pytest.mark.parametrize("causal", [True, False])
def test_attention_without_anything_dropped_is_attention(causal):
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, 2, 5, 4) for _ in range(3))
    lengths = torch.tensor([5, 2, 3])
    mask = None if causal else (torch.arange(5) < lengths[:, None])[:, None, None]
    found = _attend_in_part(query, key, value, mask, 1e-9)
    wanted = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_dropped_attention_is_right_on_average():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, 4, 4) for _ in range(3))
    many = [part.expand(20_000, 1, 4, 4) for part in (query, key, value)]
    found = _attend_in_part(*many, None, 0.5)
    wanted = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert torch.allclose(found.mean(dim=0), wanted[0], atol=0.03)
    assert not torch.allclose(found[0], wanted[0], atol=0.03)


def test_weights_are_dropped_in_training_alone():
    torch.manual_seed(0)
    layer = TransformerLayer(hidden_size=4, num_heads=2, intermediate_size=8, dropout=0.0, attention_dropout=0.5)
    row, position = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 0])
    packing = Packing.of(row, position, torch.tensor([3, 1]), 3, causal=True)
    tokens = torch.randn(4, 4)
    assert torch.equal(layer.eval()(tokens, packing), layer(tokens, packing))
    assert not torch.equal(layer.train()(tokens, packing), layer(tokens, packing))
