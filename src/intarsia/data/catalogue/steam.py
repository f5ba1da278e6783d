"""Steam: reviews of computer games, October 2010 to January 2018."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from intarsia.data.catalogue.entry import DatasetEntry, RawLog
from intarsia.data.catalogue.fetch import FileDownload, Together
from intarsia.data.catalogue.layouts import find, read_atomic, typed, wrong_folder
from intarsia.data.catalogue.records import read_records
from intarsia.data.catalogue.short_form import short_form

_REVIEW = {"username": "user_id", "product_id": "item_id", "date": "timestamp", "hours": "hours"}
_GAME = {"id": "item_id", "title": "title", "app_name": "app_name", "genres": "genres", "developer": "developer"}
_FILES = ("steam_reviews.json.gz", "steam_games.json.gz")
_SITES = ("https://mcauleylab.ucsd.edu/public_datasets/data/steam/", "https://cseweb.ucsd.edu/~wckang/")


def read(folder: Path) -> RawLog:
    """Reviews (user_id: the reviewer's name, item_id, timestamp: a day), games (item_id, title, genres, developer).

    Raises:
        DataError: The folder holds neither the publisher's files nor atomic ones.
    """
    reviews, games = find(folder, "steam_reviews.json"), find(folder, "steam_games.json")
    if reviews is None:
        if (raw := read_atomic(folder)) is not None:
            return raw
        raise wrong_folder(folder, "Steam", "`steam_reviews.json` and `steam_games.json`, or an `.inter` file.")
    wanted = [name for name in _REVIEW if name != "hours"]
    table = read_records(reviews, wanted, each=lambda block: typed(block.rename({n: _REVIEW[n] for n in wanted})))
    return RawLog(table, items=None if games is None else read_games(games))


def read_games(path: Path) -> pl.DataFrame:
    """Games with an id, each once."""
    table = read_records(path, [*_GAME]).rename(_GAME).drop_nulls("item_id")
    table = table.with_columns(pl.col("title").fill_null(pl.col("app_name"))).drop("app_name")
    return table.unique("item_id", keep="first", maintain_order=True)


ENTRIES = {
    "steam": DatasetEntry(
        name="steam",
        title="Steam: 7,793,069 reviews of 2,567,538 users for 15,474 games, 2010 to 2018",
        licence="No licence is stated; its publisher asks to be cited (W.-C. Kang, J. McAuley, UC San Diego)",
        sources=tuple(Together(tuple(FileDownload(f"{site}{file}", "", file) for file in _FILES)) for site in _SITES),
        read=read,
        defaults=short_form(
            "steam", {"time_field": "timestamp", "title_field": "title"}, items=("developer",), tags=("genres",)
        ),
    )
}
