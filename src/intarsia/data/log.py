"""Interaction logs as samples: one row an interaction, with the user's history as a window into one shared array.

Rows keep the order of time. The history of a row holds the items of the user's positive rows strictly before it, so
rows of the same moment never see each other, and no prefix of a history is ever written out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.config.schema import LogConfig, SplitConfig
from intarsia.core.errors import DataError

LABEL = "label"


@dataclass(frozen=True)
class Log:
    """A log with its side tables, ids as text.

    Attributes:
        events: One row an interaction, oldest first: user, item, time, rating (where there is one), label.
        users: One row a user, the side columns of the user table included.
        items: One row an item, the side columns of the item table included.
        config: Column roles.
    """

    events: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame
    config: LogConfig

    def rows(self, numbers: npt.NDArray[np.int64] | None = None) -> pl.DataFrame:
        """The events (or those with the given numbers) with the columns of their user and item."""
        events = self.events if numbers is None else self.events[numbers]
        joined = events.join(self.users, on=self.config.user_field, how="left", maintain_order="left")
        return joined.join(self.items, on=self.config.item_field, how="left", maintain_order="left")


@dataclass(frozen=True)
class Histories:
    """Everybody's positive items, oldest first, user after user.

    Attributes:
        items: (S,) item ids as text.
        offsets: User to `(start, end)` in `items`, as arrays in the order of `users`.
        users: User ids as text, sorted.
        starts: (N,) first step of the window of each event.
        ends: (N,) end of the window of each event: the first step that is not before the event.
    """

    items: pl.Series
    users: pl.Series
    offsets: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


def build_log(
    interactions: pl.DataFrame, config: LogConfig, users: pl.DataFrame | None = None, items: pl.DataFrame | None = None
) -> Log:
    """Checks a raw log, sorts it by time and labels it.

    Args:
        interactions: At least the user and item columns of `config`.
        config: Column roles. Without `rating_field` or `positive_rating` every interaction is positive.
        users: Side table with the user column, one row a user.
        items: Side table with the item column, one row an item.

    Raises:
        DataError: A column is missing or stands in two tables, an id is empty, a rating or a time is not a finite
            number, a side table lists an id twice, or there is only one user or one item.
    """
    for field in ("user_field", "item_field", "rating_field", "time_field"):
        name = getattr(config, field)
        if name is not None and name not in interactions.columns:
            raise DataError(
                f"log.{field} names the column `{name}`, which the log does not have. Columns: "
                f"{', '.join(interactions.columns)}. Name one of these."
            )
    if config.positive_rating is not None and config.rating_field is None:
        raise DataError(
            f"log.positive_rating tells positive ratings from negative ones. Received: {config.positive_rating} "
            f"without "
            "log.rating_field. Name the column with the rating."
        )
    user, item = config.user_field, config.item_field
    _check_names(interactions, users, items, config)
    events = interactions.with_columns(pl.col(user, item).cast(pl.String))
    for name in (user, item):
        empty = events[name].is_null() | (events[name] == "")
        if empty.any():
            row = int(empty.arg_max() or 0)
            raise DataError(
                f"ids must not be empty. Received: no `{name}` in row {row + 1} of the log. Remove such rows."
            )
    for name in (config.rating_field, config.time_field):
        if name is not None:
            events = _as_numbers(events, name)
    if events[user].n_unique() < 2 or events[item].n_unique() < 2:
        raise DataError(
            f"a log needs at least two users and two items. Received: {events[user].n_unique()} users, "
            f"{events[item].n_unique()} items in {events.height} rows. Check log.user_field and log.item_field."
        )
    if config.time_field is not None:
        events = events.sort(config.time_field, maintain_order=True)
    positive: pl.Expr = pl.lit(True)
    if config.rating_field is not None and config.positive_rating is not None:
        positive = pl.col(config.rating_field) >= config.positive_rating
    events = events.with_columns(positive.cast(pl.Float32).alias(LABEL))
    return Log(
        events,
        _side_table(users, events, user, "user"),
        _side_table(items, events, item, "item"),
        config,
    )


def _check_names(
    interactions: pl.DataFrame, users: pl.DataFrame | None, items: pl.DataFrame | None, config: LogConfig
) -> None:
    """Every column has one home, so that a feature reads the same thing in training and when items are recommended."""
    added = "the columns that are added to it"
    homes = dict.fromkeys([config.history_field, *([] if config.rating_field == LABEL else [LABEL])], added)
    tables = (("the log", None, interactions), ("the user table", config.user_field, users))
    for what, key, table in (*tables, ("the item table", config.item_field, items)):
        for name in [] if table is None else table.columns:
            if name in homes and name != key:
                raise DataError(
                    f"the log, its tables and what is added must have different columns. Received: `{name}` in {what} "
                    f"and "
                    f"in {homes[name]}. Rename one of them."
                )
            homes[name] = what


def _as_numbers(events: pl.DataFrame, name: str) -> pl.DataFrame:
    numbers = events[name].cast(pl.Float64, strict=False)
    wrong = numbers.is_null() | ~numbers.is_finite()
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise DataError(
            f"`{name}` must hold finite numbers. Received: {events[name][row]!r} in row {row + 1} of the log "
            f"({int(wrong.sum())} such rows). Correct or remove them."
        )
    return events.with_columns(numbers.alias(name))


def _side_table(table: pl.DataFrame | None, events: pl.DataFrame, key: str, what: str) -> pl.DataFrame:
    """The table with text ids, extended by ids that only the log knows."""
    seen = events.select(pl.col(key).unique().sort())
    if table is None:
        return seen
    if key not in table.columns:
        raise DataError(
            f"the {what} table lacks the column `{key}`. Columns: {', '.join(table.columns)}. Rename one of these."
        )
    table = table.with_columns(pl.col(key).cast(pl.String))
    empty = table[key].is_null() | (table[key] == "")
    if empty.any():
        raise DataError(
            f"ids must not be empty. Received: no `{key}` in row {int(empty.arg_max() or 0) + 1} of the {what} table. "
            "Remove such rows."
        )
    double = table[key].is_duplicated()
    if double.any():
        first = table[key].filter(double)[0]
        raise DataError(
            f"the {what} table has one row an id. Received: {int(double.sum())} rows whose `{key}` occurs more than "
            f"once, such as {first!r}. Remove the duplicates."
        )
    return pl.concat([table, seen.join(table, on=key, how="anti")], how="diagonal")


def histories(log: Log) -> Histories:
    """The positive items of each user in the order of time, and the window of each event.

    Events without a time are taken in the order of the log, each after the one before.
    """
    user, item, time = log.config.user_field, log.config.item_field, log.config.time_field
    events = log.events.with_row_index("__row")
    moment = pl.col(time) if time is not None else pl.col("__row").cast(pl.Float64)
    events = events.select("__row", user, item, moment.alias("__time"), (pl.col(LABEL) > 0).alias("__positive"))
    events = events.sort(user, "__time", "__row")
    positive = events["__positive"].to_numpy()
    before = np.cumsum(positive) - positive  # positive events before this one, over all users
    codes = events[user].rle_id().to_numpy().astype(np.int64)
    # Events of one user at one moment share the window that ends before the first of them.
    moment_start = events.select(
        (pl.col(user).rle_id() != pl.col(user).rle_id().shift(1)) | (pl.col("__time") != pl.col("__time").shift(1))
    )
    is_start = moment_start.to_series().fill_null(True).to_numpy()
    first_of_moment = np.maximum.accumulate(np.where(is_start, np.arange(len(before)), 0))
    user_start = np.zeros(len(before), dtype=bool)
    user_start[0] = True
    user_start[1:] = codes[1:] != codes[:-1]
    first_of_user = np.maximum.accumulate(np.where(user_start, np.arange(len(before)), 0))
    window_ends = before[first_of_moment]
    window_starts = np.maximum(before[first_of_user], window_ends - log.config.max_history)
    row = events["__row"].to_numpy()
    starts, ends = np.empty(len(row), dtype=np.int64), np.empty(len(row), dtype=np.int64)
    starts[row], ends[row] = window_starts, window_ends
    users = events[user].filter(pl.Series(user_start))
    offsets = np.append(before[user_start], positive.sum()).astype(np.int64)
    return Histories(events[item].filter(events["__positive"]), users, offsets, starts, ends)


def split_rows(log: Log, config: SplitConfig, seed: int) -> dict[str, npt.NDArray[np.int64]]:
    """Numbers of the events of each part: `train`, `valid`, `test`.

    - `time`: the last `test` share of all events, before them the `valid` share. Events of the moment at which a part
      begins all belong to the later part.
    - `random`: events at random.
    - `leave_one_out`: of each user the last `test` events, before them `valid` events.
    - `user`: disjoint users at random; shares count users.

    Raises:
        DataError: A part would be empty, the split needs a time and the log has none, or a number of rows is none.
    """
    count = log.events.height
    rng = np.random.default_rng([seed, 0x5917])
    if config.by == "leave_one_out":
        if config.valid % 1 or config.test % 1:
            raise DataError(
                "split by leave_one_out counts rows of each user, so valid and test are whole numbers. Received: valid "
                f"{config.valid}, test {config.test}. Set both to 1, for instance."
            )
        part = _last_of_each_user(log, int(config.valid), int(config.test))
    else:
        if config.valid + config.test >= 1:
            raise DataError(
                f"the shares of valid and test must leave rows for training. Received: {config.valid} + {config.test}."
            )
        if config.by == "time":
            part = _by_time(log, config)
        elif config.by == "random":
            part = _shares(rng.permutation(count), config)
        else:
            codes = log.events[log.config.user_field].rank("dense").to_numpy().astype(np.int64) - 1
            part = _shares(rng.permutation(int(codes.max()) + 1), config)[codes]
    out = {name: np.flatnonzero(part == number) for number, name in enumerate(("train", "valid", "test"))}
    wanted = {"train": 1.0, "valid": config.valid, "test": config.test}
    empty = [name for name, rows in out.items() if wanted[name] and not len(rows)]
    if empty:
        raise DataError(
            f"split by {config.by} leaves no rows for: {', '.join(empty)}. Received: {count} rows, valid "
            f"{config.valid}, "
            f"test {config.test}. Choose other shares."
        )
    return out


def _shares(order: npt.NDArray[np.int64], config: SplitConfig) -> npt.NDArray[np.int8]:
    part = np.zeros(len(order), dtype=np.int8)
    test = round(len(order) * config.test)
    valid = round(len(order) * config.valid)
    part[order[:test]] = 2
    part[order[test : test + valid]] = 1
    return part


def _by_time(log: Log, config: SplitConfig) -> npt.NDArray[np.int8]:
    if log.config.time_field is None:
        raise DataError("split by time needs log.time_field. Name the column, or split by random.")
    time = log.events[log.config.time_field].to_numpy()
    part = np.zeros(len(time), dtype=np.int8)
    for number, share in ((1, config.valid + config.test), (2, config.test)):
        if share:
            part[time >= time[min(len(time) - 1, round(len(time) * (1 - share)))]] = number
    return part


def _last_of_each_user(log: Log, valid: int, test: int) -> npt.NDArray[np.int8]:
    user = log.config.user_field
    from_end = log.events.select((pl.len() - 1 - pl.int_range(pl.len())).over(user)).to_series().to_numpy()
    return np.where(from_end < test, 2, np.where(from_end < test + valid, 1, 0)).astype(np.int8)
