"""Losses that the negatives of the highest scores decide."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from intarsia.core.params import Param
from intarsia.objectives.retrieval.base import Positives, Sampler, Scorer, wide
from intarsia.objectives.retrieval.sampled import (
    Count,
    Many,
    Margin,
    SampledObjective,
    Shared,
    hardest,
    log_weights,
    mean_where_compared,
    only,
    scored,
)

_EULER = 0.5772156649015329


class AdaptiveHinge(SampledObjective):
    """Hinge loss against the hardest of the negatives.

        loss = max(0, margin - s(q, i+) + max_k s(q, i_k))

    An approximation of WARP whose cost is the same at every step.

    Source: Weston, Yee and Weiss, Learning to Rank Recommendations with the k-Order Statistic Loss (RecSys 2013),
    of which this is the hardest-negative case; the name is Spotlight's.
    """

    name = "adaptive_hinge"

    def __init__(
        self,
        *,
        num_items: int,
        sampler: Sampler,
        num_negatives: Count = 5,
        margin: Margin = 1.0,
        shared: Shared = False,
    ) -> None:
        super().__init__(num_items=num_items, sampler=sampler, num_negatives=num_negatives, shared=shared)
        self.margin = margin

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        negatives = self.draw(scorer, positives)
        usable = negatives.usable(positives)
        with torch.no_grad():
            chosen = only(wide(negatives.scores(scorer)), usable).argmax(dim=1)
        own = wide(scorer.pairs(positives.items))
        losses = functional.relu(self.margin - own + hardest(scorer, negatives, chosen))
        return mean_where_compared(losses, usable, positives)


class Warp(SampledObjective):
    """WARP: negatives are tried until one comes too near; the fewer tries, the lower the positive must rank.

        try negatives i_1, i_2, ... until s(q, i_k) > s(q, i+) - margin
        rank = floor((N - 1) / k)
        loss = (1 + 1/2 + ... + 1/rank) (margin - s(q, i+) + s(q, i_k)), or 0 if none of the tries comes near

    Optimises the top of the ranking. All tries of a batch are scored at once; gradients reach the found one alone.

    Source: Weston, Bengio and Usunier, WSABIE: Scaling Up To Large Vocabulary Image Annotation (IJCAI 2011),
    algorithm 1 with alpha_j = 1/j. Departure: a try that is the positive itself is not counted.
    """

    name = "warp"

    def __init__(
        self,
        *,
        num_items: int,
        sampler: Sampler,
        num_negatives: Annotated[
            int | None, Param("Tries for each positive. Default: 10, at most all other items.", ge=1)
        ] = None,
        margin: Margin = 1.0,
    ) -> None:
        super().__init__(num_items=num_items, sampler=sampler, num_negatives=num_negatives, usual=10)
        self.margin = margin

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        negatives = self.draw(scorer, positives)
        usable = negatives.usable(positives)
        own = wide(scorer.pairs(positives.items))
        with torch.no_grad():
            near = (wide(negatives.scores(scorer)) > own.unsqueeze(1) - self.margin) & usable
            chosen = near.int().argmax(dim=1)  # the first one
            tries = usable.cumsum(dim=1).gather(1, chosen.unsqueeze(1)).squeeze(1).clamp(min=1)
            rank = torch.div(self.num_items - 1, tries, rounding_mode="floor").clamp(min=1)
            weight = rank_weight(rank).to(own.dtype) * near.any(dim=1)
        losses = weight * functional.relu(self.margin - own + hardest(scorer, negatives, chosen))
        return mean_where_compared(losses, usable, positives)


def rank_weight(rank: Tensor) -> Tensor:
    """1 + 1/2 + ... + 1/rank, for ranks from 1 on, in float64."""
    return torch.digamma(rank.double() + 1) + _EULER


class BPRMax(SampledObjective):
    """BPR against the negatives in proportion to their softmax, with a penalty on their scores.

        w_k = softmax_k s(q, i_k)
        loss = -log sum_k w_k sigmoid(s(q, i+) - s(q, i_k)) + score_penalty sum_k w_k s(q, i_k)^2

    Unlike plain BPR, more negatives do not make the gradient vanish.

    Source: Hidasi and Karatzoglou, Recurrent Neural Networks with Top-k Gains for Session-based Recommendations
    (CIKM 2018), section 3.3.
    """

    name = "bpr_max"

    def __init__(
        self,
        *,
        num_items: int,
        sampler: Sampler,
        num_negatives: Many = None,
        score_penalty: Annotated[float, Param("Strength of the penalty on the negatives' scores.", ge=0)] = 1.0,
        shared: Shared = True,
    ) -> None:
        super().__init__(num_items=num_items, sampler=sampler, num_negatives=num_negatives, shared=shared)
        self.score_penalty = score_penalty

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        positive, negative, usable = scored(scorer, positives, self.draw(scorer, positives))
        weights = log_weights(negative, usable)
        losses = -torch.logsumexp(weights + functional.logsigmoid(positive - negative), dim=1)
        if self.score_penalty:
            losses = losses + self.score_penalty * (weights.exp() * negative.square()).sum(dim=1)
        return mean_where_compared(losses, usable, positives)


class Top1Max(SampledObjective):
    """TOP1 against the negatives in proportion to their softmax.

        w_k = softmax_k s(q, i_k)
        loss = sum_k w_k (sigmoid(s(q, i_k) - s(q, i+)) + sigmoid(s(q, i_k)^2))

    Source: Hidasi and Karatzoglou, Recurrent Neural Networks with Top-k Gains for Session-based Recommendations
    (CIKM 2018), section 3.3.
    """

    name = "top1_max"

    def __init__(self, *, num_items: int, sampler: Sampler, num_negatives: Many = None, shared: Shared = True) -> None:
        super().__init__(num_items=num_items, sampler=sampler, num_negatives=num_negatives, shared=shared)

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        positive, negative, usable = scored(scorer, positives, self.draw(scorer, positives))
        losses = (negative - positive).sigmoid() + negative.square().sigmoid()
        return mean_where_compared((log_weights(negative, usable).exp() * losses).sum(dim=1), usable, positives)
