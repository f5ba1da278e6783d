"""Biases of items as one more number of the vectors, so that scores stay inner products."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ItemBias(nn.Module):
    """One number for each item, added to its scores.

        <[query, 1], [item_i, b_i]> = <query, item_i> + b_i

    Biases start at 0.

    Args:
        num_items: N.
    """

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_items))

    def forward(self, vectors: Tensor, items: Tensor | None = None) -> Tensor:
        """Vectors (..., D) of the given items (...), or of all N where None, to (..., D + 1)."""
        bias = (
            self.bias if items is None else nn.functional.embedding(items.clamp(min=0), self.bias.unsqueeze(1))[..., 0]
        )
        return torch.cat([vectors, bias.unsqueeze(-1)], dim=-1)

    @staticmethod
    def ask(queries: Tensor) -> Tensor:
        """Queries (..., D) to (..., D + 1)."""
        return torch.cat([queries, torch.ones_like(queries[..., :1])], dim=-1)
