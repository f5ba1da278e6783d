from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from retrieval_contract import RetrieverContract, query

import intarsia
from intarsia.core.errors import DataError
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.explicit_als import ExplicitALS


class TestExplicitALS(RetrieverContract):
    model = {"model_class": "ExplicitALS", "explicit_als": {"hidden_size": 4}}
    learns = False  # the planted ratings are random; see below


def division_of(ratings: np.ndarray, given: np.ndarray) -> Division:
    """Everything given is training."""
    from logs import make_log

    rows = [np.flatnonzero(row).tolist() for row in given]
    log = make_log(rows, num_items=ratings.shape[1])
    log.ratings = np.concatenate([ratings[u][row] for u, row in enumerate(rows)]).astype(np.float32)
    return Division(log, log.offsets[:-1], log.offsets[1:], {}, "everything", ordered=True)


def low_rank(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(60, 40) ratings of rank 2 with biases, and which half of them is given."""
    rng = np.random.default_rng(seed)
    p, q = rng.normal(size=(60, 2)), rng.normal(size=(40, 2))
    ratings = 3 + p @ q.T + rng.normal(size=(60, 1)) * 0.5 + rng.normal(size=40) * 0.5
    return ratings, rng.random(ratings.shape) < 0.5


def fitted(division: Division, **options: object) -> ExplicitALS:
    log = division.log
    model = ExplicitALS(schema=Schema({}, num_users=log.num_users, num_items=log.num_items), **options)
    model.fit(division, seed=0)
    return model.eval()


def test_it_completes_ratings_of_low_rank() -> None:
    ratings, given = low_rank()
    model = fitted(division_of(ratings, given), hidden_size=4, regularization=0.01, iterations=40)
    batches = [query(torch.tensor([], dtype=torch.int64), user=u) for u in range(60)]
    scores = torch.cat([model.score_block(model.queries(b), model.catalogue(), 0, 40) for b in batches]).numpy()
    error = np.sqrt(np.mean((scores - ratings)[~given] ** 2))
    assert error < 0.35 * ratings[~given].std()


def test_each_side_is_the_ridge_regression_on_the_other() -> None:
    ratings, given = low_rank(1)
    model = fitted(division_of(ratings, given), hidden_size=3, regularization=0.2, iterations=3)
    mean, bu, bi = model.mean.item(), model.users_bias.numpy(), model.items_bias.numpy()
    assert mean == pytest.approx(ratings[given].mean(), rel=1e-5)
    users = model.users.double().numpy()
    for item in (0, 7, 39):
        who = np.flatnonzero(given[:, item])
        target = ratings[who, item] - mean - bu[who] - bi[item]
        system = users[who].T @ users[who] + 0.2 * len(who) * np.eye(3)
        expected = np.linalg.solve(system, users[who].T @ target)
        assert np.allclose(model.items[item].numpy(), expected, atol=1e-4)


def test_biases_are_damped_means() -> None:
    ratings = np.array([[5.0, 3.0], [4.0, 0.0]])
    given = np.array([[True, True], [True, False]])
    model = fitted(division_of(ratings, given), damping=1.0, iterations=1)
    items = np.array([(1.0 + 0.0) / 3, -1.0 / 2])  # less the mean of 4
    users = np.array([(1 - items[0] + -1 - items[1]) / 3, (0 - items[0]) / 2])
    assert np.allclose(model.items_bias.numpy(), items)
    assert np.allclose(model.users_bias.numpy(), users)
    assert fitted(division_of(ratings, given), biases=False).items_bias.abs().sum() == 0


def test_a_stranger_without_a_history_gets_the_mean_and_the_items_biases() -> None:
    ratings, given = low_rank(2)
    model = fitted(division_of(ratings, given))
    nobody = query(torch.tensor([], dtype=torch.int64))
    scores = model.score_block(model.queries(nobody), model.catalogue(), 0, 40)
    assert torch.allclose(scores[0], model.mean + model.items_bias, atol=1e-5)


def test_a_log_without_ratings_is_refused() -> None:
    log = division_of(np.ones((2, 2)), np.ones((2, 2), dtype=bool))
    log.log.ratings = None
    with pytest.raises(DataError, match=r"the log has none\. Name their column by log\.rating_field, or use ALS"):
        fitted(log)


def test_ratings_are_predicted_better_than_by_biases(tmp_path) -> None:
    ratings, given = low_rank(3)
    rows = np.argwhere(given)
    frame = pl.DataFrame(
        {
            "user": [f"u{u}" for u, _ in rows],
            "item": [f"i{i}" for _, i in rows],
            "rating": ratings[given],
        }
    )
    roles = {"user_field": "user", "item_field": "item", "rating_field": "rating"}
    found = {}
    for size, strength in ((1, 1e6), (3, 0.02)):
        mapping = {
            "data_config": {"log": roles, "split": {"by": "random", "valid": 0, "test": 0.2}},
            "model_config": {
                "model_class": "ExplicitALS",
                "explicit_als": {"hidden_size": size, "regularization": strength, "iterations": 30},
            },
            "eval_config": {"metrics": ["rmse"]},
        }
        fit = intarsia.fit(mapping, data=frame, run_dir=tmp_path / str(size))
        found[size] = fit.metrics["test"]["rmse"]
    assert found[3] < 0.6 * found[1]
