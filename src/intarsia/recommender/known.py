"""What a fitted recommender remembers of users and items, so that it can recommend by raw ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.config.schema import LogConfig
from intarsia.core.errors import CheckpointError
from intarsia.data.log import LABEL, Log

HISTORY, SEEN, POPULARITY = "__history", "__seen", "__popularity"
"""Columns that are remembered beside those of the tables, whose names they leave free."""
_KNOWN, _ROW = "__known", "__row"


@dataclass(frozen=True)
class Known:
    """Users with their side columns and histories, items with their side columns and popularity.

    Attributes:
        users: One row a user: the side columns, `HISTORY` (positive items, oldest first) and `SEEN` (all items).
        items: One row an item: the side columns and `POPULARITY` (positive interactions of the training part), in a
            fixed order.
        config: Column roles.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    config: LogConfig

    @classmethod
    def from_log(cls, log: Log, training: npt.NDArray[np.int64]) -> Known:
        """Remembers a log: what everybody has seen, to the last event; popularity from the training part alone.

        Args:
            log: The log.
            training: Numbers of the events of the training part.
        """
        user, item = log.config.user_field, log.config.item_field
        positives = log.events.filter(pl.col(LABEL) > 0)
        history = positives.group_by(user, maintain_order=True).agg(pl.col(item).alias(HISTORY))
        seen = log.events.group_by(user, maintain_order=True).agg(pl.col(item).alias(SEEN))
        users = log.users.join(history, on=user, how="left", maintain_order="left")
        users = users.join(seen, on=user, how="left", maintain_order="left")
        liked = log.events[training].filter(pl.col(LABEL) > 0)
        counts = liked.group_by(item).agg(pl.len().alias(POPULARITY))
        items = log.items.join(counts, on=item, how="left", maintain_order="left")
        return cls(users, items.with_columns(pl.col(POPULARITY).fill_null(0)), log.config)

    @cached_property
    def position(self) -> dict[str, int]:
        """Row of each item."""
        return {name: row for row, name in enumerate(self.items[self.config.item_field].to_list())}

    @property
    def user_columns(self) -> set[str]:
        """Names of the columns that features of a user may read."""
        return {*self.users.columns, self.config.history_field} - {HISTORY, SEEN}

    def user_rows(self, ids: Sequence[str]) -> tuple[pl.DataFrame, list[str]]:
        """One row for each id in the order given, and the ids that nobody has; their rows have empty columns."""
        key = self.config.user_field
        wanted = pl.DataFrame({key: list(ids)}, schema={key: pl.String})
        users = self.users.with_columns(pl.lit(True).alias(_KNOWN))
        rows = wanted.join(users, on=key, how="left", maintain_order="left")
        unknown = rows.filter(pl.col(_KNOWN).is_null())[key].to_list()
        return rows.drop(_KNOWN), unknown

    def anonymous_rows(self, histories: Sequence[Sequence[str]]) -> pl.DataFrame:
        """One row for each history of somebody without an id here: empty columns and the history, which is `SEEN`."""
        empty = pl.DataFrame(schema=self.users.schema).drop(HISTORY, SEEN)
        lists = pl.Series(HISTORY, [list(h) for h in histories], dtype=pl.List(pl.String))
        rows = pl.DataFrame({HISTORY: lists, SEEN: lists})
        return pl.concat([empty, rows], how="diagonal").select(self.users.columns)

    def queries(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of users as features read them: with the latest items of their history."""
        latest = pl.col(HISTORY).list.tail(self.config.max_history).alias(self.config.history_field)
        return rows.with_columns(latest).drop(HISTORY, SEEN)

    def allowed(
        self, rows: pl.DataFrame | None, candidates: npt.NDArray[np.bool_] | None, count: int
    ) -> npt.NDArray[np.bool_] | None:
        """Which items may be recommended: (count, N), or None for all.

        Args:
            rows: Users whose seen items are left out, or None.
            candidates: (N,) the only items that may be recommended, or None: all.
            count: Number of users.
        """
        if rows is None and candidates is None:
            return None
        mask = np.ones((count, self.items.height), dtype=bool)
        if candidates is not None:
            mask &= candidates
        if rows is not None:
            seen = rows.select(pl.int_range(pl.len()).alias("row"), SEEN).explode(SEEN).drop_nulls()
            pairs = seen.join(self._item_rows, left_on=SEEN, right_on=self.config.item_field)
            mask[pairs["row"].to_numpy(), pairs[_ROW].to_numpy()] = False
        return mask

    @cached_property
    def _item_rows(self) -> pl.DataFrame:
        return self.items.select(self.config.item_field).with_row_index(_ROW)

    def save(self, folder: Path) -> None:
        """Writes `users.parquet` and `items.parquet`."""
        self.users.write_parquet(folder / "users.parquet")
        self.items.write_parquet(folder / "items.parquet")

    @classmethod
    def load(cls, folder: Path, config: LogConfig) -> Known:
        """The inverse of `save`.

        Raises:
            CheckpointError: A file is damaged.
        """
        try:
            return cls(pl.read_parquet(folder / "users.parquet"), pl.read_parquet(folder / "items.parquet"), config)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"{folder} must hold readable users.parquet and items.parquet. Received: {reason}. Train or copy the "
                "bundle anew."
            ) from None
