"""Re-ranking for diversity, after any model that gives scores.

Of M candidates of each query k are chosen one after the other, so that the list is good as a whole: relevant, and its
items different from each other. Shape legend: B queries, M candidates, k items of a list, N items, D dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.core.errors import DataError

Between = Callable[[Tensor], Tensor]
"""Gives the (B, M) differences of a row's candidates from the one at a place (B,)."""


class Difference(Protocol):
    """How much two items differ: g(i, j) from 0, alike, to 1."""

    num_items: int

    def among(self, items: Tensor) -> Between:
        """The differences among candidates (B, M), all of them item numbers."""


class CategoryDifference:
    """Differs by category.

        g(i, j) = 1 - |G_i & G_j| / |G_i | G_j|

    where G_i are the categories of item i. With one category an item this is 1 where the categories differ and 0 where
    they are the same, as in ComiRec. An item without categories differs from every other.

    Args:
        categories: (N,) int64 category of each item, -1 for none; or the categories of each item.
    """

    def __init__(self, categories: Tensor | npt.NDArray[np.integer[Any]] | Jagged) -> None:
        if isinstance(categories, Jagged):
            self._codes = _without_repetition(categories)
        else:
            codes = torch.as_tensor(categories)
            if codes.dim() != 1 or codes.is_floating_point():
                raise DataError(
                    "categories must be one category number an item, or a list of them. "
                    f"Received: {tuple(codes.shape)} of {str(codes.dtype).removeprefix('torch.')}."
                )
            known = (codes >= 0).long()
            self._codes = Jagged(codes[codes >= 0].long(), torch.cat([known.new_zeros(1), known.cumsum(0)]))
        self.num_items = len(self._codes)

    def among(self, items: Tensor) -> Between:
        """See `Difference.among`."""
        codes = self._padded(items)  # (B, M, G)
        counts = (codes >= 0).sum(dim=2)
        rows = torch.arange(len(items), device=items.device)

        def between(place: Tensor) -> Tensor:
            own = codes[rows, place]  # (B, G)
            own = own.masked_fill(own < 0, -2)
            common = torch.zeros_like(counts)
            for one in own.unbind(1):
                common += (codes == one.view(-1, 1, 1)).sum(dim=2)
            union = counts + counts[rows, place].unsqueeze(1) - common
            return 1 - common / union.clamp(min=1)

        return between

    def _padded(self, items: Tensor) -> Tensor:
        """(B, M, G) categories, -1 where an item has no more."""
        values, offsets = self._codes.values.to(items.device), self._codes.offsets.to(items.device)
        lengths = offsets.diff()[items].unsqueeze(2)
        steps = torch.arange(max(1, int(lengths.max()) if lengths.numel() else 1), device=items.device)
        if not len(values):
            return torch.full((*items.shape, 1), -1, device=items.device)
        index = (offsets[items].unsqueeze(2) + steps).clamp(max=len(values) - 1)
        return values[index].masked_fill(steps >= lengths, -1)


class VectorDifference:
    """Differs by direction.

        g(i, j) = (1 - cos(x_i, x_j)) / 2

    Args:
        vectors: (N, D) item vectors, of a model or of content.
    """

    def __init__(self, vectors: Tensor | npt.NDArray[np.floating[Any]]) -> None:
        self.vectors = torch.nn.functional.normalize(torch.as_tensor(vectors).detach().float(), dim=1)
        self.num_items = len(self.vectors)

    def among(self, items: Tensor) -> Between:
        """See `Difference.among`."""
        vectors = self.vectors[items.to(self.vectors.device)]  # (B, M, D)
        rows = torch.arange(len(items), device=vectors.device)

        def between(place: Tensor) -> Tensor:
            own = vectors[rows, place.to(vectors.device)].unsqueeze(2)  # (B, D, 1)
            return ((1 - (vectors @ own).squeeze(2)) / 2).to(place.device)

        return between


Categories = CategoryDifference | Tensor | npt.NDArray[np.integer[Any]] | Jagged


def rerank_diverse(
    scores: Tensor, items: Tensor, difference: Difference | Categories, k: int, diversity: float
) -> tuple[Tensor, Tensor]:
    """The k of M candidates that are relevant and differ from each other.

    Chosen greedily to make

        Q(S) = sum_{i in S} f(i) + diversity * sum_{pairs {i, j} of S} g(i, j)

    large: next is the candidate with the largest f(i) + diversity * sum_{j in S} g(i, j). The score f is taken as it
    is, so `diversity` is on the scale of the model's scores: at 1, one item more that differs is worth a score higher
    by 1. With 0 the order is that of the scores; equal values are in the order given.

    Source: Cen et al. 2020, "Controllable Multi-Interest Framework for Recommendation" (KDD), section 3.4 and
    algorithm 2. A step of the algorithm counts each pair once, as here; written as a double sum, Q counts it twice.

    Args:
        scores: (B, M) scores of the candidates.
        items: (B, M) int64 candidates, none of them twice in a row; -1, or a score of -inf, for no candidate.
        difference: How items differ, or their categories; see `CategoryDifference`.
        k: Items for each query, at least 1.
        diversity: Weight of the differences, at least 0.

    Returns:
        (B, k) scores as given, and (B, k) items in the order in which they were chosen; -inf and -1 at the end where
        there are fewer candidates.

    Raises:
        DataError: k or diversity is out of range, shapes differ, a candidate is no item number.
    """
    kind = as_difference(difference)
    _check(scores, items, kind.num_items, k, diversity)
    between = kind.among(items.clamp(min=0))
    bonus = torch.zeros(scores.shape, dtype=torch.float64, device=scores.device)

    def after(place: Tensor) -> Tensor:
        return bonus.add_(between(place), alpha=diversity)

    return _greedy(scores, items, k, after)


