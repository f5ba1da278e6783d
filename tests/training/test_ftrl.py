import math

import pytest
import torch

from intarsia.training.ftrl import Ftrl


def one(w, grads, **options):
    """Updates one number with the given gradients and returns it after each."""
    p = torch.nn.Parameter(torch.tensor([w], dtype=torch.float64))
    optimizer = Ftrl([p], **options)
    out = []
    for g in grads:
        p.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        out.append(p.item())
    return out


def test_without_penalties_it_is_adagrad_from_zero():
    """With p = -1/2, no penalties and w = 0, FTRL-proximal steps like Adagrad (McMahan 2011, section 2)."""
    grads = [0.5, -1.0, 2.0, 0.25]
    square, w, expected = 0.1, 0.0, []
    for g in grads:
        square += g * g
        w -= 0.3 * g / math.sqrt(square)
        expected.append(w)
    assert one(0.0, grads, lr=0.3) == pytest.approx(expected, rel=1e-12)


def test_one_step_by_hand():
    # n = 1 + 3 = 4, root 2; z = g = sqrt(3); quadratic = 2 / 0.5 + 2 * 0.25 = 4.5; w = -(sqrt(3) - 0.5) / 4.5
    g = math.sqrt(3)
    assert one(0.0, [g], lr=0.5, initial_accumulator=1.0, l1=0.5, l2=0.25) == pytest.approx([-(g - 0.5) / 4.5])


def test_l1_makes_exact_zeros_of_weak_coordinates():
    assert one(0.0, [0.1, -0.2, 0.3], lr=0.5, l1=0.31) == [0.0, 0.0, 0.0]
    assert one(0.0, [0.1, 0.4], lr=0.5, l1=0.31)[-1] < 0


def test_shrinkage_pulls_towards_zero():
    assert abs(one(0.0, [1.0, 0.1, 0.1], lr=0.5, l2_shrinkage=0.5)[-1]) < abs(one(0.0, [1.0, 0.1, 0.1], lr=0.5)[-1])


def test_a_positive_power_is_an_error():
    with pytest.raises(ValueError, match=r"`learning_rate_power` of FTRL must be at most 0\. Received 0\.5"):
        one(0.0, [1.0], lr_power=0.5)


def test_a_parameter_without_gradient_stays():
    p, q = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = Ftrl([p, q], lr=0.1)
    p.grad = torch.ones(2)
    optimizer.step()
    assert q.tolist() == [1, 1]
    assert p.tolist() != [1, 1]
