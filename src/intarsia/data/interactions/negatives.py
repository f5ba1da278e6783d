"""Items that each test item is ranked against, as numbers."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import polars as pl

from intarsia.core.errors import DataError
from intarsia.data.interactions.ids import looked_up
from intarsia.data.interactions.interactions import Interactions

LOG = logging.getLogger("intarsia")

_TEST = 2


def encode_negatives(log: Interactions, table: pl.DataFrame) -> Interactions:
    """The log with its fixed negatives.

    A negative that is the row's own test item, or that the log does not know, becomes -1; both are counted and told.

    Args:
        log: The log; its test part, where it has one, tells the positives as well.
        table: `user`, `item` (the test item, or null), `negatives` (list), one row a user.

    Raises:
        DataError: A user has several rows.
    """
    users = looked_up(log.user_ids.ids, table["user"])
    strangers = int((users < 0).sum())
    if strangers:
        LOG.warning("fixed negatives: %s rows are of users that the log does not know", f"{strangers:,}")
        table, users = table.filter(pl.Series(users >= 0)), users[users >= 0]
    double = np.flatnonzero(np.bincount(users, minlength=1) > 1)
    if len(double):
        raise DataError(
            f"fixed negatives have one row a user. Received: several rows of {len(double)} users, such as "
            f"{log.user_ids.ids[int(double[0])]!r}. Join the rows of a user."
        )
    lists = table["negatives"]
    lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    items = looked_up(log.item_ids.ids, lists.explode(empty_as_null=False, keep_nulls=False))
    row = np.repeat(np.arange(len(users)), lengths)
    unknown = int((items < 0).sum())
    if unknown:
        LOG.warning("fixed negatives: %s of %s are items that the log does not know", f"{unknown:,}", f"{len(items):,}")
    own = np.isin(users[row] * log.num_items + items, _positives(log, table, users)) & (items >= 0)
    if own.any():
        LOG.warning(
            "fixed negatives: in %s of %s rows the test item is among its own negatives, which are then left out",
            f"{len(np.unique(row[own])):,}",
            f"{len(users):,}",
        )
    items = np.where(own, -1, items)
    made = np.full((len(users), int(lengths.max(initial=0))), -1, dtype=np.int64)
    made[row, np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)] = items
    order = np.argsort(users)
    return replace(log, fixed_negatives=made[order], negative_users=users[order])


def _positives(log: Interactions, table: pl.DataFrame, users: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray:
    """Pairs of user and test item as one number each."""
    named = looked_up(log.item_ids.ids, table["item"])
    keys = [users[named >= 0] * log.num_items + named[named >= 0]]
    if log.parts is not None:
        test = log.parts == _TEST
        keys.append(log.user_of[test].astype(np.int64) * log.num_items + log.items[test])
    return np.concatenate(keys)
