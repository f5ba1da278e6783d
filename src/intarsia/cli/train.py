"""`train`, `evaluate`, `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from intarsia.config.load import LoadedConfig

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="PATH=VALUE", help="Set a value of the pipeline, such as train_config.num_steps=100."),
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(predict)


def train(
    pipeline: Annotated[str, typer.Argument(help="Pipeline file, or the name of a model (with --data).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[PATH=VALUE]...", help="Values to set.")] = None,
    data: Annotated[str | None, typer.Option(help="Catalogued data set for the short form, such as ml-100k.")] = None,
    sets: Sets = None,
    run_dir: Annotated[Path | None, typer.Option("--run-dir", "-o", help="Folder of the run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard files too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False,
    json: Json = False,
) -> None:
    """Train a model: a run folder with its bundle, checkpoints, metrics and log comes out.

    Where several processes are started with `torchrun -m intarsia train ...`, they train together.
    """
    loaded = load_any(pipeline, data, [*(overrides or []), *(sets or [])])
    from intarsia.cli.output import metrics_table, out, print_json
    from intarsia.recommender.fit import run
    from intarsia.training.progress import make_reporter

    tell_notices(loaded)
    fitted = run(
        loaded,
        run_dir=run_dir,
        resume=resume,
        overwrite=overwrite,
        reporter=None if quiet or json else make_reporter(),
        tensorboard=tensorboard,
    )
    values = {part: {n: v.value for n, v in e.values.items()} for part, e in fitted.evaluations.items()}
    if json:
        print_json(
            {
                "run_dir": str(fitted.recommender.folder),
                "metrics": values,
                "rows": fitted.rows,
                "steps": fitted.result.steps,
                "best_step": fitted.result.best_step,
                "stopped_because": fitted.result.stopped_because,
                "seconds": fitted.seconds,
            }
        )
        return
    rows = ", ".join(f"{part} {count:,}" for part, count in fitted.rows.items())
    seconds = fitted.seconds
    out.print(
        f"{fitted.result.steps:,} steps ({fitted.result.stopped_because}); rows: {rows}; data {seconds['data']:.1f} s, training "
        f"{seconds['train']:.1f} s"
    )
    if fitted.evaluations:
        metrics_table({part: e.values for part, e in fitted.evaluations.items()})
    out.print(f"run folder: {fitted.recommender.folder}")


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder or bundle.")],
    data: Annotated[str | None, typer.Argument(help="Files to evaluate on. Default: the pipeline's test or validation part.")] = None,
    json: Json = False,
) -> None:
    """Measure a trained model on labelled rows."""
    from intarsia.cli.output import metrics_table, out, print_json
    from intarsia.recommender.recommender import Recommender

    found = Recommender.load(run).evaluate(data)
    if json:
        print_json(
            {
                "metrics": {name: value.value for name, value in found.values.items()},
                "notes": {name: value.note for name, value in found.values.items() if value.note},
                "rows": found.num_rows,
                "seconds": found.seconds,
            }
        )
        return
    out.print(f"{found.num_rows:,} rows in {found.seconds:.1f} s")
    metrics_table({"value": found.values})


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder or bundle.")],
    data: Annotated[str, typer.Argument(help="Files with the rows to score, in the format of the training files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .csv, .tsv or .parquet.")],
    keep: Annotated[str, typer.Option(help="Comma-separated input columns to copy into the output.")] = "",
    batch_size: Annotated[int | None, typer.Option(help="Rows scored at a time.")] = None,
    json: Json = False,
) -> None:
    """Score rows with a trained model."""
    from intarsia.cli.output import out, print_json
    from intarsia.recommender.predict import predict_files

    report = predict_files(run, data, output, keep=[k for k in keep.split(",") if k], batch_size=batch_size)
    if json:
        print_json(report)
    else:
        out.print(f"{report['rows']:,} rows in {report['seconds']:.1f} s: {report['output']} ({', '.join(report['columns'])})")


def load_any(pipeline: str, data: str | None, overrides: list[str]) -> LoadedConfig:
    """A pipeline file, or the short form of a model's name and a data set."""
    from intarsia.core.errors import ConfigError
    from intarsia.recommender.pipeline import load_pipeline, short_form

    wrong = [text for text in overrides if "=" not in text]
    if wrong:
        raise ConfigError(f"values are set as PATH=VALUE. Received: {', '.join(wrong)}")
    if data is not None:
        return short_form(pipeline, data, overrides)
    if not Path(pipeline).suffix and not Path(pipeline).exists():
        raise ConfigError(
            f"`{pipeline}` is no pipeline file. For the short form name a data set too: intarsia train {pipeline} --data ml-100k"
        )
    return load_pipeline(pipeline, overrides)


def tell_notices(loaded: Any) -> None:
    """Remarks on the pipeline file, on standard error."""
    from rich.markup import escape

    from intarsia.cli.output import err

    for notice in loaded.notices:
        err.print(f"[dim]note: {escape(notice)}[/dim]")
