"""`init`: a starter pipeline from a look at a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intarsia.cli.output import Json

if TYPE_CHECKING:
    from intarsia.cli.guess import Starter


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(init)


def init(
    table: Annotated[
        Path | None,
        typer.Option("--from", help="CSV, TSV (perhaps gzipped) or Parquet. Default: a pipeline on MovieLens."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column to predict. Default: guessed.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("pipeline.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    json: Json = False,
) -> None:
    """Write a commented pipeline that trains as it is, from a look at your own table."""
    from intarsia.cli.output import print_json
    from intarsia.core.errors import ConfigError
    from intarsia.core.files import write_text

    if output.suffix not in (".yaml", ".yml"):
        raise typer.BadParameter(f"the pipeline is YAML: --output must end in .yaml or .yml. Received: {output}")
    if output.exists() and not force:
        raise ConfigError(f"{output} is there already. Give another name with --output, or replace it with --force.")
    if table is None:
        if label is not None:
            raise typer.BadParameter("--label names a column of the table that --from names. Give --from too.")
        write_text(output, movielens_text())
        if json:
            print_json({"output": str(output), "label": "label", "columns": []})
        else:
            _next(output)
        return
    from intarsia.cli.guess import look_at, pipeline_text

    starter = look_at(table, label)
    text = pipeline_text(starter, f"runs/{output.stem}")
    _prove(text, output)
    write_text(output, text)
    if json:
        columns = [{"name": g.name, "kind": g.kind, "why": g.why} for g in starter.guesses]
        print_json({"output": str(output), "label": starter.label, "rows": starter.rows, "columns": columns})
        return
    _tell(starter)
    _next(output)


def movielens_text() -> str:
    """The pipeline of DeepFM on MovieLens 100K, commented."""
    from intarsia.config.nodes import plain
    from intarsia.config.resolve import to_yaml
    from intarsia.config.yamltext import parse
    from intarsia.data.catalogue import resolve_dataset
    from intarsia.models.catalogue import shipped_yaml

    entry, _ = resolve_dataset("ml-100k")
    shipped = shipped_yaml("DeepFM")
    assert shipped is not None
    model = plain(parse(shipped.read_text(encoding="utf-8"), shipped.name))
    assert isinstance(model, dict)
    head = (
        f"# DeepFM on {entry.title}.\n"
        "# For a table of your own: intarsia init --from FILE.csv\n"
        "#   intarsia train FILE      the data are fetched where they are not here\n"
    )
    return head + "\n" + to_yaml({**entry.defaults, **model})


def _prove(text: str, output: Path) -> None:
    """The file must be right as it is written."""
    from intarsia.config.load import parse_text
    from intarsia.recommender.pipeline import extensions

    parse_text(text, "yaml", str(output), extensions=extensions())


def _tell(starter: Starter) -> None:
    from intarsia.cli.output import say, table

    rows = [[guess.name, guess.kind, guess.why] for guess in starter.guesses]
    table(f"{starter.path}: {starter.rows:,} rows", ["column", "taken as", "seen"], rows)
    say()


def _next(output: Path) -> None:
    from intarsia.cli.output import say

    say(f"written: {output}. Read it, then:")
    say(f"  intarsia check {output}")
    say(f"  intarsia train {output}")
