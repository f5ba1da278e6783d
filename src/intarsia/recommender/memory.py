"""What a retriever's bundle remembers of a log: who there is, what there is, and what everybody took."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from intarsia.core.batch import Jagged
from intarsia.core.errors import CheckpointError
from intarsia.data.interactions.interactions import IdMap, Interactions, Ints
from intarsia.data.interactions.splits import Division
from intarsia.data.interactions.views import window_index

ID = "__id"
"""Column with the raw ids in the saved tables."""


@dataclass(frozen=True)
class Memory:
    """A log to its last interaction, without ratings and times.

    Attributes:
        user_ids: Raw ids of the users.
        item_ids: Raw ids of the items.
        offsets: (U + 1,) interactions of each user.
        items: (S,) item numbers, oldest first.
        counts: (N,) training interactions of each item.
        trained: (U,) whether a user has training interactions.
        users: Side table of the users, or None.
        catalogue: Side table of the items, or None.
        context: Raw context columns of the interactions that features read, in the order of `items`; or None.
        titles: Column of `catalogue` that is shown beside recommendations, or None.
        names: Names of the user and the item column.
    """

    user_ids: IdMap
    item_ids: IdMap
    offsets: Ints
    items: npt.NDArray[np.int32]
    counts: Ints
    trained: npt.NDArray[np.bool_]
    users: pl.DataFrame | None = None
    catalogue: pl.DataFrame | None = None
    context: pl.DataFrame | None = None
    titles: str | None = None
    names: tuple[str, str] = ("user_id", "item_id")

    @classmethod
    def of(cls, division: Division, names: tuple[str, str], context: Sequence[str]) -> Memory:
        """Remembers a divided log in the order of time.

        Args:
            division: The log.
            names: Names of the user and the item column.
            context: Context columns that features read.
        """
        log = in_time_order(division.log)
        kept = pl.DataFrame({name: log.context[name] for name in context}) if context else None
        trained = division.train_ends > division.train_starts
        return cls(
            log.user_ids,
            log.item_ids,
            log.offsets,
            log.items,
            division.item_counts(),
            trained,
            log.users,
            log.catalogue,
            kept,
            log.titles,
            names,
        )

    def trained_on(self, users: Ints) -> npt.NDArray[np.bool_]:
        """Whether users (-1: unknown) have training interactions."""
        return np.where(users < 0, False, self.trained[np.maximum(users, 0)])

    def histories(self, users: Ints, latest: int | None = None) -> tuple[Jagged, Ints]:
        """Items of users (-1: none), the latest ones alone if asked for; and the positions of those in `items`."""
        known = np.maximum(users, 0)
        ends = self.offsets[known + 1]
        starts = np.where(users < 0, ends, self.offsets[known])
        if latest is not None:
            starts = np.maximum(starts, ends - latest)
        index, offsets = window_index(starts, ends)
        values = torch.from_numpy(self.items[index].astype(np.int64))
        return Jagged(values, torch.from_numpy(offsets)), index

    def grown(self, items: IdMap, catalogue: pl.DataFrame | None) -> Memory:
        """The memory of a larger catalogue, whose first items are the old ones."""
        fresh = np.zeros(len(items) - len(self.item_ids), dtype=np.int64)
        return replace(self, item_ids=items, counts=np.concatenate([self.counts, fresh]), catalogue=catalogue)

    def save(self, folder: Path) -> None:
        """Writes `log.safetensors`, `users.parquet`, `items.parquet` and perhaps `context.parquet`."""
        arrays = {"offsets": self.offsets, "items": self.items, "counts": self.counts, "trained": self.trained}
        # NumPy arrays that are views would be written whole.
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, folder / "log.safetensors")
        for name, ids, table in (("users", self.user_ids, self.users), ("items", self.item_ids, self.catalogue)):
            frame = pl.DataFrame({ID: ids.ids})
            if table is not None:
                frame = pl.concat([frame, table], how="horizontal")
            frame.write_parquet(folder / f"{name}.parquet")
        if self.context is not None:
            self.context.write_parquet(folder / "context.parquet")
        about = {"titles": self.titles, "names": list(self.names)}
        (folder / "log.json").write_text(json.dumps(about), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Memory:
        """The inverse of `save`.

        Raises:
            CheckpointError: A file is missing or damaged.
        """
        try:
            arrays: Mapping[str, Any] = load_file(folder / "log.safetensors")
            about = json.loads((folder / "log.json").read_text(encoding="utf-8"))
            users, items = (pl.read_parquet(folder / f"{name}.parquet") for name in ("users", "items"))
            context = folder / "context.parquet"
            return cls(
                IdMap(users[ID], "user"),
                IdMap(items[ID], "item"),
                arrays["offsets"],
                arrays["items"],
                arrays["counts"],
                arrays["trained"],
                users.drop(ID) if users.width > 1 else None,
                items.drop(ID) if items.width > 1 else None,
                pl.read_parquet(context) if context.exists() else None,
                about["titles"],
                tuple(about["names"]),
            )
        except (SafetensorError, pl.exceptions.PolarsError, OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"{folder} must hold the log that the model remembers (log.safetensors, log.json, users.parquet, "
                f"items.parquet). Received: {reason}. Copy or train the bundle anew."
            ) from None


def in_time_order(log: Interactions) -> Interactions:
    """The log with every user's interactions in the order of time, which random splits have changed."""
    if log.times is None:
        return log
    order = np.lexsort((log.times, log.user_of))
    if np.array_equal(order, np.arange(len(order))):
        return log
    context = {name: column.gather(order) for name, column in log.context.items()}
    ratings = None if log.ratings is None else log.ratings[order]
    return replace(log, items=log.items[order], times=log.times[order], ratings=ratings, context=context, parts=None)
