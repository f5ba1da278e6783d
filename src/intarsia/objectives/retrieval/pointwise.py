"""Losses of one score against one label: ratings, or 1 for positives and 0 for negatives."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from intarsia.core.errors import BuildError, DataError
from intarsia.core.params import Param
from intarsia.objectives.base import weighted_mean
from intarsia.objectives.retrieval.base import Positives, Sampler, Scorer, wide
from intarsia.objectives.retrieval.sampled import Hardness, SampledObjective, Shared, mean_of_negatives


class Pointwise(SampledObjective):
    """Base of the pointwise losses.

        loss = l(s(q, i+), label) + w / n sum_k l(s(q, i_k), negative_label)

    The label is the rating, or 1. With ratings no negatives are drawn unless they are asked for.

    Attributes:
        low: Smallest rating.
        high: Largest rating.
        negative_label: Label of negatives.
        ratings_by_default: Whether ratings are the labels where the log has some and `explicit` is not set.
    """

    low: ClassVar[float] = -math.inf
    high: ClassVar[float] = math.inf
    negative_label: ClassVar[float] = 0.0
    ratings_by_default: ClassVar[bool] = False

    def __init__(
        self,
        *,
        num_items: int,
        sampler: Sampler,
        num_negatives: Annotated[
            int | None, Param("Negatives of each positive. Default: none where ratings are learned, else 1.", ge=0)
        ] = None,
        shared: Shared = False,
        negative_weight: Annotated[
            float | None,
            Param(
                "Weight of the mean loss of a positive's negatives. Default: their number, so all count alike.", ge=0
            ),
        ] = None,
        explicit: Annotated[
            bool | None,
            Param(
                "Whether the labels of positives are ratings (true) or 1 (false). Default: mse, poisson: ratings where "
                "the log has them; bce, logistic: 1."
            ),
        ] = None,
        hardness: Hardness = 0.0,
    ) -> None:
        if explicit is None and not self.ratings_by_default:
            explicit = False
        if num_negatives == 0 and explicit is False:
            raise BuildError(
                f"the objective {self.name} without ratings needs negatives, or every label is 1. Received: "
                "num_negatives 0. Raise num_negatives, or set explicit: true to learn ratings."
            )
        super().__init__(num_items=num_items, sampler=sampler, num_negatives=num_negatives or 1, shared=shared)
        self.of_ratings, self.asked, self.negative_weight = explicit, num_negatives, negative_weight
        self.explicit, self.hardness = explicit is True, hardness

    @property
    def needs_seen(self) -> bool:
        """As the sampler, if negatives are drawn."""
        return super().needs_seen and not (self.explicit and not self.asked)

    @staticmethod
    @abstractmethod
    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        """Element by element; labels broadcast."""

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        labels = self._labels(positives)
        scores = wide(scorer.pairs(positives.items))
        losses = self.loss(scores, torch.ones_like(scores) if labels is None else labels.to(scores.dtype))
        count = self.asked if self.asked is not None else int(labels is None)
        if count:
            negatives = self.draw(scorer, positives)
            against, usable = wide(negatives.scores(scorer)), negatives.usable(positives)
            each = self.loss(against, torch.full_like(against[:1, :1], self.negative_label))
            weight = usable.sum(dim=1) if self.negative_weight is None else self.negative_weight
            losses = losses + weight * mean_of_negatives(each, usable, against, self.hardness)
        return weighted_mean(losses, positives.weights)

    def _labels(self, positives: Positives) -> Tensor | None:
        """Ratings, if they are the labels."""
        ratings = None if self.of_ratings is False else positives.ratings
        if ratings is None:
            if self.explicit or self.asked == 0:
                raise DataError(
                    f"the objective {self.name} learns ratings. Received: positives without ratings. Name "
                    "data_config.rating_field, or draw negatives (explicit: false)."
                )
            return None
        wrong = ~((ratings >= self.low) & (ratings <= self.high) & ratings.isfinite())
        if bool(wrong.any()):
            span = "numbers" if math.isinf(self.low) else f"numbers from {self.low:g} on"
            if not math.isinf(self.high):
                span = f"numbers from {self.low:g} to {self.high:g}"
            raise DataError(
                f"ratings of the objective {self.name} must be {span}. Received: {int(wrong.sum())} of "
                f"{wrong.numel()} that are not, such as {ratings[wrong][0].item():g}. Correct or rescale the ratings, "
                "or choose another objective, such as mse."
            )
        return ratings


class BCE(Pointwise):
    """Binary cross entropy: is the item a positive?

        l(s, y) = -y log sigmoid(s) - (1 - y) log(1 - sigmoid(s))

    Source: with one negative and w = n: Kang and McAuley, Self-Attentive Sequential Recommendation (ICDM 2018), eq. 8;
    with several: He et al., Neural Collaborative Filtering (WWW 2017), eq. 7.
    """

    name = "bce"
    low, high = 0.0, 1.0

    @staticmethod
    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of logits."""
        return functional.softplus(scores) - labels * scores


class Logistic(Pointwise):
    """Logistic loss of labels from -1 (disliked) to 1 (liked); negatives count as -1.

        l(s, y) = log(1 + exp(-y s))

    Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning (2009), section 10.5.
    """

    name = "logistic"
    low, high = -1.0, 1.0
    negative_label = -1.0

    @staticmethod
    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        """Softplus of the negated margin."""
        return functional.softplus(-labels * scores)


class MSE(Pointwise):
    """Squared error: of ratings, or of 1 and 0.

        l(s, y) = (s - y)^2

    Source: of ratings: Koren, Bell and Volinsky, Matrix Factorization Techniques for Recommender Systems (2009), eq. 2.
    """

    name = "mse"
    ratings_by_default = True

    @staticmethod
    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        """Squared difference."""
        return (scores - labels).square()


class Poisson(Pointwise):
    """Likelihood of counts, such as plays: of ratings, or of 1 and 0.

        l(s, y) = exp(s) - y s

    Source: Gopalan, Hofman and Blei, Scalable Recommendation with Hierarchical Poisson Factorization (UAI 2015),
    section 2; here with a rate of exp(s).
    """

    name = "poisson"
    ratings_by_default = True
    low = 0.0

    @staticmethod
    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        """Negative log-likelihood up to a constant."""
        return scores.exp() - labels * scores
