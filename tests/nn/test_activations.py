"""Activations by name."""

from __future__ import annotations

import math

import pytest
import torch

from intarsia.core.errors import BuildError
from intarsia.nn.activations import ACTIVATIONS, Dice, PReLU, activation

X = torch.tensor([[-2.0, -1.0, 0.0, 1.0, 3.0]])


def tanh_gelu(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", [0, 0, 0, 1, 3]),
        ("leaky_relu", [-0.4, -0.2, 0, 1, 3]),
        ("prelu", [-0.5, -0.25, 0, 1, 3]),
        ("elu", [math.exp(-2) - 1, math.exp(-1) - 1, 0, 1, 3]),
        ("selu", [1.758099 * (math.exp(-2) - 1), 1.758099 * (math.exp(-1) - 1), 0, 1.050701, 3.152103]),
        ("tanh", [math.tanh(v) for v in (-2, -1, 0, 1, 3)]),
        ("swish", [v / (1 + math.exp(-v)) for v in (-2, -1, 0, 1, 3)]),
        ("silu", [v / (1 + math.exp(-v)) for v in (-2, -1, 0, 1, 3)]),
        ("sigmoid", [1 / (1 + math.exp(-v)) for v in (-2, -1, 0, 1, 3)]),
        ("gelu", [tanh_gelu(v) for v in (-2, -1, 0, 1, 3)]),
        ("linear", [-2, -1, 0, 1, 3]),
        ("", [-2, -1, 0, 1, 3]),
        (None, [-2, -1, 0, 1, 3]),
        ("tf.nn.relu", [0, 0, 0, 1, 3]),
        ("torch.relu", [0, 0, 0, 1, 3]),
        ("torch.nn.functional.leaky_relu", [-0.4, -0.2, 0, 1, 3]),
        ("tf.keras.activations.linear", [-2, -1, 0, 1, 3]),
    ],
)
def test_values(name, expected):
    out = activation(name, num_features=5)(X)
    torch.testing.assert_close(out, torch.tensor([expected], dtype=torch.float32), rtol=1e-5, atol=1e-6)


def test_softmax_is_a_distribution_over_the_last_axis():
    out = activation("softmax", num_features=3)(torch.randn(4, 2, 3))
    torch.testing.assert_close(out.sum(-1), torch.ones(4, 2))


def test_text_with_lambda():
    out = activation("lambda x: tf.nn.relu(x) * 2", num_features=5)(X)
    torch.testing.assert_close(out, torch.tensor([[0.0, 0, 0, 2, 6]]))


def test_dice_by_hand():
    dice = Dice(1)
    x = torch.tensor([[1.0], [3.0]])  # mean 2, deviation 1: normalised to -1 and 1
    p = torch.sigmoid(torch.tensor([[-1.0], [1.0]]))
    torch.testing.assert_close(dice(x), p * x, rtol=1e-4, atol=0)
    dice.alpha.data.fill_(1.0)
    torch.testing.assert_close(dice(x), x)
    assert sum(p.numel() for p in dice.parameters()) == 1


def test_dice_rank_three_uses_one_statistic_per_feature():
    torch.manual_seed(0)
    x = torch.randn(4, 3, 2) * torch.tensor([1.0, 5.0])
    dice = Dice(2)
    torch.testing.assert_close(dice(x), dice(x.reshape(12, 2)).view(4, 3, 2))


def test_prelu_learns_a_slope_per_feature():
    prelu = PReLU(5)
    prelu(X).sum().backward()
    torch.testing.assert_close(prelu.alpha.grad, torch.tensor([-2.0, -1.0, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n != "dice"])
def test_gradient_agrees_with_finite_differences(name):
    module = activation(name, num_features=4).double()
    x = torch.tensor([[-1.3, -0.4, 0.6, 2.1]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rellu", r"no activation is called `rellu`\. Did you mean `relu`"),
        ("os.relu", r"no activation is called `os\.relu`"),
        ("mish5000", r"Known: dice, elu, gelu"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(BuildError, match=message):
        activation(name, num_features=2)
