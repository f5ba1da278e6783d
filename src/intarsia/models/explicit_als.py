"""ExplicitALS: matrix factorization of ratings by alternating least squares."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from intarsia.core.batch import Batch, Dense
from intarsia.core.batch_names import USER
from intarsia.core.errors import DataError
from intarsia.core.params import Param
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.retriever import Vectors, interest_scores
from intarsia.models.rows import distinct_history, tensors, training_matrix
from intarsia.models.solver import Solver
from intarsia.nn.least_squares import group_rows, solve_rows


class ExplicitALS(Solver):
    """User and item vectors whose products are ratings.

    Predicts ratings well with little to tune. It says how much somebody would like an item, not whether they would take
    it: for lists of items to take, `ALS` on the same log ranks better.

        b_i = sum_u (r_ui - mean) / (n_i + damping);   b_u = sum_i (r_ui - mean - b_i) / (n_u + damping)
        minimise  sum_{(u, i) rated} (r_ui - mean - b_u - b_i - <p_u, q_i>)^2
                  + regularization (sum_u n_u |p_u|^2 + sum_i n_i |q_i|^2)
        score(u, i) = mean + b_u + b_i + <p_u, q_i>

    Each side is the exact minimum given the other, by Cholesky's factors of all systems at once.

    A history has no ratings. A user whom training never saw is taken to have given each item of the history the highest
    rating; without a history the score is mean + b_i.

    Shapes: p (U, D), q (N, D); queries (B, D + 2), the biases among their numbers.

    Source: Zhou, Wilkinson, Schreiber and Pan, Large-scale Parallel Collaborative Filtering for the Netflix Prize (AAIM
    2008), section 3 (ALS with weighted-lambda regularization); biases by Koren, Factor in the Neighbors (TKDD 2010),
    section 2.1.

    Departures: `biases: false` with a mean of 0 would be the paper's; of an item rated several times by one user the
    mean counts.
    """

    reads = frozenset({"user", "history"})
    answers_empty = True
    indexable = True

    def __init__(
        self,
        *,
        schema: Schema,
        hidden_size: Annotated[int, Param("D, width of the vectors.", ge=1)] = 32,
        iterations: Annotated[int, Param("Times that both sides are solved.", ge=1)] = 15,
        regularization: Annotated[float, Param("Strength of the penalty, for each rating.", gt=0)] = 0.1,
        biases: Annotated[bool, Param("Whether users and items have biases.")] = True,
        damping: Annotated[float, Param("Ratings at the mean that biases are told of beforehand.", ge=0)] = 10.0,
        init_std: Annotated[float, Param("Standard deviation of the item vectors at the start.", gt=0)] = 0.1,
    ) -> None:
        super().__init__()
        self.num_items, self.num_users, self.hidden_size = schema.num_items, schema.num_users, hidden_size
        self.iterations, self.regularization = iterations, regularization
        self.biases, self.damping, self.init_std = biases, damping, init_std
        for name, count in (("users", schema.num_users), ("items", schema.num_items)):
            self.register_buffer(name, torch.zeros(count, hidden_size))
            self.register_buffer(f"{name}_bias", torch.zeros(count))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("highest", torch.zeros(()))

    def fit(self, division: Division, seed: int) -> None:
        """Alternates.

        Raises:
            DataError: The log has no ratings.
        """
        if division.log.ratings is None:
            raise DataError(
                "ExplicitALS learns ratings, and the log has none. Name their column by log.rating_field, or use ALS."
            )
        matrix = training_matrix(division, values="rating")
        mean, highest = float(matrix.data.mean()), float(matrix.data.max())
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        matrix.data = matrix.data - np.float32(mean)
        of_items = np.zeros(matrix.shape[1], dtype=np.float32)
        of_users = np.zeros(matrix.shape[0], dtype=np.float32)
        if self.biases:
            of_items = self._bias(matrix.indices, matrix.data, matrix.shape[1])
            of_users = self._bias(rows, matrix.data - of_items[matrix.indices], matrix.shape[0])
            matrix.data = matrix.data - of_items[matrix.indices] - of_users[rows]
        for name, value in (("mean", mean), ("highest", highest)):
            self.get_buffer(name).fill_(value)
        self.get_buffer("items_bias").copy_(torch.from_numpy(of_items))
        self.get_buffer("users_bias").copy_(torch.from_numpy(of_users))
        device = self.get_buffer("items").device
        sides = []
        for one in (matrix, matrix.T.tocsr()):
            entries, offsets, targets = (part.to(device) for part in tensors(one))
            groups = group_rows(entries, offsets, count=one.shape[1], width=self.hidden_size, targets=targets)
            sides.append((groups, self.regularization * offsets.diff().float()))
        (user_groups, user_ridge), (item_groups, item_ridge) = sides
        users = torch.zeros(matrix.shape[0], self.hidden_size, device=device)
        random = torch.Generator().manual_seed(seed)
        items = (torch.randn(matrix.shape[1], self.hidden_size, generator=random) * self.init_std).to(device)
        for _ in range(self.iterations):
            users = solve_rows(user_groups, items, users, ridge=user_ridge)
            items = solve_rows(item_groups, users, items, ridge=item_ridge)
        self.get_buffer("users").copy_(users)
        self.get_buffer("items").copy_(items)

    def _bias(self, places: np.ndarray, residuals: np.ndarray, count: int) -> np.ndarray:
        sums = np.bincount(places, residuals, minlength=count)
        found: np.ndarray = (sums / np.maximum(np.bincount(places, minlength=count) + self.damping, 1e-9)).astype("f4")
        return found

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D + 2): [p_u, 1, b_u + mean] in double precision."""
        user = batch.features[USER]
        assert isinstance(user, Dense)
        known = (user.values >= 0).unsqueeze(1)
        own = user.values.clamp(min=0)
        vectors = torch.where(known, self.get_buffer("users")[own].double(), self._strangers(batch))
        bias = torch.where(known[:, 0], self.get_buffer("users_bias")[own], 0.0) + self.get_buffer("mean")
        return torch.cat([vectors, torch.ones_like(vectors[:, :1]), bias.double().unsqueeze(1)], dim=1)

    def _strangers(self, batch: Batch) -> Tensor:
        """(B, D): what explains the highest rating of every item of the history; zeros for an empty one."""
        history = distinct_history(batch, self.num_items)
        targets = self.get_buffer("highest") - self.get_buffer("mean") - self.get_buffer("items_bias")[history.values]
        groups = group_rows(
            history.values,
            history.offsets,
            count=self.num_items,
            width=self.hidden_size,
            targets=targets.double(),
        )
        nothing = targets.new_zeros(len(history), self.hidden_size, dtype=torch.float64)
        ridge = self.regularization * history.lengths.double()
        return solve_rows(groups, self.get_buffer("items").double(), nothing, ridge=ridge)

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D + 2) vectors [q_i, b_i, 1] of the given items, or (N, D + 2) of the whole catalogue."""
        vectors, bias = self.get_buffer("items"), self.get_buffer("items_bias")
        if items is not None:
            vectors, bias = vectors[items], bias[items]
        return torch.cat([vectors, bias.unsqueeze(-1), torch.ones_like(bias).unsqueeze(-1)], dim=-1)

    def catalogue(self) -> Vectors:
        """Vectors of all items."""
        return Vectors(self.encode_items().double())

    def queries(self, batch: Batch) -> Tensor:
        """Vectors of the users."""
        return self.encode_queries(batch)

    def score_block(self, queries: Tensor, catalogue: Vectors, start: int, stop: int) -> Tensor:
        """Products, rounded to single precision."""
        return interest_scores(queries, catalogue.items[start:stop])

    def score_pairs(self, queries: Tensor, catalogue: Vectors, items: Tensor) -> Tensor:
        """(B, M) products."""
        return torch.einsum("bd,bmd->bm", queries, catalogue.items[items.clamp(min=0)]).float()


MODEL = ExplicitALS
