"""Tests for the ExplicitALS model."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from classic import batch_of, division_of, scores_of
from retrieval_contract import ROLES, RetrieverContract

import intarsia
from intarsia.core.errors import DataError
from intarsia.data.schema import Schema
from intarsia.models.explicit_als import ExplicitALS
from intarsia.recommender.pipeline import short_form
from intarsia.recommender.recommender import Recommender

Array = npt.NDArray[np.float64]
USERS, ITEMS = 15, 8


def planted_ratings(num_users: int = 120, num_items: int = 40) -> pl.DataFrame:
    """Users are of two opposed tastes, as are items: even ones and odd ones; some are kinder, some are better.

    The noise has a standard deviation of 0.1; the ratings one of about 1.2.
    """
    rng = np.random.default_rng(0)
    kind, good = rng.normal(0, 0.4, num_users), rng.normal(0, 0.4, num_items)
    user, item = np.nonzero(rng.random((num_users, num_items)) < 0.5)
    taste = np.where((user + item) % 2, 1.0, -1.0)
    rating = 3 + kind[user] + good[item] + taste + rng.normal(0, 0.1, len(user))
    names = {"user": [f"u{u}" for u in user], "item": [f"i{i}" for i in item]}
    return pl.DataFrame({**names, "rating": rating, "time": rng.permutation(len(user)).astype(float)})


class TestExplicitALS(RetrieverContract):
    model = {"model_class": "ExplicitALS", "explicit_als": {"hidden_size": 4, "regularization": 0.01}}

    def test_learns_what_popularity_does_not_tell(self, tmp_path: Path) -> None:
        """Foretells ratings far better than their mean; knows its users when it is loaded, and likes of strangers."""
        mapping = {
            "data_config": {"log": ROLES, "split": {"by": "random_by_user", "valid": 0.1, "test": 0.1}},
            "model_config": self.model,
            "eval_config": {"metrics": ["rmse", "mae"]},
        }
        frame = planted_ratings()
        fitted = intarsia.fit(mapping, data=frame, run_dir=tmp_path / "run")
        reached = fitted.metrics["test"]["rmse"]
        assert frame["rating"].std() > 1.1  # type: ignore[operator]
        assert reached is not None
        assert reached < 0.15
        again = Recommender.load(tmp_path / "run")
        one, two = (r.recommend(users=["u0", "u17"], k=5) for r in (fitted, again))
        assert one.equals(two)
        liked = again.recommend(history=[["i0", "i2", "i4"], ["i1", "i3", "i5"]], k=5)
        for request, odd in ((0, 0), (1, 1)):
            items = liked.filter(pl.col("request") == request)["item"].to_list()
            assert [int(item[1:]) % 2 for item in items] == [odd] * 5


class TestWithoutBiases(RetrieverContract):
    model = {"model_class": "ExplicitALS", "explicit_als": {"hidden_size": 4, "biases": False, "solver": "cg"}}
    learns = False


def ratings_by_hand() -> tuple[list[list[int]], list[list[float]]]:
    """Each user's items, in any order, and their ratings; the last item is rated by nobody."""
    rng = np.random.default_rng(3)
    items = [rng.permutation(ITEMS - 1)[: 2 + user % 4].tolist() for user in range(USERS)]
    return items, [rng.normal(3, 1, len(row)).round(2).tolist() for row in items]


def explicit_als(seed: int = 0, **options: Any) -> ExplicitALS:
    """Fitted."""
    items, ratings = ratings_by_hand()
    schema = Schema({}, num_users=USERS, num_items=ITEMS)
    model = ExplicitALS(schema=schema, **{"hidden_size": 2, "regularization": 0.03, **options})
    model.fit(division_of(items, ITEMS, ratings=ratings), seed)
    return model.eval()


def side(model: ExplicitALS, name: str) -> Array:
    """(B, D + 1) vectors and biases."""
    return model.get_buffer(name).double().numpy()


def triples() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]:
    """Users, items, ratings less their mean."""
    items, ratings = ratings_by_hand()
    users = np.repeat(np.arange(USERS), [len(row) for row in items])
    flat = np.concatenate([np.array(row) for row in ratings])
    return users, np.concatenate([np.array(row) for row in items]), flat - flat.mean()


def ridge_regression(
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    count: int,
    others: Array,
    biases: bool,
    exponent: float,
) -> Array:
    """The minimum of one side, one row after the other."""
    ratings, out = triples()[2], np.zeros((count, others.shape[1]))
    for b in range(count):
        own = rows == b
        if own.any():
            design = others[columns[own]].copy()
            targets = ratings[own] - design[:, -1]
            design[:, -1] = float(biases)
            system = design.T @ design + 0.03 * own.sum() ** exponent * np.eye(design.shape[1])
            out[b] = np.linalg.solve(system, design.T @ targets)
    return out


def loss_of(model: ExplicitALS) -> float:
    """The written loss."""
    users, items, ratings = triples()
    p, q = side(model, "users"), side(model, "items")
    scores = (p[users, :-1] * q[items, :-1]).sum(axis=1) + p[users, -1] + q[items, -1]
    penalty = (p[users] ** 2).sum() + (q[items] ** 2).sum()  # once for each rating: n_u |p_u|^2
    return float(((ratings - scores) ** 2).sum() + 0.03 * penalty)


