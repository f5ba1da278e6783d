"""Tests for the NextItNet model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from retrieval_contract import RetrieverContract
from torch import Tensor, nn

from intarsia.core.errors import ConfigError
from intarsia.data.schema import Schema
from intarsia.models.nextitnet import DilatedBlock, NextItNet
from intarsia.models.sides import Sides
from intarsia.objectives.retrieval import build_objective

Array = npt.NDArray[np.float64]


class TestNextItNet(RetrieverContract):
    model = {"model_class": "NextItNet", "nextitnet": {"hidden_size": 16, "dilations": [1, 2], "dropout": 0.1}}
    epochs = 40
    learning_rate = 0.01

    def test_a_dilation_below_one_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"nextitnet\.dilations\[1\]: must be more than 0, received 0"):
            self.config(nextitnet={"dilations": [1, 0]})


def nextitnet(**options: Any) -> NextItNet:
    """Over six items, with weights large enough for every step to matter."""
    torch.manual_seed(0)
    objective = build_objective("softmax", negatives="uniform", num_items=6)
    model = NextItNet(schema=Schema({}, num_users=2, num_items=6), objective=objective, sides=Sides(), **options).eval()
    for name, parameter in model.blocks.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm.weight" in name else 0.0, std=0.5)
    return model


def convolved(conv: nn.Conv1d, norm: nn.LayerNorm, steps: Array, dilation: int) -> Array:
    """relu(norm(conv(steps))), one step at a time; the last tap of a filter stands on the step itself."""
    weight, bias = array(conv.weight), array(conv.bias)  # (out, in, k)
    taps = weight.shape[2]
    out = []
    for t in range(len(steps)):
        value = bias.copy()
        for j in range(taps):
            back = t - (taps - 1 - j) * dilation
            if back >= 0:
                value += weight[:, :, j] @ steps[back]
        value = (value - value.mean()) / np.sqrt(value.var() + norm.eps) * array(norm.weight) + array(norm.bias)
        out.append(np.maximum(value, 0.0))
    return np.array(out)


def array(tensor: Tensor | None) -> Array:
    assert tensor is not None
    return tensor.detach().double().numpy()


@pytest.mark.parametrize(("taps", "dilation"), [(2, 1), (3, 2)])
def test_a_block_by_hand(taps: int, dilation: int) -> None:
    """Figure 3 (b): the second filter skips twice as far, and the input is added."""
    (block,) = nextitnet(hidden_size=4, kernel_size=taps, dilations=[dilation]).blocks
    assert isinstance(block, DilatedBlock)
    steps = torch.randn(1, 9, 4)
    hidden = convolved(block.first, block.first_norm, array(steps[0]), dilation)
    hidden = convolved(block.second, block.second_norm, hidden, 2 * dilation)
    assert np.allclose(array(block(steps)[0]), array(steps[0]) + hidden, atol=1e-5)


@pytest.mark.parametrize(
    ("taps", "dilations", "field"), [(3, [1, 4], 31), (2, [1, 2], 10), (2, [3], 10), (3, [1, 4, 1, 4], 61)]
)
def test_a_step_sees_as_far_as_the_filters_reach(taps: int, dilations: list[int], field: int) -> None:
    """1 + (k - 1) (d_1 + 2 d_1 + d_2 + 2 d_2 + ...): a change there matters, and one a step farther back does not."""
    model = nextitnet(hidden_size=8, kernel_size=taps, dilations=dilations)
    assert model.receptive_field == field
    steps, offsets = torch.randn(field + 1, 8), torch.tensor([0, field + 1])

    def last_output(changed: int) -> Tensor:
        other = steps.clone()
        other[changed] += 5.0
        with torch.no_grad():
            out: Tensor = model.encode_steps(other, offsets)[-1]
        return out

    with torch.no_grad():
        before = model.encode_steps(steps, offsets)[-1]
    assert torch.equal(last_output(changed=0), before)
    assert not torch.equal(last_output(changed=1), before)


def test_by_default_a_step_sees_a_whole_history() -> None:
    model = nextitnet()
    assert model.receptive_field > model.max_history


def test_steps_to_come_change_nothing() -> None:
    model = nextitnet(hidden_size=8)
    steps = torch.randn(20, 8)
    with torch.no_grad():
        whole = model.encode_steps(steps, torch.tensor([0, 20]))
        for length in (1, 7, 19):
            part = model.encode_steps(steps[:length], torch.tensor([0, length]))
            assert torch.allclose(part, whole[:length], atol=1e-5)


def test_padding_changes_nothing() -> None:
    """A short history beside a long one, and empty ones around them."""
    model = nextitnet(hidden_size=8)
    steps = torch.randn(23, 8)
    with torch.no_grad():
        together = model.encode_steps(steps, torch.tensor([0, 0, 3, 23, 23]))
        assert torch.allclose(together[:3], model.encode_steps(steps[:3], torch.tensor([0, 3])), atol=1e-5)
        assert torch.allclose(together[3:], model.encode_steps(steps[3:], torch.tensor([0, 20])), atol=1e-5)
        assert model.encode_steps(steps[:0], torch.tensor([0, 0])).shape == (0, 8)


def test_predicted_items_may_have_vectors_of_their_own() -> None:
    tied, free = nextitnet(), nextitnet(separate_output=True)
    numbers = torch.tensor([1, 4])
    assert torch.equal(tied.encode_items(numbers), tied.items(numbers))
    assert not torch.equal(free.encode_items(numbers), free.items(numbers))
