"""Dropout that draws four decisions at a time."""

from __future__ import annotations

import pytest
import torch

from intarsia.nn.dropout import Dropout, _factors


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_and_the_mean_are_right(p):
    torch.manual_seed(0)
    factors = _factors(torch.Size([1000, 401]), p)  # no multiple of four
    assert factors.shape == (1000, 401)
    assert float((factors == 0).float().mean()) == pytest.approx(p, abs=3e-3)
    kept = factors[factors != 0]
    assert bool((kept == kept[0]).all())
    assert float(kept[0]) == pytest.approx(1 / (1 - p), rel=1e-3)
    assert float(factors.mean()) == pytest.approx(1.0, abs=2e-2)


def test_neighbours_are_independent():
    torch.manual_seed(0)
    zero = (_factors(torch.Size([100_000]), 0.5) == 0).float()
    for distance in (1, 2, 3, 4):
        both = (zero[:-distance] * zero[distance:]).mean()
        assert float(both) == pytest.approx(0.25, abs=6e-3)


def test_the_gradient_passes_where_the_value_does():
    torch.manual_seed(3)
    inputs = torch.randn(50, 7, requires_grad=True)
    out = Dropout(0.3).train()(inputs)
    out.backward(torch.full_like(out, 2.0))
    assert torch.equal(out, inputs * inputs.grad / 2)
    assert bool((inputs.grad == 0).any())


def test_torch_decides_over_the_numbers():
    layer, inputs = Dropout(0.5).train(), torch.ones(20, 20)
    torch.manual_seed(1)
    first, second = layer(inputs), layer(inputs)
    state = torch.get_rng_state()
    third = layer(inputs)
    torch.manual_seed(1)
    assert torch.equal(layer(inputs), first)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(layer(inputs), third)


def test_nothing_happens_in_evaluation_or_without_a_share():
    inputs = torch.randn(4, 4)
    assert Dropout(0.5).eval()(inputs) is inputs
    assert Dropout(0.0).train()(inputs) is inputs


def test_other_formats_are_dropped_by_torch():
    found = Dropout(0.5).train()(torch.ones(100, 100, dtype=torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert 0.4 < float((found == 0).float().mean()) < 0.6


def test_an_impossible_share():
    with pytest.raises(ValueError, match=r"at least 0 and below 1. Received: 1.0"):
        Dropout(1.0)


def test_the_sign_is_drawn_too():
    """All four decisions of a draw are alike."""
    torch.manual_seed(0)
    zero = (_factors(torch.Size([100_000, 4]), 0.3) == 0).double().mean(dim=0)
    assert zero.tolist() == pytest.approx([0.3] * 4, abs=6e-3)
