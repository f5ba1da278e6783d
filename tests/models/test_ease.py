"""Tests for the EASE model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from classic import RANDOM_ROWS, batch_of, division_of, scores_of
from retrieval_contract import RetrieverContract
from torch import Tensor

from intarsia.core.errors import BuildError, TrainingError
from intarsia.data.schema import Schema
from intarsia.models import ease as module
from intarsia.models.ease import EASE
from intarsia.models.rows import co_occurrences
from intarsia.nn import inverse as inverse_module

Array = npt.NDArray[np.float64]


class TestEASE(RetrieverContract):
    model = {"model_class": "EASE", "ease": {"l2": 10}}


def ease(rows: list[list[int]] = RANDOM_ROWS, num_items: int = 12, **options: float) -> EASE:
    """Fitted."""
    model = EASE(schema=Schema({}, num_users=len(rows), num_items=num_items), **options)  # type: ignore[arg-type]
    model.fit(division_of(rows, num_items), 0)
    return model


def weights_of(model: EASE) -> Array:
    return model.get_buffer("weights").double().numpy()


def taken() -> Array:
    """(U, N) zeros and ones: an item that was taken twice counts once."""
    matrix = np.zeros((len(RANDOM_ROWS), 12))
    for user, row in enumerate(RANDOM_ROWS):
        matrix[user, row] = 1
    return matrix


def closed_form(l2: float) -> Array:
    inverse = np.linalg.inv(taken().T @ taken() + l2 * np.eye(12))
    expected: Array = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    return expected


@pytest.mark.parametrize("l2", [0.5, 20.0])
@pytest.mark.parametrize("leaf", [5, 512])
def test_weights_are_the_closed_form(monkeypatch: pytest.MonkeyPatch, l2: float, leaf: int) -> None:
    monkeypatch.setattr(inverse_module, "LEAF", leaf)
    assert np.allclose(weights_of(ease(l2=l2)), closed_form(l2), atol=1e-6)


def test_precision_is_double_beyond_a_bound_of_the_condition_number(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = (taken().T @ taken()).sum(axis=0)
    precisions = []
    counted = co_occurrences

    def noted(matrix: Any, dtype: torch.dtype) -> Tensor:
        precisions.append(dtype)
        return counted(matrix, dtype)

    monkeypatch.setattr(module, "co_occurrences", noted)
    for share in (1.01, 0.99):
        ease(l2=share * sums.max() / (module.WELL_CONDITIONED - 1))
    assert precisions == [torch.float32, torch.float64]


def test_a_small_penalty_is_as_exact_as_a_large_one() -> None:
    """Three items that always go together: X'X + l2 is 15 everywhere, plus l2 on its diagonal."""
    l2 = 1e-5
    found = weights_of(ease([[0, 1, 2]] * 15, num_items=3, l2=l2))
    assert np.allclose(found, 15 / (30 + l2) * (1 - np.eye(3)), atol=1e-7)


def test_each_item_is_a_ridge_regression_on_all_others() -> None:
    x, found = taken(), weights_of(ease(l2=3.0))
    for item in range(12):
        others = np.delete(x, item, axis=1)
        column = np.linalg.solve(others.T @ others + 3.0 * np.eye(11), others.T @ x[:, item])
        assert np.allclose(np.delete(found[:, item], item), column, atol=1e-6)
        assert found[item, item] == 0


def test_two_items_by_hand() -> None:
    """Users take {0, 1}, {0, 1}, {0}: X'X + 1 is [[4, 2], [2, 3]], so W[0, 1] = 2 / 4 and W[1, 0] = 2 / 3."""
    found = weights_of(ease([[0, 1], [1, 0, 0], [0]], num_items=2, l2=1.0))
    assert np.allclose(found, [[0, 2 / 4], [2 / 3, 0]])


def test_single_precision_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WELL_CONDITIONED", 0.0)
    double = weights_of(ease(l2=3.0))
    assert np.allclose(double, closed_form(3.0), rtol=1e-7, atol=0)
    monkeypatch.setattr(module, "DOUBLE", 1)
    assert np.allclose(weights_of(ease(l2=3.0)), double, atol=1e-5)


def test_a_score_is_the_sum_over_the_distinct_items_of_the_history() -> None:
    model = ease(l2=3.0)
    weights = weights_of(model)
    found = scores_of(model, batch_of([3, 1, 3], [], [7], users=[0, 1, 2]))
    expected = np.stack([weights[3] + weights[1], np.zeros(12), weights[7]])
    assert np.allclose(found, expected, atol=1e-6)


def test_a_catalogue_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BuildError) as caught:
        EASE(schema=Schema({}, num_users=1, num_items=30_000))
    assert str(caught.value) == (
        "model_config.ease.max_items: EASE keeps a weight for each pair of items, so catalogues are limited to "
        "max_items. Received: 30000 items (a matrix of 3.6 GB), max_items 25000. Drop rare items by "
        "data_config.filter.min_item_interactions, raise ease.max_items, or use ItemKNN or ALS."
    )


def test_a_penalty_that_is_too_small_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOUBLE", 1)
    with pytest.raises(TrainingError) as caught:
        ease([[0, 1]] * 5, num_items=2, l2=1e-12)
    assert str(caught.value) == (
        "ease.l2 must be large enough for the co-occurrences to be inverted. Received: 1e-12 for 2 items. Raise it."
    )


def test_the_weights_are_all_that_is_kept() -> None:
    again = EASE(schema=Schema({}, num_users=20, num_items=12))
    again.load_state_dict(ease(l2=3.0).state_dict())
    assert torch.equal(again.get_buffer("weights"), ease(l2=3.0).get_buffer("weights"))
