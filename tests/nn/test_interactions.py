"""FM, Cross and DotInteraction."""

from __future__ import annotations

from itertools import combinations, combinations_with_replacement

import pytest
import torch

from intarsia.core.errors import BuildError
from intarsia.nn.cross import Cross
from intarsia.nn.dot_interaction import DotInteraction
from intarsia.nn.fm import FM

FIELDS = [(None, 4)] * 5


def fields() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, generator=generator) for _ in range(5)]


def test_fm_is_the_sum_of_all_pairs():
    v = fields()
    pairs = sum(a * b for a, b in combinations(v, 2))
    vector = FM.from_inputs(FIELDS, use_variant=True)
    scalar = FM.from_inputs(FIELDS)
    torch.testing.assert_close(vector(v), pairs)
    torch.testing.assert_close(scalar(v), pairs.sum(1, keepdim=True))
    torch.testing.assert_close(scalar(torch.stack(v, 1)), scalar(v))
    assert (vector.out_features, scalar.out_features) == (4, 1)
    assert FM.from_inputs((None, 5, 4), use_variant=True).out_features == 4


def test_fm_of_one_field_is_zero():
    torch.testing.assert_close(FM.from_inputs([(None, 4)])(fields()[:1]), torch.zeros(3, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("self_interaction", [False, True])
def test_dot_interaction_pairs_in_order(self_interaction):
    v = fields()
    module = DotInteraction.from_inputs(FIELDS, self_interaction=self_interaction)
    choose = combinations_with_replacement if self_interaction else combinations
    pairs = sorted((j, i) for i, j in choose(range(5), 2))
    expected = torch.stack([(v[i] * v[j]).sum(1) for i, j in pairs], dim=1)
    torch.testing.assert_close(module(v), expected)
    assert module.out_features == len(pairs)
    full = DotInteraction.from_inputs((None, 5, 4), self_interaction=self_interaction, skip_gather=True)
    out = full(torch.stack(v, 1)).view(3, 5, 5)
    assert full.out_features == 25
    torch.testing.assert_close(torch.stack([out[:, i, j] for i, j in pairs], 1), expected)
    assert (out != 0).sum() == 3 * len(pairs)


def test_cross_by_hand():
    cross = Cross.from_inputs([(None, 3), (None, 3)], kernel_initializer="ones")
    x0, x = torch.tensor([[0.1, 0.2, 0.3]]), torch.tensor([[0.4, 0.5, 0.6]])
    torch.testing.assert_close(cross([x0, x]), torch.tensor([[0.55, 0.8, 1.05]]))
    torch.testing.assert_close(cross(x0), cross((x0, x0)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"diag_scale": 1.0}, [0.59, 0.9, 1.23]),
        ({"bias_initializer": "ones"}, [0.65, 1.0, 1.35]),
        ({"preactivation": "lambda x: x * 2"}, [0.7, 1.1, 1.5]),
        ({"projection_dim": 2}, [0.7, 1.1, 1.5]),
    ],
)
def test_cross_options(options, expected):
    cross = Cross.from_inputs([(None, 3), (None, 3)], kernel_initializer="ones", **options)
    out = cross([torch.tensor([[0.1, 0.2, 0.3]]), torch.tensor([[0.4, 0.5, 0.6]])])
    torch.testing.assert_close(out, torch.tensor([expected]))


def test_cross_parameters_and_gradients():
    cross = Cross.from_inputs((None, 6), projection_dim=2)
    assert sorted(tuple(p.shape) for p in cross.parameters()) == [(2, 6), (6,), (6, 2)]
    assert len(list(cross.kernels())) == 2
    assert sum(p.numel() for p in Cross.from_inputs((None, 6), use_bias=False).parameters()) == 36
    cross(torch.randn(4, 6)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in cross.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: FM.from_inputs([(None, 4), (None, 5)]),
            r"`FM` reads fields of one width.*\[\(B, 4\), \(B, 5\)\]\. Give",
        ),
        (lambda: FM.from_inputs((None, 4)), r"`FM` reads one tensor of rank 3\. Received: \(B, 4\)"),
        (lambda: DotInteraction.from_inputs((None, None, 4)), r"known number of fields\. Received: \(B, L, 4\)"),
        (lambda: DotInteraction.from_inputs([(None, 4)]), r"two or more fields\. Received: \[\(B, 4\)\]"),
        (
            lambda: Cross.from_inputs([(None, 4), (None, 5)]),
            r"x0 and x of one shape\. Received: \[\(B, 4\), \(B, 5\)\]",
        ),
        (lambda: Cross.from_inputs([(None, 4)] * 3), r"Received: \[\(B, 4\), \(B, 4\), \(B, 4\)\]"),
    ],
)
def test_errors(call, message):
    with pytest.raises(BuildError, match=message):
        call()
