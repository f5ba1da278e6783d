"""Pooling of jagged vectors: (S, D) and offsets become (rows, D). Rows with no vectors become zeros."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from intarsia.nn.embedding.spec import Pooling


def segment_sum(values: Tensor, offsets: Tensor) -> Tensor:
    """Sum of each segment. The order of addition is fixed, whatever the number of threads.

    Args:
        values: (S, D) float.
        offsets: (rows + 1,) int64.
    """
    steps = torch.arange(values.shape[0], device=values.device)
    return F.embedding_bag(steps, values, offsets, mode="sum", include_last_offset=True)


def segment_pool(values: Tensor, offsets: Tensor, pooling: Pooling) -> Tensor:
    """Pools each segment by `sum`, `mean`, `sqrtn` (sum over the root of the length), `min` or `max`.

    Args:
        values: (S, D) float.
        offsets: (rows + 1,) int64.
        pooling: How; not `none`.
    """
    if pooling in ("min", "max"):
        return segment_extreme(values, offsets, pooling)
    pooled = segment_sum(values, offsets)
    scale = pool_scale(offsets, None, pooling)
    return pooled if scale is None else pooled * scale


def segment_extreme(values: Tensor, offsets: Tensor, pooling: Pooling) -> Tensor:
    """Minimum or maximum of each segment; equal values share the gradient.

    Args:
        values: (S, D) float.
        offsets: (rows + 1,) int64.
        pooling: `min` or `max`.
    """
    num_rows = offsets.shape[0] - 1
    steps = torch.arange(values.shape[0], device=values.device)
    owner = torch.bucketize(steps, offsets[1:], right=True)
    start = values.new_zeros(num_rows, values.shape[1])
    index = owner.unsqueeze(1).expand_as(values)
    return start.scatter_reduce(0, index, values, "amin" if pooling == "min" else "amax", include_self=False)


def pool_scale(offsets: Tensor, weights: Tensor | None, pooling: Pooling) -> Tensor | None:
    """(rows, 1) factors that turn weighted sums into `mean` or `sqrtn`; None for `sum`.

    `mean` divides by the sum of the weights and `sqrtn` by the root of the sum of their squares. Rows whose weights
    are all 0, and empty rows, get a factor that leaves their zeros alone.
    """
    if pooling == "sum":
        return None
    if weights is None:
        total = offsets.diff().clamp(min=1).float().unsqueeze(1)
    else:
        total = segment_sum((weights if pooling == "mean" else weights.square()).unsqueeze(1), offsets)
        total = torch.where(total > 0, total, torch.ones_like(total))
    return total.reciprocal() if pooling == "mean" else total.rsqrt()


def usable_weights(weights: Tensor | None, pooling: Pooling) -> Tensor | None:
    """The weights that count: `mean` and `sqrtn` leave out values whose weight is not above 0."""
    if weights is None or pooling == "sum":
        return weights
    return weights.clamp(min=0)
