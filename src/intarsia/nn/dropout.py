"""Dropout whose random numbers do not take longer than the layer that it follows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS = 1 << 16


class Dropout(nn.Module):
    """Zeroes a random share of elements in training and divides the others by the share that is kept.

    On a processor torch's own dropout takes one number of a slow generator for each element, which for the output of a
    layer of 400 units can take as long as the layer. Here 64 bits of torch's global generator decide over four
    elements, so that the share is a multiple of 1 / 65,536 there.

    Args:
        p: Share of elements that are dropped.

    Raises:
        ValueError: p is no share below 1.

    Source: Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting (2014), section 4, with
    the scaling in training (section 10).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"`p` is a share of elements, at least 0 and below 1. Received: {p}.")
        self.p = p

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return dropout(inputs, self.p, self.training)

    def extra_repr(self) -> str:
        """The share."""
        return f"p={self.p}"


def dropout(inputs: Tensor, p: float, training: bool) -> Tensor:
    """What `Dropout` does."""
    if not training or p == 0:
        return inputs
    if inputs.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(inputs, p)
    return inputs * _factors(inputs.shape, p).to(inputs.dtype)


def _factors(shape: torch.Size, p: float) -> Tensor:
    """Float32: 0 with the probability p, to 1 / 65,536; else one over the share that is kept."""
    dropped, count = min(round(p * _STEPS), _STEPS - 1), shape.numel()
    # From the smallest number on: without bounds the sign would never be drawn.
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(1 << 63), None)
    decisions = draws.view(torch.int16)[:count].view(shape)
    kept = torch.empty(shape)
    torch.ge(decisions, dropped - _STEPS // 2, out=kept)
    return kept.mul_(_STEPS / (_STEPS - dropped))
