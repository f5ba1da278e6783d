"""Retrievers on the planted log of the models' tests, with a table of the items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from retrieval_contract import CLUSTERS, PER_CLUSTER, planted_log

import intarsia
from intarsia.recommender.recommender import Recommender
from intarsia.recommender.retrieval import RetrievalRecommender

__all__ = ["CLUSTERS", "ITEMS", "cluster", "fitted", "loaded", "mapping", "planted_log", "taken"]
ITEMS = CLUSTERS * PER_CLUSTER
MODELS: dict[str, dict[str, Any]] = {
    "MF": {"mf": {"hidden_size": 8}, "objective": "softmax"},
    "SASRec": {"sasrec": {"hidden_size": 16, "num_hidden_layers": 1, "max_history": 10, "dropout": 0.0}},
    "ComiRecSA": {"comirec_sa": {"hidden_size": 16, "num_interests": 2, "max_history": 10}},
    "EASE": {},
}


def cluster(item: str) -> int:
    return int(item[1:]) // PER_CLUSTER


def write_items(folder: Path) -> Path:
    """Items with a title, the cluster as the only genre, and two tags."""
    path = folder / "items.csv"
    frame = pl.DataFrame({"item": [f"i{k}" for k in range(ITEMS)]}).with_columns(
        title=pl.concat_str(pl.lit("The "), pl.col("item")),
        genre=pl.Series([f"g{k // PER_CLUSTER}" for k in range(ITEMS)]),
        tags=pl.Series([f"a{k % 2};b{k % 3}" for k in range(ITEMS)]),
    )
    frame.write_csv(path)
    return path


def mapping(name: str, items: Path | None, *, epochs: int = 8, **more: Any) -> dict[str, Any]:
    log: dict[str, Any] = {"user_field": "user", "item_field": "item", "rating_field": "rating", "time_field": "time"}
    if items is not None:
        log |= {"item_table": str(items), "title_field": "title"}
    train = {"optimizer": {"adam_optimizer": {"learning_rate": 0.01}}, "num_epochs": epochs}
    return {
        "data_config": {"log": log, "split": "leave_one_out", "batch_size": 64, "prefetch_size": 0},
        "model_config": {"model_class": name, **MODELS.get(name, {})},
        "train_config": {**train, "save_checkpoints_steps": 0, "keep_checkpoint_max": 1, "eval_epochs": 1000},
        "eval_config": {"metrics": ["hit_rate@10"], "category_separator": ";"},
        **more,
    }


def fitted(name: str, folder: Path, **more: Any) -> RetrievalRecommender:
    """Trained on the planted log, with the item table, in `folder / name`."""
    found = intarsia.fit(mapping(name, write_items(folder), **more), data=planted_log(), run_dir=folder / name.lower())
    assert isinstance(found, RetrievalRecommender)
    return found


def taken(user: str) -> set[str]:
    return set(planted_log().filter(pl.col("user") == user)["item"])


def loaded(folder: Path | None) -> RetrievalRecommender:
    assert folder is not None
    found = Recommender.load(folder)
    assert isinstance(found, RetrievalRecommender)
    return found
