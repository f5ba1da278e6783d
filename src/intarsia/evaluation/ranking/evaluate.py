"""Measuring rankings, batch by batch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from intarsia.config.schema.evaluation import QueryGroup
from intarsia.core.errors import DataError
from intarsia.evaluation.metrics.base import MetricValue
from intarsia.evaluation.ranking.accuracy import accuracy
from intarsia.evaluation.ranking.groups import LABELS, QueryGroups
from intarsia.evaluation.ranking.lists import ListMeasures
from intarsia.evaluation.ranking.queries import PAIR_NUMBERS, Ranked, RankingQueries, rank_targets
from intarsia.evaluation.ranking.spec import MetricSpec, RankingMetrics

Floats = npt.NDArray[np.floating[Any]]
_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


@dataclass(frozen=True)
class RankingValue(MetricValue):
    """A metric of rankings, and how sure it is.

    Attributes:
        bigger: Whether a larger value is better.
        low: Lower end of the confidence interval of the mean over queries; None where there is none.
        high: Upper end.
    """

    bigger: bool = True
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class GroupValues:
    """Metrics of one group of queries.

    Attributes:
        num_queries: Size of the group.
        values: Means over its queries by metric name.
    """

    num_queries: int
    values: dict[str, RankingValue]


@dataclass(frozen=True)
class RankingEvaluation:
    """What was measured.

    Attributes:
        values: Results by metric name, in the order of the metrics.
        users: (Q,) user numbers, rising.
        per_user: (Q,) float32 values of each metric that is a mean over queries, in the order of `users`; NaN where a
            query has none.
        targets: (Q,) int64 that stand for the set of targets of a query, to see whether two evaluations had the same.
        num_queries: Q.
        seconds: Wall time of the whole pass, scoring included.
        groups: Metrics by breakdown and label of the group; groups without queries are left out.
        lists: (Q, k) int64 recommended items, best first, -1 where there is none; None where nobody asked.
        notes: What a reader should know of the whole.
    """

    values: dict[str, RankingValue]
    users: npt.NDArray[np.int64]
    per_user: dict[str, npt.NDArray[np.float32]]
    targets: npt.NDArray[np.int64]
    num_queries: int
    seconds: float
    groups: dict[str, dict[str, GroupValues]] = field(default_factory=dict)
    lists: npt.NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()


def evaluate_ranking(
    batches: Iterable[RankingQueries],
    metrics: RankingMetrics,
    *,
    num_items: int,
    item_chunk: int | None = None,
    keep_lists: int = 0,
    model: str = "the model",
) -> RankingEvaluation:
    """Ranks the targets of all queries and measures where they stand.

    Items are scored a block at a time and only the best are remembered, so memory grows with the size of a batch times
    that of a block, and with the number of queries times that of metrics. The result does not depend on either size,
    nor on the order of the queries.

    Args:
        batches: The queries.
        metrics: See `build_ranking_metrics`.
        num_items: N.
        item_chunk: Items scored at a time. Default: some 2 million scores at a time.
        keep_lists: Length of the lists that are kept; 0: none.
        model: What errors call the model.

    Raises:
        DataError: Targets, excluded items or candidates do not fit.
        EvaluationError: A score is NaN.
    """
    start = time.perf_counter()
    state = RankingAccumulator(metrics, num_items=num_items, item_chunk=item_chunk, keep_lists=keep_lists, model=model)
    with torch.no_grad():
        for queries in batches:
            state.update(queries)
    return state.compute(seconds=time.perf_counter() - start)


class RankingAccumulator:
    """The state of an evaluation. States of several processes, each with its own queries, merge exactly.

    Arguments as for `evaluate_ranking`.
    """

    def __init__(
        self,
        metrics: RankingMetrics,
        *,
        num_items: int,
        item_chunk: int | None = None,
        keep_lists: int = 0,
        model: str = "the model",
    ) -> None:
        self.metrics, self.num_items, self.item_chunk = metrics, num_items, item_chunk
        self.keep_lists, self.model = keep_lists, model
        self._measures = ListMeasures(metrics.facts, num_items)
        self._groups = QueryGroups(metrics.groups, metrics.facts)
        self._means = [spec for spec in metrics.specs if not spec.of_all]
        depths = sorted({spec.depth for spec in metrics.specs if spec.stem in ("coverage", "gini") and spec.depth})
        self._rows: dict[str, list[Tensor]] = {}
        self._counts = {depth: torch.zeros(num_items, dtype=torch.int64) for depth in depths}
        self._collisions = 0

    def update(self, queries: RankingQueries) -> None:
        """Takes in B queries."""
        metrics = self.metrics
        list_depth = max(metrics.list_depth, self.keep_lists)
        ranked = rank_targets(
            queries,
            num_items=self.num_items,
            depth=max(metrics.depth, list_depth),
            exact=metrics.exact,
            with_lists=list_depth > 0,
            item_chunk=self.item_chunk,
            model=self.model,
        )
        rows: dict[str, Tensor] = {"users": queries.users.cpu().long(), "targets": self._digests(ranked)}
        for spec in self._means:
            if spec.of_lists:
                assert spec.depth is not None
                value = self._measures.values(spec.stem, spec.depth, queries, ranked)
            else:
                value = accuracy(spec.stem, ranked, spec.depth)
            rows[f"metric/{spec.name}"] = value.float()
        for kind, codes in self._groups.codes(queries, ranked).items():
            rows[f"group/{kind}"] = codes
        if ranked.lists is not None:
            for depth, counts in self._counts.items():
                seen = ranked.lists[:, :depth]
                counts += torch.bincount(seen[seen >= 0], minlength=self.num_items)
            if self.keep_lists:
                rows["lists"] = ranked.lists[:, : self.keep_lists]
        if metrics.rates:
            rows["errors"] = self._errors(queries)
        self._collisions += ranked.collisions
        for name, values in rows.items():
            self._rows.setdefault(name, []).append(values.clone())

    def state(self) -> dict[str, Tensor]:
        """All that `merge` needs, as tensors on the CPU."""
        out = {f"rows/{name}": torch.cat(parts) for name, parts in self._rows.items()}
        out.update({f"counts/{depth}": counts.clone() for depth, counts in self._counts.items()})
        out["collisions"] = torch.tensor([self._collisions])
        return out

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Takes in the state of an accumulator that was made alike and saw other queries."""
        for name, values in state.items():
            if name.startswith("rows/"):
                self._rows.setdefault(name.removeprefix("rows/"), []).append(values)
        for depth in self._counts:
            self._counts[depth] = self._counts[depth] + state[f"counts/{depth}"]
        self._collisions += int(state["collisions"][0])

    def compute(self, seconds: float = 0.0) -> RankingEvaluation:
        """The results over all queries so far."""
        rows = {name: torch.cat(parts).numpy() for name, parts in self._rows.items()}
        users = rows.get("users", np.zeros(0, dtype=np.int64))
        # By user, where a user has several queries by targets, then by what was found: no order of batches shows.
        found = [values for name, values in rows.items() if name.startswith("metric/")]
        order = np.lexsort((*found, rows["targets"], users)) if len(users) else np.zeros(0, dtype=np.int64)
        rows = {name: values[order] for name, values in rows.items()}
        errors = rows.get("errors", np.zeros((0, 3))).sum(axis=0)
        empty = np.zeros(0, dtype=np.float32)
        per_user = {spec.name: rows.get(f"metric/{spec.name}", empty) for spec in self._means}
        confidence = self.metrics.confidence
        values = {
            spec.name: self._of_all(spec, errors) if spec.of_all else _mean(spec, per_user[spec.name], confidence)
            for spec in self.metrics.specs
        }
        groups: dict[str, dict[str, GroupValues]] = {}
        groups |= {
            kind: self._group(kind, rows[f"group/{kind}"], per_user) for kind in self._groups.kinds if len(users)
        }
        notes: tuple[str, ...] = ()
        if self._collisions:
            notes = (f"{self._collisions:,} negatives were targets of the same query, and were left out",)
        return RankingEvaluation(
            values,
            rows.get("users", users),
            per_user,
            rows.get("targets", np.zeros(0, dtype=np.int64)),
            len(users),
            seconds,
            groups,
            rows.get("lists"),
            notes,
        )

    def _group(
        self, kind: QueryGroup, codes: npt.NDArray[np.int64], per_user: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[str, GroupValues]:
        out = {}
        for code, label in enumerate(LABELS[kind]):
            own = codes == code
            if own.any():
                means = {s.name: _mean(s, per_user[s.name][own], self.metrics.confidence) for s in self._means}
                out[label] = GroupValues(int(own.sum()), means)
        return out

    def _of_all(self, spec: MetricSpec, errors: Floats) -> RankingValue:
        if spec.stem in ("rmse", "mae"):
            squares, absolute, count = errors.tolist()
            if not count:
                return RankingValue(spec.name, None, "undefined: no rated targets", bigger=False)
            value = math.sqrt(squares / count) if spec.stem == "rmse" else absolute / count
            return RankingValue(spec.name, value, bigger=False)
        assert spec.depth is not None
        counts = self._counts[spec.depth]
        if not int(counts.sum()):
            return RankingValue(spec.name, None, "undefined: nothing was recommended", bigger=spec.bigger)
        if spec.stem == "coverage":
            return RankingValue(spec.name, int((counts > 0).sum()) / self.num_items)
        return RankingValue(spec.name, gini(counts.numpy()), bigger=False)

    def _errors(self, queries: RankingQueries) -> Tensor:
        """(B, 3) sums of squared and of absolute differences between scores and ratings, and number of the targets."""
        if queries.ratings is None:
            raise DataError(
                "rmse and mae compare scores with ratings of the targets. Received: targets without ratings. Name "
                "log.rating_field, or leave the metrics out."
            )
        targets = queries.targets
        lengths = targets.lengths.cpu()
        rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        columns = torch.arange(len(rows)) - targets.offsets.cpu()[rows]
        padded = torch.full((len(lengths), max(1, int(lengths.max()) if len(lengths) else 1)), -1)
        padded[rows, columns] = targets.values.cpu()
        parts = padded.split(max(1, PAIR_NUMBERS // max(1, len(lengths))), dim=1)
        scores = torch.cat([queries.pair_scores(part).cpu().double() for part in parts], dim=1)[rows, columns]
        errors = scores - queries.ratings.cpu().double()
        each = torch.stack([errors.square(), errors.abs(), torch.ones_like(errors)], dim=1)
        return torch.zeros(len(lengths), 3, dtype=torch.float64).index_add_(0, rows, each)

    def _digests(self, ranked: Ranked) -> Tensor:
        codes = self.metrics.facts.item_codes
        items = ranked.items.numpy() if codes is None else codes.cpu().numpy()[ranked.items.numpy()]
        mixed = mix64(items.astype(np.uint64) + np.uint64(1))
        out = np.zeros(len(ranked.num_targets), dtype=np.uint64)
        np.add.at(out, ranked.rows.numpy(), mixed)  # a sum, so that the order of the targets does not count
        return torch.from_numpy(out.view(np.int64))


def mix64(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Numbers that look random, one for each number given: the finaliser of SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = numbers * np.uint64(_MIX[0])
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX[1])
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX[2])
        return z ^ (z >> np.uint64(31))


def gini(counts: npt.NDArray[np.int64]) -> float:
    """Gini coefficient of how often each item was recommended: 0 where all were equally often, near 1 where one was.

    With the counts x_1 <= ... <= x_N: sum_j (2 j - N - 1) x_j / (N sum_j x_j).
    """
    ordered = np.sort(counts).astype(np.float64)
    size = len(ordered)
    return float((2 * np.arange(1, size + 1) - size - 1) @ ordered / (size * ordered.sum()))


def mean_interval(values: Floats, confidence: float) -> tuple[float, float] | None:
    """Confidence interval of a mean by Student's t with n - 1 degrees of freedom; None for fewer than two values."""
    from scipy.stats import t

    count = len(values)
    if count < 2:
        return None
    numbers = values.astype(np.float64)
    margin = float(t.ppf(0.5 + confidence / 2, count - 1)) * float(numbers.std(ddof=1)) / math.sqrt(count)
    middle = float(numbers.mean())
    return middle - margin, middle + margin


def _mean(spec: MetricSpec, values: npt.NDArray[np.float32], confidence: float) -> RankingValue:
    known = values[~np.isnan(values)]
    left_out = len(values) - len(known)
    if not len(known):
        note = "undefined: no queries" if not len(values) else f"undefined for all {len(values):,} queries"
        return RankingValue(spec.name, None, note, bigger=spec.bigger)
    note = f"without {left_out:,} of {len(values):,} queries, where it is undefined" if left_out else ""
    low, high = mean_interval(known, confidence) or (None, None)
    return RankingValue(spec.name, float(known.astype(np.float64).mean()), note, spec.bigger, low, high)
