"""Losses of one score against one label."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from intarsia.objectives.base import weighted_mean
from intarsia.objectives.retrieval.base import Positives, Sampler, Scorer
from intarsia.objectives.retrieval.sampled import Count, SampledObjective, Shared, scored


class BCE(SampledObjective):
    """Binary cross entropy."""

    name = "bce"

    def __init__(self, *, num_items: int, sampler: Sampler, num_negatives: Count = 1, shared: Shared = False) -> None:
        super().__init__(num_items=num_items, sampler=sampler, num_negatives=num_negatives, shared=shared)

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        positive, negative, usable = scored(scorer, positives, self.draw(scorer, positives))
        losses = functional.softplus(-positive) + (functional.softplus(negative) * usable).sum(dim=1)
        return weighted_mean(losses, positives.weights)
