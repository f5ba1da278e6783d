from __future__ import annotations

import numpy as np
import pytest
import torch
from logs import make_log, random_log

from intarsia.config.schema import SplitConfig
from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.errors import DataError
from intarsia.data.interactions.splits import split_interactions
from intarsia.data.interactions.views import QueryView, View, ViewKind, item_rows, sorted_rows, user_rows
from intarsia.data.loader import Loader

LOG = make_log([[3, 1, 4, 1, 5], [9, 2, 6], [5, 3]])
WHOLE = split_interactions(LOG, SplitConfig(by="leave_one_out", valid=0, test=0), 0)


def lists(feature: object) -> list[list[int]]:
    assert isinstance(feature, Jagged)
    return [part.tolist() for part in feature.values.tensor_split(feature.offsets[1:-1])]


def numbers(batch: Batch, name: str) -> list[int]:
    feature = batch.features[name]
    assert isinstance(feature, Dense)
    return feature.values.tolist()


def test_pairs_are_the_training_interactions() -> None:
    view = View(WHOLE, "pairs")
    batch = view.take(slice(0, view.num_rows))
    assert numbers(batch, "user") == [0] * 5 + [1] * 3 + [2] * 2
    assert numbers(batch, "target") == [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]


def test_next_shows_what_came_before() -> None:
    view = View(WHOLE, "next", max_history=2)
    batch = view.take(slice(0, view.num_rows))
    assert numbers(batch, "target") == [1, 4, 1, 5, 2, 6, 3]
    assert lists(batch.features["history"]) == [[3], [3, 1], [1, 4], [4, 1], [9], [9, 2], [5]]
    assert view.lengths.tolist() == [1, 2, 2, 2, 1, 2, 1]


def test_causal_asks_every_step_for_the_next() -> None:
    view = View(WHOLE, "causal", max_history=3)
    batch = view.take(np.array([0, 2]))
    assert lists(batch.features["history"]) == [[1, 4, 1], [5]]
    assert lists(batch.features["target"]) == [[4, 1, 5], [3]]


def test_masked_and_user_rows_hold_everything_that_fits() -> None:
    assert lists(View(WHOLE, "masked", max_history=3).take(slice(0, 3)).features["history"]) == [
        [4, 1, 5],
        [9, 2, 6],
        [5, 3],
    ]
    assert lists(View(WHOLE, "users", max_history=3).take(slice(0, 1)).features["history"]) == [[3, 1, 4, 1, 5]]


def test_seen_items_are_sorted_and_unique() -> None:
    view = View(WHOLE, "pairs", with_seen=True)
    assert lists(view.take(np.array([0, 5])).features["seen"]) == [[1, 3, 4, 5], [2, 6, 9]]


@pytest.mark.parametrize("kind", ["pairs", "next", "causal", "masked", "users"])
@pytest.mark.parametrize("by", ["leave_one_out", "random_by_user", "user"])
def test_views_hold_no_item_of_another_part(kind: ViewKind, by: str) -> None:
    """Every interaction has an item of its own, so that it can be recognised."""
    log = make_log([list(range(k * 8, k * 8 + 8)) for k in range(30)])
    division = split_interactions(log, SplitConfig.model_validate({"by": by, "valid": 1 if by[0] == "l" else 0.2}), 0)
    held = {
        item
        for queries in division.queries.values()
        for a, b in zip(queries.target_starts, queries.target_ends)
        for item in division.log.items[a:b].tolist()
    }
    view = View(division, kind, max_history=50)
    batch = view.take(slice(0, view.num_rows))
    found = {
        i for name in ("history", "target") if name in batch.features for i in batch.features[name].values.tolist()
    }
    assert held
    assert found
    assert not held & found


def test_queries_show_the_latest_steps_and_all_that_was_seen() -> None:
    division = split_interactions(LOG, SplitConfig(by="leave_one_out"), 0)
    view = QueryView(division, division.queries["test"], max_history=2)
    batch = view.take(slice(0, view.num_rows))
    assert numbers(batch, "user") == [0, 1]
    assert lists(batch.features["history"]) == [[4, 1], [9, 2]]
    assert lists(view.seen(slice(0, 2))) == [[3, 1, 4, 1], [9, 2]]
    assert lists(view.targets(slice(0, 2))) == [[5], [6]]


def test_users_without_training_interactions_have_no_number() -> None:
    log = make_log([[1, 2, 3, 4]] * 10)
    division = split_interactions(log, SplitConfig(by="user", valid=0, test=0.2), 0)
    view = QueryView(division, division.queries["test"])
    assert numbers(view.take(slice(0, 2)), "user") == [-1, -1]


def test_rows_by_user_and_by_item_hold_the_same_pairs() -> None:
    division = split_interactions(random_log(2), SplitConfig(by="random", valid=0.1, test=0.2), 3)
    offsets, items, _ = user_rows(division)
    by_user = sorted(zip(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)).tolist(), items.tolist()))
    offsets, users, _ = item_rows(division)
    by_item = sorted(zip(users.tolist(), np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)).tolist()))
    assert by_user == by_item
    offsets, found = sorted_rows(division)
    for user in range(len(offsets) - 1):
        mine = sorted({i for u, i in by_user if u == user})
        assert found[offsets[user] : offsets[user + 1]].tolist() == mine


def test_a_log_of_lone_interactions_has_no_histories_to_learn_from() -> None:
    division = split_interactions(make_log([[1], [2]]), SplitConfig(by="leave_one_out", valid=0, test=0), 0)
    with pytest.raises(DataError) as caught:
        View(division, "causal")
    assert str(caught.value) == (
        "training on histories needs users with at least two training interactions. Received: none among 2 users "
        "(longest: 1). Check user_field and the filters."
    )


def test_batches_of_like_lengths_hold_every_row_once() -> None:
    division = split_interactions(random_log(9, num_users=500), SplitConfig(by="leave_one_out", valid=0, test=0), 0)
    view = View(division, "causal")
    loader = Loader(view, 16, shuffle=True, seed=3, lengths=view.lengths)
    plain = Loader(view, 16, shuffle=True, seed=3)
    batches = list(loader.epoch(0))
    users = torch.cat([b.features["user"].values for b in batches])
    assert sorted(users.tolist()) == sorted(view._rows.tolist())
    assert [b.size for b in batches] == [b.size for b in plain.epoch(0)]

    def waste(found: list[Batch]) -> int:
        lengths = [b.features["history"].offsets.diff() for b in found]
        return sum(int(n.max()) * len(n) - int(n.sum()) for n in lengths)

    assert waste(batches) < 0.2 * waste(list(plain.epoch(0)))
    again = [b.features["user"].values.tolist() for b in loader.epoch(0, start_batch=4)]
    assert again == [b.features["user"].values.tolist() for b in batches[4:]]
    other = [b.features["user"].values.tolist() for b in loader.epoch(1)]
    assert other != [b.features["user"].values.tolist() for b in batches]
