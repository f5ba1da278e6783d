"""Popular items for whom a model knows nothing: what is recommended then, and what is therefore measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import HISTORY, USER
from intarsia.models.retriever import ItemScorer


def unanswerable(model: ItemScorer, batch: Batch) -> Tensor:
    """(B,) bool: queries of which the batch holds nothing that the model reads."""
    if model.answers_empty:
        return torch.zeros(batch.size, dtype=torch.bool)
    history, user = batch.features[HISTORY], batch.features[USER]
    assert isinstance(history, Jagged)
    assert isinstance(user, Dense)
    nothing = history.lengths == 0
    return nothing & (user.values < 0) if "user" in model.reads else nothing


class Answers:
    """Scores of a batch of queries, the popularity of the items where the model has nothing to go by.

    Args:
        model: The model.
        catalogue: What `model.catalogue()` gave.
        popularity: (N,) training interactions of each item.
        batch: The queries, on the model's device.
    """

    def __init__(self, model: ItemScorer, catalogue: Any, popularity: Tensor, batch: Batch) -> None:
        self.model, self.catalogue, self.popularity = model, catalogue, popularity
        self.queries = model.queries(batch)
        empty = unanswerable(model, batch)
        self.empty = empty.unsqueeze(1) if bool(empty.any()) else None

    def block(self, start: int, stop: int) -> Tensor:
        """(B, stop - start) scores of the items `start` to `stop - 1`."""
        scores = self.model.score_block(self.queries, self.catalogue, start, stop)
        if self.empty is None:
            return scores
        return torch.where(self.empty, self.popularity[start:stop].to(scores), scores)

    def pairs(self, items: Tensor) -> Tensor:
        """(B, M) scores of each query's own items (B, M); what is said of item -1 means nothing."""
        scores = self.model.score_pairs(self.queries, self.catalogue, items)
        if self.empty is None:
            return scores
        return torch.where(self.empty, self.popularity.to(scores)[items.clamp(min=0)], scores)
