"""TextCNN."""

from __future__ import annotations

import pytest
import torch

from intarsia.core.errors import BuildError
from intarsia.nn.sequence import length_mask
from intarsia.nn.text_cnn import TextCNN

SHAPES = ((None, None, 2), (None,))
OPTIONS: dict = {"filter_sizes": [1, 2], "num_filters": [3, 4], "pad_sequence_length": 5}


def test_hand_computed_value():
    cnn = TextCNN.from_inputs(SHAPES, filter_sizes=[2], num_filters=[1], pad_sequence_length=4)
    cnn.filters[0].weight.data = torch.tensor([[[1.0, 10.0], [0.0, 0.0]]])  # step t + 10 * step t+1 of channel 0
    steps = torch.tensor([[[1.0, 9.0], [2.0, 9.0], [3.0, 9.0], [99.0, 9.0]]])
    assert cnn((steps, torch.tensor([3]))).item() == 32.0
    assert cnn((steps, torch.tensor([1]))).item() == 1.0
    assert cnn((-steps, torch.tensor([3]))).item() == 0.0


def test_parameters_and_width():
    cnn = TextCNN.from_inputs(SHAPES, **OPTIONS)
    assert cnn.out_features == 7
    assert [tuple(p.shape) for p in cnn.parameters()] == [(3, 2, 1), (3,), (4, 2, 2), (4,)]
    assert len(list(cnn.kernels())) == 2
    with_mlp = TextCNN.from_inputs(SHAPES, **OPTIONS, mlp={"hidden_units": [6]})
    assert with_mlp.out_features == 6
    assert with_mlp((torch.randn(3, 4, 2), torch.tensor([1, 2, 4]))).shape == (3, 6)


def test_activation_is_used():
    torch.manual_seed(0)
    inputs = (torch.randn(9, 4, 2), torch.full((9,), 4))
    assert TextCNN.from_inputs(SHAPES, **OPTIONS)(inputs).min() >= 0
    assert TextCNN.from_inputs(SHAPES, **OPTIONS, activation="tanh")(inputs).max() <= 1


def test_padding_cutting_and_row_order():
    torch.manual_seed(0)
    cnn = TextCNN.from_inputs(SHAPES, **OPTIONS)
    steps, lengths = torch.randn(4, 3, 2), torch.tensor([3, 1, 0, 2])
    out = cnn((steps, lengths))
    for limit in (4, 5, 9):
        dirty = torch.nn.functional.pad(steps, (0, 0, 0, limit - 3))
        dirty[~length_mask(lengths, limit)] = torch.nan
        torch.testing.assert_close(cnn((dirty, lengths)), out)
    longer = torch.randn(2, 8, 2)
    torch.testing.assert_close(cnn((longer, torch.tensor([8, 7]))), cnn((longer[:, :5], torch.tensor([5, 5]))))
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(cnn((steps[order], lengths[order])), out[order])


def test_gradients():
    torch.manual_seed(0)
    cnn = TextCNN.from_inputs(SHAPES, **OPTIONS, mlp={"hidden_units": [6]})
    cnn((torch.randn(16, 5, 2), torch.full((16,), 5))).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in cnn.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filter_sizes": [1, 2], "num_filters": [3]}, r"filter_sizes = \[1, 2\], num_filters = \[3\]"),
        ({"filter_sizes": [6]}, r"fit into the sequence\. Received: filter_sizes = \[6\], pad_sequence_length = 5"),
        ({"mlp": {"hidden_units": []}}, r"at least one layer"),
    ],
)
def test_errors(options, message):
    with pytest.raises(BuildError, match=message):
        TextCNN.from_inputs(SHAPES, **{"filter_sizes": [1], "num_filters": [3], "pad_sequence_length": 5, **options})


def test_shape_error():
    with pytest.raises(BuildError, match=r"`TextCNN` reads a pair.*Received: \(B, L, 2\)"):
        TextCNN.from_inputs((None, None, 2), **OPTIONS)
