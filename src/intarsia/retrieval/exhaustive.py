"""Exact search: every item is scored.

Items are taken a block at a time. Scores are computed in single precision first, a few more items than asked for are
kept, and those are scored again in double precision. A bound on the rounding error of the first pass says whether an
item that was not kept could belong to the best; only queries where it could are searched in double precision
throughout. The answer is that of double precision, rounded to single, at the cost of single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.nn.by_length import ByLength
from intarsia.nn.fast_products import exact_products, fast_products
from intarsia.nn.top_k import mask_, running_top_k
from intarsia.retrieval.first_pass import leading, leading_of_long

SPARE = 12
"""Items that the first pass keeps beyond those asked for."""
NUMBERS = 1 << 20
"""Scores that are alive at a time on a processor, and numbers of vectors that are scored again."""
LEAST = 2048
"""Items of a block at the least."""
ROWS = 512
"""Queries searched at a time."""
MANY = 64
"""Queries for which `fast_products` is worth a kernel."""

Rows = Callable[[int, int], Tensor]
Take = Callable[[Tensor], Tensor]


def exhaustive_top_k(
    queries: Tensor,
    rows: Rows,
    count: int,
    k: int,
    *,
    metric: str,
    excluded: Jagged | None = None,
    take: Take | None = None,
    largest: float | None = None,
    by_length: ByLength | None = None,
) -> tuple[Tensor, Tensor]:
    """The k best of N items for each of B queries.

    The score of an item is the largest over a query's K vectors: <q, x> for `inner_product` and (of vectors of length
    1) `cosine`, -|q - x|^2 for `euclidean`. Equal scores are in the order of the item numbers.

    Args:
        queries: (B, K, D) float32 or float64.
        rows: Gives the (n, D) float32 vectors of the items `start` to `stop - 1`.
        count: N.
        k: Items for each query.
        metric: `inner_product`, `cosine` or `euclidean`.
        excluded: Item numbers that a query must not get, or None.
        take: Gives the (..., D) vectors of (...) item numbers. With it and `largest` there is a first pass in single
            precision; without them all is done in double precision.
        largest: Largest length of an item's vector.
        by_length: The same vectors, the longest first: the first pass of inner products on a processor then passes
            over items that are too short to be found.

    Returns:
        (B, k) float32 scores and (B, k) int64 items; where there are fewer items, -inf and -1 at the end.
    """
    scores, items = filled(len(queries), k, queries.device)
    kept = min(k, count)
    if not kept or not len(queries):
        return scores, items
    # A first pass in less than full single precision (an option of torch) has no bound worth using.
    fast = take is not None and largest is not None and kept + SPARE < count
    fast = fast and exact_products(queries.device)
    size = max(1, min(ROWS, NUMBERS // ((kept + SPARE) * queries.shape[-1]))) if fast else ROWS
    size = -(-len(queries) // -(-len(queries) // size))  # parts of like size
    for start in range(0, len(queries), size):
        part = slice(start, start + size)
        own = part_of(excluded, part.start, min(part.stop, len(queries)))
        doubtful = torch.arange(len(queries[part]), device=queries.device)
        if fast:
            assert take is not None
            assert largest is not None
            narrow = queries[part].float()
            with fast_products(queries.device) if len(narrow) >= MANY else nullcontext():
                if by_length is not None and metric == "inner_product" and queries.device.type == "cpu":
                    found = leading_of_long(narrow, by_length, kept + SPARE, own)
                else:
                    first = leading if queries.device.type == "cpu" else running_top_k
                    found = first(_blocks(narrow, rows, count, metric, own), kept + SPARE)
            again = _scores_of(queries[part], take, found[1], metric)
            best, order = in_order(again, found[1])
            scores[part, :kept], items[part, :kept] = best[:, :kept], order[:, :kept]
            error = _error(queries[part], largest, metric)
            outside = (found[0][:, -1].double() + error).float()  # No item that was not kept scores more.
            doubtful = (~(outside < best[:, kept - 1]) & (found[1][:, -1] >= 0)).nonzero().squeeze(1)
        if len(doubtful):
            some = queries[part][doubtful].double()
            mine = own if own is None or len(doubtful) == len(own) else rows_of(own, doubtful)
            best, order = running_top_k(_blocks(some, rows, count, metric, mine), kept)
            scores[start + doubtful, :kept], items[start + doubtful, :kept] = best, order
    return scores, items


def filled(count: int, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(B, k) scores of -inf and items of -1."""
    return (
        torch.full((count, k), -torch.inf, device=device),
        torch.full((count, k), -1, dtype=torch.int64, device=device),
    )


