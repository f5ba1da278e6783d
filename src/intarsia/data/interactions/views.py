"""Training data of every kind as views of one log: batches are cut out of its arrays when they are asked for.

| view     | a row is               | batch                                            | for                        |
|----------|------------------------|--------------------------------------------------|----------------------------|
| `pairs`  | a training interaction | user, target, rating, features                   | MF, NCF                    |
| `next`   | a training interaction | the same and the history before it               | two towers, multi-interest |
| `causal` | a user's training part | history and, for each step, the step after it    | SASRec, GRU4Rec            |
| `masked` | a user's training part | history alone; the model hides steps             | BERT4Rec                   |
| `users`  | a user's training part | history alone, every item                        | autoencoders               |

Matrices for alternating least squares, row by user and row by item, are `user_rows` and `item_rows`. A session is the
history of a user who has no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from intarsia.core.batch import Batch, Dense, Feature, Jagged
from intarsia.core.batch_names import HISTORY, RATING, SEEN, TARGET, USER
from intarsia.core.errors import DataError
from intarsia.data.columns import Column
from intarsia.data.interactions.interactions import Ints
from intarsia.data.interactions.splits import Division, Queries

ViewKind = Literal["pairs", "next", "causal", "masked", "users"]
Rows = npt.NDArray[np.integer[Any]] | slice


def window_index(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Positions of the elements of windows, one after the other, and the offsets of the windows in them."""
    lengths = ends - starts
    offsets = np.zeros(len(starts) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1]), offsets


@dataclass(frozen=True)
class SideColumns:
    """Encoded features beside the ids, as columns to take rows from.

    Attributes:
        of_user: One row a user.
        of_event: One row an interaction, in the order of the log.
    """

    of_user: Mapping[str, Column] = field(default_factory=dict)
    of_event: Mapping[str, Column] = field(default_factory=dict)


class View:
    """Training rows of one kind; what a `Loader` reads.

    Args:
        division: The divided log.
        kind: The kind; see the table above.
        max_history: L, the latest steps that a history keeps.
        side: Encoded features.
        with_seen: Whether batches carry each user's training items, for samplers that leave them out.
        min_history: `next`: steps that must stand before a target.
    """

    def __init__(
        self,
        division: Division,
        kind: ViewKind,
        *,
        max_history: int = 50,
        side: SideColumns | None = None,
        with_seen: bool = False,
        min_history: int = 1,
    ) -> None:
        self.division, self.kind = division, kind
        self.max_history, self.with_seen = max_history, with_seen
        self.side = side or SideColumns()
        starts, ends = division.train_starts, division.train_ends
        lengths = ends - starts
        if kind in ("pairs", "next"):
            skip = 0 if kind == "pairs" else min_history
            self._rows, _ = window_index(np.minimum(starts + skip, ends), ends)
        else:
            self._rows = np.flatnonzero(lengths >= (2 if kind == "causal" else 1))
        if not len(self._rows):
            raise DataError(
                f"training on histories needs users with at least two training interactions. Received: none among "
                f"{division.log.num_users} users (longest: {int(lengths.max(initial=0))}). Check user_field and the "
                "filters."
            )

    @property
    def num_rows(self) -> int:
        """Rows of an epoch."""
        return len(self._rows)

    @cached_property
    def lengths(self) -> Ints:
        """Steps of each row's history, for batches of like lengths."""
        starts, ends = self._windows(self._rows)
        lengths: Ints = ends - starts
        return lengths

    def take(self, rows: Rows) -> Batch:
        """The given rows as a batch."""
        chosen = self._rows[rows]
        log = self.division.log
        per_event = self.kind in ("pairs", "next")
        users = log.user_of[chosen].astype(np.int64) if per_event else chosen
        features: dict[str, Feature] = {USER: Dense(_tensor(users))}
        labels: dict[str, Tensor] = {}
        if per_event:
            features[TARGET] = Dense(_tensor(log.items[chosen]))
            features.update({f"{TARGET}/{name}": c.take(chosen) for name, c in self.side.of_event.items()})
            if log.ratings is not None:
                labels[RATING] = torch.from_numpy(log.ratings[chosen])
        if self.kind != "pairs":
            starts, ends = self._windows(chosen)
            index, offsets = window_index(starts, ends)
            features.update(_histories(self.division, self.side, index, offsets))
            if self.kind == "causal":
                features[TARGET] = Jagged(_tensor(log.items[index + 1]), torch.from_numpy(offsets))
        features.update({f"{USER}/{name}": column.take(users) for name, column in self.side.of_user.items()})
        if self.with_seen:
            index, offsets = window_index(self.seen_offsets[users], self.seen_offsets[users + 1])
            features[SEEN] = Jagged(_tensor(self.seen_items[index]), torch.from_numpy(offsets))
        return Batch(features, labels, size=len(chosen))

    def _windows(self, chosen: Ints) -> tuple[Ints, Ints]:
        """First and last step of the histories of rows."""
        division = self.division
        if self.kind in ("pairs", "next"):
            return np.maximum(division.train_starts[division.log.user_of[chosen]], chosen - self.max_history), chosen
        starts, ends = division.train_starts[chosen], division.train_ends[chosen]
        if self.kind == "causal":
            ends = ends - 1
        return (starts if self.kind == "users" else np.maximum(starts, ends - self.max_history)), ends

    @cached_property
    def _seen(self) -> tuple[Ints, npt.NDArray[np.int32]]:
        return sorted_rows(self.division)

    @property
    def seen_offsets(self) -> Ints:
        """(U + 1,) offsets of the users in `seen_items`."""
        return self._seen[0]

    @property
    def seen_items(self) -> npt.NDArray[np.int32]:
        """Everybody's training items, sorted, each once."""
        return self._seen[1]


