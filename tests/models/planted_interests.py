"""Users with four separate interests, and how many of them a recommender finds.

The catalogue has four departments of as many clusters each. A user likes one cluster of every department and takes its
items in random order, so that nothing tells which interest comes next; clusters are equally popular.

A vector of D numbers cuts the catalogue with one plane through the origin. In few dimensions no plane has four clusters
in all four corners of the catalogue on one side and everything else on the other, whereas four vectors need only point
at one cluster each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

import intarsia

INTERESTS = 4
BATCH = 256


@dataclass(frozen=True)
class Planted:
    """U users with histories of four interests each.

    Attributes:
        clusters: Clusters of a department.
        size: Items of a cluster.
        items: (U, L) what each user has taken, in this order.
        liked: (U, 4) clusters of each user.
    """

    clusters: int
    size: int
    items: npt.NDArray[np.int64]
    liked: npt.NDArray[np.int64]

    @property
    def num_items(self) -> int:
        return INTERESTS * self.clusters * self.size

    def recovered(self, top: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(U,) how many of its interests each user finds among the items recommended (U, k)."""
        found = top[:, :, None] // self.size == self.liked[:, None, :]
        counts: npt.NDArray[np.int64] = found.any(axis=1).sum(axis=1)
        return counts


def planted_interests(num_users: int, *, clusters: int = 12, size: int = 8, taken: int = 4, seed: int = 0) -> Planted:
    """Users who have taken `taken` of the `size` items of each cluster that they like."""
    rng = np.random.default_rng(seed)
    liked = rng.integers(0, clusters, (num_users, INTERESTS)) + clusters * np.arange(INTERESTS)
    within = rng.random((num_users, INTERESTS, size)).argsort(axis=2)[:, :, :taken]
    items = (liked[:, :, None] * size + within).reshape(num_users, -1)
    return Planted(clusters, size, rng.permuted(items, axis=1), liked)


def recovered_shares(
    model: Mapping[str, Any], folder: Path, *, epochs: int, learning_rate: float, num_users: int, clusters: int = 6
) -> tuple[float, float]:
    """Trains on planted users and says whose four interests are all in the top 20 that they have not taken.

    Args:
        model: The `model_config`.
        folder: Of the run.
        epochs: Passes over the training part.
        learning_rate: Of Adam; it falls in a half cosine.
        num_users: Users to train on.
        clusters: Clusters of a department.

    Returns:
        The share of 500 training users, and of 500 users whose histories the model has never seen.
    """
    shape = {"clusters": clusters, "size": 8, "taken": 6}
    planted, strangers = planted_interests(num_users, **shape), planted_interests(500, seed=1, **shape)
    users, steps = np.indices(planted.items.shape).reshape(2, -1)
    log = pl.DataFrame({"user": users, "item": planted.items.ravel(), "time": steps})
    roles = {"user_field": "user", "item_field": "item", "time_field": "time"}
    split = {"by": "leave_one_out", "valid": 0, "test": 1}
    steps_of_all = epochs * -(-num_users * (planted.items.shape[1] - 2) // BATCH)
    fall = {
        "cosine_decay_learning_rate": {
            "learning_rate_base": learning_rate,
            "total_steps": steps_of_all,
            "warmup_steps": 0,
        }
    }
    train = {"optimizer": {"adam_optimizer": {"learning_rate": fall}}, "num_epochs": epochs, "eval_epochs": 1000}
    mapping = {
        "data_config": {"log": roles, "split": split, "batch_size": BATCH, "prefetch_size": 0},
        "model_config": dict(model),
        "train_config": {**train, "save_checkpoints_steps": 0, "keep_checkpoint_max": 1, "seed": 0},
        "eval_config": {"metrics": ["hit_rate@20"]},
    }
    recommender = intarsia.fit(mapping, data=log, run_dir=folder / "run")
    known = recommender.recommend(users=[str(user) for user in range(500)], k=20)
    told = recommender.recommend(history=[[str(i) for i in row] for row in strangers.items], k=20)
    of_known, of_strangers = (np.array(f["item"].to_list(), dtype=np.int64).reshape(500, 20) for f in (known, told))
    found = replace(planted, liked=planted.liked[:500]).recovered(of_known), strangers.recovered(of_strangers)
    return float((found[0] == INTERESTS).mean()), float((found[1] == INTERESTS).mean())


def shares_of_four_and_one(
    model_class: str, message: str, options: Mapping[str, Any], folder: Path, **training: Any
) -> dict[int, tuple[float, float]]:
    """`recovered_shares` of a model with four interests, and with one, trained alike."""
    shares = {}
    for count in (INTERESTS, 1):
        given = {"model_class": model_class, message: {**options, "num_interests": count}, "objective": "softmax"}
        shares[count] = recovered_shares(given, folder / str(count), **training)
    return shares
