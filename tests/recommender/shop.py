"""A small shop: a log of users and items with side tables, and pipelines over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import intarsia
from intarsia.recommender.recommender import Recommender

USERS, ITEMS, EVENTS = 12, 15, 400

FEATURES = [
    {"input_names": ["user_id"], "vocab": "auto", "embedding_dim": 4},
    {"input_names": ["age"], "feature_type": "RawFeature", "boundaries": [30, 50], "embedding_dim": 4},
    {"input_names": ["item_id"], "vocab": "auto", "embedding_dim": 4, "embedding_name": "item"},
    {"input_names": ["genres"], "feature_type": "TagFeature", "vocab": "auto", "embedding_dim": 4},
    {
        "input_names": ["history"],
        "feature_type": "SequenceFeature",
        "vocab": "auto",
        "embedding_dim": 4,
        "embedding_name": "item",
        "max_seq_len": 3,
        "sequence_combiner": {"text_cnn": {"filter_sizes": [2], "num_filters": [4], "pad_sequence_length": 3}},
    },
]
COMBO = {
    "feature_name": "pair",
    "input_names": ["user_id", "genres"],
    "feature_type": "ComboFeature",
    "hash_bucket_size": 50,
    "embedding_dim": 4,
    "combo_input_seps": ["", "|"],
}
DEEP = {"group_name": "all", "feature_names": ["*"]}
MLP = {"class_name": "MLP", "mlp": {"hidden_units": [8]}}
RANKER = {
    "model_class": "RankModel",
    "feature_groups": [DEEP],
    "backbone": {"blocks": [{"name": "m", "inputs": [{"feature_group_name": "all"}], "layer": MLP}]},
}


def interactions() -> pl.DataFrame:
    """Users like items of their own parity. The last item's id holds a separator; the one before was never seen."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, USERS, EVENTS), rng.integers(0, ITEMS - 1, EVENTS)
    return pl.DataFrame(
        {
            "user_id": [f"u{k}" for k in user],
            "item_id": [ITEM_IDS[-1 if k == ITEMS - 2 else k] for k in item],
            "rating": np.where((user + item) % 2 == 0, 5, 2),
            "timestamp": np.arange(EVENTS) // 2,
        }
    )


ITEM_IDS = [*(f"i{k}" for k in range(ITEMS - 1)), f"i{ITEMS - 1}|x"]
UNSEEN = ITEM_IDS[ITEMS - 2]


def write_log(folder: Path) -> Path:
    """The shop in the files of MovieLens 100K, so that the catalogue reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    users = pl.DataFrame({"user_id": [f"u{k}" for k in range(USERS)], "age": [20 + 5 * k for k in range(USERS)]})
    rest = [pl.lit(text).alias(name) for name, text in (("gender", "F"), ("occupation", "none"), ("zip_code", "0"))]
    items = pl.DataFrame({"item_id": ITEM_IDS, "title": [f"The {n}" for n in ITEM_IDS]})
    tags = pl.Series("genres", [f"g{k % 2} h{k % 3}" for k in range(ITEMS)])
    items = items.with_columns(pl.lit("1999").alias("release_year"), tags)
    for ending, frame in (("inter", interactions()), ("user", users.with_columns(rest)), ("item", items)):
        frame.write_csv(folder / f"ml-100k.{ending}", separator="\t", quote_style="never")
    return folder


def pipeline(folder: Path, *, features: list[dict[str, Any]] = FEATURES, **more: Any) -> dict[str, Any]:
    data = {
        "dataset": f"ml-100k:{folder}",
        "log": {
            "rating_field": "rating",
            "time_field": "timestamp",
            "title_field": "title",
            "positive_rating": 4,
            **more.pop("log", {}),
        },
        "split": {"by": "time", "valid": 0.1, "test": 0.2},
        "batch_size": 32,
        "num_epochs": 2,
        **more.pop("data", {}),
    }
    return {
        "data_config": data,
        "feature_config": {"features": features},
        "train_config": {"optimizer": "adam", "learning_rate": 0.01, "device": "cpu"},
        "eval_config": {"metrics_set": ["auc"]},
        "model_config": RANKER,
        **more,
    }


def fitted(folder: Path, run_dir: Path, **more: Any) -> Recommender:
    return intarsia.fit(pipeline(folder, **more), run_dir=run_dir)
