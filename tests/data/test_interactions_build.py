"""From raw tables to arrays: order, numbers, times, parts, repeated interactions."""

from __future__ import annotations

import logging
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.config.schema import FilterConfig, LogConfig
from intarsia.data.catalogue.entry import RawLog
from intarsia.data.interactions.build import build_interactions
from intarsia.data.interactions.ids import numbered
from intarsia.data.interactions.interactions import Interactions
from intarsia.data.interactions.times import seconds

ROLES: dict[str, Any] = {"user_field": "u", "item_field": "i"}


def frame(rows: list[tuple[Any, ...]], names: str = "u i r t") -> pl.DataFrame:
    return pl.DataFrame(rows, schema=names.split()[: len(rows[0])], orient="row")


def built(rows: list[tuple[Any, ...]], bounds: FilterConfig | None = None, **log: Any) -> Interactions:
    return build_interactions(RawLog(frame(rows)), LogConfig.model_validate({**ROLES, **log}), bounds)


def pairs(log: Interactions) -> list[tuple[str, str]]:
    return list(zip(log.user_ids.raw(log.user_of).to_list(), log.item_ids.raw(log.items).to_list()))


# Order and numbers


def test_interactions_are_sorted_by_user_and_time() -> None:
    log = built(
        [("b", "x", 1, 9), ("a", "y", 2, 5), ("b", "y", 3, 2), ("a", "x", 4, 7)], time_field="t", rating_field="r"
    )
    assert log.user_ids.ids.to_list() == ["a", "b"]
    assert log.offsets.tolist() == [0, 2, 4]
    assert log.items.tolist() == [1, 0, 1, 0]
    assert log.ratings is not None
    assert log.ratings.tolist() == [2, 4, 3, 1]
    assert log.items.dtype == np.int32
    assert log.offsets.dtype == np.int64


def test_rows_of_one_moment_and_rows_without_time_keep_their_order() -> None:
    rows = [("a", "z", 0, 5), ("b", "x", 0, 5), ("a", "x", 0, 5), ("a", "y", 0, 5), ("b", "z", 0, 1)]
    assert pairs(built(rows, time_field="t")) == [("a", "z"), ("a", "x"), ("a", "y"), ("b", "z"), ("b", "x")]
    assert pairs(built(rows)) == [("a", "z"), ("a", "x"), ("a", "y"), ("b", "x"), ("b", "z")]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(-3, 6), st.integers(0, 5), st.sampled_from([-2.5, 0, 0.25, 3, 1e12])), min_size=2
    ),
    whole=st.booleans(),
)
def test_the_order_is_that_of_a_stable_sort(rows: list[tuple[int, int, float]], whole: bool) -> None:
    rows = [(u, i, int(t) if whole else t) for u, i, t in [*rows, (-9, 90, 1), (-8, 91, 1)]]
    log = build_interactions(RawLog(frame(rows, "u i t")), LogConfig(**ROLES, time_field="t"))
    wanted = sorted(rows, key=lambda row: (row[0], row[2]))
    assert pairs(log) == [(str(u), str(i)) for u, i, _ in wanted]
    assert log.times is not None
    assert log.times.tolist() == [t for *_, t in wanted]


PART = {"interactions": 0, "valid": 1, "test": 2, "test_inputs": -1}


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(-4, 4)), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), min_size=3, max_size=3),
    roles=st.sets(st.sampled_from(["time_field", "rating_field", "context_fields", "parts", "chunks"])),
    offset=st.sampled_from([0, -(2**31) + 4, 2**31 - 5]),
)
def test_all_columns_go_with_their_rows(
    rows: list[tuple[int, int, int]], cuts: list[int], roles: set[str], offset: int
) -> None:
    """Users, parts, times and rows of one moment, whichever of the columns there are; every row has a number."""
    whole = [(u, i, t + offset, k) for k, (u, i, t) in enumerate([(9, 9, 0), (8, 8, 0), *rows])]
    ends = sorted([2 + cut for cut in cuts]) if "parts" in roles else [len(whole)] * 3
    tables, parts = {}, []
    for name, begin, end in zip(PART, [0, *ends], [*ends, len(whole)]):
        if begin < end or name == "interactions":
            frame = pl.DataFrame(whole[begin:end], schema=["u", "i", "t", "k"], orient="row")
            frame = frame.cast({"u": pl.Int32, "t": pl.Int32}).with_columns(c=pl.col("k").cast(pl.String))
            tables[name] = pl.concat([frame[:1], frame[1:]], rechunk=False) if "chunks" in roles else frame
            parts += [PART[name]] * len(whole[begin:end])
    log = build_interactions(
        RawLog(**tables),
        LogConfig(
            **ROLES,
            time_field="t" if "time_field" in roles else None,
            rating_field="k" if "rating_field" in roles else None,
            context_fields=["c"] if "context_fields" in roles else [],
        ),
    )
    # Parts are read in the order input, training, validation, test.
    read = sorted(range(len(whole)), key=lambda k: parts[k])
    wanted = sorted(read, key=lambda k: (whole[k][0], parts[k], whole[k][2] if "time_field" in roles else 0))
    assert pairs(log) == [(str(whole[k][0]), str(whole[k][1])) for k in wanted]
    if log.times is not None:
        assert log.times.dtype == np.float64
        assert log.times.tolist() == [whole[k][2] for k in wanted]
    if log.ratings is not None:
        assert log.ratings.tolist() == wanted
    if log.context:
        assert log.context["c"].to_list() == [str(k) for k in wanted]
    if log.parts is not None:
        assert log.parts.tolist() == [parts[k] for k in wanted]


