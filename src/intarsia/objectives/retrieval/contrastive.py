"""Losses of a positive against all of its negatives together."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from intarsia.core.params import Param
from intarsia.objectives.base import weighted_mean
from intarsia.objectives.retrieval.base import Negatives, Positives, Sampler, Scorer, Similarity, wide
from intarsia.objectives.retrieval.products import candidate_softmax_losses
from intarsia.objectives.retrieval.sampled import (
    Many,
    SampledObjective,
    Shared,
    mean_of_negatives,
    mean_where_compared,
    scored,
)

Temperature: TypeAlias = Annotated[float, Param("Divisor of the scores.", gt=0)]
Correct: TypeAlias = Literal["all", "negatives", "none"]


class SampledSoftmax(SampledObjective):
    """Softmax over the positive and some negatives, corrected for how likely each was to be drawn.

        c_i = s(q, i) / temperature - log(expected number of times that i is drawn)
        loss = -c_i+ + log(exp(c_i+) + sum_k exp(c_i_k))

    The correction makes the scores approach those of the full softmax, whatever distribution negatives come from.
    With `negatives` the positive's own score is not corrected: the sum then estimates the full softmax's without bias.

    Source: Bengio and Senecal, Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language
    Model (IEEE Transactions on Neural Networks 2008); Jean et al., On Using Very Large Target Vocabulary
    for Neural Machine Translation (ACL 2015), section 3.
    """

    name = "sampled_softmax"

    def __init__(
        self,
        *,
        num_items: int,
        sampler: Sampler,
        num_negatives: Many = None,
        temperature: Temperature = 1.0,
        correct: Annotated[Correct, Param("Whose scores are corrected.")] = "all",
        shared: Shared = True,
    ) -> None:
        super().__init__(num_items=num_items, sampler=sampler, num_negatives=num_negatives, shared=shared)
        self.temperature, self.correct = temperature, correct

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        return softmax_over_negatives(scorer, positives, self.draw(scorer, positives), self.temperature, self.correct)


class InfoNCE(SampledObjective):
    """Contrast of a positive with negatives, as a rule of cosines at a low temperature.

        loss = -s(q, i+) / temperature + log(exp(s(q, i+) / temperature) + sum_k exp(s(q, i_k) / temperature))

    The sampled softmax without correction: the scores approach log(p(i | q) / p(i drawn)), not log p(i | q).

    Source: van den Oord, Li and Vinyals, Representation Learning with Contrastive Predictive Coding (2018), eq. 4.
    """

    name = "info_nce"

    def __init__(
        self,
        *,
        num_items: int,
        sampler: Sampler,
        num_negatives: Many = None,
        temperature: Temperature = 0.1,
        similarity: Annotated[Literal["cosine", "inner_product"], Param("What is contrasted.")] = "cosine",
        shared: Shared = True,
    ) -> None:
        super().__init__(num_items=num_items, sampler=sampler, num_negatives=num_negatives, shared=shared)
        self.temperature = temperature
        self.similarity = "cosine" if similarity == "cosine" else None

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        return softmax_over_negatives(scorer, positives, self.draw(scorer, positives), self.temperature, "none")


class CCL(SampledObjective):
    """Cosine contrastive loss: positives near, negatives beyond a margin.

        loss = 1 - cos(q, i+) + negative_weight / n sum_k max(0, cos(q, i_k) - margin)

    The margin leaves out the many negatives that are far away already.

    Source: Mao et al., SimpleX: A Simple and Strong Baseline for Collaborative Filtering (CIKM 2021), section 3.
    """

    name = "ccl"
    similarity: Similarity | None = "cosine"

    def __init__(
        self,
        *,
        num_items: int,
        sampler: Sampler,
        num_negatives: Many = None,
        margin: Annotated[float, Param("Cosine below which a negative costs nothing.", ge=-1, le=1)] = 0.8,
        negative_weight: Annotated[float, Param("Weight of the negatives together.", ge=0)] = 150.0,
        shared: Shared = False,
    ) -> None:
        super().__init__(num_items=num_items, sampler=sampler, num_negatives=num_negatives, shared=shared)
        self.margin, self.negative_weight = margin, negative_weight

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        positive, negative, usable = scored(scorer, positives, self.draw(scorer, positives))
        far = mean_of_negatives(functional.relu(negative - self.margin), usable, negative)
        return weighted_mean(1 - positive.squeeze(1) + self.negative_weight * far, positives.weights)


class GBCE(SampledObjective):
    """Binary cross entropy without the overconfidence that comes from drawing few negatives.

        alpha = n / (N - 1),  beta = alpha (t (1 - 1 / alpha) + 1 / alpha)
        loss = -(beta log sigmoid(s(q, i+)) + sum_k log(1 - sigmoid(s(q, i_k)))) / (n + 1)

    t = 0 is plain binary cross entropy; with t = 1 the probabilities are calibrated.

    Source: Petrov and Macdonald, gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative
    Sampling (RecSys 2023), section 5. Meant for uniform negatives.
    """

    name = "gbce"

    def __init__(
        self,
        *,
        num_items: int,
        sampler: Sampler,
        num_negatives: Annotated[
            int | None, Param("Negatives of each positive. Default: 256, at most all other items.", ge=1)
        ] = None,
        t: Annotated[float, Param("Calibration; 0: plain cross entropy, 1: calibrated.", ge=0, le=1)] = 0.75,
        shared: Shared = False,
    ) -> None:
        super().__init__(num_items=num_items, sampler=sampler, num_negatives=num_negatives, shared=shared, usual=256)
        self.t = t

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        positive, negative, usable = scored(scorer, positives, self.draw(scorer, positives))
        count = usable.sum(dim=1)
        beta = self.beta(count.clamp(min=1))
        losses = beta * functional.softplus(-positive.squeeze(1))
        losses = losses + (functional.softplus(negative) * usable).sum(dim=1)
        return mean_where_compared(losses / (count + 1), usable, positives)

    def beta(self, count: Tensor) -> Tensor:
        """The exponent, given how many negatives were drawn."""
        alpha = count / (self.num_items - 1)
        return alpha * (self.t * (1 - 1 / alpha) + 1 / alpha)


def softmax_over_negatives(
    scorer: Scorer, positives: Positives, negatives: Negatives, temperature: float, correct: Correct
) -> Tensor:
    """Mean cross entropy of the positives among themselves and their negatives.

    Args:
        scorer: Scores of P queries.
        positives: P.
        negatives: n shared ones, or n for each positive.
        temperature: Divisor of the scores.
        correct: Whose log-probabilities are subtracted.
    """
    corrected = correct == "all"
    if negatives.shared and negatives.valid is None:
        factors, of_own = scorer.factors(negatives.items), scorer.factors(positives.items)
        if factors is not None and of_own is not None:
            # The positives' logits from the factors, too: some scores are factors and a number for each query.
            own = wide((of_own.queries * of_own.items).sum(dim=1)) * of_own.scale / temperature
            if of_own.bias is not None:
                own = own + of_own.bias / temperature
            if corrected:
                own = own - negatives.log_prob_of(positives.items)
            bias = torch.zeros_like(negatives.items, dtype=own.dtype)
            if factors.bias is not None:
                bias = bias + factors.bias / temperature
            if correct != "none":
                bias = bias - negatives.log_probs
            hits = places_of(positives.items, negatives.items, scorer.num_items)
            losses = candidate_softmax_losses(
                factors.queries, factors.items, bias, own, hits, factors.scale / temperature
            )
            return mean_where_compared(losses, (len(bias) > (hits >= 0).long()).unsqueeze(1), positives)
    own = wide(scorer.pairs(positives.items)) / temperature
    if corrected:
        own = own - negatives.log_prob_of(positives.items)
    logits = wide(negatives.scores(scorer)) / temperature
    if correct != "none":
        logits = logits - negatives.log_probs
    usable = negatives.usable(positives)
    logits = torch.cat([own.unsqueeze(1), logits.masked_fill(~usable, -torch.inf)], dim=1)
    return mean_where_compared(logits.logsumexp(dim=1) - own, usable, positives)


def places_of(items: Tensor, among: Tensor, num_items: int) -> Tensor:
    """Where items (P,) stand among distinct ones (M,); -1: nowhere."""
    places = torch.full((num_items,), -1, dtype=torch.int64, device=items.device)
    places[among] = torch.arange(len(among), device=items.device)
    return places[items]
