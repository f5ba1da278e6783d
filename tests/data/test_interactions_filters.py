"""Which interactions are kept, and what is said of the others."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from intarsia.config.schema import FilterConfig, LogConfig
from intarsia.core.errors import DataError
from intarsia.data.catalogue.entry import RawLog
from intarsia.data.interactions.build import build_interactions
from intarsia.data.interactions.filters import Account, frequent
from intarsia.data.interactions.interactions import Interactions

ROLES: dict[str, Any] = {"user_field": "u", "item_field": "i"}


def built(rows: list[tuple[Any, ...]], bounds: dict[str, Any], **log: Any) -> Interactions:
    table = pl.DataFrame(rows, schema=["u", "i", "r"][: len(rows[0])], orient="row")
    config = LogConfig.model_validate({**ROLES, **log})
    return build_interactions(RawLog(table), config, FilterConfig.model_validate(bounds))


def pairs(log: Interactions) -> list[tuple[str, str]]:
    return list(zip(log.user_ids.raw(log.user_of).to_list(), log.item_ids.raw(log.items).to_list()))


CHAIN = [
    *[(user, item) for user in "abc" for item in "xyz"],
    ("d", "x"),
    ("d", "w"),
    ("e", "w"),
    ("e", "v"),
    ("f", "v"),
]
"""Three users share three items; d, e and f hang on them by one item each, so that each round takes the next."""


def test_rare_items_go_first_then_users_once() -> None:
    log = built(CHAIN, {"min_item_interactions": 2, "min_user_interactions": 2})
    assert set(log.user_ids.ids) == {"a", "b", "c", "d", "e"}
    assert set(log.item_ids.ids) == {"v", "w", "x", "y", "z"}  # v has e alone by now, but nobody counts again
    assert log.num_interactions == 13


def test_a_core_is_counted_until_nothing_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "intarsia")
    log = built(CHAIN, {"k_core": 2})
    assert pairs(log) == [(user, item) for user in "abc" for item in "xyz"]
    lost = [line.split(": ")[1].split(",")[0] for line in caplog.messages[-1].splitlines()[1:]]
    assert lost == [
        "6 users",
        *["6 users", "5 users"],
        *["5 users", "4 users"],
        *["4 users", "3 users"],
        *2 * ["3 users"],
    ]


def test_each_round_says_what_it_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "intarsia")
    log = built(CHAIN, {"k_core": 3})
    assert pairs(log) == [(user, item) for user in "abc" for item in "xyz"]
    assert caplog.messages[-1] == (
        "filter of the log\n"
        "  the log: 6 users, 5 items, 14 interactions\n"
        "  round 1, items with at least 3 interactions: 4 users, 3 items, 10 interactions\n"
        "  round 1, users with at least 3 interactions: 3 users, 3 items, 9 interactions\n"
        "  round 2, items with at least 3 interactions: 3 users, 3 items, 9 interactions\n"
        "  round 2, users with at least 3 interactions: 3 users, 3 items, 9 interactions"
    )


def test_k_core_is_short_for_three_options() -> None:
    long = built(CHAIN, {"min_item_interactions": 3, "min_user_interactions": 3, "iterative": True})
    assert pairs(long) == pairs(built(CHAIN, {"k_core": 3}))


def test_ratings_go_before_anything_is_counted() -> None:
    rows = [("a", "x", 5), ("a", "y", 2), ("b", "x", 4), ("b", "z", 5), ("c", "z", 5), ("c", "x", 1)]
    log = built(rows, {"min_item_interactions": 2}, rating_field="r", positive_rating=4)
    assert pairs(log) == [("a", "x"), ("b", "x"), ("b", "z"), ("c", "z")]
    bounds = {"min_rating": 4, "max_rating": 4.5}
    assert pairs(built([*rows, ("c", "y", 4)], bounds, rating_field="r")) == [("b", "x"), ("c", "y")]


def test_the_higher_of_two_thresholds_counts() -> None:
    rows = [("a", "x", 5), ("a", "y", 4), ("b", "y", 5), ("b", "x", 3)]
    log = built(rows, {"min_rating": 5}, rating_field="r", positive_rating=4)
    assert pairs(log) == [("a", "x"), ("b", "y")]


def test_repetitions_are_merged_before_anything_is_counted() -> None:
    rows = [("a", "x"), ("a", "x"), ("a", "y"), ("b", "y"), ("b", "z"), ("c", "z"), ("c", "w"), ("d", "w")]
    log = built(rows, {"min_item_interactions": 2}, repeated="first")
    assert set(log.item_ids.ids) == {"y", "z", "w"}
    assert set(built(rows, {"min_item_interactions": 2}).item_ids.ids) == {"x", "y", "z", "w"}


def test_nothing_is_copied_where_nothing_is_asked() -> None:
    users, items = np.array([0, 1], dtype=np.int32), np.array([0, 1], dtype=np.int32)
    assert frequent(users, items, FilterConfig(), Account()) is None
    assert frequent(users, items, FilterConfig(k_core=1), Account()) is None


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=60), core=st.integers(2, 4))
def test_a_core_is_the_largest_set_with_enough_everywhere(rows: list[tuple[int, int]], core: int) -> None:
    """Against taking away one poor user or item at a time."""
    users, items = (np.array(column, dtype=np.int32) for column in zip(*rows))
    found = frequent(users, items, FilterConfig(k_core=core), Account())
    left = list(range(len(rows)))
    while True:
        poor = [
            (side, one) for side in (0, 1) for one in range(8) if 0 < sum(rows[k][side] == one for k in left) < core
        ]
        if not poor:
            break
        side, one = poor[0]
        left = [k for k in left if rows[k][side] != one]
    assert (list(range(len(rows))) if found is None else found.tolist()) == left


def test_a_core_that_nobody_reaches_says_who_was_lost_when() -> None:
    with pytest.raises(DataError) as caught:
        built([("a", "x"), ("a", "y"), ("b", "y"), ("b", "z"), ("c", "z")], {"k_core": 2})
    assert str(caught.value) == (
        "the filter must leave at least two users and two items. Received, step by step:\n"
        "  the log: 3 users, 3 items, 5 interactions\n"
        "  round 1, items with at least 2 interactions: 3 users, 2 items, 4 interactions\n"
        "  round 1, users with at least 2 interactions: 1 users, 2 items, 2 interactions\n"
        "  round 2, items with at least 2 interactions: 0 users, 0 items, 0 interactions\n"
        "Lower the bounds of data_config.filter."
    )


def test_ratings_that_nobody_gave_are_told_the_same_way() -> None:
    with pytest.raises(DataError) as caught:
        built([("a", "x", 1), ("b", "y", 2)], {"min_rating": 4}, rating_field="r")
    assert str(caught.value) == (
        "the filter must leave at least two users and two items. Received, step by step:\n"
        "  the log: 2 users, 2 items, 2 interactions\n"
        "  ratings of at least 4: 0 users, 0 items, 0 interactions\n"
        "Lower the bounds of data_config.filter."
    )


def test_bounds_of_ratings_need_ratings() -> None:
    with pytest.raises(DataError) as caught:
        built([("a", "x"), ("b", "y")], {"max_rating": 4})
    assert str(caught.value) == (
        "filter.min_rating and filter.max_rating read the rating. Received: a log without log.rating_field. Name the "
        "column with the rating."
    )


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (
            {"k_core": 5, "min_item_interactions": 2},
            "k_core stands for min_item_interactions, min_user_interactions and iterative, so it is given alone. "
            "Received: k_core 5, min_item_interactions 2, min_user_interactions 1. Keep one spelling",
        ),
        ({"min_rating": 4, "max_rating": 3}, "min_rating must not be above max_rating. Received: 4 and 3"),
    ],
)
def test_bounds_that_contradict_each_other(bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        FilterConfig.model_validate(bounds)
    assert caught.value.errors()[0]["msg"] == f"Value error, {message}"
