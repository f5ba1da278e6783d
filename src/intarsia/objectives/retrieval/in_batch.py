"""Softmax whose negatives are the other positives of the batch."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from intarsia.core.errors import BuildError
from intarsia.core.params import Param
from intarsia.nn.catalogue_softmax import catalogue_softmax_loss
from intarsia.objectives.base import weighted_mean
from intarsia.objectives.retrieval.base import Objective, Positives, Scorer, wide
from intarsia.objectives.retrieval.contrastive import Temperature
from intarsia.objectives.retrieval.frequency import log_inclusion
from intarsia.objectives.retrieval.negatives import Buckets, Correction, Rate, frequency_of, observe
from intarsia.objectives.retrieval.products import distinct


class InBatchSoftmax(Objective):
    """Softmax over the positives of the batch, corrected for how often each is one.

        c_i = s(q, i) / temperature - log(probability that i is in the batch)
        loss = -c_i+ + log sum_j exp(c_j),  j over the items of the batch

    Items that several positives share count once: as the positive where they are it, as one negative elsewhere, and
    the probability is 1 - (1 - p_i)^P. Without that (`remove_accidental_hits: false`) the sum is over all P positions
    and the probability is p_i.

    With `same_step` a positive is compared with the positives of the other rows at the same step of their histories,
    of which a batch of B histories of L steps makes logits (L, B, B). Rows that have no such step may be filled with
    random items, which are not corrected. All of it with `remove_accidental_hits: false` is the loss of the
    sequence-to-sequence retriever whose weights are the logarithms of the items' frequencies.

    Source: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations (RecSys 2019),
    section 3, and algorithm 2 for `correction: streaming`.
    """

    name = "in_batch"

    def __init__(
        self,
        *,
        num_items: int,
        correction: Correction = "popularity",
        temperature: Temperature = 1.0,
        same_step: Annotated[
            bool, Param("Whether negatives are the other rows' positives at the same step alone.")
        ] = False,
        fill_padding: Annotated[
            bool, Param("`same_step`: whether rows without the step bring a random item as a negative.")
        ] = False,
        remove_accidental_hits: Annotated[
            bool, Param("Whether an item counts once, and never as a negative of itself.")
        ] = True,
        streaming_rate: Rate = 0.01,
        streaming_buckets: Buckets = 0,
    ) -> None:
        super().__init__(num_items=num_items)
        if fill_padding and not same_step:
            raise BuildError(
                "random items fill the rows that lack a step, so fill_padding goes with same_step. Received: "
                "fill_padding true, same_step false. Set same_step: true, or leave fill_padding out."
            )
        self.temperature, self.remove = temperature, remove_accidental_hits
        self.same_step, self.fill_padding = same_step, fill_padding
        self.frequency = frequency_of(correction, num_items, streaming_rate, streaming_buckets)

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean over the positives."""
        observe(self.frequency, positives.items, self.training)
        return self._by_step(scorer, positives) if self.same_step else self._whole(scorer, positives)

    def _whole(self, scorer: Scorer, positives: Positives) -> Tensor:
        """A softmax over the batch's items, which are a small catalogue."""
        if self.remove:
            items, targets = distinct(positives.items, self.num_items)
        else:
            items, targets = positives.items, torch.arange(len(positives), device=positives.items.device)
        factors, correction = scorer.factors(items), self._correction(items, len(positives))
        if factors is None:
            logits = wide(scorer.block(items)) / self.temperature - correction
            return weighted_mean(functional.cross_entropy(logits, targets, reduction="none"), positives.weights)
        bias = -correction.to(factors.queries.dtype)
        if factors.bias is not None:
            bias = bias + factors.bias / self.temperature
        return catalogue_softmax_loss(
            factors.queries, factors.items, targets, bias, positives.weights, factors.scale / self.temperature
        )

    def _by_step(self, scorer: Scorer, positives: Positives) -> Tensor:
        """Softmaxes over the rows that have a step, one for each step."""
        rows, steps, items = positives.row_of(), positives.step_of(), positives.items
        shape = (int(steps.max()) + 1, int(rows.max()) + 1)  # L, B
        grid = torch.full(shape, -1, dtype=torch.int64, device=items.device)
        grid[steps, rows] = torch.arange(len(items), device=items.device)
        real = grid >= 0
        columns = torch.where(real, items[grid.clamp(min=0)], 0)
        if self.fill_padding:
            columns = torch.where(real, columns, torch.randint_like(columns, self.num_items))
        correction = self._correction(columns, real.sum(dim=1, keepdim=True)) * real
        logits = wide(scorer.groups(grid, columns)) / self.temperature - correction.unsqueeze(1)  # (L, B, B)
        banned = self._banned(columns, real)
        if banned is not None:
            logits = logits.masked_fill(banned, -torch.inf)
        own = logits.diagonal(dim1=1, dim2=2)
        # Rows without the step have no loss; zeros keep what is nonsense there out of the gradient.
        losses = torch.where(real.unsqueeze(2), logits, 0.0).logsumexp(dim=2) - own
        return weighted_mean(losses[steps, rows], positives.weights)

    def _banned(self, columns: Tensor, real: Tensor) -> Tensor | None:
        """(L, B, B) bool: candidates that do not count, given items (L, B) and where they are positives (L, B)."""
        banned = None if self.fill_padding else ~real.unsqueeze(1)
        if self.remove:
            repeated = _repeated(columns, real | self.fill_padding).unsqueeze(1)
            hits = columns.unsqueeze(1) == columns.unsqueeze(2)
            others = ~torch.eye(columns.shape[1], dtype=torch.bool, device=columns.device)
            banned = (repeated | hits) & others if banned is None else ((repeated | hits) & others) | banned
        return banned

    def _correction(self, items: Tensor, draws: int | Tensor) -> Tensor:
        """What is subtracted from the logits of items, of which so many are drawn."""
        if self.frequency is None:
            return torch.zeros(items.shape, device=items.device)
        log_p = self.frequency.log_p(items)
        return log_inclusion(log_p, draws) if self.remove else log_p


def _repeated(items: Tensor, counts: Tensor) -> Tensor:
    """(L, B) bool: whether an item of a row (L) stands further left, too, among those that count."""
    # What does not count gets numbers of its own.
    places = torch.arange(items.shape[1], device=items.device)
    keys = torch.where(counts, items, -1 - places)
    found, order = keys.sort(dim=1, stable=True)
    again = torch.zeros_like(counts)
    again[:, 1:] = found[:, 1:] == found[:, :-1]
    return torch.zeros_like(counts).scatter(1, order, again)
