"""Reading rows of a weight, with a sparse gradient, and writing them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_CACHED = 1 << 22  # Numbers of a weight that a processor's cache still holds.


def read_rows(weight: Tensor, ids: Tensor) -> Tensor:
    """(R, D) or (R,) rows of a weight, without a gradient.

    Of a weight in main memory through sums over one row each: that kernel fetches rows ahead, and takes half the time
    of the plain one.

    Args:
        weight: (num_rows, D) or (num_rows,).
        ids: (R,) int64.
    """
    if weight.dim() == 1:
        return read_rows(weight.unsqueeze(1), ids).squeeze(1)
    if weight.device.type == "cpu" and weight.numel() > _CACHED and ids.shape[0]:
        # Detached, or it would also prepare for a backward pass that is not its own.
        return F.embedding_bag(ids.unsqueeze(1), weight.detach(), mode="sum")
    return F.embedding(ids, weight)


def write_rows(weight: Tensor, ids: Tensor, values: Tensor) -> None:
    """Overwrites rows of a weight with others.

    On the CPU NumPy copies each row as one piece, in a quarter of the time of torch's kernel. Autograd does not notice.

    Args:
        weight: (num_rows, D) or (num_rows,), contiguous.
        ids: (R,) int64, all different.
        values: (R, D) or (R,) of the weight's kind.
    """
    if weight.device.type != "cpu" or weight.dim() == 1 or weight.dtype == torch.bfloat16:
        weight.index_copy_(0, ids, values)
        return
    row = np.dtype((np.void, weight.shape[1] * weight.element_size()))
    weight.numpy().view(row)[ids.numpy(), 0] = values.contiguous().numpy().view(row)[:, 0]


def gather_rows(weight: Tensor, ids: Tensor) -> Tensor:
    """(..., D) rows for ids of any shape; the gradient is sparse, one entry for each id, repeated ids unsummed."""
    trained = weight.requires_grad and torch.is_grad_enabled()
    if torch.compiler.is_compiling():
        return F.embedding(ids, weight, sparse=trained)
    if trained:
        rows: Tensor = _Gather.apply(weight, ids)  # type: ignore[no-untyped-call]
        return rows
    return read_rows(weight, ids.reshape(-1)).view(*ids.shape, weight.shape[1])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor) -> Tensor:
        flat = ids.reshape(-1)
        ctx.save_for_backward(flat)
        ctx.shape = weight.shape
        return read_rows(weight, flat).view(*ids.shape, weight.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        values = grad.reshape(-1, ctx.shape[1])
        return torch.sparse_coo_tensor(ids.unsqueeze(0), values, ctx.shape, check_invariants=False), None
