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
Many: TypeAlias = Annotated[
    int | None, Param("Negatives of each positive. Default: 1000, at most all other items.", ge=1)
]
Shared: TypeAlias = Annotated[bool, Param("Whether all positives of a batch have the same negatives.")]
Hardness: TypeAlias = Annotated[
    float, Param("Negatives are weighted by the softmax of hardness * score; 0: all alike.", ge=0)
]
Margin: TypeAlias = Annotated[float, Param("By how much a positive's score should be above a negative's.", ge=0)]


class SampledObjective(Objective):
    """Base of objectives that compare a positive with negatives of a sampler.

    Args:
        num_items: N.
        sampler: Where negatives come from.
        num_negatives: n, negatives of each positive; None: `usual`, at most all other items.
        shared: Whether all positives of a batch have the same negatives.
        usual: What n is by default.

    Raises:
        BuildError: There are not as many other items, or the sampler cannot give as many.
    """

    sampler: Sampler

    def __init__(
        self, *, num_items: int, sampler: Sampler, num_negatives: int | None, shared: bool = False, usual: int = 1000
    ) -> None:
        super().__init__(num_items=num_items)
        count = min(usual, num_items - 1) if num_negatives is None else num_negatives
        if not 1 <= count < num_items:
            raise BuildError(
                f"a positive can have as many negatives as there are other items, {num_items - 1}. Received: "
                f"num_negatives {count} for {num_items} items. Lower it, or use the objective softmax, which compares "
                "with all items."
            )
        sampler.check(count)
        self.sampler, self.num_negatives, self.shared = sampler, count, shared

    def draw(self, scorer: Scorer, positives: Positives) -> Negatives:
        """Negatives of a batch."""
        return self.sampler.sample(positives, scorer, self.num_negatives, shared=self.shared)


def scored(scorer: Scorer, positives: Positives, negatives: Negatives) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of positives (P, 1) and of negatives (P, n), and which negatives are usable (P, n)."""
    if not negatives.shared and negatives.items.shape[1] == 1:
        # One look at the table instead of two, and one gradient of it.
        both = wide(scorer.pairs(torch.cat([positives.items.unsqueeze(1), negatives.items], dim=1)))
        return both[:, :1], both[:, 1:], negatives.usable(positives)
    own = wide(scorer.pairs(positives.items)).unsqueeze(1)
    return own, wide(negatives.scores(scorer)), negatives.usable(positives)


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
    shares = only(scores.detach() * hardness, usable).softmax(dim=1) * usable
    return (losses * shares).sum(dim=1)


def mean_where_compared(losses: Tensor, usable: Tensor, positives: Positives) -> Tensor:
    """Weighted mean of losses (P,) over the positives that have a usable negative (P, n)."""
    compared = usable.any(dim=1)
    return weighted_mean(losses, compared if positives.weights is None else positives.weights * compared)


def hardest(scorer: Scorer, negatives: Negatives, chosen: Tensor) -> Tensor:
    """(P,) scores of the negatives at the places `chosen` (P,), with gradients to these alone."""
    if negatives.shared:
        return wide(scorer.pairs(negatives.items[chosen]))
    return wide(scorer.pairs(negatives.items.gather(1, chosen.unsqueeze(1)).squeeze(1)))


def only(scores: Tensor, usable: Tensor) -> Tensor:
    """Scores with those that are not usable so low that a softmax gives them nothing; finite."""
    return scores.masked_fill(~usable, -1e30)


def log_weights(scores: Tensor, usable: Tensor) -> Tensor:
    """(P, n) logarithms of the softmax over each positive's usable negatives."""
    return torch.log_softmax(only(scores, usable), dim=1)
