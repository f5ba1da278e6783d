"""Samplers that build on others: unseen items, the batch, the hardest, a mixture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import torch
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.core.errors import BuildError, DataError
from intarsia.core.params import Param
from intarsia.objectives.retrieval.base import Positives, Sampler, Scorer
from intarsia.objectives.retrieval.frequency import ItemCounts, StreamingFrequency, log_inclusion
from intarsia.objectives.retrieval.products import distinct
from intarsia.objectives.retrieval.samplers import Distribution, contains, row_of_each

Correction: TypeAlias = Annotated[
    Literal["popularity", "streaming", "none"],
    Param(
        "Where probabilities come from: counts of the training part, an estimate from the batches as they come, or "
        "nowhere."
    ),
]
Rate: TypeAlias = Annotated[float, Param("`streaming`: weight of the latest gap between occurrences.", gt=0, le=1)]
Buckets: TypeAlias = Annotated[
    int, Param("`streaming`: size of the hash arrays; 0: a place of its own for each item.", ge=0)
]
Source: TypeAlias = str | dict[str, Any]


class Unseen(Sampler):
    """Items that the positive's user has not taken in training.

    Drawn from the source's distribution with the seen items cut out of it, so none is drawn in vain. Of shared
    negatives, and of those of a source without a distribution (`in_batch`), the seen ones are struck out for each row.
    """

    needs_seen = True

    def __init__(
        self,
        *,
        num_items: int,
        source: Annotated[Source, Param("What items are drawn from: uniform, popularity or in_batch.")] = "uniform",
    ) -> None:
        super().__init__(num_items=num_items)
        self.source = _build(source, num_items)

    def check(self, n: int) -> None:
        """As the source."""
        self.source.check(n)

    def draw(self, positives: Positives, scorer: Scorer, n: int, shared: bool) -> tuple[Tensor, Tensor | None]:
        """Draws unseen items, or strikes seen ones out."""
        rows, seen = positives.row_of(), _seen(positives)
        if isinstance(self.source, Distribution) and not shared:
            return self.source.unseen(rows, seen, n)
        items, valid = self.source.draw(positives, scorer, n, shared)
        if items.dim() == 1:
            unseen = ~struck_out(seen, items, self.num_items)[rows]
        else:
            unseen = ~contains(seen, rows, items, self.num_items)
        return items, unseen if valid is None else unseen & valid

    def log_probs(self, items: Tensor, positives: Positives, n: int, shared: bool) -> Tensor:
        """Of the source, among the unseen items."""
        if isinstance(self.source, Distribution) and not shared:
            return self.source.unseen_log_probs(items, positives.row_of(), _seen(positives), n)
        return self.source.log_probs(items, positives, n, shared)


class InBatch(Sampler):
    """The positives of the whole batch, each item once; all of them, whatever number of negatives is asked for.

    log probability = log(1 - (1 - p(i))^P)
    """

    def __init__(
        self,
        *,
        num_items: int,
        correction: Correction = "popularity",
        streaming_rate: Rate = 0.01,
        streaming_buckets: Buckets = 0,
    ) -> None:
        super().__init__(num_items=num_items)
        self.frequency = frequency_of(correction, num_items, streaming_rate, streaming_buckets)

    def draw(self, positives: Positives, scorer: Scorer, n: int, shared: bool) -> tuple[Tensor, Tensor | None]:
        """The batch's items."""
        observe(self.frequency, positives.items, self.training)
        items, _ = distinct(positives.items, self.num_items)
        return items[torch.randperm(len(items), device=items.device)], None

    def log_probs(self, items: Tensor, positives: Positives, n: int, shared: bool) -> Tensor:
        """Of each item to be in a batch of this size."""
        if self.frequency is None:
            return torch.zeros(items.shape, device=items.device)
        return log_inclusion(self.frequency.log_p(items), len(positives))


class Dynamic(Sampler):
    """Hard negatives: each is the item of the highest score among some candidates.

    Scores are those of the model as it is. Of a source that gives all positives the same items (`in_batch`) the n
    hardest are taken. Log-probabilities are the source's: they know nothing of the choice, which is meant to be one.

    Source: Zhang et al., Optimizing Top-N Collaborative Filtering via Dynamic Negative Item Sampling (SIGIR 2013).
    """

    def __init__(
        self,
        *,
        num_items: int,
        candidates: Annotated[int, Param("Candidates that each negative is chosen from.", ge=1)] = 16,
        source: Annotated[Source, Param("Where candidates come from: a sampler, with its options.")] = "uniform",
    ) -> None:
        super().__init__(num_items=num_items)
        self.candidates, self.source = candidates, _build(source, num_items)
        self.needs_seen = self.source.needs_seen

    def check(self, n: int) -> None:
        """As the source, of the candidates."""
        self.source.check(n * self.candidates)

    def draw(self, positives: Positives, scorer: Scorer, n: int, shared: bool) -> tuple[Tensor, Tensor | None]:
        """Draws candidates and keeps the hardest."""
        found = self.source.sample(positives, scorer, n * self.candidates)
        usable = found.usable(positives)
        scores = found.scores(scorer).masked_fill(~usable, -torch.inf)
        if found.shared:
            best = scores.topk(min(n, scores.shape[1]), dim=1).indices
            return found.items[best], usable.gather(1, best)
        groups = (len(positives), n, self.candidates)
        best = scores.view(groups).argmax(dim=2, keepdim=True)
        return found.items.view(groups).gather(2, best)[..., 0], usable.view(groups).gather(2, best)[..., 0]

    def log_probs(self, items: Tensor, positives: Positives, n: int, shared: bool) -> Tensor:
        """Of the source."""
        return self.source.log_probs(items, positives, n, False)


