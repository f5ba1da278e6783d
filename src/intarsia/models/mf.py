"""MF: matrix factorization, by whichever objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor, nn

from intarsia.core.batch import Batch, Dense
from intarsia.core.batch_names import USER
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.retriever import Retriever, history_of
from intarsia.nn.fold_in import fold_in
from intarsia.nn.id_table import IdTable
from intarsia.objectives.retrieval import FactorScorer, Objective, Scorer


class MF(Retriever):
    """A vector for each user and each item; their inner product is the score.

    The baseline that a tuned objective makes hard to beat, and the fastest to train and to search.

        score(u, i) = <p_u, q_i>                              or, with biases,
        score(u, i) = <p_u, q_i> + b_u + b_i + mean

    Shapes: users (B,) to queries (B, D), with biases (B, D + 2): the biases are further numbers of the vectors, so
    that scores stay inner products. `l2` counts the vectors of users, positives and negatives of each pair; from some
    65,000 negatives in a batch on each distinct item once, and under the full softmax those of users alone.

    A user whom training never saw gets the vector that explains the given history best, by ridge regression over the
    item vectors (see `intarsia.nn.fold_in`), and a bias of 0.

    Source: Koren, Bell and Volinsky, Matrix Factorization Techniques for Recommender Systems (2009), eq. 1 and 4;
    `objective: bpr` is Rendle et al., BPR (UAI 2009); `objective: mse` with biases is the SVD of the Netflix prize.
    """

    view = "pairs"
    reads = frozenset({"user", "history"})
    default_objective = "bpr"

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        hidden_size: Annotated[int, Param("D, width of the vectors.", ge=1)] = 64,
        biases: Annotated[bool, Param("Whether users, items and the whole have a bias.")] = False,
        l2: Annotated[float, Param("Strength on the vectors of a batch: l2 * sum(x^2) / 2 for each pair.", ge=0)] = 0.0,
        init_std: Annotated[float, Param("Standard deviation of the vectors at the start.", gt=0)] = 0.1,
        max_history: Annotated[int, Param("Latest items that describe a user without a vector.", ge=1)] = 1000,
    ) -> None:
        super().__init__()
        self.objective, self.num_items = objective, schema.num_items
        self.biases, self.l2, self.max_history = biases, l2, max_history
        self.num_biases = 2 if biases else 0
        width = hidden_size + int(biases)
        self.users = IdTable(schema.num_users, width, std=init_std, sparse=True)
        self.items = IdTable(schema.num_items, width, std=init_std, sparse=not objective.whole_catalogue)
        if biases:
            for table in (self.users, self.items):
                with torch.no_grad():
                    table.weight[:, -1] = 0.0
            self.mean = nn.Parameter(torch.zeros(()))

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D): the user's row; of strangers what their history says."""
        user = batch.features[USER]
        assert isinstance(user, Dense)
        vectors: Tensor = self.users(user.values)
        strangers = user.values < 0
        if not self.training and bool(strangers.any()):
            vectors = torch.where(strangers.unsqueeze(1), self._folded(batch), vectors)
        if not self.biases:
            return vectors
        ones = torch.ones_like(vectors[:, :1])
        return torch.cat([vectors[:, :-1], ones, vectors[:, -1:] + self.mean], dim=1)

    def _folded(self, batch: Batch) -> Tensor:
        history = history_of(batch)
        if not self.biases:
            return fold_in(self.items.weight, history.values, history.offsets)
        found = fold_in(self.items.weight[:, :-1], history.values, history.offsets)
        return torch.cat([found, torch.zeros_like(found[:, :1])], dim=1)

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D)."""
        vectors: Tensor = self.items.weight if items is None else self.items(items)
        if not self.biases:
            return vectors
        return torch.cat([vectors, torch.ones_like(vectors[..., :1])], dim=-1)

    def losses(self, predictions: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The objective, and the penalty on the vectors and biases that it looked at; the mean has none."""
        if not self.l2:
            return super().losses(predictions, batch)
        queries = predictions["queries"]
        looked_up = [torch.cat([queries[:, :-2], queries[:, -1:] - self.mean], dim=1) if self.biases else queries]

        def encode(items: Tensor | None) -> Tensor:
            vectors = self.encode_items(items)
            if items is not None:
                looked_up.append(vectors[..., :-1] if self.biases else vectors)
            return vectors

        scorer = FactorScorer(queries, encode, num_items=self.num_items)
        out: dict[str, Tensor] = self.objective(scorer, self.positives(batch))
        squares = sum((vectors.square().sum() for vectors in looked_up), torch.zeros(()))
        out["l2"] = self.l2 * squares / (2 * max(batch.size, 1))
        return out

    def scorer(self, queries: Tensor) -> Scorer:
        """Inner products."""
        return FactorScorer(queries, self.encode_items, num_items=self.num_items)


MODEL = MF
