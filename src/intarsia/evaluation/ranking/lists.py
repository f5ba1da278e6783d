"""Metrics of the lists themselves, whatever is relevant: one number a query.

With L the first k items of a list (fewer where fewer are left), c_i the training interactions of item i, S their sum,
G_i the categories of item i, H the history:

    popularity@k   mean over L of c_i
    novelty@k      mean over L of -log2(max(c_i, 1) / S)
    diversity@k    mean over the pairs of L of 1 - |G_i & G_j| / |G_i | G_j|; without categories of 1 - cosine(i, j)
    serendipity@k  targets of L that are not among the k most popular items that were not excluded, / k
    calibration@k  sum_g p(g) log(p(g) / q(g)),  p(g) = mean over H of [g in G_i] / |G_i|, q the same over L, smoothed:
                   q <- 0.99 q + 0.01 p.  0 is a list that has the categories of the history in its proportions

Undefined (NaN) are the diversity of fewer than two items, and calibration without categories in H or L. Items without
categories differ from every other one, and calibration passes over them.

Sources: Castells, Hurley and Vargas, Novelty and Diversity in Recommender Systems (2015), mean self-information;
with one category diversity is that of Cen et al., ComiRec (KDD 2020), eq. 14; Ge, Delgado-Battenfeld and Jannach,
Beyond Accuracy (RecSys 2010), for serendipity with popularity as the primitive recommender; Steck, Calibrated
Recommendations (RecSys 2018), eq. 1, 2, 5, 6 with equal weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.evaluation.ranking.queries import Ranked, RankingQueries
from intarsia.evaluation.ranking.spec import LogFacts

SMOOTHING = 0.01
"""Share of the history's categories that calibration adds to those of the list, so that none is missing."""
PAIR_NUMBERS = 1 << 22
"""Pairs of categories, or of categories and queries, that are in memory at a time."""