def in_order(scores: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Largest score first, equal ones by item number; an item that is twice in a row is kept with its larger score.

    Args:
        scores: (B, M); -inf for what does not count.
        items: (B, M).

    Returns:
        (B, M) scores and items, -inf and -1 at the end.
    """
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    items, back = items.gather(1, order).sort(dim=1, stable=True)
    scores = scores.gather(1, back)
    again = torch.zeros_like(items, dtype=torch.bool)
    again[:, 1:] = items[:, 1:] == items[:, :-1]
    scores = scores.masked_fill(again, -torch.inf)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores, items.gather(1, order).masked_fill(scores == -torch.inf, -1)


def part_of(jagged: Jagged | None, start: int, stop: int) -> Jagged | None:
    """The rows `start` to `stop - 1`."""
    if jagged is None:
        return None
    first, last = int(jagged.offsets[start]), int(jagged.offsets[stop])
    return Jagged(jagged.values[first:last], jagged.offsets[start : stop + 1] - first)


def rows_of(jagged: Jagged, rows: Tensor) -> Jagged:
    """Any of the rows, in the order given."""
    lengths = jagged.lengths[rows]
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    shift = torch.repeat_interleave(jagged.offsets[:-1][rows] - offsets[:-1], lengths)
    return Jagged(jagged.values[shift + torch.arange(len(shift), device=shift.device)], offsets)


def renumbered(jagged: Jagged, numbers: Tensor, count: int) -> Jagged:
    """The values as positions in `numbers` (C,); those that are not there are left out.

    Args:
        jagged: Values from 0 to `count - 1`.
        numbers: (C,) unique values.
        count: N.
    """
    place = torch.full((count,), -1, dtype=torch.int64, device=numbers.device)
    place[numbers] = torch.arange(len(numbers), device=numbers.device)
    values = place[jagged.values]
    known = values >= 0
    before = torch.cat([known.new_zeros(1, dtype=torch.int64), known.cumsum(0)])
    return Jagged(values[known], before[jagged.offsets])


def _blocks(
    queries: Tensor, rows: Rows, count: int, metric: str, excluded: Jagged | None
) -> Iterator[tuple[int, Tensor]]:
    # On a processor blocks that fit its cache are fastest, elsewhere large ones.
    size = max(LEAST, (NUMBERS if queries.device.type == "cpu" else 64 * NUMBERS) // max(1, len(queries)))
    for start in range(0, count, size):
        stop = min(start + size, count)
        scores = _scores(queries, rows(start, stop).to(queries.dtype), metric).float()
        if excluded is not None:
            mask_(scores, start, excluded)
        yield start, scores


def _scores(queries: Tensor, items: Tensor, metric: str) -> Tensor:
    """(B, n): the largest over the K vectors of a query."""
    best: Tensor | None = None
    squares = items.square().sum(dim=1) if metric == "euclidean" else None
    for query in queries.unbind(1):
        scores = query @ items.t()
        if squares is not None:
            scores = scores.mul_(2).sub_(squares).sub_(query.square().sum(dim=1, keepdim=True))
        best = scores if best is None else torch.maximum(best, scores, out=best)
    assert best is not None
    return best


def _scores_of(queries: Tensor, take: Take, items: Tensor, metric: str) -> Tensor:
    """(B, M) float32 scores, computed in double precision, of each query's own items; -inf for item -1."""
    vectors = take(items.clamp(min=0)).double()  # (B, M, D)
    if metric == "euclidean":
        apart = [(query.unsqueeze(1) - vectors).square().sum(dim=2) for query in queries.double().unbind(1)]
        scores = -torch.stack(apart).amin(dim=0)
    else:
        scores = torch.einsum("bkd,bmd->bkm", queries.double(), vectors).amax(dim=1)
    return scores.float().masked_fill(items < 0, -torch.inf)


def _error(queries: Tensor, largest: float, metric: str) -> Tensor:
    """(B,) a bound on how far a single-precision score lies from the true one.

    A sum of D products is off by at most D * u / (1 - D * u) times the product of the lengths, in whatever order it is
    added up; u = 2^-24. Eight more units cover the rounding of queries in double precision, and what is left out here.
    Source: Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1.
    """
    unit = (queries.shape[-1] + 8) * 2.0**-24
    longest = queries.double().square().sum(dim=2).sqrt().amax(dim=1)
    size = longest * largest
    if metric == "euclidean":
        size = (longest + largest).square()
    return size * (unit / (1 - unit))
