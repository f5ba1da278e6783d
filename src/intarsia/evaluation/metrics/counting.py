"""Exact ranking counts over whole arrays: areas under ROC curves, of all rows or of each group, and the best F1.

The area under the ROC curve is the share of (positive, negative) pairs that are in the right order, pairs of equal
score counting one half:

    AUC = sum over pairs of w_p w_n ([s_p > s_n] + [s_p = s_n] / 2) / sum over pairs of w_p w_n

Instead of ranking all rows, the negatives are sorted and each positive is looked up among them twice, which gives the
numbers of negatives below it and of those tied with it. Without weights these are whole numbers, so the result does not
depend on the order of the rows, not even in the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]


def auc(scores: Floats, positive: Bools, weights: Floats | None = None) -> float | None:
    """Area under the ROC curve; None unless both classes have weight.

    Args:
        scores: (N,) float32 or float64, no NaN.
        positive: (N,) whether a row is positive.
        weights: (N,) weights of at least 0, or None.
    """
    high, low = scores[positive], scores[~positive]
    if weights is None:
        if not len(high) or not len(low):
            return None
        # Searching costs a logarithm for each query, so the smaller class asks.
        asks_low = len(low) < len(high)
        queries, keys = (low, high) if asks_low else (high, low)
        keys.sort()
        queries.sort()
        below, upto = _places(keys, queries)
        doubled = int(below.sum()) + int(upto.sum())
        pairs = 2 * len(high) * len(low)
        return (pairs - doubled if asks_low else doubled) / pairs
    w_high = weights[positive].astype(np.float64)
    low, running = _running(low, weights[~positive])
    total = float(w_high.sum()) * float(running[-1])
    if total == 0:
        return None
    below, upto = _places(low, high)
    return float(w_high @ (running[below] + running[upto])) / (2 * total)


@dataclass(frozen=True)
class GroupedAuc:
    """AUC of each group that has both classes.

    Attributes:
        groups: (G,) ids of those groups, ascending.
        values: (G,) their AUC.
        rows: (G,) their number of rows, or the sum of their weights.
        positives: (G,) the same of the positive rows.
        skipped: Number of groups that have one class only.
    """

    groups: NDArray[np.int64]
    values: Doubles
    rows: Doubles
    positives: Doubles
    skipped: int

    def reduce(self, reduction: str) -> float | None:
        """Mean over groups: `mean`, `mean_by_sample_num` or `mean_by_positive_num`; None without groups."""
        if not len(self.values):
            return None
        if reduction == "mean":
            return float(self.values.mean())
        share = self.rows if reduction == "mean_by_sample_num" else self.positives
        return float(self.values @ share / share.sum())


def grouped_auc(
    scores: Floats, positive: Bools, groups: NDArray[np.int64], weights: Floats | None = None
) -> GroupedAuc:
    """AUC inside of each group, all groups in one sort.

    A row's key is (group, score) packed into 64 bits, so that one search among the sorted keys of the negatives counts,
    for each positive, the negatives below it in its own group and in all groups before.

    Args:
        scores: (N,) float32 or float64, no NaN.
        positive: (N,) whether a row is positive.
        groups: (N,) ids; rows with equal ids form a group.
        weights: (N,) weights of at least 0, or None.
    """
    ids, group = np.unique(groups, return_inverse=True)
    count = len(ids)
    keys = (group.astype(np.uint64) << np.uint64(32)) | _score_codes(scores)
    high, low = keys[positive], keys[~positive]
    group_high, group_low = group[positive], group[~positive]
    if weights is None:
        w_low, w_high = _totals(group_low, None, count), _totals(group_high, None, count)
        low.sort()
        order = np.argsort(high)
        high, group_high = high[order], group_high[order]
        below, upto = _places(low, high)
        # Whole numbers in doubles: exact.
        before = (w_low.cumsum() - w_low)[group_high]
        wins = _totals(group_high, below + upto - 2 * before, count)
    else:
        each_low, each_high = weights[~positive], weights[positive].astype(np.float64)
        w_low, w_high = _totals(group_low, each_low, count), _totals(group_high, each_high, count)
        low, running = _running(low, each_low)
        below, upto = _places(low, high)
        first = np.searchsorted(low, np.arange(count, dtype=np.uint64) << np.uint64(32))
        before = running[first][group_high]
        wins = _totals(group_high, each_high * (running[below] + running[upto] - 2 * before), count)
    both = (w_low > 0) & (w_high > 0)
    return GroupedAuc(
        groups=ids[both],
        values=wins[both] / (2 * w_low[both] * w_high[both]),
        rows=(w_low + w_high)[both],
        positives=w_high[both],
        skipped=int(count - both.sum()),
    )


@dataclass(frozen=True)
class BestF1:
    """The highest F1 and the threshold that reaches it: rows that score `threshold` or more count as positive."""

    value: float
    threshold: float


def max_f1(scores: Floats, positive: Bools, weights: Floats | None = None) -> BestF1 | None:
    """Highest F1 = 2 TP / (TP + FP + P) over all thresholds; None without positives.

    Only scores of positive rows are tried: lowering a threshold past negatives alone adds false positives and nothing
    else. Among equally good thresholds the highest is returned.

    Args:
        scores: (N,) float32 or float64, no NaN.
        positive: (N,) whether a row is positive.
        weights: (N,) weights of at least 0, or None.
    """
    high, high_running = _running(scores[positive], None if weights is None else weights[positive])
    low, low_running = _running(scores[~positive], None if weights is None else weights[~positive])
    total = high_running[-1]
    if total == 0:
        return None
    thresholds = np.unique(high)[::-1]
    hits = total - high_running[np.searchsorted(high, thresholds)]
    false_alarms = low_running[-1] - low_running[np.searchsorted(low, thresholds)]
    f1 = 2 * hits / (hits + false_alarms + total)
    best = int(f1.argmax())
    return BestF1(float(f1[best]), float(thresholds[best]))


def placements(scores: Floats, positive: Bools) -> tuple[Doubles, Doubles]:
    """Share of negatives that each positive beats, and of positives that each negative loses to, ties one half.

    The means of both are the AUC; their variances are what DeLong's test needs.

    Returns:
        (P,) and (M,) in the order of the rows; both classes must be present.
    """
    high, low = scores[positive], scores[~positive]
    below, upto = _places(np.sort(low), high)
    wins = (below + upto) / (2 * len(low))
    below, upto = _places(np.sort(high), low)
    return wins, 1 - (below + upto) / (2 * len(high))


def _totals(groups: NDArray[np.int64], values: Floats | None, count: int) -> Doubles:
    """Sum of the values of each of the groups 0 to count - 1, or number of rows."""
    return np.bincount(groups, weights=values, minlength=count).astype(np.float64)


def _places(keys: Floats, queries: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each query the number of sorted keys below it, and of those below or equal."""
    return np.searchsorted(keys, queries, side="left"), np.searchsorted(keys, queries, side="right")


def _running(keys: Floats, weights: Floats | None) -> tuple[Floats, Doubles]:
    """The keys in ascending order, and the sums of their weights in that order, starting with 0."""
    if weights is None:
        return np.sort(keys), np.arange(len(keys) + 1, dtype=np.float64)
    order = np.argsort(keys)
    sums = np.zeros(len(keys) + 1, dtype=np.float64)
    np.cumsum(weights[order], dtype=np.float64, out=sums[1:])
    return keys[order], sums


def _score_codes(scores: Floats) -> NDArray[np.uint64]:
    """Whole numbers below 2^32 in the order of the scores, equal for equal scores."""
    if scores.dtype != np.float32:
        return np.unique(scores, return_inverse=True)[1].astype(np.uint64)
    # Bits of a positive float ascend with it, those of a negative one descend; adding 0 makes -0 and 0 one value.
    bits = (scores + np.float32(0)).view(np.uint32)
    top = np.uint32(0x80000000)
    return np.where(bits & top, ~bits, bits | top).astype(np.uint64)
