"""Scorers and samplers whose every number is given."""

import torch
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.objectives.retrieval import FactorScorer, Objective, Positives, Sampler, Scorer


class TableScorer(Scorer):
    """Scores read from a table (P, N): a model without vectors."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores
        self.num_queries, self.num_items = scores.shape

    def pairs(self, items: Tensor) -> Tensor:
        return self.scores.gather(1, items.reshape(len(items), -1)).view(items.shape)


class Given(Sampler):
    """Always the same negatives."""

    def __init__(self, num_items: int, items: Tensor, *, valid: Tensor | None = None, log_p: Tensor | None = None):
        super().__init__(num_items=num_items)
        self.items, self.valid = items, valid
        self.log_p = torch.zeros(num_items) if log_p is None else log_p

    def draw(self, positives, scorer, n, shared):
        return self.items, self.valid

    def log_probs(self, items, positives, n, shared):
        return self.log_p[items]


def value(objective: Objective, scorer: Scorer, positives: Positives) -> float:
    (loss,) = objective(scorer, positives).values()
    assert loss.dim() == 0
    return loss.item()


def vectors(num_queries: int, num_items: int, dim: int = 3, seed: int = 0, dtype=torch.float64):
    """Random queries (P, D) and items (N, D) that want gradients."""
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(num_queries, dim, generator=generator, dtype=dtype)
    items = torch.randn(num_items, dim, generator=generator, dtype=dtype)
    return queries.requires_grad_(), items.requires_grad_()


def factors(queries: Tensor, items: Tensor, **options) -> FactorScorer:
    return FactorScorer(queries, lambda i: items if i is None else items[i], num_items=len(items), **options)


def jagged(rows: list[list[int]]) -> Jagged:
    lengths = torch.tensor([0, *map(len, rows)])
    return Jagged(torch.tensor([v for row in rows for v in row], dtype=torch.int64), lengths.cumsum(0))
