from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import make_log, random_log

from intarsia.config.schema import SplitConfig
from intarsia.core.errors import DataError
from intarsia.data.interactions.splits import Division, split_interactions

SPLITS = [
    {"by": "leave_one_out"},
    {"by": "leave_one_out", "valid": 2, "test": 3},
    {"by": "time", "valid": 0.2, "test": 0.2},
    {"by": "time_by_user", "valid": 0.25, "test": 0.25},
    {"by": "random", "valid": 0.2, "test": 0.2},
    {"by": "random_by_user", "valid": 0.25, "test": 0.25},
    {"by": "random_by_item", "valid": 0.25, "test": 0.25},
    {"by": "user", "valid": 0.2, "test": 0.2},
    {"by": "k_fold", "folds": 4, "fold": 3},
]


def rows(division: Division, starts: np.ndarray, ends: np.ndarray) -> list[list[int]]:
    return [division.log.items[a:b].tolist() for a, b in zip(starts, ends)]


def training(division: Division) -> list[list[int]]:
    return rows(division, division.train_starts, division.train_ends)


def test_a_random_split_that_holds_nothing_back_keeps_the_order() -> None:
    for by in ("random", "random_by_user"):
        division = split_interactions(make_log([[3, 1, 2], [5, 4]]), SplitConfig(by=by, valid=0, test=0), 0)
        assert training(division) == [[3, 1, 2], [5, 4]]
        assert not division.queries


def test_leave_one_out_asks_for_the_last_and_shows_all_before_it() -> None:
    division = split_interactions(make_log([[1, 2, 3, 4], [5, 6], [7, 8, 9]]), SplitConfig(by="leave_one_out"), 0)
    assert training(division) == [[1, 2], [5, 6], [7]]  # whoever would keep nothing stays whole
    valid, test = division.queries["valid"], division.queries["test"]
    assert valid.users.tolist() == test.users.tolist() == [0, 2]
    assert rows(division, valid.starts, valid.ends) == [[1, 2], [7]]
    assert rows(division, valid.target_starts, valid.target_ends) == [[3], [8]]
    assert rows(division, test.starts, test.ends) == [[1, 2, 3], [7, 8]]
    assert rows(division, test.target_starts, test.target_ends) == [[4], [9]]


def test_validation_items_can_be_kept_out_of_test_histories() -> None:
    config = SplitConfig(by="leave_one_out", valid_in_test_history=False)
    test = split_interactions(make_log([[1, 2, 3, 4], [5, 6, 7]]), config, 0).queries["test"]
    assert (test.ends - test.starts).tolist() == [2, 1]
    assert (test.target_starts - test.starts).tolist() == [3, 2]


def test_a_point_in_time_divides_everybody_at_once() -> None:
    log = make_log([[1, 2, 3], [4, 5], [6]], times=[[1, 5, 9], [2, 6], [10]])
    division = split_interactions(log, SplitConfig(by="time", valid=1 / 3, test=1 / 3), 0)
    assert training(division) == [[1], [4], []]
    assert division.queries["valid"].users.tolist() == [0, 1]
    test = division.queries["test"]
    assert test.users.tolist() == [0, 2]
    assert rows(division, test.starts, test.ends) == [[1, 2], []]  # the last one is new


def test_interactions_of_one_moment_stay_on_one_side() -> None:
    log = make_log([[1, 2], [3, 4]], times=[[1, 5], [5, 5]])
    division = split_interactions(log, SplitConfig(by="time", valid=0, test=0.25), 0)
    assert training(division) == [[1], []]


def test_shares_of_each_user_are_their_last() -> None:
    log = make_log([list(range(10)), [10, 11, 12, 13], [14]])
    division = split_interactions(log, SplitConfig(by="time_by_user", valid=0.2, test=0.25), 0)
    assert training(division) == [[0, 1, 2, 3, 4, 5], [10, 11, 12], [14]]
    test = division.queries["test"]
    assert rows(division, test.target_starts, test.target_ends) == [[8, 9], [13]]


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    by=st.sampled_from(["leave_one_out", "time_by_user"]),
    sizes=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_the_last_are_taken_away_as_slices_do(seed: int, by: str, sizes: tuple[int, int]) -> None:
    log = random_log(seed)
    valid, test = sizes if by == "leave_one_out" else (sizes[0] / 7, sizes[1] / 7)
    division = split_interactions(log, SplitConfig.model_validate({"by": by, "valid": valid, "test": test}), 0)
    kept, asked = [], {"valid": [], "test": []}
    for row in rows(division, log.offsets[:-1], log.offsets[1:]):
        count = [int(len(row) * share + 1e-9) for share in (valid, test)] if by == "time_by_user" else list(sizes)
        if by == "leave_one_out" and len(row) <= sum(count):
            count = [0, 0]
        middle, end = len(row) - sum(count), len(row) - count[1]
        kept.append(row[:middle])
        asked["valid"] += [row[middle:end]] if middle < end else []
        asked["test"] += [row[end:]] if end < len(row) else []
    assert training(division) == kept
    for part, wanted in asked.items():
        queries = division.queries.get(part)
        found = [] if queries is None else rows(division, queries.target_starts, queries.target_ends)
        assert found == wanted


