"""Samplers that draw items from a distribution over the catalogue."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intarsia.objectives.retrieval.base import Negatives, Positives, Sampler, Scorer


class Uniform(Sampler):
    """Every other item is as likely as any.

        p(i) = 1 / (N - 1) for all but the positive

    Shared negatives are n of the N items, none twice.
    """

    def sample(self, positives: Positives, scorer: Scorer, n: int, *, shared: bool = False) -> Negatives:
        """Draws n items for all, or n for each positive."""
        items, count = positives.items, self.num_items
        if shared:
            drawn = torch.randperm(count, device=items.device)[:n]
            level = math.log(min(n, count) / count)
        else:
            # One of the N - 1 others: numbers from the positive's on move up by one.
            drawn = torch.randint(max(count - 1, 1), (len(positives), n), device=items.device)
            drawn += drawn >= items.unsqueeze(1)
            level = math.log(n / max(count - 1, 1))
        return Negatives(drawn, _constant(drawn, level), _constant(items, level))


def _constant(like: Tensor, value: float) -> Tensor:
    return torch.full(like.shape, value, dtype=torch.float32, device=like.device)
