"""Training interactions as matrices and histories as sets, for models that are computed from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from intarsia.core.batch import Batch, Jagged
from intarsia.data.interactions.splits import Division
from intarsia.data.interactions.views import user_rows
from intarsia.models.retriever import history_of, rows_and_steps
from intarsia.nn.fast_products import fast_int8

if TYPE_CHECKING:
    from scipy.sparse import csr_array


BLOCK = 1024
"""Items whose co-occurrences are counted at a time."""
DENSE_BYTES = 1 << 26
"""Size of the users' rows that are written out at a time."""
DENSE_WORTH = 400
"""Pairs of a user's items that a dense product of int8 gets through while a sparse one takes one. Measured: 650."""


def training_matrix(division: Division, *, values: str = "once") -> csr_array:
    """(U, N) float32 matrix of the training interactions, one entry for each pair of a user and an item.

    Args:
        division: The divided log.
        values: `once`: 1; `count`: how often the user took the item; `rating`: the mean of the user's ratings of it.
    """
    from scipy.sparse import csr_array

    offsets, items, ratings = user_rows(division)
    shape = (len(offsets) - 1, division.log.num_items)
    # A copy: duplicates are summed in place, and the ratings below belong to the arrays as they are.
    matrix = csr_array((np.ones(len(items), dtype=np.float32), items, offsets), shape=shape, copy=True)
    matrix.sum_duplicates()
    if values == "once":
        matrix.data[:] = 1.0
    elif values == "rating":
        assert ratings is not None
        given = csr_array((ratings, items, offsets), shape=shape)
        given.sum_duplicates()
        given.data /= matrix.data
        return given
    return matrix


def co_occurrences(matrix: csr_array, dtype: torch.dtype) -> Tensor:
    """(N, N): how many users took both of two items, of a (U, N) matrix of zeros and ones."""
    users, count = matrix.shape
    pairs = float(np.square(np.diff(matrix.indptr), dtype=np.float64).sum())
    counts = torch.zeros(count, count, dtype=dtype)
    dense = fast_int8() and users * count**2 <= DENSE_WORTH * pairs
    step = max(1, DENSE_BYTES // count) if dense else users
    for first in range(0, users, step):
        product = (_dense_product if dense else _sparse_product)(matrix[first : first + step])
        for start in range(0, count, BLOCK):
            # The product is symmetric: from its diagonal to the right, and mirrored below.
            counts[start : start + BLOCK, start:] += product(start)
    for start in range(0, count, BLOCK):
        counts[start + BLOCK :, start : start + BLOCK] = counts[start : start + BLOCK, start + BLOCK :].t()
    return counts


def _dense_product(rows: csr_array) -> Callable[[int], Tensor]:
    whole = torch.from_numpy(rows.astype(np.int8).toarray())
    return lambda start: torch._int_mm(whole[:, start : start + BLOCK].t(), whole[:, start:])


def _sparse_product(rows: csr_array) -> Callable[[int], Tensor]:
    return lambda start: torch.from_numpy((rows[:, start : start + BLOCK].T @ rows[:, start:]).toarray())


def tensors(matrix: csr_array) -> tuple[Tensor, Tensor, Tensor]:
    """The parts of a sparse matrix: columns (S,), offsets (rows + 1,) and values (S,)."""
    return (
        torch.from_numpy(matrix.indices.astype(np.int64)),
        torch.from_numpy(matrix.indptr.astype(np.int64)),
        torch.from_numpy(matrix.data),
    )


def distinct_history(batch: Batch, num_items: int) -> Jagged:
    """Histories whose items come once each, sorted; `weights` say how often they came."""
    history = history_of(batch)
    rows, _ = rows_and_steps(history.offsets, len(history.values))
    keys, counts = torch.unique(rows * num_items + history.values, return_counts=True)
    offsets = torch.zeros_like(history.offsets)
    offsets[1:] = torch.bincount(keys // num_items, minlength=len(history)).cumsum(0)
    return Jagged(keys % num_items, offsets, counts.float())
