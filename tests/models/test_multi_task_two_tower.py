"""Tests for the MultiTaskTwoTower model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from arrays import array
from retrieval_contract import RetrieverContract, planted_log
from tower_batches import batch_of, layers_by_hand, tower_model

import intarsia
from intarsia.core.errors import BuildError, DataError
from intarsia.models.multi_task_two_tower import MultiTaskTwoTower
from intarsia.models.two_tower import TwoTower
from intarsia.recommender.retrieval import RetrievalRecommender

SMALL = {"hidden_size": 16, "query_units": [32], "rating_units": [16]}


class TestMultiTaskTwoTower(RetrieverContract):
    model = {"model_class": "MultiTaskTwoTower", "multi_task_two_tower": SMALL}
    epochs = 15
    batch_size = 256
    learning_rate = 0.02


def multi_task(**options: Any) -> MultiTaskTwoTower:
    return tower_model(MultiTaskTwoTower, **{"hidden_size": 3, "query_units": [8], "rating_units": [7, 5], **options})


RATED = batch_of([4, 0], [3], targets=[2, 5], ratings=[4.0, 1.0])


def test_a_rating_is_the_net_of_both_vectors_by_hand() -> None:
    model = multi_task()
    with torch.no_grad():
        model.mean.fill_(3.5)
        queries, items = model.encode_queries(RATED), model.encode_items(torch.tensor([1, 5]))
        found = model.rate(RATED, torch.tensor([1, 5]))
    both = np.concatenate([array(queries), array(items)], axis=1)
    assert found.shape == (2,)
    assert np.allclose(array(found), layers_by_hand(both, model.ratings)[:, 0] + 3.5, atol=1e-5)


@pytest.mark.parametrize(("rating_weight", "retrieval_weight"), [(1.0, 1.0), (0.25, 3.0), (2.0, 0.0)])
def test_the_losses_are_weighted(rating_weight: float, retrieval_weight: float) -> None:
    """The squared errors of ratings 4 and 1, and the objective as the model without ratings has it."""
    model = multi_task(rating_weight=rating_weight, retrieval_weight=retrieval_weight)
    with torch.no_grad():
        queries = model(RATED)
        losses = model.losses(queries, RATED)
        rated = model.rate(RATED, torch.tensor([2, 5])).tolist()
        retrieval = TwoTower.losses(model, queries, RATED)
    errors = ((rated[0] - 4.0) ** 2 + (rated[1] - 1.0) ** 2) / 2
    assert set(losses) == {"softmax", "rating"}
    assert losses["rating"].item() == pytest.approx(rating_weight * errors, rel=1e-5)
    assert losses["softmax"].item() == pytest.approx(retrieval_weight * retrieval["softmax"].item(), rel=1e-5)


def test_items_are_ranked_as_by_two_towers_without_ratings() -> None:
    model = multi_task()
    plain = tower_model(TwoTower, hidden_size=3, query_units=[8])
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name in plain.state_dict()})
    with torch.no_grad():
        assert torch.equal(model.encode_queries(RATED), plain.encode_queries(RATED))
        assert torch.equal(model.encode_items(), plain.encode_items())


def test_ratings_are_told_from_the_mean_of_the_first_batch() -> None:
    """Which is kept, saved with the model, and not taken from batches that are only measured."""
    model = multi_task()
    others = batch_of([1], targets=[2], ratings=[5.0])
    with torch.no_grad():
        model.losses(model(others), others)
        assert model.mean.item() == 0.0
        model.train()
        model.losses(model(RATED), RATED)
        model.losses(model(others), others)
    assert model.mean.item() == 2.5
    again = multi_task()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        again.train().losses(again(others), others)
    assert again.mean.item() == 2.5


def test_a_log_without_ratings_is_refused() -> None:
    model = multi_task()
    batch = batch_of([4, 0], [3], targets=[2, 5])
    with pytest.raises(DataError) as caught:
        model.losses(model(batch), batch)
    assert str(caught.value) == (
        "MultiTaskTwoTower learns ratings, and the log has none. Name their column by log.rating_field, or use "
        "TwoTower."
    )


def test_two_weights_of_zero_are_refused() -> None:
    with pytest.raises(BuildError, match=r"Received: rating_weight 0, retrieval_weight 0\. Make one of them positive"):
        multi_task(rating_weight=0.0, retrieval_weight=0.0)


def test_ratings_of_pairs_are_learned(tmp_path: Path) -> None:
    """Items with an even number get 5 stars, others 2; squared errors around the mean would be 2.25."""
    even = pl.col("item").str.slice(1).cast(pl.Int64) % 2 == 0
    log = planted_log().with_columns(rating=pl.when(even).then(5.0).otherwise(2.0))
    fitted = intarsia.fit(TestMultiTaskTwoTower.mapping(), data=log, run_dir=tmp_path / "run")
    assert isinstance(fitted, RetrievalRecommender)
    model = fitted.model
    assert isinstance(model, MultiTaskTwoTower)
    history, items = [1, 2, 3, 4], torch.arange(72)
    with torch.no_grad():
        found = model.rate(batch_of(*[history] * 72), items).numpy()
    names = fitted.memory.item_ids.raw(np.arange(72)).to_list()
    expected = np.array([5.0 if int(name[1:]) % 2 == 0 else 2.0 for name in names])
    assert np.mean((found - expected) ** 2) < 0.3
    hits = fitted.metrics["test"]["hit_rate@24"]
    assert hits is not None
    assert hits >= 0.85
