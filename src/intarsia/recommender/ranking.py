"""Scoring users against candidate items with a model that scores rows.

Features that read only item columns are encoded once for the whole catalogue, those that read only user columns once
a user; a batch of pairs gathers from both. Features that mix the two are encoded pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from intarsia.core.batch import Batch, Feature
from intarsia.core.errors import DataError
from intarsia.data.columns import Column
from intarsia.data.features import FeatureEncoder
from intarsia.evaluation.evaluate import evaluating
from intarsia.models.base import Model

PAIRS_PER_BATCH = 16384


class PairScorer:
    """Scores pairs of a user and an item.

    Args:
        model: Scores rows.
        encoder: Encodes raw columns.
        items: One row an item.
        user_columns: Names of the columns that belong to the user.
        score: Turns predictions into one number a row; higher is better.

    Raises:
        DataError: A feature reads a column that is neither a user's nor an item's, such as the time of an event.
    """

    def __init__(
        self,
        model: Model,
        encoder: FeatureEncoder,
        items: pl.DataFrame,
        user_columns: set[str],
        score: Callable[[dict[str, Tensor]], Tensor],
    ) -> None:
        self.model, self.encoder, self.items, self.score = model, encoder, items, score
        inputs = {config.name: set(config.input_names) for config in encoder.features}
        self.of_item = [n for n, cols in inputs.items() if cols <= set(items.columns) and not cols & user_columns]
        self.of_user = [n for n, cols in inputs.items() if cols <= user_columns]
        self.mixed = [n for n in inputs if n not in self.of_item and n not in self.of_user]
        self._mixed_columns = {column for name in self.mixed for column in inputs[name]}
        for name in self.mixed:
            lacking = sorted(inputs[name] - user_columns - set(items.columns))
            if lacking:
                raise DataError(
                    f"items are recommended from columns of users and items. Received: the feature `{name}`, which "
                    f"reads "
                    f"{', '.join(lacking)} of the log. Train without it, or give rows with that column to `score`."
                )
        self.item_columns: dict[str, Column] = encoder.transform(items, only=self.of_item)

    def scores(self, users: pl.DataFrame) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Scores of all items for each user, some users at a time.

        Args:
            users: U rows of user columns.

        Yields:
            Numbers of the users (u,), and their scores (u, N).
        """
        columns = self.encoder.transform(users, only=self.of_user)
        count = self.items.height
        step = max(1, PAIRS_PER_BATCH // max(count, 1))
        with evaluating(self.model):
            for start in range(0, users.height, step):
                numbers = np.arange(start, min(start + step, users.height))
                who, what = np.repeat(numbers, count), np.tile(np.arange(count), len(numbers))
                yield numbers, self._pairs(users, columns, who, what).reshape(len(numbers), count)

    def pair_scores(
        self, users: pl.DataFrame, who: npt.NDArray[np.int64], what: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Scores of pairs.

        Args:
            users: U rows of user columns.
            who: (P,) rows of `users`.
            what: (P,) rows of the items.

        Returns:
            (P,).
        """
        with evaluating(self.model):
            return self._pairs(users, self.encoder.transform(users, only=self.of_user), who, what)

    def _pairs(
        self,
        users: pl.DataFrame,
        columns: dict[str, Column],
        who: npt.NDArray[np.int64],
        what: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        device = next(self.model.parameters()).device
        out = []
        for start in range(0, len(who), PAIRS_PER_BATCH):
            w, i = who[start : start + PAIRS_PER_BATCH], what[start : start + PAIRS_PER_BATCH]
            features: dict[str, Feature] = {name: column.take(w) for name, column in columns.items()}
            features.update({name: column.take(i) for name, column in self.item_columns.items()})
            if self.mixed:
                of_user = users.select(pl.col(c) for c in users.columns if c in self._mixed_columns)
                of_item = self.items.select(pl.col(c) for c in self.items.columns if c in self._mixed_columns)
                pairs = pl.concat([of_user[w], of_item[i]], how="horizontal")
                mixed = self.encoder.transform(pairs, only=self.mixed)
                features.update({name: column.take(slice(0, len(w))) for name, column in mixed.items()})
            predictions = self.model(Batch(features, size=len(w)).to(device))
            out.append(self.score(predictions).float().cpu())
        return torch.cat(out).numpy() if out else np.zeros(0, dtype=np.float32)


def top_items(
    scores: npt.NDArray[np.float32], allowed: npt.NDArray[np.bool_] | None, k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The k best items of each row, best first; equal scores in the order of the items.

    Args:
        scores: (U, N).
        allowed: (U, N) which items may be recommended, or None: all.
        k: Number of items.

    Returns:
        Item numbers (U, k'), -1 where fewer than k' are allowed, and their scores; k' = min(k, N).
    """
    masked = torch.from_numpy(scores if allowed is None else np.where(allowed, scores, -np.inf))
    # A stable sort of the best part keeps ties in item order, whatever the number of threads.
    order = torch.sort(masked, dim=1, descending=True, stable=True)
    best, numbers = order.values[:, :k], order.indices[:, :k]
    return torch.where(torch.isneginf(best), -1, numbers).numpy(), best.numpy()
