"""`show`: the model of a pipeline as text, as JSON or as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intarsia.cli.output import Json
from intarsia.cli.pipeline import Data, Overrides, Sets, load_any, tell_notices

if TYPE_CHECKING:
    from intarsia.cli.summary import ModelSummary

Image = Annotated[Path | None, typer.Option("--image", help="Draw the graph: a file that ends in .svg, .png or .pdf.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(show)


def show(
    pipeline: Annotated[str, typer.Argument(help="Pipeline file, run folder, or name of a model (with --data).")],
    overrides: Overrides = None,
    data: Data = None,
    sets: Sets = None,
    image: Image = None,
    json: Json = False,
) -> None:
    """Show the graph of a model: blocks with their shapes and parameters, tables, totals."""
    loaded = load_any(pipeline, [*(overrides or []), *(sets or [])], data)
    from intarsia.cli.output import print_json
    from intarsia.cli.summary import schema_of, summarize

    summary = summarize(loaded, schema_of(loaded, pipeline))
    if image is not None:
        _draw(summary, image)
    if json:
        print_json({**summary.to_json(), "image": None if image is None else str(image), "notices": loaded.notices})
        return
    tell_notices(loaded)
    _tell(summary)
    if image is not None:
        from intarsia.cli.output import say

        say(f"drawn: {image}")


def _draw(summary: ModelSummary, image: Path) -> None:
    from intarsia.backbone.build import Backbone
    from intarsia.backbone.draw import draw
    from intarsia.cli.output import size
    from intarsia.core.errors import BuildError

    backbone = next((module for module in summary.model.modules() if isinstance(module, Backbone)), None)
    if backbone is None:
        raise BuildError(f"`{summary.title}` has no graph of blocks, so there is nothing to draw")
    title = (
        f"{summary.title}: {summary.dense_parameters:,} dense parameters, {summary.table_parameters:,} in "
        f"{len(summary.tables)} tables, {size(summary.bytes)}"
    )
    draw(backbone, summary.blocks, image, title=title, prediction=_prediction(summary))


def _prediction(summary: ModelSummary) -> str:
    label = getattr(summary.model, "label", "")
    return f"predicts {label}" if label else "prediction"


def _tell(summary: ModelSummary) -> None:
    from intarsia.cli.output import say, size, table

    columns = ["block", "operation", "reads", "output", "parameters"]
    for package in dict.fromkeys(block.package for block in summary.blocks):
        rows = [
            [b.name.removeprefix(f"{package}."), b.operation, ", ".join(b.inputs), b.output_shape, b.parameters or "-"]
            for b in summary.blocks
            if b.package == package
        ]
        table(f"package {package}" if package else summary.title, columns, rows, right=["parameters"])
        say()
    if summary.tables:
        rows = [[t.name, t.rows, t.dim, t.parameters, ", ".join(t.features)] for t in summary.tables]
        table("tables", ["table", "rows", "dim", "parameters", "features"], rows, right=["rows", "dim", "parameters"])
        say()
    say(
        f"{summary.dense_parameters:,} dense parameters, {summary.table_parameters:,} in {len(summary.tables)} tables; "
        f"{size(summary.bytes)} of weights"
    )
    for line in summary.notes:
        say(f"note: {line}")
    if any(block.output_shape for block in summary.blocks):
        say("B: rows of a batch, L: length of a history", style="dim")
