"""Diginetica: views of products in sessions, January to June 2016 (CIKM Cup 2016, track 2)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from intarsia.data.catalogue.entry import DatasetEntry, RawLog
from intarsia.data.catalogue.fetch import ByHand
from intarsia.data.catalogue.layouts import LOG, find, read_atomic, read_log, text_table, wrong_folder
from intarsia.data.catalogue.short_form import short_form
from intarsia.data.interactions.tables import Shape

_VIEWS, _CATEGORIES = "train-item-views.csv", "product-categories.csv"
_NAMES = {
    **LOG,
    "user_id": ("session_id", "sessionId"),
    "item_id": ("item_id", "itemId"),
    "timestamp": ("eventdate", "timestamp"),
    "timeframe": ("timeframe",),
}


def read(folder: Path) -> RawLog:
    """Views (user_id: the session, item_id, timestamp), products (item_id, category).

    A view's time is the session's day and the milliseconds that had passed since the session began.
    """
    if (path := find(folder, _VIEWS)) is None:
        if (raw := read_atomic(folder, {**LOG, "user_id": ("session_id", "user_id")})) is not None:
            return raw
        raise wrong_folder(folder, "Diginetica", f"`{_VIEWS}` and `{_CATEGORIES}`, or an `.inter` file.")
    table = read_log(path, _NAMES, Shape(";"))
    since = pl.col("timeframe").cast(pl.Float64) / 1000
    table = table.with_columns(pl.col("timestamp") + since.fill_null(0.0)).drop("timeframe")
    return RawLog(table, items=_products(find(folder, _CATEGORIES)))


def _products(path: Path | None) -> pl.DataFrame | None:
    if path is None:
        return None
    table = text_table(path, ";", ("item_id", "category"))
    return table.filter(table["item_id"].str.contains(r"^\d+$")).unique("item_id", keep="first", maintain_order=True)


ENTRIES = {
    "diginetica": DatasetEntry(
        name="diginetica",
        title="Diginetica: 1,235,380 views in 310,324 sessions of 122,993 products, 2016",
        licence="Terms of the CIKM Cup 2016: research use",
        sources=(
            ByHand(
                "https://competitions.codalab.org/competitions/11161#learn_the_details-data2",
                (_VIEWS, _CATEGORIES),
                "CodaLab gives the files to those who are logged in",
            ),
        ),
        read=read,
        defaults=short_form("diginetica", {"time_field": "timestamp"}, items=("category",)),
    )
}
