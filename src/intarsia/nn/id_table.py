"""Vectors of users or items by number."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from intarsia.core.errors import DataError
from intarsia.nn.embedding import EmbeddingCollection, TableSpec
from intarsia.nn.embedding.rows import gather_rows


class IdTable(nn.Module):
    """A table whose rows are looked up by number; a missing number (-1) reads zeros.

    Args:
        num_rows: Rows.
        dim: D, numbers in a row.
        std: Standard deviation of the normal distribution that rows are drawn from at the start.
        sparse: Whether gradients and updates touch the rows of a batch alone. Such a table can be looked up, but the
            gradient of a loss over all of it is not defined.

    Shape:
        (...) int64 to (..., D) float32.
    """

    def __init__(self, num_rows: int, dim: int, *, std: float, sparse: bool) -> None:
        super().__init__()
        self.num_rows, self.dim, self.sparse = num_rows, dim, sparse
        if sparse:
            start = {"random_normal_initializer": {"mean": 0.0, "stddev": std}}
            spec = TableSpec("table", num_rows, dim, initializer=start)
            self.collection = EmbeddingCollection(tables=[spec], lookups=[])
            (self._fused,) = self.collection.fused
        else:
            self.vectors = nn.Parameter(torch.randn(num_rows, dim) * std)

    def forward(self, ids: Tensor) -> Tensor:
        """Rows of the given numbers."""
        if self.sparse:
            checked = ids.device.type == "cpu" and ids.numel() > 0 and not torch.compiler.is_compiling()
            if checked and int(ids.max()) >= self.num_rows:
                raise DataError(
                    f"numbers of rows are below {self.num_rows}, the size of the table. Received {int(ids.max())}. "
                    "Encode the data with the vocabulary that the model was built with"
                )
            # One row more than the table has stands in the fused weight: zeros.
            return gather_rows(self.collection.fused_weight(self._fused), torch.where(ids < 0, self.num_rows, ids))
        missing = (ids < 0).unsqueeze(-1)
        return nn.functional.embedding(ids.clamp(min=0), self.vectors).masked_fill(missing, 0.0)

    @property
    def weight(self) -> Tensor:
        """(num_rows, D) all rows; detached where the table is sparse."""
        return self.collection.weight("table") if self.sparse else self.vectors
