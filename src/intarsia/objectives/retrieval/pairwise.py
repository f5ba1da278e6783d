"""Losses of a positive against each of its negatives."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from intarsia.objectives.retrieval.base import Positives, Sampler, Scorer
from intarsia.objectives.retrieval.sampled import (
    Count,
    Hardness,
    SampledObjective,
    Shared,
    mean_of_negatives,
    mean_where_compared,
    scored,
)


class BPR(SampledObjective):
    """Bayesian personalised ranking: the positive's score above the negative's.

        loss = mean_k -log sigmoid(s(q, i+) - s(q, i_k))

    Source: Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback (UAI 2009), section 4.1.
    """

    name = "bpr"

    def __init__(
        self,
        *,
        num_items: int,
        sampler: Sampler,
        num_negatives: Count = 1,
        shared: Shared = False,
        hardness: Hardness = 0.0,
    ) -> None:
        super().__init__(num_items=num_items, sampler=sampler, num_negatives=num_negatives, shared=shared)
        self.hardness = hardness

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        positive, negative, usable = scored(scorer, positives, self.draw(scorer, positives))
        losses = functional.softplus(negative - positive.unsqueeze(1))
        return mean_where_compared(mean_of_negatives(losses, usable, negative, self.hardness), usable, positives)
