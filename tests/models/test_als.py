from __future__ import annotations

import numpy as np
import pytest
import torch
from logs import make_log, random_log
from retrieval_contract import RetrieverContract, query

from intarsia.core.errors import TrainingError
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.als import ALS
from intarsia.nn.least_squares import group_rows, solve_rows


class TestALS(RetrieverContract):
    model = {"model_class": "ALS", "als": {"hidden_size": 12, "unobserved_weight": 0.1, "regularization": 0.01}}


def everything(log) -> Division:
    return Division(log, log.offsets[:-1], log.offsets[1:], {}, "everything", ordered=True)


def fitted(division: Division, **options: object) -> ALS:
    log = division.log
    model = ALS(schema=Schema({}, num_users=log.num_users, num_items=log.num_items), **options)
    model.fit(division, seed=3)
    return model.eval()


def taken(division: Division) -> np.ndarray:
    log = division.log
    out = np.zeros((log.num_users, log.num_items))
    for user in range(log.num_users):
        out[user, log.items[log.offsets[user] : log.offsets[user + 1]]] = 1
    return out


def best_users(hits: np.ndarray, items: np.ndarray, weight: float, ridge: float, nu: float) -> np.ndarray:
    """Each user's normal equations, one at a time."""
    out = []
    for row in hits:
        own = items[row > 0]
        frequency = len(own) + weight * len(items)
        system = own.T @ own + weight * items.T @ items + ridge * frequency**nu * np.eye(items.shape[1])
        out.append(np.linalg.solve(system, own.sum(axis=0)))
    return np.array(out)


def loss(hits: np.ndarray, users: np.ndarray, items: np.ndarray, weight: float, ridge: float, nu: float) -> float:
    products = users @ items.T
    counts = [hits.sum(axis=k) + weight * hits.shape[k] for k in (1, 0)]
    penalties = sum((c**nu * (x**2).sum(axis=1)).sum() for c, x in zip(counts, (users, items)))
    return float((hits * (products - 1) ** 2).sum() + weight * (products**2).sum() + ridge * penalties)


def test_a_query_solves_the_normal_equations_of_its_history() -> None:
    division = everything(random_log(0))
    model = fitted(division, hidden_size=5, unobserved_weight=0.2, regularization=0.05, frequency_exponent=0.7)
    hits, items = taken(division), model.items.double().numpy()
    expected = best_users(hits, items, 0.2, 0.05, 0.7)
    for user in (0, 3, 19):
        row = torch.from_numpy(np.flatnonzero(hits[user]))
        found = model.encode_queries(query(row))[0].numpy()
        assert np.allclose(found, expected[user], atol=1e-5)


def test_every_iteration_lowers_the_loss() -> None:
    division = everything(random_log(1))
    hits = taken(division)
    losses = []
    for iterations in (1, 2, 3, 6):
        options = {"unobserved_weight": 0.1, "regularization": 0.02, "solver": "cholesky"}
        items = fitted(division, hidden_size=6, iterations=iterations, **options).items.double().numpy()
        losses.append(loss(hits, best_users(hits, items, 0.1, 0.02, 1.0), items, 0.1, 0.02, 1.0))
    assert all(b < a - 1e-6 for a, b in zip(losses, losses[1:]))


def test_as_many_steps_of_conjugate_gradients_as_numbers_are_exact() -> None:
    division = everything(random_log(2))
    exact = fitted(division, hidden_size=4, solver="cholesky", iterations=4, regularization=0.05)
    steps = fitted(division, hidden_size=4, solver="cg", cg_steps=12, iterations=4, regularization=0.05)
    assert torch.allclose(exact.items, steps.items, atol=1e-3)


def test_repeats_count_where_they_are_asked_to() -> None:
    once = make_log([[0, 1], [1, 2], [0, 2]])
    often = make_log([[0, 0, 0, 1], [1, 2], [0, 2]])
    options = {"hidden_size": 2, "regularization": 0.05}
    assert torch.equal(fitted(everything(once), **options).items, fitted(everything(often), **options).items)
    counted = fitted(everything(often), count_repeats=True, **options).items
    assert not torch.allclose(counted, fitted(everything(once), **options).items, atol=1e-3)


def test_a_ridge_that_is_too_small_is_told() -> None:
    entries, offsets = torch.tensor([0, 1]), torch.tensor([0, 2])
    groups = group_rows(entries, offsets, count=2, width=3)
    with pytest.raises(TrainingError, match="a ridge that is large enough to have a single solution"):
        solve_rows(groups, torch.zeros(2, 3), torch.zeros(1, 3), ridge=torch.zeros(1))


def test_rows_without_entries_get_zeros_and_groups_change_nothing() -> None:
    """Weights and targets by hand, row by row."""
    rng = np.random.default_rng(5)
    rows = [rng.integers(0, 9, n) for n in (0, 1, 7, 3, 2, 7)]
    entries = torch.from_numpy(np.concatenate(rows))
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum([len(r) for r in rows])]))
    weights, targets = torch.rand(len(entries), dtype=torch.float64), torch.randn(len(entries), dtype=torch.float64)
    vectors = torch.from_numpy(rng.normal(size=(9, 4)))
    ridge = torch.linspace(0.1, 0.6, 6, dtype=torch.float64)
    groups = group_rows(entries, offsets, count=9, width=4, weights=weights, targets=targets)
    start = torch.zeros(6, 4, dtype=torch.float64)
    found = solve_rows(groups, vectors, start, ridge=ridge)
    for b, row in enumerate(rows):
        part = slice(int(offsets[b]), int(offsets[b + 1]))
        own, w = vectors.numpy()[row], weights[part].numpy()
        system = own.T @ (w[:, None] * own) + ridge[b].item() * np.eye(4)
        assert np.allclose(found[b].numpy(), np.linalg.solve(system, own.T @ (w * targets[part].numpy())))
    assert torch.allclose(solve_rows(groups, vectors, start, ridge=ridge, steps=8), found, atol=1e-8)
    assert found[0].abs().sum() == 0