@pytest.mark.parametrize("test", [0, 1])
@pytest.mark.parametrize("num_items", [30, 50])
def test_items_are_counted_in_training_alone(test: int, num_items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of as many interactions as there are items, of which the last one is short."""
    monkeypatch.setattr("intarsia.data.interactions.splits._BLOCK", 7)
    log = random_log(11, num_users=40, num_items=num_items)
    division = split_interactions(log, SplitConfig(by="leave_one_out", valid=0, test=test), 0)
    taken = np.array([item for row in training(division) for item in row])
    assert division.item_counts().tolist() == [int((taken == item).sum()) for item in range(num_items)]


def test_users_apart_show_their_first_part_and_are_never_trained_on() -> None:
    log = make_log([[k * 10 + j for j in range(10)] for k in range(10)])
    division = split_interactions(log, SplitConfig(by="user", valid=0.2, test=0.3), 7)
    asked = np.concatenate([division.queries[p].users for p in ("valid", "test")])
    assert len(division.queries["valid"]) == 2
    assert len(division.queries["test"]) == 3
    assert len(set(asked.tolist())) == 5
    assert all((not mine) == (user in asked) for user, mine in enumerate(training(division)))
    test = division.queries["test"]
    for user, given_items, wanted in zip(
        test.users, rows(division, test.starts, test.ends), rows(division, test.target_starts, test.target_ends)
    ):
        assert given_items == [user * 10 + j for j in range(8)]
        assert wanted == [user * 10 + j for j in (8, 9)]


def test_a_random_share_of_each_item_leaves_it_in_training() -> None:
    log = random_log(3, num_users=200, num_items=10)
    division = split_interactions(log, SplitConfig(by="random_by_item", valid=0, test=0.25), 0)
    before, after = np.bincount(log.items, minlength=10), division.item_counts()
    assert np.all(np.abs(after - 0.75 * before) <= 0.5)


def test_folds_cover_everything_once() -> None:
    log = make_log([list(range(6)), list(range(6, 10)), [10, 11, 12]])
    tests: list[int] = []
    for fold in range(3):
        division = split_interactions(log, SplitConfig(by="k_fold", folds=3, fold=fold, valid=0), 5)
        test = division.queries["test"]
        mine = [i for row in rows(division, test.target_starts, test.target_ends) for i in row]
        assert sorted(mine + [i for row in training(division) for i in row]) == list(range(13))
        tests += mine
    assert sorted(tests) == list(range(13))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10_000), which=st.sampled_from(SPLITS))
def test_no_test_interaction_is_trained_on_and_no_history_holds_the_future(seed: int, which: dict[str, object]) -> None:
    """Every interaction carries its own number as time, so that it can be followed through the division."""
    log = random_log(seed)
    config = SplitConfig.model_validate(which)
    division = split_interactions(log, config, seed)
    times = division.log.times
    assert times is not None
    trained: set[float] = set()
    for a, b in zip(division.train_starts, division.train_ends):
        trained |= set(times[a:b].tolist())
        assert np.all(np.diff(times[a:b]) >= 0)
    wanted: dict[str, set[float]] = {}
    for part, queries in division.queries.items():
        wanted[part] = set()
        for user, a, b, c, d in zip(
            queries.users, queries.starts, queries.ends, queries.target_starts, queries.target_ends
        ):
            first, last = division.log.offsets[user], division.log.offsets[user + 1]
            assert first <= a <= b <= c < d <= last
            wanted[part] |= set(times[c:d].tolist())
            history = set(times[a:b].tolist())
            assert not history & set(times[c:d].tolist())
            if division.ordered:
                assert not history or max(history) < min(times[c:d])
            if part == "valid":
                assert config.by == "user" or history <= trained
        assert not wanted[part] & trained
    assert not wanted.get("valid", set()) & wanted.get("test", set())
    if config.by == "time" and "test" in wanted:
        assert max(trained | wanted.get("valid", set())) < min(wanted["test"])


def test_random_splits_depend_on_the_seed_alone() -> None:
    log = random_log(1)
    config = SplitConfig(by="random_by_user", valid=0.2, test=0.2)
    one, same, other = (split_interactions(log, config, seed).log.items.tolist() for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"by": "leave_one_out", "valid": 0.5},
            "split by leave_one_out counts interactions of each user, so valid and test are whole numbers. Received: "
            "valid 0.5, test 1.0. Set both to 1, for instance.",
        ),
        (
            {"by": "time_by_user", "valid": 0.5, "test": 0.5},
            "the shares of valid and test must leave interactions for training. Received: 0.5 + 0.5.",
        ),
        ({"by": "k_fold", "folds": 3, "fold": 3}, "fold counts from 0 to folds - 1. Received: fold 3 of 3 folds."),
        ({"by": "time"}, "split by time needs log.time_field. Name the column, or split by another rule."),
        (
            {"by": "leave_one_out", "valid": 1, "test": 5},
            "split by leave_one_out leaves nothing for: valid, test. Received: 5 interactions of 2 users, valid 1, "
            "test 5. Choose other shares, or set the empty part to 0.",
        ),
        (
            {"by": "files"},
            "split by files needs ready-made parts: eval_input_path or test_input_path beside train_input_path. "
            "Received one log. Give the files, or choose another split.",
        ),
    ],
)
def test_splits_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError) as caught:
        split_interactions(make_log([[1, 2, 3], [4, 5]]), SplitConfig.model_validate(options), 0)
    assert str(caught.value) == message
