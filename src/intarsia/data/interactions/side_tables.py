"""Side tables of users and items, row for row with their numbers."""

from __future__ import annotations

import logging

import polars as pl

from intarsia.config.suggest import Suggester
from intarsia.core.errors import DataError
from intarsia.data.interactions.ids import as_ids

LOG = logging.getLogger("intarsia")


def side_table(table: pl.DataFrame | None, key: str, ids: pl.Series, what: str) -> pl.DataFrame | None:
    """The table with row n for number n; nulls where the table does not know an id.

    Args:
        table: One row an id.
        key: Column with the id.
        ids: (N,) raw ids in the order of their numbers.
        what: `user` or `item`.

    Raises:
        DataError: The column is missing, or an id is empty or occurs twice.
    """
    if table is None:
        return None
    table = keyed(table, key, what)
    asked = pl.DataFrame({key: ids})
    missing = asked.join(table, on=key, how="anti").height
    if missing == len(ids):
        LOG.warning(
            "the %s table knows none of the log's %s %ss; its ids are such as %s, those of the log such as %s",
            what,
            f"{len(ids):,}",
            what,
            table[key].head(3).to_list(),
            ids.head(3).to_list(),
        )
    elif missing:
        LOG.info("the %s table lacks %s of %s %ss", what, f"{missing:,}", f"{len(ids):,}", what)
    return asked.join(table, on=key, how="left", maintain_order="left").select(table.columns)


def keyed(table: pl.DataFrame, key: str, what: str) -> pl.DataFrame:
    """The table with text ids, each once.

    Raises:
        DataError: The column is missing, or an id is empty or occurs twice.
    """
    if key not in table.columns:
        near = Suggester().near(key, table.columns)
        hint = f" Did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else ""
        raise DataError(
            f"the {what} table lacks the column `{key}`.{hint} Columns: {', '.join(table.columns)}. Rename one."
        )
    table = table.with_columns(as_ids(table[key], f"the {what} table").cast(pl.String))
    double = table[key].is_duplicated()
    if double.any():
        raise DataError(
            f"the {what} table has one row an id. Received: {int(double.sum())} rows whose `{key}` occurs more than "
            f"once, such as {table[key].filter(double)[0]!r}. Remove the duplicates."
        )
    return table


def unseen_ids(table: pl.DataFrame | None, key: str, ids: pl.Series) -> pl.Series | None:
    """Ids of the item table that the log lacks."""
    if table is None:
        return None
    known = pl.DataFrame({key: ids})
    return keyed(table, key, "item").select(key).join(known, on=key, how="anti")[key]
