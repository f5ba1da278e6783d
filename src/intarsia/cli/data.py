"""`data`: public data sets, and samples in the shape of Taobao's display advertising data."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from intarsia.cli.output import Json

data = typer.Typer(
    help="Public data sets: list them, fetch them, make samples of the Taobao kind.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(data, name="data")


@data.command("list")
def list_datasets(json: Json = False) -> None:
    """List the catalogued data sets, and which of them are here already."""
    from intarsia.cli.output import print_json, table
    from intarsia.data.catalogue import default_folder, resolve_dataset
    from intarsia.data.catalogue.entry import dataset_names

    rows = []
    for name in dataset_names():
        entry, _ = resolve_dataset(name)
        folder = default_folder() / name
        rows.append(
            {
                "name": name,
                "title": entry.title,
                "licence": entry.licence,
                "folder": str(folder) if folder.is_dir() else None,
                "sources": [source.name for source in entry.sources],
            }
        )
    if json:
        print_json(rows)
        return
    columns = ["name", "title", "licence", "folder"]
    table("", columns, [[row[column] or "not fetched yet" for column in columns] for row in rows])


@data.command("fetch")
def fetch_dataset(
    name: Annotated[str, typer.Argument(help="Name of a catalogued data set, such as ml-100k.")], json: Json = False
) -> None:
    """Fetch a data set into the cache, check it, and say what is in it."""
    from intarsia.cli.output import print_json, say, table
    from intarsia.data.catalogue import default_folder, resolve_dataset

    entry, folder = resolve_dataset(name)
    raw = entry.load(folder)
    tables = {"interactions": raw.interactions, "users": raw.users, "items": raw.items}
    found = {key: frame for key, frame in tables.items() if frame is not None}
    place = folder or default_folder() / entry.name
    if json:
        shapes = {key: {"rows": frame.height, "columns": frame.columns} for key, frame in found.items()}
        print_json({"name": entry.name, "folder": str(place), "licence": entry.licence, "tables": shapes})
        return
    say(f"{entry.title}")
    say(f"licence: {entry.licence}")
    say(f"folder:  {place}")
    table("", ["table", "rows", "columns"], [[k, f.height, ", ".join(f.columns)] for k, f in found.items()], ["rows"])


@data.command("taobao-generate")
def taobao_generate(
    out: Annotated[Path, typer.Argument(help="Folder for train.csv, test.csv and truth.json.")],
    users: Annotated[int, typer.Option(min=1, help="People.")] = 4000,
    rows: Annotated[int, typer.Option(min=1, help="Rows of both files together.")] = 150_000,
    seed: Annotated[int, typer.Option(help="Source of all draws.")] = 17,
    json: Json = False,
) -> None:
    """Make samples in the shape of Taobao's data, with interests planted in the histories."""
    from intarsia.data.taobao.generate import generate

    _tell(generate(out, num_users=users, num_rows=rows, seed=seed), json)


@data.command("taobao-convert")
def taobao_convert(
    raw: Annotated[
        Path, typer.Argument(help="Folder with raw_sample.csv, ad_feature.csv, user_profile.csv, behavior_log.csv.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for train.csv and test.csv.")],
    share: Annotated[float, typer.Option(help="Share of the people that is kept.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Which people are chosen.")] = 17,
    json: Json = False,
) -> None:
    """Turn Taobao's public raw files into samples with histories."""
    from intarsia.data.taobao.convert import convert

    _tell(convert(raw, out, share=share, seed=seed), json)


def _tell(result: Any, json: bool) -> None:
    from intarsia.cli.output import print_json, say

    facts = asdict(result) if is_dataclass(result) and not isinstance(result, type) else dict(result or {})
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        shown = ", ".join(f"{k} {v:,}" for k, v in value.items()) if isinstance(value, dict) else value
        say(
            f"{name.replace('_', ' ')}: {shown:.4f}"
            if isinstance(shown, float)
            else f"{name.replace('_', ' ')}: {shown}"
        )
