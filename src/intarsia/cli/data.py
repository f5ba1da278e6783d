"""`data`: public data sets, what is in a log, and samples in the shape of Taobao's display advertising data."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intarsia.cli.output import Json

if TYPE_CHECKING:
    from intarsia.data.interactions.describe import Description
    from intarsia.recommender.logs import OpenedLog

Source = Annotated[
    str,
    typer.Argument(
        help="A catalogued data set (ml-100k, or ml-100k:FOLDER for a copy of one's own), a pipeline file, or a file, "
        "folder or glob of a log."
    ),
]
LogFields = Annotated[
    list[str] | None,
    typer.Option("--log", metavar="FIELD=VALUE", help="Set a field of data_config.log, such as time_field=timestamp."),
]
FilterFields = Annotated[
    list[str] | None, typer.Option("--filter", metavar="FIELD=VALUE", help="Set a field of data_config.filter.")
]
Valid = Annotated[str | None, typer.Option(help="Files of the validation part, where the log came divided.")]
Test = Annotated[str | None, typer.Option(help="Files of the test part, where the log came divided.")]

data = typer.Typer(
    help="Interaction logs: public data sets, what is in them, other formats; samples of the Taobao kind.",
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
    from intarsia.data.catalogue.fetch import ByHand

    rows: list[dict[str, Any]] = []
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
                "hash": "known" if any(source.checked for source in entry.sources) else "not published",
                "by_hand": all(isinstance(source, ByHand) for source in entry.sources),
            }
        )
    if json:
        print_json(rows)
        return
    columns = ["name", "title", "licence", "hash", "folder"]
    for row in rows:
        row["folder"] = row["folder"] or ("by hand" if row["by_hand"] else "not fetched yet")
    table("", columns, [[row[column] for column in columns] for row in rows])


@data.command("fetch")
def fetch_dataset(
    name: Annotated[str, typer.Argument(help="Name of a catalogued data set, such as ml-100k.")], json: Json = False
) -> None:
    """Fetch a data set into the cache, check it, and say what is in it."""
    from intarsia.cli.fetching import bar
    from intarsia.cli.output import print_json, say, table
    from intarsia.data.catalogue import default_folder, resolve_dataset

    entry, folder = resolve_dataset(name)
    with bar(not json):
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


@data.command("describe")
def describe_log(
    source: Source,
    log: LogFields = None,
    filter: FilterFields = None,
    valid: Valid = None,
    test: Test = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw popularity, lengths, time and ratings: .svg, .png or .pdf.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what is in a log: users, items, density, time, lengths, popularity, and what may go wrong with it."""
    from intarsia.cli.output import print_json, say
    from intarsia.data.interactions.describe import QUANTILES, describe
    from intarsia.data.interactions.draw import check_picture, draw_log

    if plot is not None:
        check_picture(plot)
    opened = _opened(source, log, filter, valid, test, json)
    facts = describe(opened.log)
    if plot is not None:
        draw_log(opened.log, facts, plot, title=opened.title)
    if json:
        image = None if plot is None else str(plot)
        moments = facts.moments()
        print_json({"title": opened.title, **asdict(facts), "quantiles": QUANTILES, "moments": moments, "plot": image})
        return
    say(opened.title)
    _tell_description(facts)
    if plot is not None:
        say(f"drawn: {plot}")


@data.command("convert")
def convert_log(
    source: Source,
    out: Annotated[Path, typer.Argument(help="File that ends in .parquet, .csv, .tsv or .inter.")],
    log: LogFields = None,
    filter: FilterFields = None,
    valid: Valid = None,
    test: Test = None,
    json: Json = False,
) -> None:
    """Write a log in another format, sorted and filtered, with its tables beside it."""
    from intarsia.cli.output import print_json, say
    from intarsia.data.interactions.write import write_log

    opened = _opened(source, log, filter, valid, test, json)
    files = write_log(opened.log, opened.roles, out, knowledge=opened.raw.knowledge, links=opened.raw.links)
    if json:
        print_json({"title": opened.title, "interactions": opened.log.num_interactions, "files": files})
        return
    say(f"{opened.title}: {opened.log.num_interactions:,} interactions")
    for path in files:
        say(f"written: {path}")


def _opened(
    source: str, log: list[str] | None, bounds: list[str] | None, valid: str | None, test: str | None, json: bool
) -> OpenedLog:
    from intarsia.cli.fetching import bar
    from intarsia.core.errors import ConfigError
    from intarsia.recommender.logs import open_named

    wrong = [text for text in [*(log or []), *(bounds or [])] if "=" not in text]
    if wrong:
        raise ConfigError(f"values are set as FIELD=VALUE. Received: {', '.join(wrong)}")
    overrides = [f"data_config.log.{text}" for text in log or []]
    overrides += [f"data_config.filter.{text}" for text in bounds or []]
    with bar(not json):
        return open_named(source, overrides, valid=valid, test=test)


def _tell_description(facts: Description) -> None:
    from intarsia.cli.output import percent, say, table
    from intarsia.data.interactions.describe import QUANTILES

    say(f"{facts.users:,} users, {facts.items:,} items, {facts.interactions:,} interactions")
    say(f"density: {facts.density:.4%}")
    moments = facts.moments()
    say("time: none" if moments is None else f"time: {moments[0]} to {moments[1]}")
    if facts.parts:
        say(f"parts: {', '.join(f'{name} {count:,}' for name, count in facts.parts.items())}")
    for what, columns in (("users", facts.user_columns), ("items", facts.item_columns)):
        if columns:
            say(f"table of {what}: {', '.join(columns)}")
    say()
    names = [{0.0: "least", 0.5: "median", 1.0: "most"}.get(q, f"{q:.0%}") for q in QUANTILES]
    lines = {"interactions of a user": facts.lengths, "interactions of an item": facts.popularity}
    if facts.ratings is not None:
        lines["ratings"] = facts.ratings
    shown = [[what, *(f"{value:,g}" for value in values)] for what, values in lines.items()]
    table("", ["", *names], shown, right=names)
    say(f"the most popular hundredth of the items has {percent(facts.top_share)} of the interactions")
    if facts.problems:
        say()
    for line in facts.problems:
        say(f"problem: {line}")


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
