"""Popular items for whom a model knows nothing: what is recommended then, and what is therefore measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import HISTORY, USER
from intarsia.data.interactions.views import QueryView
from intarsia.models.retriever import ItemScorer, VectorScorer
from intarsia.nn.top_k import mask_, running_top_k
from intarsia.retrieval.exhaustive import exhaustive_top_k, rows_of

BLOCK = 8192
"""Items scored at a time."""
SORTED_BYTES = 1 << 28
"""Size of a catalogue's vectors up to which a sorted copy of them is worth its memory."""


def knows_nothing(model: ItemScorer, histories: Jagged, known: Tensor) -> Tensor:
    """(B,) bool: queries of which nothing is there that the model reads.

    Args:
        model: The model.
        histories: The history of each query, cut or whole.
        known: (B,) bool: whether training saw the user.
    """
    nothing = histories.lengths == 0
    if model.answers_empty:
        return torch.zeros_like(nothing)
    return nothing & ~known if "user" in model.reads else nothing


def unanswerable(model: ItemScorer, batch: Batch) -> Tensor:
    """(B,) bool: queries of which the batch holds nothing that the model reads."""
    history, user = batch.features[HISTORY], batch.features[USER]
    assert isinstance(history, Jagged)
    assert isinstance(user, Dense)
    return knows_nothing(model, history, user.values >= 0)


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

    def best(self, k: int, excluded: Jagged | None = None) -> tuple[Tensor, Tensor] | None:
        """The k best items of each query without a look at most scores in double precision, on the CPU.

        The answer is that of all scores, as `blocks` has them: see `exhaustive_top_k`.

        Args:
            k: Items for each, at most N.
            excluded: For each query the items that it must not get.

        Returns:
            (B, k) float32 scores, best first, and (B, k) int64 items; -inf and -1 where there are fewer. None where
            the model's scores are no products of vectors, or where these are not all finite.
        """
        if not (
            isinstance(self.model, VectorScorer) and self.model.indexable and math.isfinite(self.catalogue.longest)
        ):
            return None
        queries = self.queries if self.queries.dim() == 3 else self.queries.unsqueeze(1)
        if not bool(queries.isfinite().all()):
            return None
        vectors = self.catalogue.single
        sortable = vectors.device.type == "cpu" and vectors.nbytes <= SORTED_BYTES
        values, items = exhaustive_top_k(
            queries,
            lambda start, stop: vectors[start:stop],
            len(vectors),
            k,
            metric="inner_product",
            excluded=None if excluded is None else excluded.to(vectors.device),
            take=lambda places: vectors[places],
            largest=self.catalogue.longest,
            by_length=self.catalogue.by_length if sortable else None,
        )
        values, items = values.cpu(), items.cpu()
        if self.empty is not None:
            rows = self.empty[:, 0].nonzero()[:, 0].cpu()
            values[rows], items[rows] = popular(self.popularity.cpu(), rows, k, excluded)
        return values, items

    def blocks(
        self, seen: Jagged | None = None, outside: Tensor | None = None, size: int = BLOCK
    ) -> Iterator[tuple[int, Tensor]]:
        """Scores of the whole catalogue, some items at a time, on the CPU.

        Args:
            seen: For each query the items that get -inf.
            outside: (N,) bool: items that get -inf for all.
            size: Items at a time.

        Yields:
            First item, and (B, size) float32 scores, which the caller may change.
        """
        total = len(self.popularity)
        for start in range(0, total, size):
            scores = self.block(start, min(start + size, total)).float().cpu().clone()
            if seen is not None:
                mask_(scores, start, seen)
            if outside is not None:
                scores[:, outside[start : start + size]] = -torch.inf
            yield start, scores


def popular(popularity: Tensor, rows: Tensor, k: int, excluded: Jagged | None) -> tuple[Tensor, Tensor]:
    """The k most popular items for each of R queries.

    Args:
        popularity: (N,).
        rows: (R,) which of the queries.
        k: Items for each, at most N.
        excluded: Items that each of all queries must not get.

    Returns:
        (R, k) popularity and (R, k) items.
    """
    scores = popularity.repeat(len(rows), 1)
    if excluded is not None:
        mask_(scores, 0, rows_of(excluded, rows))
    return running_top_k([(0, scores)], k)


def answered(
    model: ItemScorer, view: QueryView, order: npt.NDArray[np.int64], size: int
) -> Iterator[tuple[npt.NDArray[np.int64], Answers]]:
    """Answers to queries of a divided log, some at a time.

    Args:
        model: The model.
        view: The queries.
        order: Numbers of those to answer, in their order.
        size: Queries at a time.

    Yields:
        Numbers of the queries, and their answers.
    """
    device = device_of(model)
    catalogue = model.catalogue()
    popularity = torch.from_numpy(view.division.item_counts()).float().to(device)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield rows, Answers(model, catalogue, popularity, view.take(rows).to(device))


def device_of(model: ItemScorer) -> torch.device:
    """Where the model is."""
    device: torch.device = next(iter(model.state_dict().values())).device
    return device
