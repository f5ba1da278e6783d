"""The best items of requests: every item is scored, or an index of the item vectors is searched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from intarsia.core.batch import Batch
from intarsia.evaluation.evaluate import evaluating
from intarsia.models.retriever import ItemScorer, Vectors
from intarsia.nn.top_k import running_top_k
from intarsia.recommender.fallback import Answers, device_of, knows_nothing, popular, unanswerable
from intarsia.recommender.log_data import SideEncoders
from intarsia.recommender.memory import Memory
from intarsia.recommender.requests import RequestBatches, Requests
from intarsia.retrieval.exhaustive import in_order
from intarsia.retrieval.index import Index

REQUESTS = 1024
"""Requests answered at a time."""


class Searcher:
    """Answers requests by a model.

    Args:
        model: The model.
        encoders: Of side features.
        memory: Users, items, and what everybody took.
        size: Requests answered at a time, at most `REQUESTS`.
    """

    def __init__(self, model: ItemScorer, encoders: SideEncoders, memory: Memory, size: int = REQUESTS) -> None:
        self.model, self.memory, self.size = model, memory, min(size, REQUESTS)
        self._batches = RequestBatches(memory, encoders, model.max_history)
        self._popularity = torch.from_numpy(memory.counts).float()
        self._kept: Vectors | None = None

    def best(
        self,
        requests: Requests,
        k: int,
        *,
        filter_seen: bool = True,
        candidates: npt.NDArray[np.bool_] | None = None,
        index: Index | None = None,
    ) -> Iterator[tuple[npt.NDArray[np.int64], Tensor, Tensor]]:
        """The k best items of each request, some requests at a time.

        Args:
            requests: Whom to recommend to.
            k: Items for each.
            filter_seen: Whether items of the histories are left out.
            candidates: (N,) the only items that may be recommended; they are all scored.
            index: Is searched where no candidates are given. The items that it finds are scored by the model itself,
                so that scores are exact whatever the index. Requests that the model cannot answer are not searched.

        Yields:
            Numbers of the requests (R,); scores (R, k') float32, best first; items (R, k'), -1 at the end where there
            are fewer. k' is k, at most N.
        """
        k = min(k, len(self.memory.item_ids))
        with evaluating(self.model):
            for numbers, part, batch in self._encoded(requests, self.size):
                if index is None or candidates is not None:
                    answers = Answers(self.model, self.catalogue(), self._popularity.to(self.device), batch)
                    yield numbers, *self._scored(answers, part, k, filter_seen, candidates)
                else:
                    yield numbers, *self._searched(index, batch, part, k, filter_seen)

    def _scored(
        self, answers: Answers, part: Requests, k: int, filter_seen: bool, candidates: npt.NDArray[np.bool_] | None
    ) -> tuple[Tensor, Tensor]:
        seen = part.histories if filter_seen else None
        found = answers.best(k, seen) if candidates is None else None
        if found is not None:
            return found
        outside = None if candidates is None else torch.from_numpy(~candidates)
        return running_top_k(answers.blocks(seen, outside), k)

    def _searched(self, index: Index, batch: Batch, part: Requests, k: int, filter_seen: bool) -> tuple[Tensor, Tensor]:
        queries = self.model.queries(batch)
        _, items = index.search(queries, k, excluded=part.histories if filter_seen else None)
        scores = self.model.score_pairs(queries, self.catalogue(), items.to(self.device)).float().cpu()
        scores, items = in_order(scores.masked_fill(items < 0, -torch.inf), items)
        empty = unanswerable(self.model, batch)
        if bool(empty.any()):
            rows = empty.nonzero()[:, 0].cpu()
            scores[rows], items[rows] = popular(self._popularity, rows, k, part.histories if filter_seen else None)
        return scores, items

    # Parts that others ask for

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return device_of(self.model)

    def catalogue(self) -> Vectors | None:
        """What scoring needs to know of all items, computed once."""
        if self._kept is None:
            with evaluating(self.model):
                self._kept = self.model.catalogue()
        return self._kept

    def item_vectors(self) -> Tensor:
        """(N, D) float32 vectors of a model that is indexable, of length 1 where its scores are cosines."""
        kept = self.catalogue()
        assert isinstance(kept, Vectors)
        return kept.single.cpu()

    def query_vectors(self, requests: Requests) -> Tensor:
        """(R, D) or (R, K, D) float32 vectors of requests."""
        found = []
        with evaluating(self.model):
            for _, _, batch in self._encoded(requests, self.size):
                found.append(self.model.queries(batch).float().cpu())
        return torch.cat(found)

    def answerable(self, users: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """(U,) known users of whom the model can say something of its own."""
        return ~self.unanswerable(Requests.of_users(self.memory, users))

    def unanswerable(self, requests: Requests) -> npt.NDArray[np.bool_]:
        """(R,) requests of which the model knows nothing that it reads."""
        known = torch.from_numpy(self.memory.trained_on(requests.users))
        found: npt.NDArray[np.bool_] = knows_nothing(self.model, requests.histories, known).numpy()
        return found

    def pair_scores(self, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], size: int) -> Tensor:
        """(R,) scores of a user and an item each; what is said of -1 means nothing."""
        found = [torch.zeros(0)]
        with evaluating(self.model):
            for numbers, _, batch in self._encoded(Requests.of_users(self.memory, users), size):
                own = torch.from_numpy(items[numbers]).unsqueeze(1).to(self.device)
                scores = self.model.score_pairs(self.model.queries(batch), self.catalogue(), own)
                found.append(scores.squeeze(1).float().cpu())
        return torch.cat(found)

    def _encoded(self, requests: Requests, size: int) -> Iterator[tuple[npt.NDArray[np.int64], Requests, Batch]]:
        for numbers, part, batch in self._batches.batches(requests, size):
            yield numbers, part, batch.to(self.device)
