"""Large logs come out of the cache as they went in."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import intarsia
from intarsia.data.interactions import cached
from intarsia.recommender.logs import open_interactions
from intarsia.recommender.pipeline import pipeline_from

MODELS = ["SASRec", "MF", "EASE", "ALS", "ExplicitALS", "ItemKNN", "BERT4Rec", "TwoTower"]


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """A log of people with names and items with numbers; any log counts as a large one."""
    monkeypatch.setattr(cached, "LEAST_BYTES", 0)
    rng = np.random.default_rng(0)
    users = rng.integers(0, 20, 400)
    rows = {
        "user": [f"ü{user}" for user in users],
        "item": (users % 4 * 10 + rng.integers(0, 10, 400)).tolist(),
        "time": np.arange(400).tolist(),
        "stars": rng.integers(1, 6, 400).tolist(),
    }
    pl.DataFrame(rows).write_csv(tmp_path / "log.csv")
    roles = {"user_field": "user", "item_field": "item", "time_field": "time", "rating_field": "stars"}
    return {
        "train_input_path": str(tmp_path / "log.csv"),
        "data_config": {"log": roles, "split": "leave_one_out", "cache_dir": str(tmp_path / "cache")},
        "train_config": {"num_epochs": 1},
        "eval_config": {"metrics": ["ndcg@5"]},
        "model_config": {"model_class": "SASRec", "sasrec": {"hidden_size": 8}},
    }


def opened(pipeline):
    return open_interactions(pipeline_from(pipeline).config)


def entries(pipeline):
    folder = Path(pipeline["data_config"]["cache_dir"])
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_the_same_log(pipeline, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "intarsia.data")
    first = opened(pipeline)
    assert len(entries(pipeline)) == 1
    assert "Encoded data were cached" in caplog.text
    monkeypatch.setattr("intarsia.recommender.logs.build_interactions", None)  # nobody reads the file again
    again = opened(pipeline)
    assert "Encoded data come from the cache" in caplog.text
    assert again.user_ids.ids.to_list() == first.user_ids.ids.to_list()
    assert again.item_ids.ids.to_list() == first.item_ids.ids.to_list()
    for name in ("offsets", "items", "ratings", "times"):
        assert np.array_equal(getattr(again, name), getattr(first, name))
        assert getattr(again, name).dtype == getattr(first, name).dtype


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("model", MODELS)
def test_models_read_mapped_arrays(pipeline, model, tmp_path):
    pipeline["model_config"] = {"model_class": model}
    found = [intarsia.fit(pipeline, run_dir=tmp_path / f"{model}{turn}") for turn in range(2)]
    answers = [one.recommend(history=[[3, 12, 25]], k=3)["item"].to_list() for one in found]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "change",
    [
        {"filter": {"min_item_interactions": 3}},
        {"log": {"user_field": "user", "item_field": "item", "time_field": "time"}},
    ],
)
def test_other_settings_have_an_entry_of_their_own(pipeline, change):
    opened(pipeline)
    pipeline["data_config"] |= change
    opened(pipeline)
    assert len(entries(pipeline)) == 2


def test_what_is_read_alike_shares_an_entry(pipeline):
    opened(pipeline)
    pipeline["data_config"] |= {"split": {"by": "random"}, "batch_size": 3}
    opened(pipeline)
    assert len(entries(pipeline)) == 1


def test_a_cache_that_is_not_wanted(pipeline):
    pipeline["data_config"]["use_cache"] = False
    opened(pipeline)
    assert entries(pipeline) == []


def test_logs_with_more_than_arrays_are_not_kept(pipeline):
    pipeline["data_config"]["log"] = {"user_field": "user", "item_field": "item", "context_fields": ["stars"]}
    pipeline["data_config"]["split"] = {"by": "random"}
    opened(pipeline)
    assert entries(pipeline) == []


def test_small_logs_are_read_again(pipeline, monkeypatch):
    monkeypatch.setattr(cached, "LEAST_BYTES", 1 << 24)
    opened(pipeline)
    assert entries(pipeline) == []


def test_a_changed_file_is_read_again(pipeline):
    before = opened(pipeline)
    with Path(pipeline["train_input_path"]).open("a") as file:
        file.write("new,1,1000,5\n")
    assert opened(pipeline).num_users == before.num_users + 1


def test_a_damaged_entry_is_made_anew(pipeline, caplog):
    before = opened(pipeline)
    (entry,) = entries(pipeline)
    with (entry / "items.npy").open("ab") as file:
        file.write(b"x")
    again = opened(pipeline)
    assert "damaged and will be made anew" in caplog.text
    assert np.array_equal(again.items, before.items)
