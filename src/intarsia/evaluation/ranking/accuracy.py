"""Metrics of where the targets stand: one number a query.

With R the targets of a query, r_1 < r_2 < ... their places (see `rank_targets`), and hits(k) = |{i : r_i <= k}|:

    hit_rate@k        1 where hits(k) > 0, else 0
    recall@k          hits(k) / |R|
    precision@k       hits(k) / k
    f1@k              2 hits(k) / (k + |R|), the harmonic mean of both
    ndcg@k            sum_{r_i <= k} 1 / log2(r_i + 1)  /  sum_{j <= min(k, |R|)} 1 / log2(j + 1)
    mrr@k             1 / r_1 where r_1 <= k, else 0
    map@k             sum_{r_i <= k} i / r_i  /  min(k, |R|)
    map_by_targets@k  the same / |R|
    mrr, map          without a cut: k = infinity
    auc               share of the pairs (target, other item) in which the target scores higher

Ties are lost: a target stands behind every other item of its score, in auc too. Sources: Järvelin and Kekäläinen,
Cumulated gain-based evaluation of IR techniques (2002), for ndcg with gain 1; Rendle et al., BPR (UAI 2009), section
6.2, for auc; `map_by_targets` is the `map` of Microsoft Recommenders' published tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from intarsia.evaluation.ranking.queries import NOT_FOUND, Ranked

Accuracy = Callable[[Ranked, int], Tensor]


def _found(ranked: Ranked, k: int) -> Tensor:
    return (ranked.ranks <= k).double()


def _hits(ranked: Ranked, k: int) -> Tensor:
    return ranked.total(_found(ranked, k))


def _hit_rate(ranked: Ranked, k: int) -> Tensor:
    return (_hits(ranked, k) > 0).double()


def _recall(ranked: Ranked, k: int) -> Tensor:
    return _hits(ranked, k) / ranked.num_targets


def _precision(ranked: Ranked, k: int) -> Tensor:
    return _hits(ranked, k) / k


def _f1(ranked: Ranked, k: int) -> Tensor:
    return 2 * _hits(ranked, k) / (k + ranked.num_targets)


def _ndcg(ranked: Ranked, k: int) -> Tensor:
    gain = ranked.total(_found(ranked, k) / (ranked.ranks.double() + 1).log2())
    most = max(1, min(k, int(ranked.num_targets.max())))
    ideal = (1 / torch.arange(2, most + 2, dtype=torch.float64).log2()).cumsum(0)
    return gain / ideal[(ranked.num_targets.clamp(1, most) - 1)]


def _mrr(ranked: Ranked, k: int) -> Tensor:
    first = (ranked.places == 1) & (ranked.ranks <= k)
    return ranked.total(first.double() / ranked.ranks)


def _precision_sum(ranked: Ranked, k: int) -> Tensor:
    return ranked.total(_found(ranked, k) * ranked.places / ranked.ranks)


def _map(ranked: Ranked, k: int) -> Tensor:
    return _precision_sum(ranked, k) / ranked.num_targets.clamp(max=k)


def _map_by_targets(ranked: Ranked, k: int) -> Tensor:
    return _precision_sum(ranked, k) / ranked.num_targets


def _auc(ranked: Ranked, k: int) -> Tensor:
    others = ranked.num_others[ranked.rows]
    return ranked.total(1 - (ranked.ranks - ranked.places).double() / others) / ranked.num_targets


ACCURACY: Mapping[str, Accuracy] = MappingProxyType(
    {
        "hit_rate": _hit_rate,
        "recall": _recall,
        "precision": _precision,
        "f1": _f1,
        "ndcg": _ndcg,
        "mrr": _mrr,
        "map": _map,
        "map_by_targets": _map_by_targets,
        "auc": _auc,
    }
)


def accuracy(stem: str, ranked: Ranked, depth: int | None) -> Tensor:
    """(B,) float64 values of a metric; NaN for a query without targets, or in auc without other items."""
    if not len(ranked.num_targets):
        return torch.zeros(0, dtype=torch.float64)
    values = ACCURACY[stem](ranked, NOT_FOUND - 1 if depth is None else depth)
    return values.masked_fill(ranked.num_targets == 0, torch.nan)
