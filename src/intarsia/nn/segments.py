"""Softmax, sums and means inside of the rows of jagged tensors: no step of padding is ever touched.

rows     0 0 1 1 1          segment_softmax    .5 .5 .2 .2 .6
values   a b c d e          segment_mean       (a+b)/2  (c+d+e)/3
"""

from __future__ import annotations

import torch
from torch import Tensor


def segment_softmax(scores: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Softmax over the steps of each row, of each column by itself.

    Args:
        scores: (S, K) float.
        rows: (S,) int64 row of each step.
        num_rows: B.

    Returns:
        (S, K); in each column the steps of a row sum to 1.
    """
    index = rows.unsqueeze(1).expand_as(scores)
    with torch.no_grad():
        # The greatest score only keeps the exponentials in range. It cancels, so it needs no gradient.
        top = scores.new_full((num_rows, scores.shape[1]), -torch.inf).scatter_reduce(0, index, scores, "amax")
    powers = (scores - top[rows]).exp()
    totals = powers.new_zeros(num_rows, scores.shape[1]).index_add(0, rows, powers)
    return powers / totals[rows]


def segment_sums(weights: Tensor, values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Weighted sums of the steps of each row, with K weights a step.

    Args:
        weights: (S, K).
        values: (S, D).
        rows: (S,) int64 row of each step.
        num_rows: B.

    Returns:
        (B, K, D); zeros for rows without steps.
    """
    # One column at a time: (S, K, D) numbers would be K times what goes in and what comes out.
    sums = [
        values.new_zeros(num_rows, values.shape[1]).index_add(0, rows, weights[:, k, None] * values)
        for k in range(weights.shape[1])
    ]
    return torch.stack(sums, dim=1)


def segment_mean(values: Tensor, offsets: Tensor) -> Tensor:
    """Means of the steps of each row.

    Args:
        values: (S, D).
        offsets: (B + 1,) int64; row b owns the steps `offsets[b]:offsets[b + 1]`.

    Returns:
        (B, D); zeros for rows without steps.
    """
    lengths = offsets.diff()
    rows = torch.repeat_interleave(
        torch.arange(len(lengths), device=values.device), lengths, output_size=values.shape[0]
    )
    sums = values.new_zeros(len(lengths), values.shape[1]).index_add(0, rows, values)
    return sums / lengths.clamp(min=1).unsqueeze(1)