@settings(max_examples=60, deadline=None)
@given(
    chunks=st.lists(st.lists(st.integers(0, 50), min_size=1), min_size=1, max_size=4),
    low=st.sampled_from([0, 3, -7, 2**31 - 60, -(2**31), 2**20 + 5]),
)
def test_ids_are_numbered_in_the_order_of_their_values(chunks: list[list[int]], low: int) -> None:
    column = pl.concat([pl.Series("u", [low + k for k in chunk], dtype=pl.Int32) for chunk in chunks], rechunk=False)
    unique, codes = numbered(column)
    assert unique.name == "u"
    assert unique.to_list() == [str(value) for value in sorted(set(column.to_list()))]
    assert codes.dtype == np.int32
    assert unique.gather(codes).to_list() == [str(value) for value in column]


def test_ids_of_different_types_in_different_parts_are_text() -> None:
    raw = RawLog(frame([(1, 10), (2, 11)], "u i"), test=frame([("2", "x"), ("1", "10")], "u i"))
    log = build_interactions(raw, LogConfig(**ROLES))
    assert log.item_ids.ids.to_list() == ["10", "11", "x"]
    assert pairs(log) == [("1", "10"), ("1", "10"), ("2", "11"), ("2", "x")]


@pytest.mark.parametrize(
    "column", [pl.Series([3.0, 1.0, 3.0]), pl.Series([3, 1, 3], dtype=pl.UInt64), pl.Series(["3", "1", "3"])]
)
def test_whole_numbers_are_the_same_ids_whatever_holds_them(column: pl.Series) -> None:
    log = build_interactions(RawLog(pl.DataFrame({"u": column, "i": ["a", "b", "c"]})), LogConfig(**ROLES))
    assert pairs(log) == [("1", "b"), ("3", "a"), ("3", "c")]


def test_huge_and_sparse_ids_need_no_table() -> None:
    ids = [2**62, -5, 10**15]
    log = build_interactions(RawLog(pl.DataFrame({"u": ids, "i": ids})), LogConfig(**ROLES))
    assert log.user_ids.ids.to_list() == ["-5", str(10**15), str(2**62)]


def test_categories_are_ids_as_well() -> None:
    table = pl.DataFrame({"u": ["b", "a"], "i": ["x", "y"]}).cast(pl.Categorical)
    assert pairs(build_interactions(RawLog(table), LogConfig(**ROLES))) == [("a", "y"), ("b", "x")]


# Ready-made parts


def test_parts_follow_each_other_inside_of_a_user() -> None:
    raw = RawLog(
        frame([("a", "x", 9), ("b", "x", 1)], "u i t"),
        valid=frame([("a", "y", 1)], "u i t"),
        test=frame([("a", "z", 5), ("c", "z", 7)], "u i t"),
        test_inputs=frame([("c", "w", 6)], "u i t"),
    )
    log = build_interactions(raw, LogConfig(**ROLES, time_field="t"))
    assert pairs(log) == [("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"), ("c", "w"), ("c", "z")]
    assert log.parts is not None
    assert log.parts.tolist() == [0, 1, 2, 0, -1, 2]


def test_a_log_in_one_piece_has_no_parts() -> None:
    assert built([("a", "x"), ("b", "y")]).parts is None


# Repeated interactions


REPEATED = [("a", "x", 1, 1), ("a", "y", 2, 2), ("a", "x", 3, 3), ("b", "x", 4, 4), ("a", "x", 5, 5)]


@pytest.mark.parametrize(
    ("repeated", "ratings"), [("keep", [1, 2, 3, 5, 4]), ("first", [1, 2, 4]), ("last", [2, 5, 4])]
)
def test_repeated_interactions_are_kept_or_merged(repeated: str, ratings: list[int]) -> None:
    log = built(REPEATED, time_field="t", rating_field="r", repeated=repeated)
    assert log.ratings is not None
    assert log.ratings.tolist() == ratings
    assert log.num_interactions == len(log.items) == len(ratings)


def test_merging_goes_by_time_not_by_the_order_of_the_rows() -> None:
    log = built(REPEATED[::-1], time_field="t", rating_field="r", repeated="first")
    assert log.ratings is not None
    assert log.ratings.tolist() == [1, 2, 4]


def test_interactions_of_different_parts_are_not_merged() -> None:
    raw = RawLog(frame([("a", "x"), ("a", "x"), ("b", "y")], "u i"), test=frame([("a", "x")], "u i"))
    log = build_interactions(raw, LogConfig(**ROLES, repeated="first"))
    assert log.parts is not None
    assert list(zip(pairs(log), log.parts.tolist())) == [(("a", "x"), 0), (("a", "x"), 2), (("b", "y"), 0)]


