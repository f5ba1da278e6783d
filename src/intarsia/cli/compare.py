"""`compare`: metrics of several runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from intarsia.cli.output import Json

if TYPE_CHECKING:
    from intarsia.recommender.compare import RunComparison


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(compare)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, two or more; differences are to the first.")],
    part: Annotated[Literal["test", "valid"], typer.Option(help="Part of the data that was measured.")] = "test",
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", "-m", help="Metric to compare, such as ndcg@10; may be repeated.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Level of the confidence intervals.")] = 0.95,
    image: Annotated[
        Path | None, typer.Option("--image", help="Draw the comparison: a file that ends in .svg, .png or .pdf.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare the metrics of runs on the same data: intervals, differences, paired tests."""
    from intarsia.core.pictures import check_ending
    from intarsia.recommender.compare import compare_runs
    from intarsia.recommender.comparison_plot import plot_comparison

    if image is not None:
        check_ending(image)
    found = compare_runs(runs, part=part, metrics=metrics or (), confidence=confidence)
    if image is not None:
        plot_comparison(found, image)
    if json:
        from intarsia.cli.output import print_json

        print_json({**found.to_json(), "image": None if image is None else str(image)})
        return
    _tell(found, image)


def _tell(found: RunComparison, image: Path | None) -> None:
    from intarsia.cli.output import say, table

    interval = f"{found.confidence * 100:g}% interval"
    columns = ["metric", "run", "model", "value", interval, "difference", f"its {interval}", "p"]
    rows = []
    for metric in found.metrics:
        for place, (name, model, run) in enumerate(zip(found.runs, found.models, metric.runs)):
            rows.append(
                [
                    metric.name if place == 0 else "",
                    name,
                    model,
                    "-" if run.value is None else f"{run.value:.5f}",
                    _interval(run.low, run.high),
                    "" if place == 0 else "-" if run.difference is None else f"{run.difference:+.5f}",
                    "" if place == 0 else _interval(run.difference_low, run.difference_high, sign="+"),
                    "" if place == 0 else _p(run.p_value),
                ]
            )
    shown = [i for i, name in enumerate(columns) if found.paired or name in ("metric", "run", "model", "value")]
    shown = shown if found.paired else [*shown, columns.index("difference")]
    kept = [columns[i] for i in shown]
    kind = "queries" if found.paired else "rows"
    say(f"{found.part}: {found.num_queries:,} {kind}; differences are to {found.runs[0]}")
    table("", kept, [[row[i] for i in shown] for row in rows], right=kept[3:])
    for text in found.notes:
        say(f"note: {text}")
    if image is not None:
        say(f"drawn: {image}")


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    return "-" if low is None or high is None else f"{low:{sign}.5f} to {high:{sign}.5f}"


def _p(value: float | None) -> str:
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"
