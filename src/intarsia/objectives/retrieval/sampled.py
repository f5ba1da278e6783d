"""What objectives with drawn negatives have in common."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import torch
from torch import Tensor

from intarsia.core.errors import BuildError
from intarsia.core.params import Param
from intarsia.objectives.base import weighted_mean
from intarsia.objectives.retrieval.base import Negatives, Objective, Positives, Sampler, Scorer, wide

Count: TypeAlias = Annotated[int, Param("Negatives of each positive.", ge=1)]
Shared: TypeAlias = Annotated[bool, Param("Whether all positives of a batch have the same negatives.")]
Hardness: TypeAlias = Annotated[
    float, Param("Negatives are weighted by the softmax of hardness * score; 0: all alike.", ge=0)
]


class SampledObjective(Objective):
    """Base of objectives that compare a positive with negatives of a sampler.

    Args:
        num_items: N.
        sampler: Where negatives come from.
        num_negatives: n, negatives of each positive.
        shared: Whether all positives of a batch have the same negatives.
    """

    sampler: Sampler

    def __init__(self, *, num_items: int, sampler: Sampler, num_negatives: int, shared: bool) -> None:
        super().__init__(num_items=num_items)
        if num_negatives >= num_items:
            raise BuildError(
                f"a positive can have as many negatives as there are other items, {num_items - 1}. Received: "
                f"num_negatives {num_negatives} for {num_items} items. Lower it, or use the objective softmax, which "
                "compares with all items."
            )
        self.sampler, self.num_negatives, self.shared = sampler, num_negatives, shared

    def draw(self, scorer: Scorer, positives: Positives) -> Negatives:
        """Negatives of a batch."""
        with torch.no_grad():
            return self.sampler.sample(positives, scorer, self.num_negatives, shared=self.shared)


def mean_of_negatives(losses: Tensor, usable: Tensor, scores: Tensor, hardness: float = 0.0) -> Tensor:
    """(P,) mean over each positive's usable negatives; 0 where there is none.

    Args:
        losses: (P, n).
        usable: (P, n) bool.
        scores: (P, n) scores of the negatives.
        hardness: Weights are the softmax of hardness * score, as constants; 0: all alike.
    """
    if hardness == 0.0:
        return (losses * usable).sum(dim=1) / usable.sum(dim=1).clamp(min=1)
    shares = (scores.detach() * hardness).masked_fill(~usable, -torch.inf).softmax(dim=1)
    return (losses * shares.masked_fill(~usable, 0.0)).sum(dim=1)


def mean_where_compared(losses: Tensor, usable: Tensor, positives: Positives) -> Tensor:
    """Weighted mean of losses (P,) over the positives that have a usable negative (P, n)."""
    compared = usable.any(dim=1)
    weights = compared if positives.weights is None else positives.weights * compared
    return weighted_mean(losses, weights)


def scored(scorer: Scorer, positives: Positives, negatives: Negatives) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of positives (P,) and negatives (P, n), and which negatives are usable (P, n)."""
    return wide(scorer.pairs(positives.items)), wide(negatives.scores(scorer)), negatives.usable(positives)
