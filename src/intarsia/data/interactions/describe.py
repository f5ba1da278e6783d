"""What is in a log, in numbers: how large, how dense, how long, how popular, and what may go wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.data.interactions.interactions import PART_NAMES, Interactions

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
_EARLIEST = datetime(1980, 1, 1, tzinfo=UTC).timestamp()
_LATEST = datetime(2100, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Description:
    """A log in numbers.

    Attributes:
        users: U.
        items: N.
        interactions: S.
        density: S / (U N).
        span: First and last time, or None.
        lengths: Quantiles of the interactions of a user, in the order of `QUANTILES`.
        popularity: Quantiles of the interactions of an item; items that nobody took count.
        top_share: Share of the interactions that the most popular hundredth of the items has (at least one item).
        ratings: Quantiles of the ratings, or None.
        parts: Interactions of each part, where the log came divided.
        user_columns: Columns of the user table.
        item_columns: Columns of the item table.
        problems: One sentence each.
    """

    users: int
    items: int
    interactions: int
    density: float
    span: tuple[float, float] | None
    lengths: tuple[float, ...]
    popularity: tuple[float, ...]
    top_share: float
    ratings: tuple[float, ...] | None
    parts: dict[str, int]
    user_columns: tuple[str, ...]
    item_columns: tuple[str, ...]
    problems: tuple[str, ...]

    def moments(self) -> tuple[str, str] | None:
        """The span as dates, or as plain numbers where these count something else than seconds since 1970."""
        if self.span is None:
            return None
        first, last = self.span
        if first < _EARLIEST or last > _LATEST:
            return f"{first:,.6g}", f"{last:,.6g}"
        return _date(first), _date(last)


def describe(log: Interactions) -> Description:
    """Counts, quantiles and problems of a log."""
    popularity = np.bincount(log.items, minlength=log.num_items)
    ordered = np.sort(popularity)[::-1]
    parts: dict[str, int] = {}
    if log.parts is not None:
        parts = {
            name: int((log.parts == number).sum()) for number, name in sorted(PART_NAMES.items()) if number in log.parts
        }
    return Description(
        users=log.num_users,
        items=log.num_items,
        interactions=log.num_interactions,
        density=log.num_interactions / (log.num_users * log.num_items),
        span=None if log.times is None else (float(log.times.min()), float(log.times.max())),
        lengths=_quantiles(log.lengths),
        popularity=_quantiles(popularity),
        top_share=float(ordered[: max(1, log.num_items // 100)].sum() / log.num_interactions),
        ratings=None if log.ratings is None else _quantiles(log.ratings),
        parts=parts,
        user_columns=() if log.users is None else tuple(log.users.columns),
        item_columns=() if log.catalogue is None else tuple(log.catalogue.columns),
        problems=tuple(_problems(log, popularity)),
    )


def _quantiles(values: npt.NDArray[Any]) -> tuple[float, ...]:
    """Values that occur: the smallest with at least the wanted share at or below it."""
    return tuple(float(value) for value in np.quantile(values, QUANTILES, method="inverted_cdf"))


def _problems(log: Interactions, popularity: npt.NDArray[np.int64]) -> list[str]:
    found = [*_rows(log, popularity), *_times(log), *_parts(log)]
    if log.ratings is not None and log.ratings.min() == log.ratings.max():
        found.append(f"all ratings are {log.ratings[0]:g}, so they say nothing")
    if log.fixed_negatives is not None:
        lost = int((log.fixed_negatives < 0).any(axis=1).sum())
        if lost:
            found.append(
                f"{_share(lost, len(log.fixed_negatives))} rows of fixed negatives hold the test item, an "
                "unknown item, or fewer items than others"
            )
    for what, table in (("user", log.users), ("item", log.catalogue)):
        if table is not None and table.width > 1:
            alone = int(table.select(pl.sum_horizontal(pl.all().is_null()) == table.width - 1).to_series().sum())
            if alone:
                found.append(f"the {what} table says nothing of {_share(alone, table.height)} {what}s")
    return found


def _rows(log: Interactions, popularity: npt.NDArray[np.int64]) -> list[str]:
    found = []
    keys = log.user_of.astype(np.int64) * log.num_items + log.items
    keys.sort()
    doubles = int(np.count_nonzero(keys[1:] == keys[:-1]))
    if doubles:
        found.append(
            f"{_share(doubles, log.num_interactions)} interactions repeat an earlier one of the same user and item "
            "(log.repeated: first merges them)"
        )
    lonely = int((log.lengths == 1).sum())
    if lonely:
        found.append(
            f"{_share(lonely, log.num_users)} users have a single interaction: nothing of theirs can be asked for "
            "(filter.k_core leaves them out)"
        )
    rare = int((popularity == 1).sum())
    if rare * 10 > log.num_items:
        found.append(f"{_share(rare, log.num_items)} items were taken once: nobody can learn much of them")
    never = int((popularity == 0).sum())
    if never:
        found.append(f"{_share(never, log.num_items)} items were never taken")
    return found


def _times(log: Interactions) -> list[str]:
    if log.times is None:
        return ["there are no times: the order of the rows is taken for it, and no split by time is possible"]
    first, last = float(log.times.min()), float(log.times.max())
    if first == last:
        return ["all interactions have the same time"]
    found = []
    if first > _EARLIEST * 1000 and last < _LATEST * 1000:
        found.append("times look like milliseconds: gaps and decays that count seconds will be off by 1,000")
    elif first < _EARLIEST or last > _LATEST:
        found.append("times are not seconds since 1970 (or some are far off)")
    same = (log.times[1:] == log.times[:-1]) & (log.user_of[1:] == log.user_of[:-1])
    ties = int(same.sum())
    if ties * 10 > log.num_interactions:
        found.append(
            f"{_share(ties, log.num_interactions)} interactions have the time of the user's interaction before them: "
            "their order is that of the file"
        )
    return found


def _parts(log: Interactions) -> list[str]:
    """Users and items of the test part that training never shows."""
    if log.parts is None or not (log.parts == 2).any():
        return []
    found = []
    for what, codes, count in (("users", log.user_of, log.num_users), ("items", log.items, log.num_items)):
        train, test = (np.bincount(codes[mask], minlength=count) > 0 for mask in (log.parts <= 0, log.parts == 2))
        new = int((test & ~train).sum())
        if new:
            found.append(f"{_share(new, int(test.sum()))} {what} of the test part never occur in training")
    return found


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
