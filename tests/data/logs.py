"""Small interaction logs."""

from __future__ import annotations

import numpy as np
import polars as pl

from intarsia.data.interactions.interactions import IdMap, Interactions


def make_log(
    rows: list[list[int]], times: list[list[float]] | None = None, num_items: int | None = None
) -> Interactions:
    """A log from each user's items, oldest first."""
    lengths = [len(row) for row in rows]
    items = np.array([i for row in rows for i in row], dtype=np.int32)
    count = num_items if num_items is not None else int(items.max()) + 1
    return Interactions(
        IdMap(pl.Series([f"u{k}" for k in range(len(rows))], dtype=pl.String), "user"),
        IdMap(pl.Series([f"i{k}" for k in range(count)], dtype=pl.String), "item"),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items,
        times=None if times is None else np.array([t for row in times for t in row], dtype=np.float64),
    )


def random_log(seed: int, num_users: int = 20, num_items: int = 30, longest: int = 12) -> Interactions:
    """A log whose times are distinct and rise inside of each user."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, num_users)
    rows = [rng.integers(0, num_items, n).tolist() for n in lengths]
    clock = rng.permutation(int(lengths.sum())).astype(float)
    times, start = [], 0
    for n in lengths:
        times.append(np.sort(clock[start : start + n]).tolist())
        start += n
    return make_log(rows, times, num_items)
