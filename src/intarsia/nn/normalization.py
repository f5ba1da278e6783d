"""Batch normalisation over the last axis."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

MOMENTUM = 0.99
EPSILON = 1e-3


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of the last axis: every other axis counts as rows.

    A training batch of a single row has no variance; it is normalised by the running statistics, which it leaves as
    they are, so that the odd last batch of an epoch cannot stop or spoil a training. The running statistics are the
    plain mean over the first 1 / (1 - momentum) batches and the moving average from then on: a short training is not
    evaluated with statistics that still remember their initial values (Keras and EasyRec do that).

    Args:
        num_features: Size of the last axis.
        momentum: Share of the running statistics that a batch leaves unchanged (torch calls 1 - momentum so).
        eps: Added to the variance.
        affine: Whether scale and shift are learned.
    """

    def __init__(
        self, num_features: int, *, momentum: float = MOMENTUM, eps: float = EPSILON, affine: bool = True
    ) -> None:
        super().__init__(num_features, eps=eps, momentum=1.0 - momentum, affine=affine)
        self.keep = momentum
        # The buffer's value as a number, so that a GPU is not waited for at every step.
        self._batches: int | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        if self.training and rows.shape[0] > 1:
            return self._normalise(rows).view(inputs.shape)
        out = F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return out.view(inputs.shape)

    def _normalise(self, rows: Tensor) -> Tensor:
        if self._batches is None:
            self._batches = int(self.num_batches_tracked) if self.num_batches_tracked is not None else 0
        self._batches += 1
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = max(1.0 / self._batches, 1.0 - self.keep)
        return F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, True, share, self.eps)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._batches = None
