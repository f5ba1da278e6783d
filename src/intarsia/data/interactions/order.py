"""The rows of a log, and their order: by user, part, time, and place in the source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from intarsia.data.interactions.ids import Codes
from intarsia.data.interactions.interactions import Ints
from intarsia.data.interactions.times import Times


@dataclass(frozen=True)
class Rows:
    """Columns of (S,) interactions that are cut and sorted together."""

    users: Codes
    items: Codes
    ratings: npt.NDArray[np.float32] | None
    times: Times | None
    parts: npt.NDArray[np.int8] | None
    context: dict[str, pl.Series]

    def take(self, rows: npt.NDArray[Any]) -> Rows:
        """Rows by number."""
        return replace(self, users=self.users[rows], items=self.items[rows], **self.others(rows))

    def others(self, rows: npt.NDArray[Any]) -> dict[str, Any]:
        """All columns but users and items, of rows by number."""
        return {
            "ratings": None if self.ratings is None else self.ratings[rows],
            "times": None if self.times is None else self.times[rows],
            "parts": None if self.parts is None else self.parts[rows],
            "context": {n: column.gather(pl.Series(rows, dtype=pl.UInt32)) for n, column in self.context.items()},
        }


def in_order(rows: Rows, num_users: int, num_items: int) -> Rows:
    """Rows by user, part, time, and their order in the source. Linear in S but for times that are not in order."""
    if rows.times is not None and not (rows.times[1:] >= rows.times[:-1]).all():
        rows = rows.take(_time_order(rows.times))
    groups, of_each = (rows.users, 1) if rows.parts is None else (rows.users.astype(np.int64) * 4 + rows.parts + 1, 4)
    numbers: npt.NDArray[Any] | None = rows.times
    if numbers is None or rows.ratings is not None or rows.parts is not None or rows.context:
        numbers = np.arange(len(groups), dtype=np.int32 if len(groups) < np.iinfo(np.int32).max else np.int64)
    # Entries of a matrix turned to rows: a counting sort that keeps the order inside of each row, and carries one
    # number along. Repeated entries would be added up, if the matrix were not said to have none.
    matrix = sp.coo_array((numbers, (groups, rows.items)), shape=(of_each * num_users, num_items))
    matrix.has_canonical_format = True
    turned = matrix.tocsr()
    users = np.repeat(np.arange(num_users, dtype=np.int32), np.diff(turned.indptr[::of_each]))
    others = {"times": turned.data} if numbers is rows.times else rows.others(turned.data)
    return replace(rows, users=users, items=turned.indices.astype(np.int32, copy=False), **others)


def _time_order(times: Times) -> Ints:
    """(S,) row numbers by time; rows of one moment keep their order."""
    bits = max(len(times) - 1, 1).bit_length()
    low, high = float(times.min()), float(times.max())
    if high - low < 2.0 ** (62 - bits) and (times.dtype == np.int32 or (times == np.floor(times)).all()):
        # Time and row in one number: sorting values is many times quicker than sorting positions.
        keys: Ints = np.subtract(times, low, dtype=np.float64).astype(np.int64)
        keys <<= bits
        keys |= np.arange(len(times))
        keys.sort()
        keys &= (1 << bits) - 1
        return keys
    return np.argsort(times, kind="stable")
