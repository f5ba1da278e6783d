"""Jagged steps as padded tensors, and masks of the steps that are real."""

from __future__ import annotations

import torch
from torch import Tensor


def length_mask(lengths: Tensor, max_len: int) -> Tensor:
    """True where a step is real: (B,) lengths to (B, max_len) bool."""
    return torch.arange(max_len, device=lengths.device) < lengths.unsqueeze(1)


def to_padded(values: Tensor, offsets: Tensor, max_len: int | None = None) -> tuple[Tensor, Tensor]:
    """Jagged steps as one tensor with zeros where a row has no more steps.

    Args:
        values: (S, D), or (S,), of any dtype.
        offsets: (B + 1,) int64; row b owns the steps `offsets[b]:offsets[b + 1]`.
        max_len: Steps that a row keeps at most, the first ones. Default: all.

    Returns:
        (B, L, D), or (B, L), and the lengths (B,) of what was kept; L is the greatest of them, at least 1.
    """
    rows = offsets.shape[0] - 1
    lengths = offsets.diff()
    longest = int(lengths.max()) if rows else 0
    limit = max(1, longest if max_len is None else min(longest, max_len))
    row = torch.repeat_interleave(torch.arange(rows, device=values.device), lengths, output_size=values.shape[0])
    step = torch.arange(values.shape[0], device=values.device) - offsets[row]
    # Steps beyond the limit all go to one slot behind the last row, which is cut off.
    slot = torch.where(step < limit, row * limit + step, rows * limit)
    out = values.new_zeros(rows * limit + 1, *values.shape[1:]).index_copy(0, slot, values)
    return out[:-1].view(rows, limit, *values.shape[1:]), lengths.clamp(max=limit)
