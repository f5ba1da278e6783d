"""Small rankings, and what is known of them by plain counting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.evaluation.ranking import RankingQueries

Lists = Sequence[Sequence[int]]
INF = float("inf")


def jagged(rows: Lists) -> Jagged:
    lengths = torch.tensor([0, *(len(row) for row in rows)])
    return Jagged(torch.tensor([value for row in rows for value in row], dtype=torch.int64), lengths.cumsum(0))


def queries(
    scores: Tensor, targets: Lists, excluded: Lists | None = None, candidates: Tensor | None = None, **more: Any
) -> RankingQueries:
    """Queries of a model whose (B, N) scores are known."""

    def pairs(items: Tensor) -> Tensor:
        return scores.gather(1, items.clamp(min=0)).masked_fill(items < 0, torch.nan)

    return RankingQueries(
        users=more.pop("users", torch.arange(len(scores))),
        targets=jagged(targets),
        excluded=jagged(excluded or [[] for _ in targets]),
        candidates=candidates,
        scores=lambda start, stop: scores[:, start:stop],
        pair_scores=pairs,
        **more,
    )


def batches(
    size: int, scores: Tensor, targets: Lists, excluded: Lists, order: Sequence[int] | None = None, **more: Any
) -> Iterator[RankingQueries]:
    """The same queries, `size` at a time, in any order."""
    order = list(range(len(scores)) if order is None else order)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        own = {name: value[rows] if isinstance(value, Tensor) else value for name, value in more.items()}
        own.setdefault("users", torch.tensor(rows))
        yield queries(scores[rows], [targets[r] for r in rows], [excluded[r] for r in rows], **own)


def random_case(seed: int, rows: int = 6, items: int = 30, levels: int = 8) -> tuple[Tensor, list[Any], list[Any]]:
    """Scores with many ties and some -inf; targets (some repeated, some excluded as well), excluded items."""
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(0, levels, (rows, items)).astype(np.float32))
    scores[torch.from_numpy(rng.random(scores.shape) < 0.1)] = -INF
    targets = [rng.integers(0, items, rng.integers(1, 6)).tolist() for _ in range(rows)]
    excluded = [rng.choice(items, rng.integers(0, items // 2), replace=False).tolist() for _ in range(rows)]
    return scores, targets, excluded


def others_of(items: int, targets: Sequence[int], excluded: Sequence[int], candidates: Any = None) -> list[int]:
    """The items that a query's targets are ranked against."""
    allowed = set(range(items)) - set(excluded) if candidates is None else {c for c in candidates if c >= 0}
    return sorted(allowed - set(targets))


def places_of(scores: Sequence[float], targets: Sequence[int], others: Sequence[int]) -> list[tuple[int, bool]]:
    """Places of the targets from 1, the best first, and whether the model would ever recommend them."""
    own = sorted(set(targets), key=lambda item: (-scores[item], item))
    out = []
    for before, item in enumerate(own):
        lost = scores[item] == -INF
        ahead = len(others) if lost else sum(scores[other] >= scores[item] for other in others)
        out.append((1 + ahead + before, not lost))
    return out


def list_of(scores: Sequence[float], targets: Sequence[int], others: Sequence[int], k: int) -> list[int]:
    """The first k items: a target stands behind others of its score, equals stand by number, -inf is never shown."""
    pool = [item for item in (*others, *set(targets)) if scores[item] > -INF]
    found = sorted(pool, key=lambda item: (-scores[item], item in targets, item))[:k]
    return found + [-1] * (k - len(found))


def metric_of(stem: str, k: float, places: Sequence[tuple[int, bool]], num_others: int) -> float:
    """A metric by its definition; k is infinite where there is no cut."""
    size = len(places)
    ranks = [place if shown or math.isinf(k) else INF for place, shown in places]
    hits = [rank for rank in ranks if rank <= k]
    if stem == "hit_rate":
        return float(bool(hits))
    if stem == "recall":
        return len(hits) / size
    if stem == "precision":
        return len(hits) / k
    if stem == "f1":
        precision, recall = len(hits) / k, len(hits) / size
        return 2 * precision * recall / (precision + recall) if hits else 0.0
    if stem == "ndcg":
        ideal = sum(1 / math.log2(place + 1) for place in range(1, int(min(k, size)) + 1))
        return sum(1 / math.log2(rank + 1) for rank in hits) / ideal
    if stem == "mrr":
        return 1 / hits[0] if hits else 0.0
    if stem in ("map", "map_by_targets"):
        total = sum((place + 1) / rank for place, rank in enumerate(hits))
        return total / (size if stem == "map_by_targets" else min(k, size))
    assert stem == "auc"
    beaten = sum(num_others - (rank - 1 - before) for before, rank in enumerate(ranks))
    return beaten / (size * num_others) if num_others else math.nan
