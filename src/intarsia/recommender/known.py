"""What a fitted recommender remembers of users and items, so that it can recommend by raw ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from intarsia.config.schema import LogConfig
from intarsia.core.errors import CheckpointError
from intarsia.data.log import LABEL, Histories, Log


@dataclass(frozen=True)
class Known:
    """Users with their side columns and histories, items with their side columns and popularity.

    Attributes:
        users: One row a user: the side columns, `history` (positive items, oldest first) and `seen` (all items).
        items: One row an item: the side columns and `popularity` (positive interactions), in a fixed order.
        config: Column roles.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    config: LogConfig

    @classmethod
    def from_log(cls, log: Log, histories: Histories, rows: np.ndarray | None = None) -> Known:
        """Remembers a log, or the given rows of it.

        Args:
            log: The log.
            histories: Its histories.
            rows: Numbers of the events that may be remembered (those of the training part). Default: all.
        """
        user, item = log.config.user_field, log.config.item_field
        events = log.events if rows is None else log.events[rows]
        positives = events.filter(pl.col(LABEL) > 0)
        history = positives.group_by(user, maintain_order=True).agg(pl.col(item).alias("history"))
        seen = events.group_by(user, maintain_order=True).agg(pl.col(item).alias("seen"))
        users = log.users.join(history, on=user, how="left", maintain_order="left")
        users = users.join(seen, on=user, how="left", maintain_order="left")
        counts = positives.group_by(item).agg(pl.len().alias("popularity"))
        items = log.items.join(counts, on=item, how="left", maintain_order="left").with_columns(pl.col("popularity").fill_null(0))
        return cls(users, items, log.config)

    def user_rows(self, ids: Sequence[str]) -> tuple[pl.DataFrame, list[str]]:
        """One row for each id in the order given, and the ids that nobody has; their rows have empty columns."""
        key = self.config.user_field
        wanted = pl.DataFrame({key: list(ids)}, schema={key: pl.String})
        rows = wanted.join(self.users.with_columns(pl.lit(True).alias("__known")), on=key, how="left", maintain_order="left")
        unknown = rows.filter(pl.col("__known").is_null())[key].to_list()
        return rows.drop("__known"), unknown

    def anonymous_rows(self, histories: Sequence[Sequence[str]]) -> pl.DataFrame:
        """One row for each history of somebody who has no id here: empty columns and the history, which also is `seen`."""
        empty = pl.DataFrame(schema=self.users.schema).drop("history", "seen")
        lists = pl.Series("history", [list(h) for h in histories], dtype=pl.List(pl.String))
        rows = pl.DataFrame({"history": lists, "seen": lists})
        return pl.concat([empty, rows], how="diagonal").select(self.users.columns)

    def save(self, folder: Path) -> None:
        """Writes `users.parquet` and `items.parquet`."""
        self.users.write_parquet(folder / "users.parquet")
        self.items.write_parquet(folder / "items.parquet")

    @classmethod
    def load(cls, folder: Path, config: LogConfig) -> Known | None:
        """The inverse of `save`; None where the bundle has no log.

        Raises:
            CheckpointError: A file is damaged.
        """
        if not (folder / "items.parquet").exists():
            return None
        try:
            return cls(pl.read_parquet(folder / "users.parquet"), pl.read_parquet(folder / "items.parquet"), config)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise CheckpointError(
                f"{folder} must hold readable users.parquet and items.parquet. Received: {error}. Train or copy the bundle anew."
            ) from None