class Mixed(Sampler):
    """Some negatives of one sampler and the rest of another, as a rule hard and random ones.

    expected number = that among round(hard_share * n) hard ones + that among the random rest
    """

    def __init__(
        self,
        *,
        num_items: int,
        hard_share: Annotated[float, Param("Share of the negatives that are hard.", gt=0, lt=1)] = 0.5,
        hard: Annotated[Source, Param("Where hard negatives come from: a sampler, with its options.")] = "dynamic",
        random: Annotated[Source, Param("Where the others come from: a sampler, with its options.")] = "uniform",
    ) -> None:
        super().__init__(num_items=num_items)
        self.hard_share = hard_share
        self.hard, self.random = _build(hard, num_items), _build(random, num_items)
        for name, part in (("hard", self.hard), ("random", self.random)):
            if isinstance(part, InBatch):
                raise BuildError(
                    f"the parts of mixed negatives are drawn in numbers. Received: {name} in_batch, which takes the "
                    "whole batch. Use {dynamic: {source: in_batch}} for the hardest of the batch."
                )
        self.needs_seen = self.hard.needs_seen or self.random.needs_seen

    def check(self, n: int) -> None:
        """Raises BuildError if a part would be empty."""
        hard = self._number_hard(n)
        if not 0 < hard < n:
            raise BuildError(
                f"mixed negatives need at least one hard and one random. Received: {hard} hard of num_negatives {n} "
                f"with hard_share {self.hard_share:g}. Raise num_negatives, or use one of the samplers alone."
            )
        self.hard.check(hard)
        self.random.check(n - hard)

    def draw(self, positives: Positives, scorer: Scorer, n: int, shared: bool) -> tuple[Tensor, Tensor | None]:
        """Draws both and puts them side by side, each positive's own."""
        hard = self._number_hard(n)
        parts = [self.hard.draw(positives, scorer, hard, False), self.random.draw(positives, scorer, n - hard, False)]
        count = len(positives)
        items = torch.cat([items.expand(count, -1) for items, _ in parts], dim=1)
        if all(valid is None for _, valid in parts):
            return items, None
        valid = [torch.ones_like(i, dtype=torch.bool) if valid is None else valid for i, valid in parts]
        return items, torch.cat([v.expand(count, -1) for v in valid], dim=1)

    def log_probs(self, items: Tensor, positives: Positives, n: int, shared: bool) -> Tensor:
        """Of both together."""
        hard = self._number_hard(n)
        return torch.logaddexp(
            self.hard.log_probs(items, positives, hard, False), self.random.log_probs(items, positives, n - hard, False)
        )

    def _number_hard(self, n: int) -> int:
        return round(n * self.hard_share)


def frequency_of(correction: str, num_items: int, rate: float, buckets: int) -> ItemCounts | StreamingFrequency | None:
    """The source of probabilities that a correction names."""
    if correction == "popularity":
        return ItemCounts(num_items=num_items)
    if correction == "streaming":
        return StreamingFrequency(num_items=num_items, alpha=rate, buckets=buckets)
    return None


def observe(frequency: ItemCounts | StreamingFrequency | None, items: Tensor, training: bool) -> None:
    """Shows positives to an estimate, in training only."""
    if training and isinstance(frequency, StreamingFrequency):
        frequency.update(items)


def struck_out(seen: Jagged, items: Tensor, num_items: int) -> Tensor:
    """(B, n) bool: which of the distinct items (n,) each row has seen."""
    column = torch.full((num_items,), -1, dtype=torch.int64, device=items.device)
    column[items] = torch.arange(len(items), device=items.device)
    columns = column[seen.values]
    hits = columns >= 0
    out = torch.zeros(len(seen), len(items), dtype=torch.bool, device=items.device)
    out[row_of_each(seen)[hits], columns[hits]] = True
    return out


def _seen(positives: Positives) -> Jagged:
    if positives.seen is None:
        raise DataError(
            "unseen negatives need the items that each user has taken. Received: positives without `seen`. Make the "
            "batches with them, or use the sampler uniform or popularity."
        )
    return positives.seen


def _build(source: str | Mapping[str, Any], num_items: int) -> Sampler:
    # The catalogue names the samplers of this file, so it cannot be imported before them.
    from intarsia.objectives.retrieval.catalogue import build_sampler

    return build_sampler(source, num_items=num_items)