def test_exact_duplicates_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    rows = [("a", "x", 1, 1), ("a", "y", 1, 1), ("a", "x", 1, 1), ("b", "x", 1, 1), ("a", "x", 1, 2), ("a", "x", 2, 1)]
    assert built(rows, time_field="t").num_interactions == 6
    assert caplog.messages == [
        "2 of 6 interactions are exact duplicates: the same user, item and time occur before. They are kept; set "
        "log.repeated: first to leave them out"
    ]


def test_repetitions_without_times_are_told_of_quietly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "intarsia")
    built([("a", "x"), ("b", "y"), ("a", "x"), ("b", "x")])
    assert caplog.messages == [
        "1 of 4 interactions repeat an earlier one of the same user and item. They are kept (log.repeated)"
    ]
    assert caplog.records[0].levelno == logging.INFO


def test_a_time_that_no_role_names_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    build_interactions(RawLog(frame([("a", "x", 2), ("b", "y", 1)], "u i Timestamp")), LogConfig(**ROLES))
    assert caplog.messages == [
        "the log has a column `Timestamp`, which log.time_field does not name: the order of its rows is taken as the "
        "order of time"
    ]


# Times

NOON = 1_462_795_200.0
"""9 May 2016, noon, in universal time."""


@pytest.mark.parametrize(
    ("written", "time_format"),
    [
        ("1462795200", None),
        ("1462795200.0", None),
        ("2016-05-09T12:00:00Z", None),
        ("2016-05-09 12:00:00", None),
        ("2016/05/09 12:00:00.000", None),
        ("2016-05-09T12:00", None),
        ("2016-05-09T14:00:00+02:00", None),
        ("2016-05-09T07:30:00-0430", None),
        ("09/05/2016 12:00", "%d/%m/%Y %H:%M"),
        ("May 09, 2016 12:00:00.000", "%b %d, %Y %H:%M:%S.%f"),
    ],
)
def test_times_however_they_are_written(written: str, time_format: str | None) -> None:
    assert seconds(pl.Series([written, None]), time_format).to_list() == [NOON, None]


def test_dates_are_their_first_moment() -> None:
    midnight = NOON - 43_200
    assert seconds(pl.Series(["2016-05-09"]), None).to_list() == [midnight]
    assert seconds(pl.Series(["20160509"]), "%Y%m%d").to_list() == [midnight]
    assert seconds(pl.Series([20160509]), "%Y%m%d").to_list() == [midnight]
    assert seconds(pl.Series([date(2016, 5, 9)]), None).to_list() == [midnight]
    assert seconds(pl.Series([datetime(2016, 5, 9, 12)]), None).to_list() == [NOON]


def test_fractions_of_a_second_stay() -> None:
    assert seconds(pl.Series(["2016-05-09T12:00:00.250Z"]), None).to_list() == [NOON + 0.25]


def test_different_spellings_may_mix() -> None:
    column = pl.Series(["1462795200", "2016-05-09", "2016-05-09 12:00:00", "never"])
    assert seconds(column, None).to_list() == [NOON, NOON - 43_200, NOON, None]


def test_milliseconds_stay_what_they_are_and_sort_alike() -> None:
    rows = [("a", "x", 0, 1_462_795_200_001), ("a", "y", 0, 1_462_795_200_000), ("b", "y", 0, 1_462_795_199_999)]
    log = built(rows, time_field="t")
    assert pairs(log) == [("a", "y"), ("a", "x"), ("b", "y")]
    assert log.times is not None
    assert log.times.tolist() == [1_462_795_200_000, 1_462_795_200_001, 1_462_795_199_999]


# Catalogue


def test_items_that_nobody_took_can_join(caplog: pytest.LogCaptureFixture) -> None:
    raw = RawLog(frame([("a", 5), ("b", 20)], "u i"), items=pl.DataFrame({"i": [20, 7, 5], "n": ["t", "s", "f"]}))
    assert build_interactions(raw, LogConfig(**ROLES)).num_items == 2
    log = build_interactions(raw, LogConfig(**ROLES, include_unseen_items=True))
    assert log.item_ids.ids.to_list() == ["5", "7", "20"]
    assert pairs(log) == [("a", "5"), ("b", "20")]
    assert log.catalogue is not None
    assert log.catalogue["n"].to_list() == ["f", "s", "t"]
    assert not caplog.messages


def test_the_same_rows_in_another_order_are_the_same_log() -> None:
    rng = np.random.default_rng(2)
    rows = [(int(u), int(i), 1, int(t)) for u, i, t in zip(rng.integers(0, 9, 80), rng.integers(0, 20, 80), range(80))]
    one, other = built(rows, time_field="t"), built([rows[k] for k in rng.permutation(80)], time_field="t")
    assert one.user_ids.ids.to_list() == other.user_ids.ids.to_list()
    assert one.items.tolist() == other.items.tolist()
    assert one.offsets.tolist() == other.offsets.tolist()
