"""ExplicitALS: matrix factorization of ratings by alternating least squares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from intarsia.core.batch import Batch, Dense
from intarsia.core.batch_names import USER
from intarsia.core.errors import DataError
from intarsia.core.params import Param
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.retriever import VectorScorer
from intarsia.models.rows import distinct_history, tensors, training_matrix
from intarsia.models.solver import Solver
from intarsia.nn.least_squares import group_rows, solve_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class ExplicitALS(VectorScorer, Solver):
    """User and item vectors whose products, with biases, are the ratings that were given.

    For ratings to be foretold (`rmse`), fitted in seconds without a learning rate. To rank what somebody will take
    next, ALS is better: which items were rated at all says more of that than how.

        score(u, i) = mean + b_u + b_i + <p_u, q_i>
        minimise  sum_{(u, i) rated} (r_ui - score(u, i))^2
                  + regularization (sum_u n_u^nu (|p_u|^2 + b_u^2) + sum_i n_i^nu (|q_i|^2 + b_i^2))

    with n_u and n_i the numbers of ratings, and mean that of all of them. Each side, its biases with its vectors, is
    the exact minimum given the other (`cholesky`), or some steps of conjugate gradients towards it (`cg`).

    A user without training ratings is described by a history, which tells items but no ratings. Each counts as liked,
    that is, as rated with the `liked_quantile` of the training ratings; the vector is the minimum for that, b_u is 0.
    Without a history scores are mean + b_i.

    Shapes: users (U, D + 1), items (N, D + 1), the bias last; queries (B, D + 2), so that scores are inner products.

    Source: Zhou, Wilkinson, Schreiber and Pan, Large-scale Parallel Collaborative Filtering for the Netflix Prize
    (AAIM 2008), section 3, which is frequency_exponent 1 and biases off.

    Departures: ratings are less their mean, there are biases, and item vectors start at random alone, without the mean
    rating of the item in front.
    """

    reads = frozenset({"user", "history"})

    num_biases = 2

    def __init__(
        self,
        *,
        schema: Schema,
        hidden_size: Annotated[int, Param("D, width of the vectors.", ge=1)] = 32,
        iterations: Annotated[int, Param("Times that both sides are solved.", ge=1)] = 20,
        regularization: Annotated[float, Param("Strength of the penalty on vectors and biases.", gt=0)] = 0.1,
        frequency_exponent: Annotated[
            float, Param("nu: how the penalty grows with the number of ratings; 0: not at all.", ge=0)
        ] = 1.0,
        biases: Annotated[bool, Param("Whether users and items have a bias.")] = True,
        solver: Annotated[Literal["cg", "cholesky"], Param("How each side is solved.")] = "cholesky",
        cg_steps: Annotated[int, Param("Steps of conjugate gradients.", ge=1)] = 3,
        init_std: Annotated[float, Param("Standard deviation of the vectors' lengths at the start.", gt=0)] = 1.0,
        liked_quantile: Annotated[
            float, Param("Quantile of the ratings that strangers are taken to have given.", ge=0, le=1)
        ] = 0.9,
    ) -> None:
        super().__init__()
        self.num_items, self.hidden_size, self.iterations = schema.num_items, hidden_size, iterations
        self.regularization, self.frequency_exponent = regularization, frequency_exponent
        self.biases, self.init_std, self.liked_quantile = biases, init_std, liked_quantile
        self.steps = cg_steps if solver == "cg" else 0
        self.register_buffer("users", torch.zeros(schema.num_users, hidden_size + 1))
        self.register_buffer("items", torch.zeros(schema.num_items, hidden_size + 1))
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("liked", torch.zeros((), dtype=torch.float64))

    def fit(self, division: Division, seed: int) -> None:
        """Alternates.

        Raises:
            DataError: The log has no ratings.
            TrainingError: The regularization is too small.
        """
        if division.log.ratings is None:
            raise DataError(
                "ExplicitALS learns ratings. Received: a log without log.rating_field. Name the column, or use ALS."
            )
        matrix = training_matrix(division, values="rating")
        mean = matrix.data.mean(dtype=np.float64)
        self.get_buffer("mean").fill_(mean)
        self.get_buffer("liked").fill_(np.quantile(matrix.data, self.liked_quantile))
        matrix.data -= np.float32(mean)
        sides = [self._side(one) for one in (matrix, matrix.T.tocsr())]
        random = torch.Generator().manual_seed(seed)
        users, items = self.get_buffer("users"), self.get_buffer("items")
        start = torch.randn(self.num_items, self.hidden_size, generator=random) * self.init_std / self.hidden_size**0.5
        users.zero_()
        items.zero_()
        items[:, :-1] = start.to(items)
        for _ in range(self.iterations):
            for (entries, offsets, ratings), mine, others in zip(sides, (users, items), (items, users)):
                mine.copy_(self._solved(entries, offsets, ratings, mine, others))

    def _side(self, matrix: csr_array) -> tuple[Tensor, Tensor, Tensor]:
        entries, offsets, ratings = (part.to(self.get_buffer("items").device) for part in tensors(matrix))
        return entries, offsets, ratings

    def _solved(self, entries: Tensor, offsets: Tensor, ratings: Tensor, mine: Tensor, others: Tensor) -> Tensor:
        """(B, D + 1) vectors and biases of one side, given those of the other."""
        known = others[:, -1]
        design = others.clone()
        design[:, -1] = 1.0 if self.biases else 0.0
        targets = ratings - known[entries]
        groups = group_rows(entries, offsets, count=len(others), width=design.shape[1], targets=targets)
        return solve_rows(groups, design, mine, ridge=self._ridge(offsets.diff()).to(mine), steps=self.steps)

    def _ridge(self, lengths: Tensor) -> Tensor:
        return self.regularization * lengths.double().pow(self.frequency_exponent)

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D + 2): p, 1, b + mean; of strangers what their history says."""
        user = batch.features[USER]
        assert isinstance(user, Dense)
        strangers = user.values < 0
        vectors = self.get_buffer("users")[user.values.clamp(min=0)].double()
        if bool(strangers.any()):
            vectors = torch.where(strangers.unsqueeze(1), self._folded(batch), vectors)
        ones = torch.ones_like(vectors[:, :1])
        return torch.cat([vectors[:, :-1], ones, vectors[:, -1:] + self.get_buffer("mean")], dim=1)

    def _folded(self, batch: Batch) -> Tensor:
        """(B, D + 1): the vectors that explain the histories best, if all of it was liked; no bias."""
        history = distinct_history(batch, self.num_items)
        items = self.get_buffer("items").double()
        design, biases = items[:, :-1], items[:, -1]
        targets = self.get_buffer("liked") - self.get_buffer("mean") - biases[history.values]
        groups = group_rows(
            history.values, history.offsets, count=self.num_items, width=self.hidden_size, targets=targets
        )
        nothing = items.new_zeros(len(history), self.hidden_size)
        found = solve_rows(groups, design, nothing, ridge=self._ridge(history.lengths))
        return torch.cat([found, torch.zeros_like(found[:, :1])], dim=1)

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D + 2): q, b, 1."""
        vectors = self.get_buffer("items") if items is None else self.get_buffer("items")[items]
        return torch.cat([vectors, torch.ones_like(vectors[..., :1])], dim=-1)


MODEL = ExplicitALS
