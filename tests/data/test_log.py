"""Interaction logs: checks, histories, splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.config.schema import LogConfig, SplitConfig
from intarsia.core.errors import DataError
from intarsia.data.log import LABEL, Log, build_log, histories, split_rows

TIMED = LogConfig(time_field="t")
RATED = LogConfig(time_field="t", rating_field="r", positive_rating=4)


def events(text: str) -> pl.DataFrame:
    """`u i t r`, one event a line."""
    rows = [line.split() for line in text.strip().splitlines()]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "t", "r"], orient="row")


SMALL = events(
    """
    a x 30 5
    b x 10 4
    a y 10 1
    a z 20 4
    b y 20 5
    """
)


# Building


def test_events_come_in_the_order_of_time_with_text_ids_and_labels() -> None:
    log = build_log(SMALL, RATED)
    assert log.events["user_id"].to_list() == ["b", "a", "a", "b", "a"]
    assert log.events["item_id"].to_list() == ["x", "y", "z", "y", "x"]
    assert log.events[LABEL].to_list() == [1, 0, 1, 1, 1]
    assert log.events[LABEL].dtype == pl.Float32
    assert log.events["t"].to_list() == [10, 10, 20, 20, 30]


def test_equal_times_keep_the_order_of_the_file() -> None:
    frame = pl.DataFrame({"user_id": [1, 2, 3, 4], "item_id": [1, 2, 1, 2], "t": [5, 5, 5, 5]})
    assert build_log(frame, TIMED).events["user_id"].to_list() == ["1", "2", "3", "4"]


def test_without_a_threshold_every_event_is_positive() -> None:
    assert build_log(SMALL, LogConfig(rating_field="r")).events[LABEL].to_list() == [1.0] * 5
    assert build_log(SMALL, LogConfig()).events["user_id"].to_list() == ["a", "b", "a", "a", "b"]


def test_the_rating_may_be_called_label() -> None:
    frame = SMALL.rename({"r": "label"})
    log = build_log(frame, LogConfig(rating_field="label", positive_rating=5))
    assert log.events["label"].to_list() == [1, 0, 0, 0, 1]


def test_side_tables_are_joined_and_completed() -> None:
    users = pl.DataFrame({"user_id": ["a", "c"], "age": [30, 50]})
    items = pl.DataFrame({"item_id": ["z"], "title": ["Z"]})
    log = build_log(SMALL, TIMED, users, items)
    assert log.users["user_id"].to_list() == ["a", "c", "b"]
    assert log.items["item_id"].to_list() == ["z", "x", "y"]
    rows = log.rows()
    assert rows["age"].to_list() == [None, 30, 30, None, 30]
    assert rows["title"].to_list() == [None, None, "Z", None, None]
    assert log.rows(np.array([2, 0]))["title"].to_list() == ["Z", None]


def refused(frame: pl.DataFrame = SMALL, config: LogConfig = TIMED, **tables: pl.DataFrame) -> str:
    with pytest.raises(DataError) as caught:
        build_log(frame, config, **tables)
    return str(caught.value)


def changed(column: str, values: list[Any]) -> pl.DataFrame:
    return SMALL.with_columns(pl.Series(column, values, strict=False))


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (
            "log.time_field names the column `when`, which the log does not have. Columns: user_id, item_id, t, r. "
            "Name "
            "one of these.",
            {"config": LogConfig(time_field="when")},
        ),
        (
            "log.positive_rating tells positive ratings from negative ones. Received: 4.0 without log.rating_field. "
            "Name "
            "the column with the rating.",
            {"config": LogConfig(positive_rating=4)},
        ),
        (
            "ids must not be empty. Received: no `item_id` in row 3 of the log. Remove such rows.",
            {"frame": changed("item_id", ["x", "x", None, "z", ""])},
        ),
        (
            "ids must not be empty. Received: no `user_id` in row 5 of the log. Remove such rows.",
            {"frame": changed("user_id", ["a", "b", "a", "a", ""])},
        ),
        (
            "`t` must hold finite numbers. Received: 'noon' in row 2 of the log (1 such rows). Correct or remove them.",
            {"frame": changed("t", ["1", "noon", "3", "4", "5"])},
        ),
        (
            "`r` must hold finite numbers. Received: nan in row 1 of the log (2 such rows). Correct or remove them.",
            {"frame": changed("r", [float("nan"), 1.0, 2.0, None, 3.0]), "config": RATED},
        ),
        (
            "a log needs at least two users and two items. Received: 1 users, 3 items in 3 rows. Check log.user_field "
            "and "
            "log.item_field.",
            {"frame": SMALL.filter(pl.col("user_id") == "a")},
        ),
        (
            "a log needs at least two users and two items. Received: 0 users, 0 items in 0 rows. Check log.user_field "
            "and "
            "log.item_field.",
            {"frame": SMALL.clear()},
        ),
        (
            "the user table lacks the column `user_id`. Columns: uid. Rename one of these.",
            {"users": pl.DataFrame({"uid": ["a"]})},
        ),
        (
            "the item table has one row an id. Received: 2 rows whose `item_id` occurs more than once, such as 'x'. "
            "Remove the duplicates.",
            {"items": pl.DataFrame({"item_id": ["x", "y", "x"]})},
        ),
        (
            "ids must not be empty. Received: no `item_id` in row 2 of the item table. Remove such rows.",
            {"items": pl.DataFrame({"item_id": ["x", None]})},
        ),
        (
            "the log, its tables and what is added must have different columns. Received: `r` in the user table and in "
            "the log. Rename one of them.",
            {"users": pl.DataFrame({"user_id": ["a"], "r": [1]})},
        ),
        (
            "the log, its tables and what is added must have different columns. Received: `name` in the item table and "
            "in "
            "the user table. Rename one of them.",
            {
                "users": pl.DataFrame({"user_id": ["a"], "name": [1]}),
                "items": pl.DataFrame({"item_id": ["x"], "name": [1]}),
            },
        ),
        (
            "the log, its tables and what is added must have different columns. Received: `user_id` in the item table "
            "and "
            "in the user table. Rename one of them.",
            {
                "users": pl.DataFrame({"user_id": ["a"]}),
                "items": pl.DataFrame({"item_id": ["x"], "user_id": ["a"]}),
            },
        ),
        (
            "the log, its tables and what is added must have different columns. Received: `label` in the log and in "
            "the "
            "columns that are added to it. Rename one of them.",
            {"frame": SMALL.rename({"r": "label"})},
        ),
        (
            "the log, its tables and what is added must have different columns. Received: `history` in the user table "
            "and "
            "in the columns that are added to it. Rename one of them.",
            {"users": pl.DataFrame({"user_id": ["a"], "history": ["x"]})},
        ),
    ],
)
def test_wrong_logs(message: str, arguments: dict[str, Any]) -> None:
    assert refused(**arguments) == message


# Histories


def windows(log: Log) -> list[list[str]]:
    past = histories(log)
    return [past.items[start:end].to_list() for start, end in zip(past.starts, past.ends, strict=True)]


def brute_force(log: Log) -> list[list[str]]:
    """Positive items of the same user at strictly earlier moments, oldest first, the latest `max_history` of them."""
    config = log.config
    rows = log.events.to_dicts()
    times = [row[config.time_field] if config.time_field else k for k, row in enumerate(rows)]
    out = []
    for k, row in enumerate(rows):
        past = [
            (times[j], j, other[config.item_field])
            for j, other in enumerate(rows)
            if other[config.user_field] == row[config.user_field] and times[j] < times[k] and other[LABEL] > 0
        ]
        out.append([item for _, _, item in sorted(past)][-config.max_history :])
    return out


def test_histories_by_hand() -> None:
    #        b x     a y  a z  b y    a x
    assert windows(build_log(SMALL, RATED)) == [[], [], [], ["x"], ["z"]]


def test_events_of_one_moment_do_not_see_each_other() -> None:
    log = build_log(events("a x 1 5\na y 2 5\na z 2 5\na w 3 5\nb x 1 5"), RATED)
    found = dict(zip(log.events["item_id"].to_list(), windows(log), strict=False))
    assert found["y"] == found["z"] == ["x"]
    assert found["w"] == ["x", "y", "z"]


def test_without_a_time_each_event_follows_the_one_before_it() -> None:
    log = build_log(events("a x 1 5\nb x 1 5\na y 1 5\na z 1 5"), LogConfig())
    assert windows(log) == [[], [], ["x"], ["x", "y"]]


def test_only_the_latest_items_are_kept() -> None:
    log = build_log(SMALL, LogConfig(time_field="t", max_history=1))
    assert windows(log)[4] == ["z"]
    assert windows(build_log(SMALL, TIMED))[4] == ["y", "z"]


def test_all_windows_lie_in_one_array_of_the_positive_events() -> None:
    past = histories(build_log(SMALL, RATED))
    assert past.items.to_list() == ["z", "x", "x", "y"]
    assert past.users.to_list() == ["a", "b"]
    assert past.offsets.tolist() == [0, 2, 4]


@st.composite
def logs(draw: st.DrawFn) -> Log:
    count = draw(st.integers(2, 40))
    small = st.integers(0, 3)
    column = st.lists(small, min_size=count, max_size=count)
    users, items, times, ratings = (draw(column) for _ in range(4))
    users[:2], items[:2] = [0, 1], [0, 1]
    frame = pl.DataFrame({"user_id": users, "item_id": items, "t": times, "r": ratings})
    config = LogConfig(
        time_field=draw(st.sampled_from(["t", None])),
        rating_field="r",
        positive_rating=draw(st.integers(0, 3)),
        max_history=draw(st.sampled_from([1, 2, 50])),
    )
    return build_log(frame, config)


@settings(max_examples=200, deadline=None)
@given(logs())
def test_histories_equal_a_loop(log: Log) -> None:
    assert windows(log) == brute_force(log)


@pytest.mark.fuzz
@settings(max_examples=10_000, deadline=None)
@given(logs())
def test_histories_equal_a_loop_at_length(log: Log) -> None:
    assert windows(log) == brute_force(log)


# Splits


def long_log(count: int = 100, users: int = 10, seed: int = 0, times: list[int] | None = None) -> Log:
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{k}" for k in rng.integers(0, users, count)],
            "item_id": [f"i{k}" for k in rng.integers(0, 20, count)],
            "t": rng.permutation(count) if times is None else times,
        }
    )
    return build_log(frame, TIMED)


def parts(log: Log, seed: int = 0, **options: Any) -> dict[str, list[int]]:
    found = split_rows(log, SplitConfig(**options), seed)
    assert list(found) == ["train", "valid", "test"]
    together = sorted(int(n) for rows in found.values() for n in rows)
    assert together == list(range(log.events.height))
    return {name: rows.tolist() for name, rows in found.items()}


def test_by_time_the_last_events_are_the_test_part() -> None:
    found = parts(long_log(), by="time", valid=0.1, test=0.2)
    assert (found["train"], found["valid"], found["test"]) == ([*range(70)], [*range(70, 80)], [*range(80, 100)])


def test_events_of_one_moment_fall_into_one_part_the_later_one() -> None:
    log = long_log(10, times=[1, 1, 1, 1, 2, 2, 2, 2, 2, 2])
    found = parts(log, by="time", valid=0, test=0.3)
    assert (found["train"], found["test"]) == ([*range(4)], [*range(4, 10)])


def test_no_training_event_is_later_than_a_test_event() -> None:
    rng = np.random.default_rng(1)
    for seed in range(20):
        log = long_log(60, seed=seed, times=rng.integers(0, 15, 60).tolist())
        found = parts(log, by="time", valid=0.2, test=0.2)
        time = log.events["t"].to_numpy()
        assert time[found["train"]].max() < time[found["valid"]].min()
        assert time[found["valid"]].max() < time[found["test"]].min()


def test_random_shares() -> None:
    found = parts(long_log(), by="random", valid=0.1, test=0.25)
    assert [len(rows) for rows in found.values()] == [65, 10, 25]
    assert found != parts(long_log(), seed=1, by="random", valid=0.1, test=0.25)
    assert found == parts(long_log(), seed=0, by="random", valid=0.1, test=0.25)
    assert max(found["train"]) > min(found["test"])


def test_leave_one_out_takes_the_last_events_of_each_user() -> None:
    log = long_log()
    found = parts(log, by="leave_one_out", valid=1, test=2)
    users = log.events["user_id"].to_list()
    for user in set(users):
        rows = [k for k, u in enumerate(users) if u == user]
        assert [k for k in rows if k in found["test"]] == rows[-2:]
        assert [k for k in rows if k in found["valid"]] == rows[-3:-2]


def test_users_with_few_events_have_none_to_train_on() -> None:
    log = build_log(events("a x 1 5\nb x 1 5\nb y 2 5\nb z 3 5\nb w 4 5"), RATED)
    found = parts(log, by="leave_one_out", valid=1, test=1)
    assert log.events[found["test"]]["user_id"].to_list() == ["a", "b"]
    assert log.events[found["valid"]]["user_id"].to_list() == ["b"]


def test_by_user_the_parts_share_nobody_and_shares_count_users() -> None:
    log = long_log(300, users=20)
    found = parts(log, by="user", valid=0.1, test=0.25)
    who = {name: set(log.events["user_id"].gather(rows)) for name, rows in found.items()}
    assert [len(users) for users in who.values()] == [13, 2, 5]
    assert not who["train"] & who["test"]
    assert not who["valid"] & (who["train"] | who["test"])
    assert found != parts(log, seed=1, by="user", valid=0.1, test=0.25)


def test_the_users_of_a_part_do_not_depend_on_what_else_has_been_read() -> None:
    first = parts(long_log(300, users=20), by="user", valid=0.1, test=0.25)
    categories = pl.Series([f"other {k}" for k in range(1000)], dtype=pl.Categorical)
    assert categories.n_unique() == 1000
    assert parts(long_log(300, users=20), by="user", valid=0.1, test=0.25) == first


def test_a_part_may_be_left_out() -> None:
    assert parts(long_log(), by="time", valid=0, test=0.2)["valid"] == []
    assert parts(long_log(), by="random", valid=0.2, test=0)["test"] == []


@pytest.mark.parametrize(
    ("message", "log", "options"),
    [
        (
            "split by time needs log.time_field. Name the column, or split by random.",
            build_log(SMALL, LogConfig()),
            {"by": "time"},
        ),
        (
            "the shares of valid and test must leave rows for training. Received: 0.5 + 0.5.",
            build_log(SMALL, TIMED),
            {"by": "random", "valid": 0.5, "test": 0.5},
        ),
        (
            "split by random leaves no rows for: valid, test. Received: 5 rows, valid 0.05, test 0.05. Choose other "
            "shares.",
            build_log(SMALL, TIMED),
            {"by": "random", "valid": 0.05, "test": 0.05},
        ),
        (
            "split by time leaves no rows for: train. Received: 4 rows, valid 0.0, test 0.3. Choose other shares.",
            long_log(4, users=3, seed=2, times=[7, 7, 7, 7]),
            {"by": "time", "valid": 0, "test": 0.3},
        ),
        (
            "split by leave_one_out counts rows of each user, so valid and test are whole numbers. Received: valid "
            "0.1, "
            "test 1.0. Set both to 1, for instance.",
            build_log(SMALL, TIMED),
            {"by": "leave_one_out", "valid": 0.1, "test": 1},
        ),
        (
            "split by leave_one_out leaves no rows for: train, valid. Received: 5 rows, valid 1.0, test 3.0. Choose "
            "other "
            "shares.",
            build_log(SMALL, TIMED),
            {"by": "leave_one_out", "valid": 1, "test": 3},
        ),
    ],
)
def test_wrong_splits(message: str, log: Log, options: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        split_rows(log, SplitConfig(**options), 0)
    assert str(caught.value) == message
