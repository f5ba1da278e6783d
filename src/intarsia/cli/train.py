"""`train`, `evaluate`, `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intarsia.cli.output import Json
from intarsia.cli.pipeline import Overrides, Sets, load_any, tell_notices

if TYPE_CHECKING:
    from intarsia.recommender.fit import Fitted


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(predict)


def train(
    pipeline: Annotated[str, typer.Argument(help="Pipeline file, or the name of a model (with --data).")],
    overrides: Overrides = None,
    data: Annotated[str | None, typer.Option(help="Catalogued data set for the short form, such as ml-100k.")] = None,
    sets: Sets = None,
    run_dir: Annotated[Path | None, typer.Option("--run-dir", "-o", help="Folder of the run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Export a model that is trained anew on all data, as long as the best was.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard files too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False,
    json: Json = False,
) -> None:
    """Train a model: a run folder with its bundle, checkpoints, metrics and log comes out.

    Where several processes are started with `torchrun -m intarsia train ...`, they train together. Ctrl-C finishes the
    step and saves a checkpoint; `--resume` goes on from there.
    """
    if resume and overwrite:
        raise typer.BadParameter("--resume goes on with a run and --overwrite throws it away. Give one of them.")
    more = ["export_config.refit=true"] if refit else []
    loaded = load_any(pipeline, [*(overrides or []), *(sets or []), *more], data)
    from intarsia.cli.fetching import bar
    from intarsia.cli.output import print_json, speaks
    from intarsia.recommender.fit import run
    from intarsia.training.progress import make_reporter

    if speaks():
        tell_notices(loaded)
    with bar(speaks() and not (quiet or json)):
        fitted = run(
            loaded,
            run_dir=run_dir,
            resume=resume,
            overwrite=overwrite,
            reporter=make_reporter() if speaks() and not (quiet or json) else None,
            tensorboard=tensorboard,
        )
    if speaks():
        if json:
            print_json(_as_json(fitted))
        else:
            _tell(fitted)
    signals = {"SIGINT": 130, "SIGTERM": 143}
    if fitted.result.stopped_because in signals:
        raise typer.Exit(signals[fitted.result.stopped_because])


def _as_json(fitted: Fitted) -> dict[str, Any]:
    return {
        "run_dir": str(fitted.recommender.folder),
        "metrics": {part: {n: v.value for n, v in e.values.items()} for part, e in fitted.evaluations.items()},
        "rows": fitted.rows,
        "steps": fitted.result.steps,
        "best_step": fitted.result.best_step,
        "stopped_because": fitted.result.stopped_because,
        "seconds": fitted.seconds,
    }


def _tell(fitted: Fitted) -> None:
    from intarsia.cli.output import metrics_table, note, say

    rows = ", ".join(f"{part} {count:,}" for part, count in fitted.rows.items())
    seconds = fitted.seconds
    say(
        f"{fitted.result.steps:,} steps ({fitted.result.stopped_because}); rows: {rows or 'streamed'}; "
        f"data {seconds['data']:.1f} s, training {seconds['train']:.1f} s"
    )
    if fitted.evaluations:
        metrics_table({part: e.values for part, e in fitted.evaluations.items()})
    say(f"run folder: {fitted.recommender.folder}")
    if fitted.result.stopped_because in ("SIGINT", "SIGTERM"):
        note("the run was stopped before its end; the same command with --resume goes on")


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder or bundle.")],
    data: Annotated[
        str | None, typer.Argument(help="Files to evaluate on. Default: the pipeline's test or validation part.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a trained model on labelled rows."""
    from intarsia.cli.output import metrics_table, print_json, say
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
    say(f"{found.num_rows:,} rows in {found.seconds:.1f} s")
    metrics_table({"value": found.values})


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder or bundle.")],
    data: Annotated[str, typer.Argument(help="Files with the rows to score, in the format of the training files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .csv, .tsv or .parquet.")],
    keep: Annotated[str, typer.Option(help="Comma-separated input columns to copy into the output.")] = "",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows scored at a time.")] = None,
    json: Json = False,
) -> None:
    """Score rows with a trained model."""
    from intarsia.cli.output import print_json, say
    from intarsia.recommender.predict import predict_files

    columns = [name.strip() for name in keep.split(",") if name.strip()]
    report = predict_files(run, data, output, keep=columns, batch_size=batch_size)
    if json:
        print_json(report)
        return
    say(f"{report['rows']:,} rows in {report['seconds']:.1f} s: {report['output']} ({', '.join(report['columns'])})")
    if report["skipped"]:
        say(f"{report['skipped']:,} rows could not be read and were left out")
