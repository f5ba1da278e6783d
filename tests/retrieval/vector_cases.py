"""Vectors to search, and search spelled out."""

from __future__ import annotations

import torch
from torch import Tensor

from intarsia.core.batch import Jagged


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def jagged(rows: list[list[int]]) -> Jagged:
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    values = torch.tensor([one for row in rows for one in row], dtype=torch.int64)
    return Jagged(values, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))


def score(query: Tensor, item: Tensor, metric: str) -> float:
    """The score of an item: the largest over the K vectors (K, D) of a query."""
    if metric == "euclidean":
        return max(-float((one.double() - item.double()).square().sum()) for one in query)
    if metric == "cosine":
        item = item.double() / item.double().norm()
        return max(float((one.double() / one.double().norm()) @ item) for one in query)
    return max(float(one.double() @ item.double()) for one in query)


def by_hand(
    queries: Tensor,
    items: Tensor,
    k: int,
    metric: str = "inner_product",
    excluded: list[list[int]] | None = None,
    candidates: list[int] | None = None,
) -> list[list[int]]:
    """The k best items of each query; queries (B, D) or (B, K, D)."""
    out = []
    for row, query in enumerate(queries if queries.dim() == 3 else queries.unsqueeze(1)):
        allowed = set(range(len(items)) if candidates is None else candidates)
        allowed -= set(excluded[row]) if excluded is not None else set()
        out.append(sorted(allowed, key=lambda item: (-score(query, items[item], metric), item))[:k])
    return out


def lists(items: Tensor) -> list[list[int]]:
    """Rows without their -1."""
    return [[one for one in row if one >= 0] for row in items.tolist()]
