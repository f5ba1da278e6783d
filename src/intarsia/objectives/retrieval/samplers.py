"""Samplers that draw items from a distribution over the catalogue."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated

import torch
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.core.params import Param
from intarsia.objectives.retrieval.base import Positives, Sampler, Scorer
from intarsia.objectives.retrieval.frequency import ItemCounts, log_inclusion
from intarsia.objectives.retrieval.products import distinct


class Distribution(Sampler):
    """A sampler that knows the probability of each item, and can leave items out exactly.

    Shared negatives are the distinct items of n draws; a positive's own are n draws among the other items.
    """

    @abstractmethod
    def distinct(self, n: int, device: torch.device) -> Tensor:
        """Shared negatives, in random order."""

    @abstractmethod
    def others(self, items: Tensor, n: int) -> Tensor:
        """(P, n) draws for each of P items, not of that item."""

    @abstractmethod
    def unseen(self, rows: Tensor, seen: Jagged, n: int) -> tuple[Tensor, Tensor | None]:
        """(P, n) draws for each of P rows, not of the row's seen items, and which of them are valid.

        Args:
            rows: (P,) rows of `seen`.
            seen: Items of each row, sorted, each once.
            n: Draws of each row.
        """

    @abstractmethod
    def unseen_log_probs(self, items: Tensor, rows: Tensor, seen: Jagged, n: int) -> Tensor:
        """Logarithms of the number of times that items (P,) or (P, n) are expected among `unseen` draws."""

    def draw(self, positives: Positives, scorer: Scorer, n: int, shared: bool) -> tuple[Tensor, Tensor | None]:
        """Draws n items for all, or n for each positive."""
        return (self.distinct(n, positives.items.device) if shared else self.others(positives.items, n)), None


class Uniform(Distribution):
    """Every other item is as likely as any.

    own:     p(i) = 1 / (N - 1) at each of n draws among all items but the positive
    shared:  n / N, n of all items, none twice
    """

    def distinct(self, n: int, device: torch.device) -> Tensor:
        """min(n, N) items."""
        count = self.num_items
        if 4 * n > count:
            return torch.randperm(count, device=device)[:n]
        # A permutation of a large catalogue for a few items would cost more than the rest of the step.
        found = torch.empty(0, dtype=torch.int64, device=device)
        while len(found) < n:
            found, _ = distinct(torch.cat([found, torch.randint(count, (2 * n,), device=device)]), count)
        return found[torch.randperm(len(found), device=device)[:n]]

    def others(self, items: Tensor, n: int) -> Tensor:
        """Of N - 1 numbers those from the item's own on move up by one."""
        drawn = torch.randint(self.num_items - 1, (len(items), n), device=items.device)
        return drawn + (drawn >= items.unsqueeze(1))

    def unseen(self, rows: Tensor, seen: Jagged, n: int) -> tuple[Tensor, Tensor | None]:
        """Draws r, a rank among the unseen items: item r + (seen items s_k with s_k - k <= r)."""
        count, starts = self.num_items, seen.offsets[:-1]
        free = (count - seen.lengths)[rows].unsqueeze(1)
        rank = (torch.rand(len(rows), n, dtype=torch.float64, device=rows.device) * free).long()
        rank = torch.minimum(rank, (free - 1).clamp(min=0))
        owners = row_of_each(seen)
        gaps = seen.values - (torch.arange(len(owners), device=rows.device) - starts[owners]) + owners * count
        passed = torch.searchsorted(gaps, rank + rows.unsqueeze(1) * count, right=True) - starts[rows].unsqueeze(1)
        return (rank + passed).clamp(max=count - 1), (free > 0).expand(-1, n)

    def log_probs(self, items: Tensor, positives: Positives, n: int, shared: bool) -> Tensor:
        """The same for all items."""
        count = self.num_items
        return _constant(items, math.log(min(n, count) / count) if shared else math.log(n / (count - 1)))

    def unseen_log_probs(self, items: Tensor, rows: Tensor, seen: Jagged, n: int) -> Tensor:
        """log(n / unseen items)."""
        free = (self.num_items - seen.lengths)[rows].clamp(min=1)
        return _rowwise(math.log(n) - free.float().log(), items)


