"""Taobao: page views, purchases, carts and favourites of a million people in nine days of 2017."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from intarsia.core.errors import DataError
from intarsia.data.catalogue.entry import DatasetEntry, RawLog
from intarsia.data.catalogue.fetch import ByHand
from intarsia.data.catalogue.layouts import find, read_atomic, wrong_folder
from intarsia.data.catalogue.short_form import short_form

_FILE = "UserBehavior.csv"
_FIRST, _END = 1_511_539_200, 1_512_316_800
"""25 November to 3 December 2017, in China."""


def read(folder: Path) -> RawLog:
    """Page views (user_id, item_id, timestamp) and items (item_id, category).

    The publisher says that all happened from 25 November to 3 December 2017. Some rows of the file say otherwise, and
    are left out; so are purchases, carts and favourites.

    Raises:
        DataError: The folder does not hold the file, or it cannot be read.
    """
    if (path := find(folder, _FILE)) is None:
        if (raw := read_atomic(folder)) is not None:
            return raw
        raise wrong_folder(folder, "Taobao's user behaviour", f"`{_FILE}`, or an `.inter` file.")
    schema = {"user_id": pl.Int32, "item_id": pl.Int32, "category": pl.Int32, "kind": pl.String, "timestamp": pl.Int64}
    rows = pl.scan_csv(path, has_header=False, schema=schema)
    views = rows.filter(pl.col("kind") == "pv", pl.col("timestamp").is_between(_FIRST, _END - 1))
    try:
        table = views.select("user_id", "item_id", pl.col("timestamp").cast(pl.Int32)).collect(engine="streaming")
        items = views.group_by("item_id").agg(pl.col("category").first()).collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path}: every line must be `user,item,category,behaviour,time` in numbers. It cannot be read: "
            f"{str(error).splitlines()[0]}. Download the file again."
        ) from error
    return RawLog(table, items=items.sort("item_id").cast(pl.String))


ENTRIES = {
    "taobao": DatasetEntry(
        name="taobao",
        title="Taobao user behaviour: 89,716,264 page views of 987,994 users, 25 November to 3 December 2017",
        licence="CC BY-NC-SA 4.0 (Alibaba, Tianchi)",
        sources=(
            ByHand(
                "https://tianchi.aliyun.com/dataset/649", (_FILE,), "Tianchi gives the file to those who are logged in"
            ),
        ),
        read=read,
        defaults=short_form("taobao", {"time_field": "timestamp"}, items=("category",)),
    )
}
