"""Tests for the Pop model."""

from __future__ import annotations

import numpy as np
import pytest
from classic import batch_of, division_of, scores_of
from retrieval_contract import RetrieverContract

from intarsia.core.errors import DataError
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.pop import Pop

DAY = 86400.0


class TestPop(RetrieverContract):
    model = {"model_class": "Pop"}
    learns = False


class TestRecent(RetrieverContract):
    model = {"model_class": "Pop", "pop": {"half_life_days": 1}}
    learns = False


def pop(division: Division, **options: float) -> Pop:
    model = Pop(schema=Schema({}, num_users=3, num_items=4), **options)
    model.fit(division, 0)
    return model


ROWS = [[0, 1, 2], [1, 1, 3], [1]]
TIMES = [[0.0, 4 * DAY, 9 * DAY], [2 * DAY, 6 * DAY, 7 * DAY], [8 * DAY]]


def test_a_score_is_the_number_of_interactions() -> None:
    found = scores_of(pop(division_of(ROWS, 4)), batch_of([0], [], [3, 3]))
    assert found.tolist() == [[1, 4, 1, 1]] * 3


def test_only_training_interactions_count() -> None:
    found = scores_of(pop(division_of(ROWS, 4, held_out=1)), batch_of([]))
    assert found.tolist() == [[1, 3, 0, 0]]


def test_an_interaction_counts_half_after_each_half_life() -> None:
    """The last of all is at day 9, so with two days item 1 has 2^-2.5 + 2^-3.5 + 2^-1.5 + 2^-0.5."""
    found = scores_of(pop(division_of(ROWS, 4, times=TIMES), half_life_days=2), batch_of([]))[0]
    expected = [2**-4.5, 2**-2.5 + 2**-3.5 + 2**-1.5 + 2**-0.5, 1.0, 2**-1.0]
    assert np.allclose(found, expected)


def test_age_is_counted_from_the_last_training_interaction() -> None:
    """Without the held-out ones that is day 6: item 0 is three half-lives old, item 1 two, one and none."""
    model = pop(division_of(ROWS[:2], 4, times=TIMES[:2], held_out=1), half_life_days=2)
    assert np.allclose(scores_of(model, batch_of([]))[0], [2**-3.0, 2**-1.0 + 2**-2.0 + 1.0, 0.0, 0.0])


def test_whoever_wants_recent_ones_must_give_times() -> None:
    with pytest.raises(DataError) as caught:
        pop(division_of(ROWS, 4), half_life_days=2)
    assert str(caught.value) == (
        "pop.half_life_days needs the times of the interactions. Received: 2 and a log without log.time_field. Name "
        "the column, or set half_life_days: 0."
    )