def sorted_rows(division: Division) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Offsets (U + 1,) and items: each user's training items, sorted, without repetition."""
    index, offsets = window_index(division.train_starts, division.train_ends)
    items, count = division.log.items[index], division.log.num_items
    users = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
    keys = users * count + items
    keys.sort()
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys
    found = np.zeros(len(offsets), dtype=np.int64)
    np.cumsum(np.bincount(keys // count, minlength=len(offsets) - 1), out=found[1:])
    return found, (keys % count).astype(np.int32)


class QueryView:
    """Rows to rank items for: history, features of the user, targets; what an evaluation reads.

    Args:
        division: The divided log.
        queries: Whom to rank for.
        max_history: Latest steps of a history that a model sees.
        side: Encoded features. The context of a query is that of its first target.
    """

    def __init__(
        self, division: Division, queries: Queries, *, max_history: int = 50, side: SideColumns | None = None
    ) -> None:
        self.division, self.queries, self.max_history = division, queries, max_history
        self.side = side or SideColumns()
        self._trained = division.train_ends > division.train_starts

    @property
    def num_rows(self) -> int:
        """Q."""
        return len(self.queries)

    @cached_property
    def lengths(self) -> Ints:
        """Steps of the histories that a model sees."""
        lengths: Ints = np.minimum(self.queries.ends - self.queries.starts, self.max_history)
        return lengths

    def take(self, rows: Rows) -> Batch:
        """The given rows as a batch. Users whom training never saw have the number -1."""
        queries = self.queries
        users, ends = queries.users[rows], queries.ends[rows]
        starts = np.maximum(queries.starts[rows], ends - self.max_history)
        index, offsets = window_index(starts, ends)
        known = np.where(self._trained[users], users, -1)
        features: dict[str, Feature] = {USER: Dense(_tensor(known))}
        features.update(_histories(self.division, self.side, index, offsets))
        features.update({f"{USER}/{name}": column.take(users) for name, column in self.side.of_user.items()})
        first = queries.target_starts[rows]
        features.update({f"{TARGET}/{name}": column.take(first) for name, column in self.side.of_event.items()})
        return Batch(features, size=len(users))

    def targets(self, rows: Rows) -> Jagged:
        """Items to find."""
        return self._items(self.queries.target_starts[rows], self.queries.target_ends[rows])

    def seen(self, rows: Rows) -> Jagged:
        """The whole histories, of any length, of which nothing may be recommended again."""
        return self._items(self.queries.starts[rows], self.queries.ends[rows])

    def _items(self, starts: Ints, ends: Ints) -> Jagged:
        index, offsets = window_index(starts, ends)
        return Jagged(_tensor(self.division.log.items[index]), torch.from_numpy(offsets))


def _histories(division: Division, side: SideColumns, index: Ints, offsets: Ints) -> dict[str, Feature]:
    steps = torch.from_numpy(offsets)
    out: dict[str, Feature] = {HISTORY: Jagged(_tensor(division.log.items[index]), steps)}
    for name, column in side.of_event.items():
        out[f"{HISTORY}/{name}"] = column.take(index)
    return out


def _tensor(values: npt.NDArray[np.integer[Any]]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64, copy=False))


def user_rows(division: Division) -> tuple[Ints, npt.NDArray[np.int32], npt.NDArray[np.float32] | None]:
    """Training interactions row by user: offsets (U + 1,), items, ratings or None."""
    index, offsets = window_index(division.train_starts, division.train_ends)
    ratings = division.log.ratings
    return offsets, division.log.items[index], None if ratings is None else ratings[index]


def item_rows(division: Division) -> tuple[Ints, npt.NDArray[np.int32], npt.NDArray[np.float32] | None]:
    """Training interactions row by item: offsets (N + 1,), users, ratings or None."""
    offsets, items, ratings = user_rows(division)
    order = np.argsort(items, kind="stable")
    users = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))[order]
    found = np.zeros(division.log.num_items + 1, dtype=np.int64)
    np.cumsum(np.bincount(items, minlength=division.log.num_items), out=found[1:])
    return found, users, None if ratings is None else ratings[order]
