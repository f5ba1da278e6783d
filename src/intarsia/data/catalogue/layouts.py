"""Files of a data set in a folder: finding them, whatever folder inside they lie in, and reading atomic files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from intarsia.core.errors import DataError
from intarsia.data.catalogue.entry import RawLog
from intarsia.data.interactions.atomic import atomic_shape, read_atomic_table
from intarsia.data.interactions.blocks import ending
from intarsia.data.interactions.tables import Kind, Shape, converted, read_columns

Names = Mapping[str, Sequence[str]]
"""Our name of a column to the names that publishers give it; the first that is there counts."""

USERS: Names = {"user_id": ("user_id", "session_id", "userid")}
ITEMS: Names = {
    "item_id": ("item_id", "artist_id", "business_id", "product_id", "id", "asin"),
    "title": ("title", "movie_title", "movie_name", "item_name", "app_name", "name"),
    "genres": ("genres", "genre", "class", "type"),
    "categories": ("categories", "category", "item_category"),
}
LOG: Names = {
    **USERS,
    "item_id": ("item_id", "artist_id", "business_id", "product_id"),
    "rating": ("rating", "stars"),
    "timestamp": ("timestamp", "date"),
}
_KINDS: dict[str, Kind] = {"user_id": "id", "item_id": "id", "rating": "number", "timestamp": "time"}
_TAGS = ("genres", "categories")


def find(folder: Path, *names: str) -> Path | None:
    """The first of the named files that the folder holds, itself or in a folder directly inside; also with `.gz`."""
    if not folder.is_dir():
        return None
    folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))]
    for name in names:
        for place in folders:
            for path in (place / name, place / f"{name}.gz"):
                if path.is_file():
                    return path
    return None


def wrong_folder(folder: Path, title: str, wanted: str) -> DataError:
    """What is said of a folder without the files.

    Args:
        folder: The folder.
        title: Name of the data set for a person.
        wanted: The files that would do.
    """
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) if folder.is_dir() else "no such folder"
    return DataError(f"{folder} must hold {title}: {wanted}. Received: {found or 'an empty folder'}")


def text_table(path: Path, separator: str, columns: Sequence[str], *, encoding: str = "utf-8") -> pl.DataFrame:
    """A small table without a header, quotes being plain text, all columns as text and empty cells as null."""
    shape = Shape(separator, tuple(columns), encoding, quoting=False, asked_by="the format of this file")
    frame = read_columns([path], shape, lambda names: dict.fromkeys(names, "text"))
    return frame.with_columns(pl.when(pl.all() != "").then(pl.all()))


def typed(table: pl.DataFrame) -> pl.DataFrame:
    """A log that came as text with ids, ratings and times as numbers where they are such."""
    return pl.DataFrame([converted(column, _KINDS.get(column.name, "any"), None) for column in table.get_columns()])


def read_atomic(folder: Path, log: Names = LOG, items: Names = ITEMS) -> RawLog | None:
    """The log in atomic files that a folder holds, columns named our way; None where there is no `.inter`.

    Args:
        folder: Holds `X.inter` (or `X.train.inter`, `X.valid.inter`, `X.test.inter`), perhaps `X.user`, `X.item`,
            `X.kg`, `X.link`, itself or in a folder directly inside.
        log: Names of the interactions' columns. Those that are not there are left out.
        items: Names of the item table's columns; further ones keep their names.
    """
    path = _inter(folder)
    if path is None:
        return None
    stem = path.name.removesuffix(".gz").removesuffix(".inter").removesuffix(".train")
    beside = {ending(p): p for p in path.parent.iterdir() if p.name.removesuffix(".gz").rpartition(".")[0] == stem}
    raw = RawLog(read_log(path, log, atomic_shape(Shape())))
    for part in ("valid", "test"):
        if ".train." in path.name and (other := find(path.parent, f"{stem}.{part}.inter")) is not None:
            raw = replace(raw, **{part: read_log(other, log, atomic_shape(Shape()))})
    users = _side(beside[".user"], USERS) if ".user" in beside else None
    table = _side(beside[".item"], items) if ".item" in beside else None
    if table is not None and "title" not in table.columns:
        table = table.with_columns(title=pl.lit(None, pl.String))
    found = {
        name: read_atomic_table(beside[kind], Shape(), text_only=True)
        for name, kind in (("knowledge", ".kg"), ("links", ".link"))
        if kind in beside
    }
    names = {"knowledge": ("head", "relation", "tail"), "links": ("item", "entity")}
    for name, frame in found.items():
        found[name] = frame.rename(dict(zip(frame.columns, names[name])))
    return replace(raw, users=users, items=table, **found)


def _inter(folder: Path) -> Path | None:
    """The file of interactions, or of those of the training part."""
    if not folder.is_dir():
        return None
    paths = [p for place in (folder, *sorted(folder.iterdir())) if place.is_dir() for p in sorted(place.iterdir())]
    found = [path for path in paths if ending(path) == ".inter"]
    whole = [path for path in found if not any(f".{part}." in path.name for part in ("train", "valid", "test"))]
    return next(iter([*whole, *(path for path in found if ".train." in path.name)]), None)


def read_log(path: Path, names: Names, shape: Shape) -> pl.DataFrame:
    """The interactions of a file, columns named our way, ids, ratings and times as numbers where they are such.

    Args:
        path: Text, packed or not, or Parquet.
        names: Names of the columns. Those that are not there are left out.
        shape: How the file is written.

    Raises:
        DataError: There is no column of users or items, or the file cannot be read.
    """
    chosen: dict[str, str] = {}

    def choose(columns: list[str]) -> dict[str, Kind]:
        for ours, theirs in names.items():
            if (there := next((name for name in theirs if name in columns), None)) is not None:
                chosen[there] = ours
        missing = [ours for ours in ("user_id", "item_id") if ours not in chosen.values()]
        if missing:
            told = " and ".join(f"`{' or '.join(names[ours])}`" for ours in missing)
            raise DataError(f"{path}: a log must have a column {told}. Received: {', '.join(columns)}.")
        return {theirs: _KINDS.get(ours, "any") for theirs, ours in chosen.items()}

    frame = read_columns([path], shape, choose)
    return frame.rename(chosen).select(list(dict.fromkeys(ours for ours in names if ours in chosen.values())))


def _side(path: Path, names: Names) -> pl.DataFrame:
    """A side table, all columns as text, empty cells as null; genres are separated by `|`."""
    frame = read_atomic_table(path, Shape(), text_only=True)
    chosen: dict[str, str] = {}
    for ours, theirs in names.items():
        there = next((name for name in theirs if name in frame.columns and name not in chosen), None)
        if there is not None and (there == ours or ours not in frame.columns):
            chosen[there] = ours
    frame = frame.rename(chosen)
    frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    return frame.with_columns(
        pl.col(name).str.replace_all(" ", "|", literal=True)
        for name in _TAGS
        if name == "genres" and name in frame.columns
    )
