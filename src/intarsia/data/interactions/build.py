"""From raw tables to the arrays of a log."""

from __future__ import annotations

import numpy as np
import polars as pl

from intarsia.config.schema import LogConfig
from intarsia.core.errors import DataError
from intarsia.data.catalogue.entry import RawLog
from intarsia.data.interactions.interactions import IdMap, Interactions


def _ids(column: pl.Series, name: str) -> tuple[IdMap, np.ndarray]:
    unique = column.unique().sort()
    codes = unique.search_sorted(column)
    return IdMap(unique.cast(pl.String), name), codes.to_numpy().astype(np.int64)


def build_interactions(raw: RawLog, log: LogConfig, filter: object | None = None) -> Interactions:
    """quick"""
    f = raw.interactions
    for name in (log.user_field, log.item_field):
        if name not in f.columns:
            raise DataError(f"the log lacks the column `{name}`. Columns: {', '.join(f.columns)}.")

    def number(c):
        s = f[c]
        t = s.cast(pl.Int64, strict=False)
        return t if t.null_count() == s.null_count() else s.cast(pl.String)

    users, u = _ids(number(log.user_field), "user")
    items, i = _ids(number(log.item_field), "item")
    time = None if log.time_field is None else f[log.time_field].cast(pl.Float64).to_numpy()
    rating = None if log.rating_field is None else f[log.rating_field].cast(pl.Float32).to_numpy()
    order = np.lexsort((time, u)) if time is not None else np.argsort(u, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(u, minlength=len(users)))]).astype(np.int64)

    def side(table, key, ids):
        if table is None:
            return None
        return pl.DataFrame({key: ids.ids}).join(
            table.with_columns(pl.col(key).cast(pl.String)), on=key, how="left", maintain_order="left"
        )

    return Interactions(
        users,
        items,
        offsets,
        i[order].astype(np.int32),
        None if rating is None else rating[order],
        None if time is None else time[order],
        {},
        side(raw.users, log.user_field, users),
        side(raw.items, log.item_field, items),
        titles=log.title_field,
    )
