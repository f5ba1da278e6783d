"""A comparison of runs as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.core.pictures import check_ending, drawing, save_picture
from intarsia.recommender.compare import ComparedMetric, RunComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 4
"""Panels side by side."""
COLORS = ("#444444", "#2a6f97")
"""Of the first run, and of the others."""


def plot_comparison(comparison: RunComparison, path: str | Path) -> None:
    """Draws one panel a metric: the value of each run with its confidence interval, the first run's as a line.

    Beside each other run stands the p-value of its difference to the first.

    Args:
        comparison: See `compare_runs`.
        path: The file; its ending says the format: .svg, .png, .pdf.

    Raises:
        MissingExtraError: matplotlib is not installed.
        BuildError: Another ending.
    """
    path = check_ending(path)
    count = len(comparison.metrics)
    columns = min(COLUMNS, count)
    lines = math.ceil(count / columns)
    height = 0.9 + 0.32 * len(comparison.runs)
    with drawing("Drawing a comparison", text_size=8) as Figure:
        figure = Figure(figsize=(1.6 + 2.6 * columns, 0.5 + lines * height), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, sharey=True).flatten()
        for axes, metric in zip(panels, comparison.metrics):
            _panel(axes, metric, comparison.runs)
        for axes in panels[count:]:
            axes.set_visible(False)
        kind = "queries" if comparison.paired else "rows"
        text = f"{comparison.part}: {comparison.num_queries:,} {kind}"
        if comparison.paired:
            text += f"; bars: {comparison.confidence:.0%} intervals; p: paired test of the difference to the first run"
        figure.suptitle(text, size=8)
        save_picture(figure, path)


def _panel(axes: Axes, metric: ComparedMetric, runs: tuple[str, ...]) -> None:
    for place, run in enumerate(metric.runs):
        if run.value is None:
            continue
        color = COLORS[min(place, 1)]
        if place == 0:
            axes.axvline(run.value, linestyle="--", linewidth=0.8, color="#aaaaaa")
        if run.low is not None and run.high is not None:
            axes.plot([run.low, run.high], [place, place], linewidth=1.5, color=color)
        axes.plot([run.value], [place], marker="o", markersize=4, color=color)
        if run.p_value is not None:
            told = (0, 4)
            axes.annotate(
                p_text(run.p_value), (run.value, place), told, textcoords="offset points", size=6, ha="center"
            )
    axes.set_yticks(range(len(runs)), runs)
    axes.set_ylim(len(runs) - 0.5, -0.7)
    axes.set_title(f"{metric.name} ({'larger' if metric.bigger else 'smaller'} is better)", size=8)
    axes.margins(x=0.12)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def p_text(value: float) -> str:
    """A p-value as a person would write it."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