@pytest.mark.parametrize(("biases", "exponent"), [(True, 1.0), (True, 0.0), (False, 1.0)])
def test_an_iteration_is_a_ridge_regression_of_each_user_and_then_of_each_item(biases: bool, exponent: float) -> None:
    one, two = (explicit_als(iterations=n, biases=biases, frequency_exponent=exponent) for n in (3, 4))
    users, items, _ = triples()
    expected = ridge_regression(users, items, USERS, side(one, "items"), biases, exponent)
    assert np.allclose(side(two, "users"), expected, atol=1e-5)
    expected = ridge_regression(items, users, ITEMS, expected, biases, exponent)
    assert np.allclose(side(two, "items"), expected, atol=1e-5)
    assert bool(np.any(side(two, "users")[:, -1])) == bool(np.any(side(two, "items")[:, -1])) == biases


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_the_loss_falls_at_every_iteration(solver: str) -> None:
    losses = [loss_of(explicit_als(iterations=n, solver=solver, cg_steps=1)) for n in range(1, 9)]
    assert all(after < before for before, after in itertools.pairwise(losses)), losses
    assert losses[-1] < 0.9 * losses[0]


def test_many_steps_of_conjugate_gradients_are_cholesky() -> None:
    exact, near = (explicit_als(iterations=3, solver=solver, cg_steps=9) for solver in ("cholesky", "cg"))
    assert np.allclose(side(near, "items"), side(exact, "items"), atol=1e-4)


def test_a_score_is_the_mean_and_the_biases_and_the_product() -> None:
    model = explicit_als(iterations=2)
    p, q = side(model, "users"), side(model, "items")
    mean = np.concatenate([np.array(row) for row in ratings_by_hand()[1]]).mean()
    expected = mean + p[:, -1:] + q[:, -1] + p[:, :-1] @ q[:, :-1].T
    # What a known user took meanwhile changes nothing: how it was rated is not told.
    found = scores_of(model, batch_of([1], [], users=[4, 9]))
    assert np.allclose(found, expected[[4, 9]], atol=1e-5)
    assert np.allclose(found[:, -1], mean + p[[4, 9], -1], atol=1e-5)  # of an item without ratings


def test_a_stranger_is_taken_to_have_liked_the_history() -> None:
    model = explicit_als(iterations=5, liked_quantile=0.8)
    q = side(model, "items")
    ratings = np.concatenate([np.array(row) for row in ratings_by_hand()[1]])
    own = q[[0, 4, 5], :-1]
    targets = np.quantile(ratings, 0.8) - ratings.mean() - q[[0, 4, 5], -1]
    vector = np.linalg.solve(own.T @ own + 0.03 * 3 * np.eye(2), own.T @ targets)
    found = scores_of(model, batch_of([4, 0, 5, 4]))[0]
    assert np.allclose(found, ratings.mean() + q[:, -1] + q[:, :-1] @ vector, atol=1e-4)


def test_an_empty_history_is_answered_by_the_mean_and_the_biases_of_the_items() -> None:
    model = explicit_als(iterations=2)
    mean = np.concatenate([np.array(row) for row in ratings_by_hand()[1]]).mean()
    assert np.allclose(scores_of(model, batch_of([]))[0], mean + side(model, "items")[:, -1], atol=1e-5)


def test_repeated_ratings_of_an_item_count_as_their_mean() -> None:
    schema = Schema({}, num_users=2, num_items=3)
    made = []
    for rows, ratings in (
        ([[0, 1, 0], [1, 2]], [[1.0, 2.0, 4.0], [5.0, 3.0]]),
        ([[0, 1], [1, 2]], [[2.5, 2.0], [5.0, 3.0]]),
    ):
        model = ExplicitALS(schema=schema, hidden_size=2)
        model.fit(division_of(rows, 3, ratings=ratings), 0)
        made.append(scores_of(model, batch_of([], [], users=[0, 1])))
    assert np.allclose(made[0], made[1], atol=1e-5)


def test_held_out_ratings_are_not_looked_at() -> None:
    schema, rows = Schema({}, num_users=2, num_items=4), [[0, 1, 3], [1, 2, 3]]
    made = []
    for last in (1.0, 5.0):
        model = ExplicitALS(schema=schema, hidden_size=2)
        model.fit(division_of(rows, 4, ratings=[[1.0, 2.0, last], [5.0, 3.0, last]], held_out=1), 0)
        made.append(model.state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_a_log_without_ratings_is_refused() -> None:
    model = ExplicitALS(schema=Schema({}, num_users=2, num_items=3))
    with pytest.raises(DataError) as caught:
        model.fit(division_of([[0, 1], [1, 2]], 3), 0)
    assert str(caught.value) == (
        "ExplicitALS learns ratings. Received: a log without log.rating_field. Name the column, or use ALS."
    )


def test_the_short_form_keeps_ratings_of_every_height() -> None:
    """Data sets that take low ratings for dislikes would leave the high ones alone."""
    log = short_form("ExplicitALS", "ml-100k").config.data_config.log
    assert log is not None
    assert log.positive_rating is None
    assert log.rating_field == "rating"
    assert short_form("ALS", "ml-100k").config.data_config.log.positive_rating == 4  # type: ignore[union-attr]