class Popularity(Distribution):
    """Items that are often taken are often drawn.

        own:     p(i) = count_i^alpha / sum over all but the positive
        shared:  1 - (1 - p(i))^n with p(i) = count_i^alpha / sum over all: the distinct items of n draws

    Counts are those of the training part, and belong to the state.

    Source: the exponent: Mikolov et al., Distributed Representations of Words and Phrases (NeurIPS 2013), section 2.2.
    """

    def __init__(
        self,
        *,
        num_items: int,
        alpha: Annotated[
            float, Param("Exponent of the counts; 1: as often as in training, 0: all alike.", ge=0)
        ] = 0.75,
    ) -> None:
        super().__init__(num_items=num_items)
        self.frequency = ItemCounts(num_items=num_items, alpha=alpha)

    def distinct(self, n: int, device: torch.device) -> Tensor:
        """The distinct items of n draws."""
        drawn, _ = distinct(self.frequency.draw(self._points(n, device)), self.num_items)
        return drawn[torch.randperm(len(drawn), device=device)]

    def others(self, items: Tensor, n: int) -> Tensor:
        """Points of the cumulative sum with the item's own stretch cut out."""
        own, before = self.frequency.weight(items).unsqueeze(1), self.frequency.before(items).unsqueeze(1)
        points = torch.rand(len(items), n, dtype=torch.float64, device=items.device)
        points = points * (self.frequency.cumulative[-1] - own)
        return self.frequency.draw(points + own * (points >= before))

    def unseen(self, rows: Tensor, seen: Jagged, n: int) -> tuple[Tensor, Tensor | None]:
        """Points of the cumulative sum with the stretches of the seen items cut out."""
        total, starts, owners = self.frequency.cumulative[-1], seen.offsets[:-1], row_of_each(seen)
        removed = torch.cat([total.new_zeros(1), (self.frequency.weight(seen.values) / total).cumsum(0)])
        at_start = removed[starts]
        free = (1.0 - (removed[seen.offsets[1:]] - at_start))[rows].clamp(min=0.0).unsqueeze(1)
        points = torch.rand(len(rows), n, dtype=torch.float64, device=rows.device) * free
        # Where each seen item's stretch begins once those before it are cut out; rows lie two apart.
        begins = self.frequency.before(seen.values) / total - (removed[:-1] - at_start[owners]) + 2.0 * owners
        passed = torch.searchsorted(begins, points + 2.0 * rows.unsqueeze(1), right=True)
        drawn = self.frequency.draw((points + removed[passed] - at_start[rows].unsqueeze(1)) * total)
        # Rounding may bring a point into a stretch, and a row may have all that can be drawn.
        return drawn, ~contains(seen, rows, drawn, self.num_items)

    def log_probs(self, items: Tensor, positives: Positives, n: int, shared: bool) -> Tensor:
        """Of each item."""
        log_p = self.frequency.log_p(items)
        if shared:
            return log_inclusion(log_p, n)
        left = 1.0 - self.frequency.weight(positives.items) / self.frequency.cumulative[-1]
        return log_p + _rowwise(math.log(n) - left.clamp(min=1e-12).log().float(), items)

    def unseen_log_probs(self, items: Tensor, rows: Tensor, seen: Jagged, n: int) -> Tensor:
        """log(n p / what the seen items leave)."""
        weights = self.frequency.weight(seen.values) / self.frequency.cumulative[-1]
        removed = weights.new_zeros(len(seen)).index_add_(0, row_of_each(seen), weights)
        left = (1.0 - removed)[rows].clamp(min=1e-12)
        return self.frequency.log_p(items) + _rowwise(math.log(n) - left.log().float(), items)

    def _points(self, n: int, device: torch.device) -> Tensor:
        return torch.rand(n, dtype=torch.float64, device=device) * self.frequency.cumulative[-1]


def row_of_each(jagged: Jagged) -> Tensor:
    """(S,) the row of each value."""
    rows = torch.arange(len(jagged), device=jagged.offsets.device)
    return torch.repeat_interleave(rows, jagged.lengths, output_size=len(jagged.values))


def contains(seen: Jagged, rows: Tensor, items: Tensor, num_items: int) -> Tensor:
    """(P, n) bool: whether a row has an item.

    Args:
        seen: Items of each row, sorted.
        rows: (P,) rows.
        items: (P, n).
        num_items: N.
    """
    if not len(seen.values):
        return torch.zeros_like(items, dtype=torch.bool)
    keys = row_of_each(seen) * num_items + seen.values
    wanted = rows.unsqueeze(1) * num_items + items
    found = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
    return keys[found] == wanted


def _constant(like: Tensor, value: float) -> Tensor:
    return torch.full(like.shape, value, dtype=torch.float32, device=like.device)


def _rowwise(values: Tensor, like: Tensor) -> Tensor:
    """(P,) values to the shape of (P,) or (P, n)."""
    return values if like.dim() == 1 else values.unsqueeze(1).expand(like.shape)
