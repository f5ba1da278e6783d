"""What diversity costs: accuracy against diversity as the weight of the differences grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.core.errors import DataError
from intarsia.core.pictures import check_ending, drawing, save_picture
from intarsia.evaluation.ranking.accuracy import accuracy
from intarsia.evaluation.ranking.queries import NOT_FOUND, Ranked
from intarsia.retrieval.diversity import Categories, Difference, as_difference, list_diversity, rerank_diverse

CURE = ". Name another file."
"""What is said to a file that is no picture."""
NUMBERS = 1 << 20
"""Candidates that are re-ranked at a time."""


@dataclass(frozen=True)
class CurvePoint:
    """Lists at one weight, averaged over queries.

    Attributes:
        weight: Weight of the differences.
        diversity: Mean difference of the pairs of a list.
        recall: Recall@k.
        ndcg: NDCG@k.
        hit_rate: Hit rate@k.
    """

    weight: float
    diversity: float
    recall: float
    ndcg: float
    hit_rate: float


@dataclass(frozen=True)
class DiversityCurve:
    """Accuracy and diversity at each weight.

    Attributes:
        k: Length of the lists.
        num_candidates: M, candidates that each list was chosen from.
        num_queries: Queries with targets.
        points: One a weight, weights rising; the first is that of weight 0, the order of the scores.
    """

    k: int
    num_candidates: int
    num_queries: int
    points: tuple[CurvePoint, ...]

    def best(self, loss: float = 0.05) -> CurvePoint:
        """The most diverse point whose recall is at most the share `loss` below that of weight 0."""
        least = self.points[0].recall * (1 - loss)
        return max((p for p in self.points if p.recall >= least), key=lambda p: (p.diversity, -p.weight))


def diversity_curve(
    scores: Tensor,
    items: Tensor,
    targets: Jagged,
    difference: Difference | Categories,
    k: int,
    weights: Sequence[float],
) -> DiversityCurve:
    """Re-ranks lists at several weights and measures them.

    Args:
        scores: (Q, M) scores of the candidates.
        items: (Q, M) candidates, -1 for none. M well above k leaves room for a choice; 5k to 20k is usual.
        targets: Items to find, of each query. Queries without targets are left out.
        difference: How items differ, or their categories.
        k: Length of the lists.
        weights: Weights of the differences; 0 is added where it is missing. They are on the scale of the scores.

    Raises:
        DataError: There are no targets, or as for `rerank_diverse`.
    """
    if len(targets) != len(items):
        raise DataError(f"targets must have one list a query, {len(items)} here. Received: {len(targets)} lists.")
    asked = (targets.lengths > 0).to(items.device)
    count = int(asked.sum())
    if not count:
        raise DataError(
            f"a curve needs queries with targets. Received: {len(items)} queries, none of them with one. "
            "Give the items that validation or test users took."
        )
    kind = as_difference(difference)
    rising = sorted({0.0, *map(float, weights)})
    size = max(1, NUMBERS // items.shape[1])
    sums = torch.zeros(len(rising), 5, dtype=torch.float64)  # diversity, lists that have one, recall, ndcg, hit rate
    for start in range(0, len(items), size):
        part = slice(start, start + size)
        for row, weight in enumerate(rising):
            lists = rerank_diverse(scores[part], items[part], kind, k, weight)[1]
            lists = lists[asked[part]]
            apart = list_diversity(lists, kind)
            sums[row, 0] += apart.nansum().cpu()
            sums[row, 1] += (~apart.isnan()).sum().cpu()
            ranked = _ranked(lists.cpu(), _part(targets, start, start + len(items[part])))
            for column, stem in enumerate(("recall", "ndcg", "hit_rate"), start=2):
                sums[row, column] += accuracy(stem, ranked, k).sum()
    points = [
        CurvePoint(weight, float(own[0] / own[1]), *(float(value / count) for value in own[2:]))
        for weight, own in zip(rising, sums)
    ]
    return DiversityCurve(k, items.shape[1], count, tuple(points))


def plot_diversity(curve: DiversityCurve, path: str | Path, *, title: str = "") -> None:
    """Draws recall and NDCG against diversity into a file; beside each point stands its weight.

    Args:
        curve: The curve.
        path: The file; its ending says the format: .svg, .png, .pdf.
        title: Stands above.

    Raises:
        MissingExtraError: matplotlib is not installed.
        BuildError: Another ending.
    """
    path = check_ending(path, CURE)
    with drawing("Drawing a curve", text_size=9) as Figure:
        figure = Figure(figsize=(9.0, 3.8), layout="constrained")
        apart = [point.diversity for point in curve.points]
        for axes, name, color in zip(figure.subplots(1, 2), ("recall", "ndcg"), ("#2a6f97", "#b5651d")):
            values = [getattr(point, name) for point in curve.points]
            axes.plot(apart, values, marker="o", markersize=4, color=color)
            for point, value in zip(curve.points, values):
                place = (point.diversity, value)
                axes.annotate(f"{point.weight:g}", place, xytext=(4, 4), textcoords="offset points", size=8)
            if name == "recall" and values[0] > 0:
                level = values[0] * 0.95
                axes.axhline(level, linestyle="--", linewidth=0.8, color="#888888")
                axes.annotate(
                    "5% less", (0.01, level), xycoords=("axes fraction", "data"), xytext=(0, 3), color="#666666",
                    textcoords="offset points", size=8,
                )  # fmt: skip
            axes.set_xlabel(f"diversity@{curve.k}")
            axes.set_ylabel(f"{name}@{curve.k}")
            axes.margins(x=0.1, y=0.12)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        text = (
            f"{curve.num_queries:,} queries, {curve.num_candidates} candidates each; numbers: weight of the differences"
        )
        figure.suptitle(f"{title}\n{text}" if title else text, size=9)
        save_picture(figure, path)


def _part(targets: Jagged, start: int, stop: int) -> Jagged:
    """The lists of some queries, empty ones left out."""
    offsets = targets.offsets.cpu()[start : stop + 1]
    values = targets.values.cpu()[int(offsets[0]) : int(offsets[-1])]
    lengths = offsets.diff()
    lengths = lengths[lengths > 0]
    return Jagged(values, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))


def _ranked(lists: Tensor, targets: Jagged) -> Ranked:
    """Where the targets stand in lists (B, k)."""
    width = 1 + max(int(targets.values.max()) if len(targets.values) else 0, int(lists.max()) if lists.numel() else 0)
    owner = torch.repeat_interleave(torch.arange(len(targets)), targets.lengths)
    keys = torch.unique(owner * width + targets.values)
    rows, items = keys // width, keys % width
    hits = lists[rows] == items.unsqueeze(1)  # (T, k)
    ranks = torch.where(hits.any(dim=1), hits.int().argmax(dim=1) + 1, NOT_FOUND)
    order = (rows * (lists.shape[1] + 2) + ranks.clamp(max=lists.shape[1] + 1)).argsort(stable=True)
    num_targets = torch.bincount(rows, minlength=len(lists))
    return Ranked(rows[order], items[order], ranks[order], num_targets, torch.zeros_like(num_targets), lists)
