"""A log as arrays: everybody's items, user after user, each in the order of time.

    users    u0         u1       u2
    offsets  0          3        5        7
    items    4  1  9    2  4     0  9

A history, a training window, the items to predict: each is a slice `items[start:end]`. Nothing is ever written out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]
PART_NAMES: Mapping[int, str] = MappingProxyType({0: "train", 1: "valid", 2: "test", -1: "input"})
"""Names of the numbers in `Interactions.parts`."""


class IdMap:
    """Raw ids and their numbers.

    Args:
        ids: Unique raw ids as text; the number of an id is its position.
        name: What messages call such an id: `user` or `item`.
    """

    def __init__(self, ids: pl.Series, name: str) -> None:
        self.ids = ids
        self.name = name

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, raw: object) -> bool:
        return str(raw) in self._numbers

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {raw: number for number, raw in enumerate(self.ids.to_list())}

    def numbers(self, raw: Iterable[object]) -> Ints:
        """Numbers of raw ids, -1 for those that nobody knows."""
        known = self._numbers
        return np.array([known.get(str(one), -1) for one in raw], dtype=np.int64)

    def raw(self, numbers: npt.NDArray[np.integer]) -> pl.Series:
        """Raw ids of numbers."""
        return self.ids.gather(numbers)

    def grown(self, more: Iterable[object]) -> IdMap:
        """The map with further ids at its end, in the order given; those that are there keep their numbers."""
        known = self._numbers
        fresh = [raw for raw in dict.fromkeys(str(one) for one in more) if raw not in known]
        return IdMap(pl.concat([self.ids, pl.Series(self.ids.name, fresh, dtype=pl.String)]), self.name)


@dataclass(frozen=True)
class Interactions:
    """A log of U users, N items and S interactions.

    Attributes:
        user_ids: Raw ids of the users.
        item_ids: Raw ids of the items.
        offsets: (U + 1,) int64; user u owns the interactions `offsets[u]:offsets[u + 1]`, oldest first.
        items: (S,) int32 item numbers.
        ratings: (S,) float32, or None.
        times: (S,) float64 seconds since 1970 (or whatever number the log counts), or None.
        context: Further raw columns of the log, (S,) each, in the same order.
        users: Side table of the users, row u for user u, the id column included; None where there is none.
        catalogue: Side table of the items, row i for item i, the id column included; None where there is none.
        parts: (S,) int8 where the log came divided already: 0 train, 1 valid, 2 test, -1 only input of a test user.
            Inside of a user the parts then follow each other in the order input, train, valid, test.
        fixed_negatives: By user number (rows `negative_users`), (Q, M) int64 items to rank a test positive against.
        negative_users: (Q,) int64.
        titles: Column of `catalogue` that names an item for a person, or None.
    """

    user_ids: IdMap
    item_ids: IdMap
    offsets: Ints
    items: npt.NDArray[np.int32]
    ratings: npt.NDArray[np.float32] | None = None
    times: npt.NDArray[np.float64] | None = None
    context: Mapping[str, pl.Series] = field(default_factory=dict)
    users: pl.DataFrame | None = None
    catalogue: pl.DataFrame | None = None
    parts: npt.NDArray[np.int8] | None = None
    fixed_negatives: Ints | None = None
    negative_users: Ints | None = None
    titles: str | None = None

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.offsets) - 1

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.item_ids)

    @property
    def num_interactions(self) -> int:
        """S."""
        return len(self.items)

    @property
    def lengths(self) -> Ints:
        """(U,) interactions of each user."""
        return np.diff(self.offsets)

    @cached_property
    def user_of(self) -> npt.NDArray[np.int32]:
        """(S,) user number of each interaction."""
        return np.repeat(np.arange(self.num_users, dtype=np.int32), self.lengths)
