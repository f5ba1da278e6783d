"""Accuracy against diversity."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from vector_cases import drawn, jagged

from intarsia.core.errors import BuildError, DataError, MissingExtraError
from intarsia.retrieval import CurvePoint, DiversityCurve, diversity_curve, plot_diversity
from intarsia.retrieval import diversity_curve as module_function


def point(weight: float, diversity: float, recall: float) -> CurvePoint:
    return CurvePoint(weight, diversity, recall, recall / 2, recall)


CURVE = DiversityCurve(
    10, 100, 50, (point(0, 0.3, 0.2), point(0.1, 0.4, 0.195), point(0.2, 0.5, 0.19), point(0.4, 0.9, 0.1))
)


def test_a_small_curve_by_hand() -> None:
    """Two queries, lists of two out of three; the second query's list loses its target to a different item."""
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    items = torch.tensor([[0, 2, 1], [0, 1, 2], [0, 1, 2]])
    targets = jagged([[0, 2], [1], []])
    curve = diversity_curve(scores, items, targets, torch.tensor([0, 0, 1]), 2, [5.0])
    assert (curve.k, curve.num_candidates, curve.num_queries) == (2, 3, 2)
    plain, diverse = curve.points
    assert (plain.weight, plain.diversity, plain.recall, plain.hit_rate) == (0, 0.5, 1, 1)
    assert (diverse.weight, diverse.diversity, diverse.recall, diverse.hit_rate) == (5, 1, 0.5, 0.5)
    second = 1 / np.log2(3)  # the only target of the second query stands in the second place
    assert plain.ndcg == pytest.approx((1 + second) / 2)
    assert diverse.ndcg == pytest.approx(0.5)


def test_weights_rise_and_begin_at_zero() -> None:
    scores = drawn(0, 4, 9).sort(dim=1, descending=True).values
    items = torch.arange(9).repeat(4, 1)
    curve = diversity_curve(scores, items, jagged([[1]] * 4), torch.arange(9) % 3, 3, [2, 0.5, 2.0])
    assert [p.weight for p in curve.points] == [0, 0.5, 2]
    assert [p.diversity for p in curve.points] == sorted(p.diversity for p in curve.points)


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = drawn(0, 30, 20)
    items = torch.stack([torch.randperm(20, generator=torch.Generator().manual_seed(s)) for s in range(30)])
    targets = jagged([[s % 20, (s + 3) % 20] if s % 4 else [] for s in range(30)])
    whole = diversity_curve(scores, items, targets, torch.arange(20) % 5, 4, [0.3, 1.0])
    monkeypatch.setattr(sys.modules[module_function.__module__], "NUMBERS", 60)
    parts = diversity_curve(scores, items, targets, torch.arange(20) % 5, 4, [0.3, 1.0])
    for one, two in zip(whole.points, parts.points):
        assert vars(one) == pytest.approx(vars(two))


def test_the_best_point_loses_no_more_than_allowed() -> None:
    assert CURVE.best().weight == 0.2
    assert CURVE.best(loss=0.03).weight == 0.1
    assert CURVE.best(loss=0).weight == 0
    assert CURVE.best(loss=0.5).weight == 0.4


def test_a_curve_without_targets_is_refused() -> None:
    scores, items = torch.ones(2, 3), torch.arange(3).repeat(2, 1)
    with pytest.raises(DataError, match=r"needs queries with targets. Received: 2 queries, none of them with one"):
        diversity_curve(scores, items, jagged([[], []]), torch.arange(3), 2, [1.0])
    with pytest.raises(DataError, match=r"one list a query, 2 here. Received: 1 lists"):
        diversity_curve(scores, items, jagged([[1]]), torch.arange(3), 2, [1.0])
    with pytest.raises(DataError, match=r"diversity must be a number of at least 0. Received: -1"):
        diversity_curve(scores, items, jagged([[1], [1]]), torch.arange(3), 2, [-1.0])


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_is_drawn(ending: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"curve.{ending}"
    plot_diversity(CURVE, path, title="MF")
    assert path.stat().st_size > 1000
    if ending == "svg":
        again = tmp_path / "again.svg"
        plot_diversity(CURVE, again, title="MF")
        assert again.read_bytes() == path.read_bytes()


def test_another_ending_or_no_matplotlib_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match=r"a picture ends in .svg, .png, .pdf. Received: curve.txt"):
        plot_diversity(CURVE, tmp_path / "curve.txt")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"Drawing a curve needs `matplotlib`.*intarsia\[plot\]"):
        plot_diversity(CURVE, tmp_path / "curve.svg")
