"""AuxiliaryLoss against direct loops."""

from __future__ import annotations

import math

import pytest
import torch

from intarsia.core.errors import BuildError
from intarsia.nn.auxiliary_loss import AuxiliaryLoss

PAIR = [(None, 4), (None, 4)]


def views(batch: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 4, generator=generator) * 0.3 for _ in range(2)]


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist()))


def test_l2_by_hand():
    loss = AuxiliaryLoss.from_inputs([(None, 2), (None, 2)], loss_type="l2_loss", loss_weight=0.5)
    x1, x2 = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    assert loss([x1, x2]).item() == pytest.approx(0.5 * (5 + 9) / 2)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_info_nce_against_a_loop(temperature):
    x1, x2 = views()
    total = 0.0
    for i in range(5):
        scores = [dot(x1[i], x2[j]) / temperature for j in range(5)]
        total -= scores[i] - math.log(sum(math.exp(s) for s in scores))
    loss = AuxiliaryLoss.from_inputs(PAIR, loss_type="info_nce", temperature=temperature, loss_weight=2.0)
    assert loss([x1, x2]).item() == pytest.approx(2 * total / 5, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_nce_loss_against_a_loop(temperature):
    x1, x2 = views()
    z = [*x1, *x2]
    total = 0.0
    for i in range(10):
        scores = {j: dot(z[i], z[j]) / temperature for j in range(10) if j != i}
        total -= scores[(i + 5) % 10] - math.log(sum(math.exp(s) for s in scores.values()))
    loss = AuxiliaryLoss.from_inputs(PAIR, loss_type="nce_loss", temperature=temperature)
    assert loss([x1, x2]).item() == pytest.approx(total / 10, rel=1e-5)
    assert loss([x2, x1]).item() == pytest.approx(total / 10, rel=1e-5)


@pytest.mark.parametrize("kind", ["info_nce", "nce_loss"])
def test_a_batch_of_one_has_no_negatives(kind):
    x1, x2 = (v.requires_grad_() for v in views(1))
    loss = AuxiliaryLoss.from_inputs(PAIR, loss_type=kind)([x1, x2])
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(x1.grad).all()


@pytest.mark.parametrize("kind", ["l2_loss", "info_nce", "nce_loss"])
def test_a_scalar_that_does_not_depend_on_row_order(kind):
    x1, x2 = (v.requires_grad_() for v in views())
    module = AuxiliaryLoss.from_inputs(PAIR, loss_type=kind)
    loss = module((x1, x2))
    order = torch.tensor([3, 1, 0, 4, 2])
    assert loss.shape == ()
    torch.testing.assert_close(module([x1[order], x2[order]]), loss)
    loss.backward()
    assert torch.isfinite(x1.grad).all()
    assert x2.grad.abs().sum() > 0


def test_equal_views_beat_shuffled_views():
    x1, _ = views()
    for kind in ("l2_loss", "info_nce", "nce_loss"):
        module = AuxiliaryLoss.from_inputs(PAIR, loss_type=kind)
        unit = torch.nn.functional.normalize(x1)
        assert module([unit, unit]) < module([unit, unit.roll(1, 0)])


def test_names():
    names = [AuxiliaryLoss(loss_type=kind).loss_name for kind in ("l2_loss", "info_nce", "nce_loss")]
    assert names == ["l2_loss", "info_nce_loss", "nce_loss"]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ((None, 4), r"`AuxiliaryLoss` reads a list of 2 or more tensors\. Received: \(B, 4\)"),
        ([(None, 4), (None, 5)], r"two tensors of one shape \(B, D\)\. Received: \[\(B, 4\), \(B, 5\)\]"),
        ([(None, 4)] * 3, r"Received: \[\(B, 4\), \(B, 4\), \(B, 4\)\]"),
        ([(None, None, 4)] * 2, r"Received: \[\(B, L, 4\), \(B, L, 4\)\]"),
    ],
)
def test_shape_errors(shapes, message):
    with pytest.raises(BuildError, match=message):
        AuxiliaryLoss.from_inputs(shapes, loss_type="l2_loss")


def test_unknown_loss():
    with pytest.raises(BuildError, match=r"l2_loss, info_nce or nce_loss\. Received: 'mse'"):
        AuxiliaryLoss.from_inputs(PAIR, loss_type="mse")