def rerank_mmr(
    scores: Tensor,
    items: Tensor,
    vectors: VectorDifference | Tensor | npt.NDArray[np.floating[Any]],
    k: int,
    diversity: float,
) -> tuple[Tensor, Tensor]:
    """The k of M candidates by maximal marginal relevance.

    Next is the candidate with the largest f(i) - diversity * max_{j in S} cos(x_i, x_j): it must not be like any one
    item of the list, where `rerank_diverse` asks for differences from all of them.

    Source: Carbonell and Goldstein 1998, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and
    Producing Summaries" (SIGIR), section 2, divided by its lambda: diversity = (1 - lambda) / lambda.

    Args:
        scores: As for `rerank_diverse`.
        items: As for `rerank_diverse`.
        vectors: (N, D) item vectors.
        k: As for `rerank_diverse`.
        diversity: Weight of the likeness, at least 0, on the scale of the scores.

    Returns:
        As `rerank_diverse`.

    Raises:
        DataError: As `rerank_diverse`.
    """
    kind = vectors if isinstance(vectors, VectorDifference) else VectorDifference(vectors)
    _check(scores, items, kind.num_items, k, diversity)
    between = kind.among(items.clamp(min=0))
    nearest = torch.full(scores.shape, torch.inf, dtype=torch.float64, device=scores.device)

    def after(place: Tensor) -> Tensor:
        torch.minimum(nearest, between(place).double(), out=nearest)
        return (2 * nearest - 1) * diversity  # g = (1 - cos) / 2

    return _greedy(scores, items, k, after)


def list_diversity(items: Tensor, difference: Difference | Categories) -> Tensor:
    """How different the items of each list are.

        mean over the pairs of a list of g(i, j)

    Of single categories this is Diversity@k of ComiRec. Source: Cen et al. 2020 (KDD), section 4.

    Args:
        items: (B, k) int64, -1 for no item.
        difference: How items differ, or their categories.

    Returns:
        (B,) float64; NaN for a list of fewer than two items.
    """
    kind = as_difference(difference)
    there = items >= 0
    between = kind.among(items.clamp(min=0))
    total = torch.zeros(len(items), dtype=torch.float64, device=items.device)
    for place in range(items.shape[1] - 1):
        pairs = there[:, place : place + 1] & there
        pairs[:, : place + 1] = False
        total += torch.where(pairs, between(torch.full_like(items[:, 0], place)).double(), 0.0).sum(dim=1)
    count = there.sum(dim=1).double()
    return total / (count * (count - 1) / 2)


def as_difference(difference: Difference | Categories) -> Difference:
    """Categories as a difference; a difference as it is."""
    if isinstance(difference, Tensor | np.ndarray | Jagged):
        return CategoryDifference(difference)
    return difference


def _greedy(scores: Tensor, items: Tensor, k: int, after: Between) -> tuple[Tensor, Tensor]:
    """Takes the candidate of the largest score plus bonus, k times; `after` gives the bonuses once it is chosen."""
    batch, width = items.shape
    rows = torch.arange(batch, device=items.device)
    left = scores.double().masked_fill(items < 0, -torch.inf)
    out_scores = scores.new_full((batch, k), -torch.inf)
    out_items = items.new_full((batch, k), -1)
    value = left
    for step in range(min(k, width)):
        best, place = value.max(dim=1)
        found = best > -torch.inf
        out_scores[:, step] = torch.where(found, scores[rows, place], out_scores[:, step])
        out_items[:, step] = torch.where(found, items[rows, place], -1)
        left[rows, place] = -torch.inf
        value = left + after(place)
    return out_scores, out_items


def _check(scores: Tensor, items: Tensor, num_items: int, k: int, diversity: float) -> None:
    if k < 1:
        raise DataError(f"k must be at least 1. Received: {k}.")
    if not (math.isfinite(diversity) and diversity >= 0):
        raise DataError(
            f"diversity must be a number of at least 0. Received: {diversity:g}. Use 0 for the order of the scores."
        )
    if items.dim() != 2 or scores.shape != items.shape:
        raise DataError(
            f"candidates and their scores must both be (B, M). Received: items {tuple(items.shape)}, scores "
            f"{tuple(scores.shape)}."
        )
    wrong = items[items >= num_items]
    if len(wrong):
        raise DataError(
            f"candidates must be numbers below {num_items}, of items whose difference is known. "
            f"Received: {len(wrong)} that are not, the first is {int(wrong[0])}."
        )
    if bool(scores.isnan().any()):
        raise DataError(
            f"scores must be numbers. Received: {int(scores.isnan().sum())} that are not. "
            "Find out why the model gives them."
        )


def _without_repetition(categories: Jagged) -> Jagged:
    """Each category of an item once."""
    count = len(categories)
    values = categories.values.long()
    if len(values) and int(values.min()) < 0:
        raise DataError(
            f"categories must be numbers from 0. Received: {int(values.min())}. Leave out missing categories."
        )
    width = int(values.max()) + 1 if len(values) else 1
    owner = torch.repeat_interleave(torch.arange(count, device=values.device), categories.lengths)
    keys = torch.unique(owner * width + values)
    lengths = torch.bincount(keys // width, minlength=count)
    return Jagged(keys % width, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
