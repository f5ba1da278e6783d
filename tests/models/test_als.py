"""Tests for the ALS model."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from classic import RANDOM_ROWS, batch_of, division_of, scores_of
from retrieval_contract import RetrieverContract

from intarsia.data.schema import Schema
from intarsia.models.als import ALS

Array = npt.NDArray[np.float64]
ITEMS = 12


class TestALS(RetrieverContract):
    model = {"model_class": "ALS", "als": {"hidden_size": 8, "unobserved_weight": 0.1, "regularization": 0.01}}


class TestByCholesky(RetrieverContract):
    model = {"model_class": "ALS", "als": {"hidden_size": 8, "solver": "cholesky", "count_repeats": True}}
    learns = False


def als(rows: list[list[int]] = RANDOM_ROWS, seed: int = 0, **options: Any) -> ALS:
    """Fitted."""
    defaults = {"hidden_size": 3, "unobserved_weight": 0.2, "regularization": 0.05, "solver": "cholesky"}
    model = ALS(schema=Schema({}, num_users=len(rows), num_items=ITEMS), **{**defaults, **options})
    model.fit(division_of(rows, ITEMS), seed)
    return model.eval()


def items_of(model: ALS) -> Array:
    return model.get_buffer("items").double().numpy()


def matrix_of(rows: list[list[int]], counted: bool = False) -> Array:
    """(U, N) how often, or whether, a user took an item."""
    matrix = np.zeros((len(rows), ITEMS))
    for user, row in enumerate(rows):
        for item in row:
            matrix[user, item] += 1
    return matrix if counted else np.minimum(matrix, 1)


def half_step(taken: Array, others: Array, weight: float, strength: float, exponent: float) -> Array:
    """The minimum of one side: one regression over all of the other side for each row."""
    out = np.zeros((len(taken), others.shape[1]))
    for b, row in enumerate(taken):
        confidence = row + weight
        ridge = strength * (row.astype(bool).sum() + weight * len(others)) ** exponent
        system = (others * confidence[:, None]).T @ others + ridge * np.eye(others.shape[1])
        out[b] = np.linalg.solve(system, others.T @ row) if row.any() else 0
    return out


def loss_of(taken: Array, items: Array, weight: float, strength: float, exponent: float) -> float:
    """The written loss, where the users are the best for the items."""
    users = half_step(taken, items, weight, strength, exponent)
    products = users @ items.T
    fit = (taken * (products - 1) ** 2).sum() + weight * (products**2).sum()
    of_users = ((taken > 0).sum(axis=1) + weight * ITEMS) ** exponent
    of_items = ((taken > 0).sum(axis=0) + weight * len(taken)) ** exponent
    penalty = (of_users * (users**2).sum(axis=1)).sum() + (of_items * (items**2).sum(axis=1)).sum()
    return float(fit + strength * penalty)


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("exponent", [1.0, 0.0, 0.5])
def test_an_iteration_solves_the_normal_equations_of_users_and_then_of_items(exponent: float, counted: bool) -> None:
    one, two = (als(iterations=n, frequency_exponent=exponent, count_repeats=counted) for n in (1, 2))
    taken = matrix_of(RANDOM_ROWS, counted)
    users = half_step(taken, items_of(one), 0.2, 0.05, exponent)
    assert np.allclose(half_step(taken.T, users, 0.2, 0.05, exponent), items_of(two), atol=1e-5)


def test_the_loss_falls_at_every_iteration() -> None:
    for solver in ("cholesky", "cg"):
        taken = matrix_of(RANDOM_ROWS)
        losses = [
            loss_of(taken, items_of(als(iterations=n, solver=solver, cg_steps=2)), 0.2, 0.05, 1.0) for n in range(1, 9)
        ]
        assert all(after < before for before, after in itertools.pairwise(losses)), losses
        assert losses[-1] < 0.9 * losses[0]


def test_many_steps_of_conjugate_gradients_are_cholesky() -> None:
    exact = als(iterations=4)
    near, far = (als(iterations=4, solver="cg", cg_steps=steps) for steps in (9, 1))
    assert np.allclose(items_of(near), items_of(exact), atol=1e-4)
    assert not np.allclose(items_of(far), items_of(exact), atol=1e-2)


def test_a_query_is_the_best_vector_for_its_history() -> None:
    model = als(iterations=3)
    histories = [[1, 4, 4, 7], [], [0]]
    found = model.encode_queries(batch_of(*histories)).numpy()
    expected = half_step(matrix_of(histories), items_of(model), 0.2, 0.05, 1.0)
    assert np.allclose(found, expected)
    assert np.allclose(scores_of(model, batch_of(*histories)), expected @ items_of(model).T, atol=1e-6)
    assert not found[1].any()


def test_an_item_that_was_taken_twice_weighs_twice_if_it_shall() -> None:
    histories = [[1, 4, 4, 7]]
    model = als(iterations=3, count_repeats=True)
    found = model.encode_queries(batch_of(*histories)).numpy()
    assert np.allclose(found, half_step(matrix_of(histories, True), items_of(model), 0.2, 0.05, 1.0))
    assert not np.allclose(found, model.encode_queries(batch_of([1, 4, 7])).numpy())
    plain = als(iterations=3)
    assert torch.equal(plain.encode_queries(batch_of([1, 4, 4, 7])), plain.encode_queries(batch_of([1, 4, 7])))


def test_items_that_nobody_took_in_training_score_zero() -> None:
    model = als([[0, 1, 2], [1, 2, 3], [0, 3]])
    assert not items_of(model)[4:].any()
    assert not scores_of(model, batch_of([0, 1]))[0, 4:].any()


def test_seeds_decide_the_start() -> None:
    assert np.array_equal(items_of(als(seed=1)), items_of(als(seed=1)))
    assert not np.allclose(items_of(als(seed=1, iterations=1)), items_of(als(seed=2, iterations=1)))
