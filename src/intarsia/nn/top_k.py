"""The k best of N scored items, block by block, the same whatever the blocks.

Equal scores go to the lower item number, so a list depends on the scores alone. Shape legend: B queries, N items,
C items of a block, k items of a list.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from intarsia.core.batch import Jagged

GROUP = 64
"""Neighbouring columns whose maximum is looked at first. Measured best of 16 to 256 for k = 21 of 41,000 items."""
GATHER = 2048
"""Blocks that are narrower are put side by side up to this width before the best are sought."""


def running_top_k(blocks: Iterable[tuple[int, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """The k best items of each query.

    Blocks may come in any order and any width. A block is read before the next one is asked for, so its memory may be
    used again. A NaN counts as larger than any number: a NaN anywhere in a row is a NaN in the row's first value.

    Args:
        blocks: (first item number, (B, C) floating point scores). -inf means: not to be recommended.
        k: Length of the lists, at least 1.

    Returns:
        Values (B, k') and item numbers (B, k') int64, k' = min(k, N), best first, equal ones by item number. Places
        that no item fills have the value -inf and the item -1.

    Raises:
        ValueError: k is below 1, or there are no blocks.
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1. Received: {k}.")
    best: tuple[Tensor, Tensor] | None = None
    beside: Tensor | None = None
    begin = width = 0
    for start, scores in blocks:
        if width and (start != begin + width or width + scores.shape[1] > GATHER):
            assert beside is not None
            best, width = _merged(best, _of_block(beside[:, :width], begin, k), k), 0
        if scores.shape[1] >= GATHER:
            best = _merged(best, _of_block(scores, start, k), k)
            continue
        if beside is None:
            beside = scores.new_empty(scores.shape[0], GATHER)
        begin = begin if width else start
        beside[:, width : width + scores.shape[1]] = scores
        width += scores.shape[1]
    if width and beside is not None:
        best = _merged(best, _of_block(beside[:, :width], begin, k), k)
    if best is None:
        raise ValueError("`blocks` must hold at least one block. Received: none.")
    values, items = best
    return values, torch.where(values == -torch.inf, -1, items)


def mask_(scores: Tensor, start: int, excluded: Jagged) -> None:
    """Sets the scores of excluded items to -inf, in place.

    Args:
        scores: (B, C) scores of the items `start` to `start + C - 1`.
        start: First item of the block.
        excluded: Item numbers of each query, in any order; those outside of the block are passed over.
    """
    items = excluded.values
    rows = torch.repeat_interleave(
        torch.arange(len(excluded), device=items.device), excluded.lengths, output_size=items.shape[0]
    )
    columns = items - start
    inside = (columns >= 0) & (columns < scores.shape[1])
    scores[rows[inside], columns[inside]] = -torch.inf


def _of_block(scores: Tensor, start: int, k: int) -> tuple[Tensor, Tensor]:
    """The min(k, C) best of one block, in order."""
    count = scores.shape[1]
    k = min(k, count)
    # One more than wanted: where it equals the last wanted one, there is a choice among equals.
    more = min(k + 1, count)
    if count >= 4 * more * GROUP:
        values, columns = _by_groups(scores, more)
    else:
        values, columns = scores.topk(more, dim=1)
    if more > k:
        choice = (values[:, k] == values[:, k - 1]) & (values[:, k] > -torch.inf)
        values, columns = values[:, :k], columns[:, :k].clone()
        if bool(choice.any()):
            rows = choice.nonzero().squeeze(1)
            columns[rows] = _lowest_of_equals(scores[rows], values[rows, k - 1 :], k)
            values = scores.gather(1, columns)
    return _in_order(values, columns + start)


def _by_groups(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`topk` in two passes: the k largest values lie in the k groups of columns with the largest maxima."""
    count = scores.shape[1]
    whole = count // GROUP * GROUP
    groups = scores[:, :whole].unflatten(1, (-1, GROUP)).amax(dim=2).topk(k, dim=1, sorted=False).indices
    columns = (groups.unsqueeze(2) * GROUP + torch.arange(GROUP, device=scores.device)).flatten(1)
    if whole < count:
        rest = torch.arange(whole, count, device=scores.device)
        columns = torch.cat([columns, rest.expand(len(scores), -1)], dim=1)
    values, places = scores.gather(1, columns).topk(k, dim=1)
    return values, columns.gather(1, places)


def _lowest_of_equals(scores: Tensor, last: Tensor, k: int) -> Tensor:
    """(R, k) columns: all that are larger than the last value (R, 1), then the first of those that equal it."""
    larger, equal = scores > last, scores == last
    larger |= scores.isnan()
    wanted = k - larger.sum(dim=1, keepdim=True)
    chosen = larger | (equal & (equal.cumsum(dim=1) <= wanted))
    return chosen.nonzero()[:, 1].view(-1, k)


def _merged(a: tuple[Tensor, Tensor] | None, b: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    if a is None:
        return b
    values, items = _in_order(torch.cat([a[0], b[0]], dim=1), torch.cat([a[1], b[1]], dim=1))
    return values[:, :k], items[:, :k]


def _in_order(values: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Sorts rows by falling value, equal ones by rising item number."""
    items, order = items.sort(dim=1)
    values, back = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, items.gather(1, back)
