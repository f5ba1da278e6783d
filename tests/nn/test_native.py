"""Layers and merges under their Keras names."""

from __future__ import annotations

import pytest
import torch

from intarsia.core.errors import BuildError
from intarsia.nn.merge import Add, Average, Concatenate, Maximum, Minimum, Multiply, Subtract
from intarsia.nn.native import Activation, BatchNormalization, Dense, Dropout, Flatten, LayerNormalization

A = torch.tensor([[1.0, -2.0]])
B = torch.tensor([[3.0, 4.0]])


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        (Add, [4.0, 2.0]),
        (Multiply, [3.0, -8.0]),
        (Subtract, [-2.0, -6.0]),
        (Average, [2.0, 1.0]),
        (Maximum, [3.0, 4.0]),
        (Minimum, [1.0, -2.0]),
    ],
)
def test_merges(merge, expected):
    module = merge.from_inputs([(None, 2), (None, 2)])
    torch.testing.assert_close(module([A, B]), torch.tensor([expected]))


def test_add_broadcasts_a_column_and_reads_many():
    module = Add.from_inputs([(None, 2), (None, 1), (None, 2)])
    torch.testing.assert_close(module([A, torch.tensor([[10.0]]), B]), torch.tensor([[14.0, 12.0]]))


def test_concatenate():
    assert torch.equal(Concatenate.from_inputs([(None, 2), (None, 2)])([A, B]), torch.tensor([[1.0, -2.0, 3.0, 4.0]]))
    module = Concatenate.from_inputs([(None, None, 2), (None, 1, 2)], axis=1)
    assert module([torch.zeros(5, 3, 2), torch.zeros(5, 1, 2)]).shape == (5, 4, 2)


def test_dense_by_hand():
    dense = Dense.from_inputs((None, 2), units=1, kernel_initializer="ones", activation="relu", bias_initializer="ones")
    torch.testing.assert_close(dense(torch.cat([A, B])), torch.tensor([[0.0], [8.0]]))
    assert [tuple(p.shape) for p in Dense.from_inputs((None, 3, 2), units=4).parameters()] == [(4, 2), (4,)]
    assert [tuple(p.shape) for p in Dense.from_inputs((None, 2), units=4, use_bias=False).parameters()] == [(4, 2)]
    assert [tuple(k.shape) for k in dense.kernels()] == [(1, 2)]


def test_dropout_only_in_training():
    module = Dropout.from_inputs((None, 100), rate=0.25)
    torch.manual_seed(0)
    out = module(torch.ones(200, 100))
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    module.eval()
    assert torch.equal(module(A), A)


def test_batch_normalization():
    x = torch.tensor([[1.0], [3.0]])
    out = BatchNormalization.from_inputs((None, 1), epsilon=3.0)(x)
    torch.testing.assert_close(out, torch.tensor([[-0.5], [0.5]]))
    module = BatchNormalization.from_inputs((None, 1), momentum=0.5)
    for shift in (0.0, 2.0, 8.0):
        module(x + shift)
    # Means 2, 4 and 10: the first two are averaged, then half of each is kept.
    assert module.norm.running_mean.item() == pytest.approx(0.5 * 3.0 + 0.5 * 10.0)


@pytest.mark.parametrize("norm", [BatchNormalization, LayerNormalization])
def test_scale_and_center_switch_parameters(norm):
    names = {n for n, _ in norm.from_inputs((None, 3), scale=False).named_parameters()}
    assert names == {"norm.bias"}
    module = norm.from_inputs((None, 3), center=False)
    assert {n for n, _ in module.named_parameters()} == {"norm.weight"}
    out = module(torch.randn(6, 3))
    assert out.shape == (6, 3)
    assert not list(norm.from_inputs((None, 3), center=False, scale=False).parameters())


def test_layer_normalization_of_each_vector():
    out = LayerNormalization.from_inputs((None, 2), epsilon=1e-12)(torch.tensor([[1.0, 3.0], [-10.0, 10.0]]))
    torch.testing.assert_close(out, torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]))


def test_activation_and_flatten():
    assert torch.equal(Activation.from_inputs((None, 2), activation="relu")(A), torch.tensor([[1.0, 0.0]]))
    flatten = Flatten.from_inputs((None, 3, 4))
    assert flatten.out_features == 12
    assert flatten(torch.arange(24.0).view(2, 3, 4))[1, 0] == 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Add.from_inputs((None, 2)), r"`Add` reads a list of 1 or more tensors\. Received: \(B, 2\)"),
        (
            lambda: Add.from_inputs([(None, 2), (None, 3)]),
            r"`Add` reads tensors of one shape .* Received: \[\(B, 2\), \(B, 3\)\]",
        ),
        (lambda: Add.from_inputs([(None, 2), (None, 1, 2)]), r"Received: \[\(B, 2\), \(B, 1, 2\)\]"),
        (lambda: Subtract.from_inputs([(None, 2)] * 3), r"`Subtract` reads a list of 2 tensors"),
        (lambda: Concatenate.from_inputs([(None, 2), (None, 3)], axis=0), r"cannot join these tensors along axis 0"),
        (lambda: Concatenate.from_inputs([(None, 2), (None, 3)], axis=2), r"along axis 2\. Received: \[\(B, 2\)"),
        (lambda: Concatenate.from_inputs([(None, 2), (None, 3, 2)]), r"reads tensors of one rank"),
        (lambda: Concatenate.from_inputs([(None, 3, 2), (None, 4, 2)]), r"equal on all axes but axis -1"),
        (lambda: Flatten.from_inputs((None, None, 4)), r"sizes are known but for the batch\. Received: \(B, L, 4\)"),
        (lambda: Dense.from_inputs([(None, 4)], units=2), r"`Dense` reads one tensor .* Received: \[\(B, 4\)\]"),
    ],
)
def test_errors(call, message):
    with pytest.raises(BuildError, match=message):
        call()
