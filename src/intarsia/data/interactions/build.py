"""From raw tables to the arrays of a log: ids become numbers, rows are checked, filtered and sorted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.config.schema import FilterConfig, LogConfig
from intarsia.config.suggest import Suggester
from intarsia.core.errors import DataError
from intarsia.data.catalogue.entry import RawLog
from intarsia.data.interactions.filters import Account, frequent
from intarsia.data.interactions.ids import Codes, as_ids, joined, numbered, renumbered
from intarsia.data.interactions.interactions import IdMap, Interactions
from intarsia.data.interactions.negatives import encode_negatives
from intarsia.data.interactions.order import Rows, in_order
from intarsia.data.interactions.side_tables import side_table, unseen_ids
from intarsia.data.interactions.times import Times, times_of

LOG = logging.getLogger("intarsia")

_PARTS = (
    (-1, "test_inputs", "the inputs of test users"),
    (0, "interactions", "the log"),
    (1, "valid", "the validation part"),
    (2, "test", "the test part"),
)


def build_interactions(raw: RawLog, log: LogConfig, filter: FilterConfig | None = None) -> Interactions:
    """The arrays of a log.

    Interactions are sorted by user, part, time, and their order in the source. Ratings below `log.positive_rating` or
    outside of the filter's bounds go first; then repeated interactions are merged, the earlier or later one of a part
    staying; then rare items and users are left out. A negative rating is an error unless `filter.min_rating` says which
    ratings are wanted.

    Args:
        raw: Tables as they were read; ready-made parts where the log came divided.
        log: Column roles.
        filter: Bounds. Default: everything is kept.

    Returns:
        The log. Users and items are numbered in the order of their ids: by value where all are whole numbers, else as
        text. Side tables have one row a number; who is missing there has nulls.

    Raises:
        DataError: A column is missing, an id is empty, a rating is no number or negative, a time is no time, a side
            table lists an id twice, or fewer than two users or two items are left.
    """
    bounds = filter or FilterConfig()
    tables, users_of, items_of, negatives = _tables(raw, log), raw.users, raw.items, raw.negatives
    del raw  # the columns that were read go as soon as they are encoded
    user_ids, item_ids, rows = _encoded(tables, log, bounds)
    account = Account()
    account.count("the log", len(user_ids), len(item_ids), len(rows.users))
    account.check()
    rows = _rated(rows, log, bounds, account)
    rows = in_order(rows, len(user_ids), len(item_ids))
    rows = _merged(rows, log, len(item_ids), account)
    kept = frequent(rows.users, rows.items, bounds, account)
    rows = rows if kept is None else rows.take(kept)
    account.check()
    unseen = unseen_ids(items_of, log.item_field, item_ids) if log.include_unseen_items else None
    users, items = rows.users, rows.items
    if len(users) < account.started_with:
        user_ids, users = renumbered(user_ids, users)
        item_ids, items = renumbered(item_ids, items)
    if unseen is not None and len(unseen):
        item_ids, items = _with_unseen(item_ids, items, unseen)
    offsets = np.concatenate([[0], np.flatnonzero(users[1:] != users[:-1]) + 1, [len(users)]])
    ratings, times, parts, context = rows.ratings, rows.times, rows.parts, rows.context
    del rows, users
    catalogue = side_table(items_of, log.item_field, item_ids, "item")
    if catalogue is not None and log.title_field is not None and log.title_field not in catalogue.columns:
        raise DataError(
            f"log.title_field names the column `{log.title_field}`, which the item table does not have."
            f"{_near(log.title_field, catalogue.columns)} Columns: {', '.join(catalogue.columns)}. Name one of these."
        )
    made = Interactions(
        IdMap(user_ids, "user"),
        IdMap(item_ids, "item"),
        offsets,
        items,
        ratings,
        None if times is None else times.astype(np.float64, copy=False),
        context,
        side_table(users_of, log.user_field, user_ids, "user"),
        catalogue,
        parts,
        titles=log.title_field if catalogue is not None else None,
    )
    return made if negatives is None else encode_negatives(made, negatives)


def _tables(raw: RawLog, log: LogConfig) -> list[tuple[int, pl.DataFrame, str]]:
    """Number, rows and name of each part that has rows."""
    parts = [(number, getattr(raw, name), what) for number, name, what in _PARTS]
    tables = [(number, frame, what) for number, frame, what in parts if frame is not None and frame.height]
    if not tables:
        raise DataError("a log needs at least two users and two items. Received: no rows. Check the log's files.")
    for _, frame, what in tables:
        check_roles(frame.columns, log, what)
    return tables


def _encoded(
    tables: list[tuple[int, pl.DataFrame, str]], log: LogConfig, bounds: FilterConfig
) -> tuple[pl.Series, pl.Series, Rows]:
    """Ids of users and items, and the rows of all tables, one after the other. Empties the list of tables."""
    raw_users = joined([as_ids(frame[log.user_field], what) for _, frame, what in tables])
    raw_items = joined([as_ids(frame[log.item_field], what) for _, frame, what in tables])
    ratings: npt.NDArray[np.float32] | None = None
    times: Times | None = None
    if log.rating_field is not None:
        ratings = _joined([ratings_of(f[log.rating_field], bounds, what) for _, f, what in tables])
    if log.time_field is not None:
        times = _joined([times_of(f[log.time_field], log.time_format, what) for _, f, what in tables])
    context = dict(pl.concat([f.select(log.context_fields) for _, f, _ in tables], how="vertical_relaxed").to_dict())
    parts = None
    if any(number for number, _, _ in tables):
        parts = np.repeat(np.array([n for n, _, _ in tables], dtype=np.int8), [f.height for _, f, _ in tables])
    tables.clear()
    user_ids, users = numbered(raw_users)
    del raw_users
    item_ids, items = numbered(raw_items)
    rows = Rows(users, items, ratings, times, parts, context)
    return user_ids, item_ids, rows


def check_roles(columns: Sequence[str], log: LogConfig, what: str, *, warn: bool = True) -> None:
    """Refuses a log without the columns that its roles name; warns of a column of times that no role names.

    Raises:
        DataError: Names the first missing column and the nearest one.
    """
    roles = [(role, getattr(log, role)) for role in ("user_field", "item_field", "rating_field", "time_field")]
    for role, name in [*roles, *(("context_fields", name) for name in log.context_fields)]:
        if name is not None and name not in columns:
            raise DataError(
                f"log.{role} names the column `{name}`, which {what} does not have.{_near(name, columns)} Columns: "
                f"{', '.join(columns)}. Name one of these."
            )
    if log.positive_rating is not None and log.rating_field is None:
        raise DataError(
            f"log.positive_rating tells positive ratings from negative ones. Received: {log.positive_rating:g} without "
            "log.rating_field. Name the column with the rating."
        )
    if (
        warn
        and log.time_field is None
        and (found := [name for name in columns if name.lower() in ("timestamp", "time")])
    ):
        LOG.warning(
            "%s has a column `%s`, which log.time_field does not name: the order of its rows is taken as the order of "
            "time",
            what,
            found[0],
        )


def _near(name: str, columns: Sequence[str]) -> str:
    near = Suggester().near(name, columns)
    return f" Did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else ""


def ratings_of(column: pl.Series, bounds: FilterConfig, what: str) -> npt.NDArray[np.float32]:
    """(S,) ratings.

    Raises:
        DataError: A rating is no finite number, or negative where no bound says which ratings are wanted.
    """
    numbers = column.cast(pl.Float32, strict=False)
    wrong = numbers.is_null() | ~numbers.is_finite()
    rule = "finite numbers"
    cure = "Correct or remove them."
    if not wrong.any() and bounds.min_rating is None:
        wrong = numbers < 0
        rule = "ratings of 0 and above"
        cure = "Set filter.min_rating to the lowest rating that counts, or remove them."
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise DataError(
            f"`{column.name}` must hold {rule}. Received: {column[row]!r} in row {row + 1} of {what} "
            f"({int(wrong.sum())} such rows). {cure}"
        )
    return numbers.to_numpy()


def _joined(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _rated(rows: Rows, log: LogConfig, bounds: FilterConfig, account: Account) -> Rows:
    """Without ratings that are out of bounds."""
    lows = [bound for bound in (log.positive_rating, bounds.min_rating) if bound is not None]
    if not lows and bounds.max_rating is None:
        return rows
    if rows.ratings is None:
        raise DataError(
            "filter.min_rating and filter.max_rating read the rating. Received: a log without log.rating_field. Name "
            "the column with the rating."
        )
    keep = np.ones(len(rows.ratings), dtype=bool)
    words = []
    if lows:
        keep &= rows.ratings >= np.float32(max(lows))
        words.append(f"at least {max(lows):g}")
    if bounds.max_rating is not None:
        keep &= rows.ratings <= np.float32(bounds.max_rating)
        words.append(f"at most {bounds.max_rating:g}")
    kept = rows if keep.all() else rows.take(np.flatnonzero(keep))
    account.note(f"ratings of {' and '.join(words)}", kept.users, kept.items)
    return kept


def _merged(rows: Rows, log: LogConfig, num_items: int, account: Account) -> Rows:
    """Without repeated interactions where they are merged; where they are kept, tells of them."""
    if log.repeated == "keep":
        doubles = _doubles(rows, num_items)
        if doubles and rows.times is not None:
            LOG.warning(
                "%s of %s interactions are exact duplicates: the same user, item and time occur before. They are kept; "
                "set log.repeated: first to leave them out",
                f"{doubles:,}",
                f"{len(rows.users):,}",
            )
        elif doubles:
            LOG.info(
                "%s of %s interactions repeat an earlier one of the same user and item. They are kept (log.repeated)",
                f"{doubles:,}",
                f"{len(rows.users):,}",
            )
        return rows
    groups = rows.users.astype(np.int64) if rows.parts is None else rows.users.astype(np.int64) * 4 + (rows.parts + 1)
    pairs = pl.Series(groups * num_items + rows.items)
    keep = (pairs.is_first_distinct() if log.repeated == "first" else pairs.is_last_distinct()).to_numpy()
    kept = rows if keep.all() else rows.take(np.flatnonzero(keep))
    account.note(f"the {log.repeated} of repeated interactions", kept.users, kept.items)
    return kept


def _doubles(rows: Rows, num_items: int) -> int:
    """Interactions that occur before: the same user and item, at the same time where there are times."""
    items = rows.items
    if rows.times is None:
        groups = rows.users.astype(np.int64)
    else:
        same = (rows.users[1:] == rows.users[:-1]) & (rows.times[1:] == rows.times[:-1])
        if not same.any():
            return 0
        later = np.concatenate([[False], same])  # rows that have the user and time of the row before
        inside = later.copy()
        inside[:-1] |= same
        rows_inside = np.flatnonzero(inside)
        groups, items = np.cumsum(~later[rows_inside], dtype=np.int64), items[rows_inside]
    keys = groups * num_items + items
    keys.sort()
    return int(np.count_nonzero(keys[1:] == keys[:-1]))


def _with_unseen(ids: pl.Series, codes: Codes, unseen: pl.Series) -> tuple[pl.Series, Codes]:
    """The catalogue with items that nobody took, in the order of the ids."""
    every, numbers = numbered(pl.concat([ids, unseen.alias(ids.name)]))
    return every, numbers[: len(ids)][codes]
