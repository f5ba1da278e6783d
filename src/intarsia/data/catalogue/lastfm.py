"""Last.fm: how often people listened to which artists, and in whom of them they saw what kind of music."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from intarsia.data.catalogue.entry import DatasetEntry, RawLog
from intarsia.data.catalogue.fetch import ZipDownload
from intarsia.data.catalogue.layouts import LOG, find, read_atomic, read_log, wrong_folder
from intarsia.data.catalogue.records import lines_of
from intarsia.data.catalogue.short_form import short_form
from intarsia.data.interactions.blocks import text_blocks
from intarsia.data.interactions.tables import Shape

_NAMES = {**LOG, "user_id": ("userID", "user_id"), "item_id": ("artistID", "artist_id"), "weight": ("weight",)}


def read(folder: Path) -> RawLog:
    """Listeners and artists (user_id, item_id, weight: plays), artists (item_id, title)."""
    if (path := find(folder, "user_artists.dat")) is not None:
        artists = find(folder, "artists.dat")
        items = None if artists is None else read_artists(artists)
        return RawLog(read_log(path, _NAMES, Shape("\t", quoting=False)), items=items)
    if (raw := read_atomic(folder, _NAMES)) is not None:
        return raw
    raise wrong_folder(folder, "Last.fm 2K", "`user_artists.dat` and `artists.dat`, or an `.inter` file.")


def read_artists(path: Path) -> pl.DataFrame:
    """Artists (item_id, title): the first two cells of lines that have two to four."""
    lines = pl.concat([lines_of(block) for block in text_blocks(path)])
    cells = lines.str.splitn("\t", 3).struct.unnest().select(item_id="field_0", title="field_1")
    return cells.filter(pl.col("item_id").str.contains(r"^\d+$"))


ENTRIES = {
    "lastfm": DatasetEntry(
        name="lastfm",
        title="Last.fm 2K: 92,834 pairs of 1,892 listeners and 17,632 artists with numbers of plays, no times",
        licence="Non-commercial use (HetRec 2011, GroupLens; README of the data set)",
        sources=(
            ZipDownload(
                "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-2k.zip",
                "sha256:6738f48195667ff03caaab4d32ca9a3133d8cc026b7c3cdaf6ce1010e913c59c",
                {name: name for name in ("user_artists.dat", "artists.dat")},
            ),
        ),
        read=read,
        defaults=short_form("lastfm", {"title_field": "title"}, split="random_by_user", batch_size=512),
    )
}
