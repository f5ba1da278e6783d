from __future__ import annotations

import numpy as np
import pytest
import torch
from logs import make_log, random_log
from retrieval_contract import RetrieverContract, query

from intarsia.core.errors import BuildError
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.ease import EASE


class TestEASE(RetrieverContract):
    model = {"model_class": "EASE", "ease": {"l2": 20.0}}


def fitted(log, l2: float) -> EASE:
    division = Division(log, log.offsets[:-1], log.offsets[1:], {}, "everything", ordered=True)
    model = EASE(schema=Schema({}, num_users=log.num_users, num_items=log.num_items), l2=l2)
    model.fit(division, seed=0)
    return model


def test_weights_are_the_closed_form() -> None:
    log = random_log(4)
    x = np.zeros((log.num_users, log.num_items))
    for user in range(log.num_users):
        x[user, log.items[log.offsets[user] : log.offsets[user + 1]]] = 1
    p = np.linalg.inv(x.T @ x + 3.0 * np.eye(log.num_items))
    expected = -p / np.diag(p)
    np.fill_diagonal(expected, 0.0)
    model = fitted(log, 3.0)
    assert np.allclose(model.weights.numpy(), expected, atol=1e-5)
    history = [2, 5, 5, 9]
    scores = model.score_block(model.queries(query(torch.tensor(history))), None, 0, log.num_items)
    assert np.allclose(scores[0].numpy(), expected[[2, 5, 9]].sum(axis=0), atol=1e-5)


def test_no_item_speaks_for_itself_and_weights_are_the_best_there_are() -> None:
    """A small change of any weight off the diagonal makes the loss larger."""
    log = make_log([[0, 1], [0, 1, 2], [1, 2], [0, 2], [0, 1]])
    x = np.zeros((5, 3))
    for user in range(5):
        x[user, log.items[log.offsets[user] : log.offsets[user + 1]]] = 1

    def loss(w: np.ndarray) -> float:
        return float(((x - x @ w) ** 2).sum() + 2.0 * (w**2).sum())

    weights = fitted(log, 2.0).weights.double().numpy()
    assert np.all(np.diag(weights) == 0)
    for row, column in [(0, 1), (1, 0), (2, 1)]:
        for step in (1e-2, -1e-2):
            changed = weights.copy()
            changed[row, column] += step
            assert loss(changed) > loss(weights)


def test_a_catalogue_too_large_for_a_matrix_is_refused() -> None:
    with pytest.raises(BuildError, match=r"Received: 30000 items \(a matrix of 3\.6 GB\), max_items 25000"):
        EASE(schema=Schema({}, num_users=2, num_items=30_000))
