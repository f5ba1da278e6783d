"""Small logs and queries for models that are computed from a log."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import HISTORY, USER
from intarsia.data.interactions.interactions import IdMap, Interactions
from intarsia.data.interactions.splits import Division
from intarsia.models.retriever import ItemScorer

Floats = npt.NDArray[np.float32]

RANDOM_ROWS = [np.random.default_rng(user).integers(0, 12, 3 + user % 4).tolist() for user in range(20)]
"""Items of twenty users over twelve items, some taken more than once."""


def division_of(
    rows: Sequence[Sequence[int]],
    num_items: int,
    *,
    ratings: Sequence[Sequence[float]] | None = None,
    times: Sequence[Sequence[float]] | None = None,
    held_out: int = 0,
) -> Division:
    """A log from each user's items, oldest first; the last `held_out` of each user are kept out of training."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    log = Interactions(
        IdMap(pl.Series([f"u{k}" for k in range(len(rows))], dtype=pl.String), "user"),
        IdMap(pl.Series([f"i{k}" for k in range(num_items)], dtype=pl.String), "item"),
        offsets,
        np.array([i for row in rows for i in row], dtype=np.int32),
        ratings=None if ratings is None else np.array([r for row in ratings for r in row], dtype=np.float32),
        times=None if times is None else np.array([t for row in times for t in row], dtype=np.float64),
    )
    return Division(log, offsets[:-1], offsets[1:] - held_out, {}, "by hand", ordered=True)


def batch_of(*histories: Sequence[int], users: Sequence[int] | None = None) -> Batch:
    """Queries of strangers, or of the given users."""
    offsets = torch.tensor([0, *map(len, histories)]).cumsum(0)
    values = torch.tensor([item for history in histories for item in history], dtype=torch.int64)
    who = torch.full((len(histories),), -1) if users is None else torch.tensor(users)
    return Batch({USER: Dense(who), HISTORY: Jagged(values, offsets)}, size=len(histories))


def scores_of(model: ItemScorer, batch: Batch) -> Floats:
    """(B, N) scores of all items."""
    with torch.no_grad():
        scores = model.score_block(model.queries(batch), model.catalogue(), 0, model.num_items)
    found: Floats = scores.numpy()
    return found
