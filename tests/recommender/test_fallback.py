"""The best items without all scores: the same as with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

import intarsia
from intarsia.data.interactions.views import QueryView
from intarsia.evaluation.ranking.queries import rank_targets
from intarsia.models.retriever import Vectors
from intarsia.nn.top_k import running_top_k
from intarsia.recommender.fallback import Answers
from intarsia.recommender.log_data import open_log_data
from intarsia.recommender.pipeline import pipeline_from
from intarsia.recommender.rank_queries import RankingJudge

ITEMS = 120


def log() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(60), 8)
    return pl.DataFrame({"user": users, "item": (users * 2 + rng.integers(0, 40, len(users))) % ITEMS})


PIPELINES = {
    "MF": {"model_class": "MF", "mf": {"hidden_size": 8}},
    "MF with biases": {"model_class": "MF", "mf": {"hidden_size": 8, "biases": True}},
    "cosines": {"model_class": "MF", "mf": {"hidden_size": 8}, "objective": "ccl"},
    "ALS": {"model_class": "ALS", "als": {"hidden_size": 8}},
    "interests": {"model_class": "ComiRecSA", "comirec_sa": {"hidden_size": 8, "num_interests": 3}},
}


@pytest.mark.parametrize("name", PIPELINES)
def test_the_best_are_those_of_all_scores(name, tmp_path):
    data = {"log": {"user_field": "user", "item_field": "item"}, "split": {"by": "random", "valid": 0, "test": 0.2}}
    pipeline = {
        "data_config": data,
        "model_config": PIPELINES[name],
        "train_config": {"num_steps": 5},
        "eval_config": {"metrics": ["ndcg@10"]},
    }
    fitted = intarsia.fit(pipeline, data=log(), run_dir=tmp_path)
    config = pipeline_from(pipeline).config
    opened = open_log_data(config, frame=log())
    judge = RankingJudge(fitted.model, opened, config)
    view = QueryView(opened.division, opened.division.queries["test"], max_history=20)
    popularity = torch.from_numpy(opened.division.item_counts()).float()
    batch = view.take(slice(0, view.num_rows))
    batch.features["user"].values[3] = -1  # strangers, one of them without a history
    with torch.no_grad():
        answers = Answers(fitted.model, fitted.model.catalogue(), popularity, batch)
        for seen in (None, view.seen(slice(0, view.num_rows))):
            expected = running_top_k(answers.blocks(seen), 10)
            found = answers.best(10, seen)
            assert found is not None
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])
        (queries,) = judge._batches(view, "test")
        count = opened.division.log.num_items
        fast = rank_targets(queries, num_items=count, depth=10, with_lists=True)
        slow = rank_targets(replace(queries, best=None), num_items=count, depth=10, with_lists=True)
    assert torch.equal(fast.ranks, slow.ranks)
    assert torch.equal(fast.lists, slow.lists)


def test_vectors_that_are_not_finite_are_left_to_all_scores(tmp_path):
    pipeline = {
        "data_config": {"log": {"user_field": "user", "item_field": "item"}, "split": {"by": "random", "test": 0.2}},
        "model_config": PIPELINES["ALS"],
        "eval_config": {"metrics": ["ndcg@10"]},
    }
    model = intarsia.fit(pipeline, data=log(), run_dir=tmp_path).model
    catalogue = model.catalogue()
    opened = open_log_data(pipeline_from(pipeline).config, frame=log())
    batch = QueryView(opened.division, opened.division.queries["test"]).take(slice(0, 4))
    popularity = torch.ones(opened.division.log.num_items)
    answers = Answers(model, catalogue, popularity, batch)
    assert answers.best(3) is not None
    answers.queries[0, 0] = torch.inf
    assert answers.best(3) is None
    broken = Vectors(catalogue.single.clone())
    broken.single[5] = torch.nan
    assert Answers(model, broken, popularity, batch).best(3) is None
