"""Whom to rank items for, and where their targets stand.

Shape legend: B queries of a batch, T targets of all of them, N items, M candidates of a query, k items of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.core.errors import DataError, EvaluationError
from intarsia.nn.top_k import running_top_k

NOT_FOUND = 1 << 60
"""Rank of a target that stands behind the last place that any metric looks at."""
BLOCK_NUMBERS = 1 << 21
"""Scores that are in memory at a time where no width of a block is given. Measured best of 2^18 to 2^24 on a processor,
for 41,000 items and 256 or 1024 queries at a time."""
PAIR_NUMBERS = 1 << 15
"""Pairs scored at a time."""
COUNT_NUMBERS = 1 << 20
"""Scores that are counted at a time."""
FEW_TARGETS = 4
"""Up to so many targets of a query, comparing with each in turn is faster than a binary search."""


@dataclass(frozen=True)
class RankingQueries:
    """One batch of B queries.

    Attributes:
        users: (B,) int64 user numbers.
        targets: Item numbers to find, of each query; repetitions count once.
        excluded: Items that are not ranked, such as those of the history; in any order. Targets are ranked always.
        candidates: (B, M) int64: the only items that the targets are ranked against, -1 where there is none. None: all
            items that are not excluded. Repetitions count once, targets among them not at all.
        scores: Gives the (B, stop - start) scores of the items `start` to `stop - 1`. What it returns is only read.
        pair_scores: Gives the (B, m) scores of each query's own items (B, m); what is said of item -1 is ignored.
        histories: (B,) lengths of the histories, for groups. Default: those of `excluded`.
        history_items: Items of the histories, for calibration. Default: `excluded`.
        ratings: (T,) what the users said of the targets, for rmse and mae; in the order of `targets.values`.
        best: A faster way to the k best items of each query without those that are excluded: called with k and them,
            it gives what `running_top_k` would make of `scores`, or None where it cannot.
    """

    users: Tensor
    targets: Jagged
    excluded: Jagged
    candidates: Tensor | None
    scores: Callable[[int, int], Tensor]
    pair_scores: Callable[[Tensor], Tensor]
    histories: Tensor | None = None
    history_items: Jagged | None = None
    ratings: Tensor | None = None
    best: Callable[[int, Jagged], tuple[Tensor, Tensor] | None] | None = None


@dataclass(frozen=True)
class Ranked:
    """Where the targets of a batch stand; on the CPU.

    Attributes:
        rows: (T,) query of each target; the targets of a query follow each other, the best first.
        items: (T,) the targets, each once a query.
        ranks: (T,) places from 1; `NOT_FOUND` for a target behind the depth that was asked for.
        num_targets: (B,) targets of each query.
        num_others: (B,) other items that they were ranked against.
        lists: (B, k) the best items, -1 where there is none; None where nobody asked.
        collisions: Candidates that were targets of the same query, and were left out.
    """

    rows: Tensor
    items: Tensor
    ranks: Tensor
    num_targets: Tensor
    num_others: Tensor
    lists: Tensor | None
    collisions: int = 0

    @property
    def places(self) -> Tensor:
        """(T,) position of a target among the targets of its query, from 1."""
        return _places(self.rows, self.num_targets)

    def total(self, terms: Tensor) -> Tensor:
        """(B,) float64 sum of (T,) terms over the targets of each query."""
        out = torch.zeros(len(self.num_targets), dtype=torch.float64)
        return out.index_add_(0, self.rows, terms.double())


def rank_targets(
    queries: RankingQueries,
    *,
    num_items: int,
    depth: int = 0,
    exact: bool = False,
    with_lists: bool = False,
    item_chunk: int | None = None,
    model: str = "the model",
) -> Ranked:
    """Places of the targets among the items that they are ranked against.

        rank = 1 + number of other items whose score is not lower + number of targets of the query that stand before

    So a target stands behind every other item of the same score: scores that are all equal get the worst places.
    Targets of the same score stand in the order of their numbers. A score of -inf means that the model would never
    recommend the item.

    Args:
        queries: The batch.
        num_items: N.
        depth: Places that matter. Only the scores of the best `depth` other items are remembered.
        exact: Whether places behind `depth` matter too. All items are then scored twice.
        with_lists: Whether the lists of the best `depth` items are wanted.
        item_chunk: Items scored at a time; changes nothing but time and memory. Default: some 2 million scores, or
            the queries' own way to the best.
        model: What errors call the model.

    Raises:
        DataError: A target or an excluded item is no item number.
        EvaluationError: A score is NaN.
    """
    batch = len(queries.users)
    if not batch:
        none = torch.zeros(0, dtype=torch.int64)
        return Ranked(none, none, none, none, none, none.view(0, max(depth, 1)) if with_lists else None)
    field = _Field(queries, num_items, item_chunk, model)
    ahead: Tensor | None = None
    values = best = None
    if depth:
        found = field.best(depth) if item_chunk is None and not exact else None
        values, best = running_top_k(field.blocks(), depth) if found is None else found
        field.refuse_nan(values[:, 0])
    if exact or not depth:
        ahead = field.count_at_least()
    scores = field.target_scores
    field.refuse_nan(scores)
    order = _best_first(field.rows, scores)
    rows, items, scores = field.rows[order], field.items[order], scores[order]
    lost = scores == -torch.inf
    num_targets = torch.bincount(rows, minlength=batch)
    places = _places(rows, num_targets)
    if ahead is not None:
        ranks = torch.where(lost, field.num_others[rows], ahead[order]) + places
    else:
        assert values is not None
        assert best is not None
        counted = _at_least(values.cpu(), rows, scores, num_targets)
        # Where every remembered item is ahead there may be more of them.
        behind = lost | ((counted >= depth) & (values.shape[1] >= depth))
        ranks = torch.where(behind, NOT_FOUND, counted + places)
    lists = None
    if with_lists and values is not None and best is not None:
        near = torch.where(lost, NOT_FOUND, ranks)
        lists = _lists(field.items_at(best.cpu()), rows, items, near, depth)
    return Ranked(rows, items, ranks, num_targets, field.num_others, lists, field.collisions)


class _Field:
    """What the targets of one batch are ranked against."""

    def __init__(self, queries: RankingQueries, num_items: int, item_chunk: int | None, model: str) -> None:
        self.queries, self.num_items, self.model = queries, num_items, model
        self.batch = len(queries.users)
        targets = _keys(queries.targets, num_items, self.batch, "targets").unique()
        self.rows, self.items = targets // num_items, targets % num_items
        self.target_scores = torch.full((len(targets),), -torch.inf)
        self.collisions, self._targets_known = 0, False
        if queries.candidates is None:
            barred = torch.cat([_keys(queries.excluded, num_items, self.batch, "excluded items"), targets]).unique()
            self.num_others = num_items - torch.bincount(barred // num_items, minlength=self.batch)
            self._barred = _ByItem(barred // num_items, barred % num_items)
            self._excluded = Jagged(barred % num_items, _offsets(num_items - self.num_others))
            self._targets = _ByItem(self.rows, self.items)
            self.chunk = item_chunk or max(1024, BLOCK_NUMBERS // self.batch)
        else:
            self._score_candidates(queries.candidates.cpu(), targets)

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Scores of the other items, -inf for what is not ranked; notes the scores of the targets on the way."""
        if self.queries.candidates is not None:
            yield 0, self._candidate_scores
            return
        # The buffer is ours: what a model returns may be a part of its weights.
        buffer: Tensor | None = None
        for start in range(0, self.num_items, self.chunk):
            stop = min(start + self.chunk, self.num_items)
            scores = self.queries.scores(start, stop)
            if scores.shape != (self.batch, stop - start):
                raise EvaluationError(
                    f"{self.model} must give ({self.batch}, {stop - start}) scores of items {start} to {stop - 1}. "
                    f"Received: {tuple(scores.shape)}."
                )
            if buffer is None:
                kind = scores.dtype if scores.dtype == torch.float64 else torch.float32
                buffer = torch.empty(self.batch, self.chunk, dtype=kind, device=scores.device)
                self.target_scores = self.target_scores.to(kind)
            block = buffer[:, : stop - start]
            block.copy_(scores)
            which, rows, columns = self._targets.inside(start, stop)
            self.target_scores[which] = block[rows.to(block.device), columns.to(block.device)].cpu()
            _, rows, columns = self._barred.inside(start, stop)
            block[rows.to(block.device), columns.to(block.device)] = -torch.inf
            yield start, block
        self._targets_known = True

    def best(self, depth: int) -> tuple[Tensor, Tensor] | None:
        """The best other items by the queries' own way, where they have one; scores the targets too."""
        if self.queries.best is None or self.queries.candidates is not None:
            return None
        found = self.queries.best(min(depth, self.num_items), self._excluded)
        if found is not None:
            lengths = torch.bincount(self.rows, minlength=self.batch)
            columns = _places(self.rows, lengths) - 1
            scores = self._pair_scores(_padded(self.items, self.rows, columns, lengths, -1))
            self.target_scores, self._targets_known = scores[self.rows, columns], True
        return found

    def items_at(self, columns: Tensor) -> Tensor:
        """The items in these columns of what `blocks` gave, -1 for none."""
        if self.queries.candidates is None:
            return columns
        return self._candidates.gather(1, columns.clamp(min=0)).masked_fill(columns < 0, -1)

    def count_at_least(self) -> Tensor:
        """(T,) other items whose score is not lower than that of the target."""
        if not self._targets_known:
            for _ in self.blocks():
                pass  # the scores of all targets have to be known before anything can be counted
        lengths = torch.bincount(self.rows, minlength=self.batch)
        falling = _best_first(self.rows, self.target_scores)
        columns = lengths[self.rows] - _places(self.rows, lengths)
        rising = _padded(self.target_scores[falling], self.rows, columns, lengths, torch.inf)
        counts = torch.zeros(rising.shape, dtype=torch.int64)
        step = max(1, COUNT_NUMBERS // self.batch)
        for _, scores in self.blocks():
            self.refuse_nan(scores.amax(dim=1))
            for part in scores.split(step, dim=1):
                counts += _reached(part, rising.to(part.device)).cpu()
        out = torch.empty(len(falling), dtype=torch.int64)
        out[falling] = counts[self.rows, columns]
        return out

    def refuse_nan(self, scores: Tensor) -> None:
        """Stops where a score is not a number."""
        wrong = scores.isnan()
        if bool(wrong.any()):
            raise EvaluationError(
                f"scores must be numbers. Received: NaN from {self.model} for {int(wrong.sum())} of {len(scores)} "
                "queries of a batch. The model has diverged, or its features hold such values: lower the learning "
                "rate, or check the features."
            )

    def _score_candidates(self, candidates: Tensor, targets: Tensor) -> None:
        if candidates.shape[:1] != (self.batch,) or candidates.dim() != 2:
            raise DataError(
                f"candidates must be ({self.batch}, M) item numbers. Received: shape {tuple(candidates.shape)}."
            )
        wrong = (candidates < -1) | (candidates >= self.num_items)
        if bool(wrong.any()):
            raise DataError(
                f"candidates must be item numbers from 0 to {self.num_items - 1}, or -1 for none. Received: "
                f"{int(wrong.sum())} others, such as {int(candidates[wrong][0])}."
            )
        candidates = candidates.sort(dim=1).values
        again = torch.zeros_like(candidates, dtype=torch.bool)
        again[:, 1:] = candidates[:, 1:] == candidates[:, :-1]
        keys = torch.arange(self.batch).unsqueeze(1) * self.num_items + candidates
        hit = torch.isin(keys, targets) & (candidates >= 0) & ~again
        self.collisions = int(hit.sum())
        candidates = candidates.masked_fill(again | hit, -1)
        self.num_others = (candidates >= 0).sum(dim=1)
        lengths = torch.bincount(self.rows, minlength=self.batch)
        columns = _places(self.rows, lengths) - 1
        own = _padded(self.items, self.rows, columns, lengths, -1)
        together = torch.cat([own, candidates], dim=1)
        scores = self._pair_scores(together)
        self.target_scores, self._targets_known = scores[self.rows, columns], True
        others = scores[:, own.shape[1] :]
        self._candidates, self._candidate_scores = candidates, others.masked_fill(candidates < 0, -torch.inf)

    def _pair_scores(self, items: Tensor) -> Tensor:
        """(B, M) scores of each query's own items (B, M)."""
        parts = items.split(max(1, PAIR_NUMBERS // self.batch), dim=1)
        scores = torch.cat([self.queries.pair_scores(part).cpu() for part in parts], dim=1)
        return scores if scores.dtype == torch.float64 else scores.float()


class _ByItem:
    """(row, item) pairs in the order of the items, to find those of a block at once."""

    def __init__(self, rows: Tensor, items: Tensor) -> None:
        self.items, self.order = items.sort(stable=True)
        self.rows = rows[self.order]

    def inside(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Positions of the pairs whose item lies in the block, their rows, their columns in it."""
        low, high = torch.searchsorted(self.items, torch.tensor([start, stop])).tolist()
        return self.order[low:high], self.rows[low:high], self.items[low:high] - start


def _keys(items: Jagged, num_items: int, batch: int, what: str) -> Tensor:
    """(S,) row * N + item."""
    if len(items) != batch:
        raise DataError(f"{what} must be given for each of {batch} queries. Received: {len(items)} lists.")
    values, offsets = items.values.cpu(), items.offsets.cpu()
    wrong = (values < 0) | (values >= num_items)
    if bool(wrong.any()):
        raise DataError(
            f"{what} must be item numbers from 0 to {num_items - 1}. Received: {int(wrong.sum())} others, such as "
            f"{int(values[wrong][0])}. Map raw ids to numbers first, and leave unknown items out."
        )
    rows = torch.repeat_interleave(torch.arange(batch), offsets.diff(), output_size=len(values))
    return rows * num_items + values


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def _places(rows: Tensor, lengths: Tensor) -> Tensor:
    """(T,) position from 1 of each of the rows' elements, which follow each other."""
    return torch.arange(1, len(rows) + 1) - _offsets(lengths)[rows]


def _best_first(rows: Tensor, scores: Tensor) -> Tensor:
    """Order by row, then falling score; equal ones stay in the order of their items."""
    by_score = scores.argsort(descending=True, stable=True)
    return by_score[rows[by_score].argsort(stable=True)]


def _padded(values: Tensor, rows: Tensor, columns: Tensor, lengths: Tensor, fill: float) -> Tensor:
    """(B, longest) with the values at their rows and columns."""
    out = values.new_full((len(lengths), max(1, int(lengths.max()))), fill)
    out[rows, columns] = values
    return out


def _at_least(values: Tensor, rows: Tensor, scores: Tensor, lengths: Tensor) -> Tensor:
    """(T,) how many of the falling values (B, k) of a target's row are not lower than its score."""
    columns = _places(rows, lengths) - 1
    padded = _padded(scores, rows, columns, lengths, 0.0)
    return torch.searchsorted((-values).contiguous(), -padded, right=True)[rows, columns]


def _reached(scores: Tensor, targets: Tensor) -> Tensor:
    """(B, m) how many scores of a row are not lower than each of its targets (B, m), which rise."""
    batch, most = targets.shape
    if most <= FEW_TARGETS:
        return torch.stack([(scores >= targets[:, m : m + 1]).sum(dim=1) for m in range(most)], dim=1)
    # How many targets a score reaches, how often each number occurs, and from there backwards.
    where = torch.searchsorted(targets, scores.contiguous(), right=True)
    where += torch.arange(batch, device=where.device).unsqueeze(1) * (most + 1)
    times = torch.bincount(where.flatten(), minlength=batch * (most + 1)).view(batch, most + 1)
    return times.flip(1).cumsum(1).flip(1)[:, 1:]


def _lists(others: Tensor, rows: Tensor, items: Tensor, ranks: Tensor, depth: int) -> Tensor:
    """(B, depth) targets at their places, the other items in their order at the places between."""
    out = torch.full((len(others), depth), -1, dtype=torch.int64)
    taken = torch.zeros_like(out, dtype=torch.bool)
    near = ranks <= depth
    out[rows[near], ranks[near] - 1] = items[near]
    taken[rows[near], ranks[near] - 1] = True
    which = (~taken).cumsum(dim=1) - 1
    short = which >= others.shape[1]
    fill = others.gather(1, which.clamp(0, others.shape[1] - 1)).masked_fill(short, -1)
    return torch.where(taken, out, fill)
