"""Vectors in the order of their lengths, for searches by inner products."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ByLength:
    """Vectors of all items, the longest first.

    Attributes:
        vectors: (N, D) float32.
        lengths: (N,) float32, falling.
        numbers: (N,) int64 item number of each.
        places: (N,) int64 where each item number stands.
    """

    vectors: Tensor
    lengths: Tensor
    numbers: Tensor
    places: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> ByLength:
        """Sorts (N, D) vectors, equally long ones by item number."""
        lengths, numbers = vectors.double().square().sum(dim=1).sqrt().float().sort(descending=True, stable=True)
        places = torch.empty_like(numbers)
        places[numbers] = torch.arange(len(numbers))
        return cls(vectors[numbers].contiguous(), lengths, numbers, places)
