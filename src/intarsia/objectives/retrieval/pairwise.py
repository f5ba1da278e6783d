"""Losses of a positive against each of its negatives, averaged."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from torch.nn import functional

from intarsia.objectives.retrieval.base import Positives, Sampler, Scorer
from intarsia.objectives.retrieval.sampled import (
    Count,
    Hardness,
    Margin,
    SampledObjective,
    Shared,
    mean_of_negatives,
    mean_where_compared,
    scored,
)


class Pairwise(SampledObjective):
    """Base: the mean of l(s(q, i+), s(q, i_k)) over the negatives."""

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

    @abstractmethod
    def loss(self, positive: Tensor, negative: Tensor) -> Tensor:
        """(P, n) losses of scores (P, 1) and (P, n)."""

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        positive, negative, usable = scored(scorer, positives, self.draw(scorer, positives))
        means = mean_of_negatives(self.loss(positive, negative), usable, negative, self.hardness)
        return mean_where_compared(means, usable, positives)


class BPR(Pairwise):
    """Bayesian personalised ranking: the positive's score above the negative's.

        loss = mean_k -log sigmoid(s(q, i+) - s(q, i_k))

    Source: Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback (UAI 2009), section 4.1.
    """

    name = "bpr"

    def loss(self, positive: Tensor, negative: Tensor) -> Tensor:
        """-log sigmoid of the difference."""
        return functional.softplus(negative - positive)


class Hinge(Pairwise):
    """The positive's score above the negative's by a margin.

        loss = mean_k max(0, margin - s(q, i+) + s(q, i_k))

    Source: Herbrich, Graepel and Obermayer, Large Margin Rank Boundaries for Ordinal Regression (2000).
    """

    name = "hinge"

    def __init__(
        self,
        *,
        num_items: int,
        sampler: Sampler,
        num_negatives: Count = 1,
        margin: Margin = 1.0,
        shared: Shared = False,
        hardness: Hardness = 0.0,
    ) -> None:
        super().__init__(
            num_items=num_items, sampler=sampler, num_negatives=num_negatives, shared=shared, hardness=hardness
        )
        self.margin = margin

    def loss(self, positive: Tensor, negative: Tensor) -> Tensor:
        """What is missing to the margin."""
        return functional.relu(self.margin - positive + negative)


class Top1(Pairwise):
    """TOP1: the relative rank of the positive, and the negatives' scores near zero.

        loss = mean_k sigmoid(s(q, i_k) - s(q, i+)) + sigmoid(s(q, i_k)^2)

    Source: Hidasi et al., Session-based Recommendations with Recurrent Neural Networks (ICLR 2016), section 3.1.3.
    """

    name = "top1"

    def loss(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Soft rank and penalty."""
        return (negative - positive).sigmoid() + negative.square().sigmoid()
