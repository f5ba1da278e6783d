"""Sparse gradients of tables: one row of numbers for each row of the table that a batch has read.

Plain torch leaves one entry for each id of the batch, repeated ids unsummed. Everything here sums them by a stable
sort of the ids and a segmented sum, whose order of addition depends on the batch alone: the result is the same to the
last bit on every run and for every number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from intarsia.core.errors import TrainingError
from intarsia.nn.embedding.collection import EmbeddingCollection
from intarsia.nn.embedding.fbgemm import FbgemmEngine
from intarsia.nn.embedding.fused import FusedTable

Collections = EmbeddingCollection | Sequence[EmbeddingCollection]


def sum_by_row(ids: Tensor, values: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """Sums the values of equal ids.

    Args:
        ids: (S,) int64, at least 0.
        values: (S, D) float.
        num_rows: Ids from this one on are left out: they are the row of zeros that missing ids read.

    Returns:
        (R,) int64 ids in rising order, and (R, D) sums.
    """
    keys, order = _sorted(ids, num_rows)
    rows, counts = torch.unique_consecutive(keys, return_counts=True)
    ends = counts.cumsum(0)
    if rows.shape[0] and int(rows[-1]) >= num_rows:
        order = order[: int(ends[-2]) if rows.shape[0] > 1 else 0]
        rows, ends, counts = rows[:-1], ends[:-1], counts[:-1]
    if not rows.shape[0]:
        return rows.long(), values.new_zeros(0, values.shape[1])
    return rows.long(), F.embedding_bag(order, values.contiguous(), ends - counts, mode="sum")


def _sorted(ids: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """Ids, of at most num_rows, in rising order, equal ones as they came, and where each one stood."""
    bits = len(ids).bit_length()
    if ids.device.type == "cpu" and num_rows.bit_length() + bits < 63:
        # Each id with its place behind it is a number of its own, which NumPy sorts many times as fast as torch.
        numbers = (ids.numpy() << bits) | np.arange(len(ids))
        numbers.sort()
        both = torch.from_numpy(numbers)
        return both >> bits, both & ((1 << bits) - 1)
    # Half as wide keys sort in half the time.
    keys = ids.to(torch.int32) if num_rows < torch.iinfo(torch.int32).max else ids
    return keys.sort(stable=True)


def gradient(weight: nn.Parameter, table: FusedTable) -> tuple[Tensor, Tensor] | None:
    """The rows of a fused weight that have a gradient, and (R, D) gradients that the caller may overwrite.

    Raises:
        TrainingError: The gradient is dense.
    """
    grad = weight.grad
    if grad is None:
        return None
    if not grad.is_sparse:
        names = ", ".join(f"`{spec.name}`" for spec in table.tables)
        raise TrainingError(
            f"gradients of tables are sparse. Received a dense one of shape {tuple(grad.shape)} for {names}: the "
            "weight was used outside of its collection's forward"
        )
    ids, values = grad._indices()[0], grad._values()
    if grad.is_coalesced() and (not len(ids) or int(ids[-1]) < table.num_rows):
        return ids, values.clone()
    return sum_by_row(ids, values, table.num_rows)


def table_grad_norm_sq(collections: Collections) -> Tensor:
    """Sum of the squares of all gradients of tables, for clipping by the global norm.

    The sums of repeated ids are kept in place of the gradient, so that `step` does not compute them again.

    Args:
        collections: One collection, or several.

    Returns:
        0-d float32.

    Raises:
        TrainingError: FBGEMM has applied the gradients already.
    """
    total: Tensor | None = None
    for weight, table in _weights(collections):
        found = gradient(weight, table)
        if found is None:
            continue
        rows, values = found
        weight.grad = _sparse(rows, values, weight, is_coalesced=True)
        part = _total(values.square().sum(1))
        total = part if total is None else total + part.to(total.device)
    return torch.zeros(()) if total is None else total


def scale_table_grads(collections: Collections, factor: float | Tensor) -> None:
    """Multiplies all gradients of tables, for clipping or for averaging over accumulated batches.

    Args:
        collections: One collection, or several.
        factor: What to multiply by.

    Raises:
        TrainingError: FBGEMM has applied the gradients already.
    """
    for weight, _ in _weights(collections):
        grad = weight.grad
        if grad is not None:
            # A new tensor: the values may be a view of a gradient that belongs to somebody else.
            values = grad._values() * factor
            weight.grad = _sparse(grad._indices()[0], values, weight, is_coalesced=grad.is_coalesced())


def listed(collections: Collections) -> list[EmbeddingCollection]:
    """One or several collections as a list."""
    return [collections] if isinstance(collections, EmbeddingCollection) else list(collections)


def _weights(collections: Collections) -> Iterable[tuple[nn.Parameter, FusedTable]]:
    for collection in listed(collections):
        for name, table in collection.fused.items():
            if isinstance(collection.engine(name), FbgemmEngine):
                raise TrainingError(
                    "FBGEMM applies the gradients of tables in the backward pass, so they can be neither measured nor "
                    f"scaled. Received tables {', '.join(f'`{spec.name}`' for spec in table.tables)}. Call "
                    "make_table_optimizer with needs_gradients=True, or use backend `torch`"
                )
            yield collection.fused_weight(name), table


def _sparse(rows: Tensor, values: Tensor, weight: Tensor, is_coalesced: bool) -> Tensor:
    return torch.sparse_coo_tensor(
        rows.unsqueeze(0), values, weight.shape, is_coalesced=is_coalesced, check_invariants=False
    )


def _total(values: Tensor) -> Tensor:
    """Sum of all entries; on the CPU by one thread, so that the number of threads does not change the last bits."""
    if values.device.type != "cpu":
        return values.sum()
    return torch.tensor(float(values.detach().double().numpy().sum()), dtype=torch.float32)
