"""Tests for the Random model."""

from __future__ import annotations

import numpy as np
import torch
from classic import batch_of, division_of, scores_of
from retrieval_contract import RetrieverContract

from intarsia.core.batch import Batch
from intarsia.data.schema import Schema
from intarsia.models.random_items import Random


class TestRandom(RetrieverContract):
    model = {"model_class": "Random"}
    learns = False


def random(seed: int = 0, num_items: int = 1000) -> Random:
    model = Random(schema=Schema({}, num_users=500, num_items=num_items))
    model.fit(division_of([[0]], num_items), seed)
    return model


def queries(count: int = 300) -> Batch:
    """Of known users without a history."""
    return batch_of(*[[]] * count, users=range(count))


def correlation(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])


def test_scores_are_uniform() -> None:
    found = scores_of(random(), queries())  # 300,000 numbers
    assert found.min() >= 0
    assert found.max() < 1
    counts = np.histogram(found, bins=50, range=(0, 1))[0]
    # Each bin expects 6,000 with a standard deviation of 77; the sum of squares is chi-square of 49.
    assert ((counts - 6000) ** 2 / 6000).sum() < 100
    first = np.bincount(found.argmax(axis=1) // 100, minlength=10)  # 300 winners in ten parts of the catalogue
    assert ((first - 30) ** 2 / 30).sum() < 35


def test_users_items_and_neighbours_have_nothing_to_do_with_each_other() -> None:
    found = scores_of(random(), queries())
    assert abs(correlation(found[:-1], found[1:])) < 0.01
    assert abs(correlation(found[:, :-1], found[:, 1:])) < 0.01
    # Means over users and items vary as those of independent numbers do: 1 / sqrt(12 n).
    assert 0.8 < found.mean(axis=0).std() * (12 * 300) ** 0.5 < 1.2
    assert 0.8 < found.mean(axis=1).std() * (12 * 1000) ** 0.5 < 1.2


def test_the_seed_decides() -> None:
    assert np.array_equal(scores_of(random(3), queries(5)), scores_of(random(3), queries(5)))
    assert abs(correlation(scores_of(random(3), queries()), scores_of(random(4), queries()))) < 0.01


def test_a_saved_model_says_the_same() -> None:
    again = random(0)
    again.load_state_dict(random(7).state_dict())
    assert np.array_equal(scores_of(again, queries(5)), scores_of(random(7), queries(5)))


def test_torchs_generator_and_the_batch_change_nothing() -> None:
    histories: list[list[int]] = [[1, 2], [], [2, 1], [7]]
    torch.manual_seed(1)
    together = scores_of(random(), batch_of(*histories))
    torch.manual_seed(2)
    for row, history in enumerate(histories):
        assert np.array_equal(scores_of(random(), batch_of(history))[0], together[row])


def test_histories_their_order_and_users_decide() -> None:
    found = scores_of(random(), batch_of([1, 2], [2, 1], [1, 2], [1, 2, 2], users=[-1, -1, 5, -1]))
    for one in range(4):
        for two in range(one):
            assert abs(correlation(found[one], found[two])) < 0.15  # of 1,000 numbers: a deviation of 0.03
