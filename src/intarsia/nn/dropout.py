"""Dropout whose random numbers do not take longer than the layer that it follows.

On a processor torch draws one number after the other: for the output of a layer of 400 units that takes as long as the
layer's product. Here one draw of 64 bits decides over four elements.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS = 1 << 16


class Dropout(nn.Module):
    """Zeroes a random share of elements in training and divides the others by the share that is kept.

    On a processor the share is a multiple of 1 / 65,536; the seed of a call's numbers is drawn from torch's global
    generator, so that its state decides over everything, as with torch's own dropout, whose numbers are others.

    Args:
        p: Share of elements that are dropped.

    Raises:
        ValueError: p is no share below 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"`p` is a share of elements, at least 0 and below 1. Received: {p}.")
        self.p = p

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape to the same shape."""
        if not self.training or self.p == 0:
            return inputs
        if inputs.device.type != "cpu" or inputs.dtype != torch.float32 or torch.compiler.is_compiling():
            return F.dropout(inputs, self.p)
        out: Tensor = _Masked.apply(inputs, mask(inputs.shape, self.p))  # type: ignore[no-untyped-call]
        return out

    def extra_repr(self) -> str:
        """The share."""
        return f"p={self.p}"


def mask(shape: torch.Size, p: float) -> Tensor:
    """Float32 factors: 0 with the probability p, to 1 / 65,536; else one over the share that is kept."""
    dropped = min(round(p * _STEPS), _STEPS - 1)
    seed = int(torch.randint(1 << 62, ()))
    count = shape.numel()
    bits = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.uint16)[:count]
    kept = torch.from_numpy(bits >= dropped).view(shape)
    return kept.to(torch.float32).mul_(_STEPS / (_STEPS - dropped))


class _Masked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(factors)
        return inputs * factors

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (factors,) = ctx.saved_tensors
        return gradient * factors, None