class ListMeasures:
    """What the metrics of lists remember of a log.

    Args:
        facts: Of the log.
        num_items: N.
    """

    def __init__(self, facts: LogFacts, num_items: int) -> None:
        self.facts, self.num_items = facts, num_items
        counts = facts.item_counts
        self.counts = None if counts is None else counts.cpu().double()
        self.vectors = None
        if facts.categories is None and facts.vectors is not None:
            self.vectors = torch.nn.functional.normalize(facts.vectors.cpu().double(), dim=1)

    def values(self, stem: str, depth: int, queries: RankingQueries, ranked: Ranked) -> Tensor:
        """(B,) float64 values of a metric; NaN where it is undefined."""
        assert ranked.lists is not None
        lists = ranked.lists[:, :depth]
        if stem in ("popularity", "novelty"):
            assert self.counts is not None
            each = self.counts
            if stem == "novelty":
                each = -(each.clamp(min=1) / each.sum().clamp(min=1)).log2()
            return _mean(each[lists.clamp(min=0)], lists >= 0)
        if stem == "diversity":
            return self._in_parts(self._diversity, lists)
        if stem == "serendipity":
            return self._serendipity(lists, depth, queries.excluded, ranked)
        return self._calibration(lists, queries.history_items or queries.excluded)

    def _in_parts(self, measure: object, lists: Tensor) -> Tensor:
        assert callable(measure)
        width = 1 if self.facts.categories is None else max(1, int(self.facts.categories.lengths.max()))
        step = max(1, PAIR_NUMBERS // (lists.shape[1] ** 2 * width))
        return torch.cat([measure(part) for part in lists.split(step)]) if len(lists) else torch.zeros(0).double()

    def _diversity(self, lists: Tensor) -> Tensor:
        there = lists >= 0
        pairs = (there.unsqueeze(2) & there.unsqueeze(1)).triu(1)
        if self.facts.categories is None:
            assert self.vectors is not None
            own = self.vectors[lists.clamp(min=0)]
            alike = own @ own.transpose(1, 2)
        else:
            codes = _codes(self.facts.categories, lists)  # (B, k, m), -1 where there is none
            lengths = (codes >= 0).sum(dim=2)
            common = torch.zeros(pairs.shape, dtype=torch.int64)
            for m in range(codes.shape[2]):
                one = codes[:, :, None, m : m + 1]
                common += ((one == codes.unsqueeze(1)) & (one >= 0)).any(dim=3)
            alike = common.double() / (lengths.unsqueeze(2) + lengths.unsqueeze(1) - common).clamp(min=1)
        return _mean((1 - alike).flatten(1), pairs.flatten(1))

    def _serendipity(self, lists: Tensor, depth: int, excluded: Jagged, ranked: Ranked) -> Tensor:
        assert self.counts is not None
        batch = len(lists)
        place = torch.empty(self.num_items, dtype=torch.int64)
        place[self.counts.argsort(descending=True, stable=True)] = torch.arange(self.num_items)
        rows = torch.repeat_interleave(torch.arange(batch), excluded.lengths.cpu())
        targets = (ranked.rows * self.num_items + ranked.items).sort().values
        keys = rows * self.num_items + excluded.values.cpu()
        keys = keys[~torch.isin(keys, targets)].unique()  # targets can be recommended even if they were excluded
        taken = (keys // self.num_items * self.num_items + place[keys % self.num_items]).sort().values
        base = torch.arange(batch).unsqueeze(1) * self.num_items
        own = lists.clamp(min=0)
        before = torch.searchsorted(taken, base + place[own]) - torch.searchsorted(taken, base)
        expected = place[own] - before < depth
        relevant = torch.isin(base + own, targets) & (lists >= 0)
        return (relevant & ~expected).sum(dim=1).double() / depth

    def _calibration(self, lists: Tensor, history: Jagged) -> Tensor:
        categories = self.facts.categories
        assert categories is not None
        batch = len(lists)
        count = int(categories.values.max()) + 1 if len(categories.values) else 1
        step = max(1, PAIR_NUMBERS // count)
        out = torch.full((batch,), torch.nan, dtype=torch.float64)
        offsets, items = history.offsets.cpu(), history.values.cpu()
        for start in range(0, batch, step):
            part = lists[start : start + step]
            stop = start + len(part)
            own = items[offsets[start] : offsets[stop]]
            p = _shares(categories, own, offsets[start : stop + 1].diff(), count)
            q = _shares(categories, part[part >= 0], (part >= 0).sum(dim=1), count)
            known = (p.sum(dim=1) > 0) & (q.sum(dim=1) > 0)
            mixed = (1 - SMOOTHING) * q + SMOOTHING * p
            divergence = torch.where(p > 0, p * (p / mixed).log(), 0.0).sum(dim=1)
            out[start:stop] = divergence.masked_fill(~known, torch.nan)
        return out


def _mean(values: Tensor, there: Tensor) -> Tensor:
    """(B,) mean of the values (B, m) that are there; NaN of none."""
    return torch.where(there, values, 0.0).sum(dim=1) / there.sum(dim=1)


def _codes(categories: Jagged, items: Tensor) -> Tensor:
    """(..., m) the categories of items, -1 where an item has no more, or is none."""
    lengths = categories.lengths[items.clamp(min=0)].masked_fill(items < 0, 0)
    steps = torch.arange(max(1, int(lengths.max()) if lengths.numel() else 1))
    index = categories.offsets[items.clamp(min=0)].unsqueeze(-1) + steps
    if not len(categories.values):
        return torch.full(index.shape, -1, dtype=torch.int64)
    found = categories.values[index.clamp(max=len(categories.values) - 1)]
    return found.masked_fill(steps >= lengths.unsqueeze(-1), -1)


def _shares(categories: Jagged, items: Tensor, lengths: Tensor, count: int) -> Tensor:
    """(B, categories) mean over each row's items of one over the number of an item's categories, at those."""
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    codes = _codes(categories, items)  # (S, m)
    there = codes >= 0
    weights = there.double() / there.sum(dim=1, keepdim=True).clamp(min=1)
    out = torch.zeros(len(lengths) * count, dtype=torch.float64)
    out.index_add_(0, (rows.unsqueeze(1) * count + codes)[there], weights[there])
    out = out.view(-1, count)
    return out / out.sum(dim=1, keepdim=True).clamp(min=1e-300)
