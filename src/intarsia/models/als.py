"""ALS: matrix factorization of clicks by alternating least squares."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from intarsia.core.batch import Batch
from intarsia.core.params import Param
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.retriever import VectorScorer
from intarsia.models.rows import distinct_history, tensors, training_matrix
from intarsia.models.solver import Solver
from intarsia.nn.least_squares import group_rows, solve_rows


class ALS(VectorScorer, Solver):
    """User and item vectors whose products are near 1 for what was taken and near 0 for everything else.

    Looks at the whole catalogue without drawing negatives, and is fitted in seconds to minutes. Tuned well it is hard
    to beat on clicks without times; `unobserved_weight` and `regularization` decide, so search both, by factors of 3.

        minimise  sum_{(u, i) taken} w_ui (<p_u, q_i> - 1)^2 + unobserved_weight sum_{all u, i} <p_u, q_i>^2
                  + regularization (sum_u n_u^nu |p_u|^2 + sum_i n_i^nu |q_i|^2)
        n_u = |items of u| + unobserved_weight N,    n_i = |users of i| + unobserved_weight U

    User vectors, then item vectors, are the exact minimum (`cholesky`), or some steps of conjugate gradients from
    their last values towards it (`cg`; D / 3 times faster).

    A query is the exact minimum for the history at hand, of known users as of strangers; so no user vector is kept.

    Shapes: q (N, D); queries (B, D).

    Source: Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets (ICDM 2008), equations 3 to
    5; regularization by frequency and the form of the loss: Rendle et al., Revisiting the Performance of iALS on Item
    Recommendation Benchmarks (RecSys 2022), equations 2 to 4 and 13.

    Departures: Hu et al. write a confidence of 1 + alpha for what was taken, with target 1, against 1 for the rest: up
    to the scale of the vectors that is unobserved_weight = 1 / alpha here.
    """

    def __init__(
        self,
        *,
        schema: Schema,
        hidden_size: Annotated[int, Param("D, width of the vectors.", ge=1)] = 64,
        iterations: Annotated[int, Param("Times that both sides are solved.", ge=1)] = 15,
        unobserved_weight: Annotated[float, Param("Weight of any pair of a user and an item.", ge=0)] = 0.1,
        regularization: Annotated[float, Param("Strength of the penalty on the vectors.", gt=0)] = 0.003,
        frequency_exponent: Annotated[
            float, Param("nu: how the penalty grows with the number of interactions; 0: not at all.", ge=0)
        ] = 1.0,
        count_repeats: Annotated[bool, Param("Whether an item that was taken f times weighs f (else 1).")] = False,
        solver: Annotated[Literal["cg", "cholesky"], Param("How each side is solved.")] = "cg",
        cg_steps: Annotated[int, Param("Steps of conjugate gradients.", ge=1)] = 3,
        init_std: Annotated[float, Param("Standard deviation of <p, q> parts at the start, over sqrt(D).", gt=0)] = 0.1,
    ) -> None:
        super().__init__()
        self.num_items, self.num_users, self.hidden_size = schema.num_items, schema.num_users, hidden_size
        self.iterations, self.unobserved_weight, self.count_repeats = iterations, unobserved_weight, count_repeats
        self.regularization, self.frequency_exponent = regularization, frequency_exponent
        self.steps = cg_steps if solver == "cg" else 0
        self.init_std = init_std
        self.register_buffer("items", torch.zeros(schema.num_items, hidden_size))
        self._kept: tuple[tuple[int, int], tuple[Tensor, Tensor, Tensor]] | None = None

    def fit(self, division: Division, seed: int) -> None:
        """Alternates.

        Raises:
            TrainingError: The regularization is too small.
        """
        matrix = training_matrix(division, values="count" if self.count_repeats else "once")
        device = self.get_buffer("items").device
        sides = []
        for one in (matrix, matrix.T.tocsr()):
            entries, offsets, weights = (part.to(device) for part in tensors(one))
            groups = group_rows(
                entries,
                offsets,
                count=one.shape[1],
                width=self.hidden_size,
                weights=weights if self.count_repeats else None,
            )
            sides.append((groups, self._ridge(offsets.diff(), one.shape[1])))
        (of_users, user_ridge), (of_items, item_ridge) = sides
        random = torch.Generator().manual_seed(seed)
        std = self.init_std / self.hidden_size**0.5
        users, items = (torch.randn(n, self.hidden_size, generator=random) * std for n in matrix.shape)
        users, items = users.to(device), items.to(device)
        for _ in range(self.iterations):
            users = solve_rows(of_users, items, users, ridge=user_ridge, gram=self._gram(items), steps=self.steps)
            items = solve_rows(of_items, users, items, ridge=item_ridge, gram=self._gram(users), steps=self.steps)
        self.get_buffer("items").copy_(items)

    def _ridge(self, lengths: Tensor, others: int) -> Tensor:
        frequency = lengths + self.unobserved_weight * others
        return self.regularization * frequency.clamp(min=1e-9).pow(self.frequency_exponent)

    def _gram(self, vectors: Tensor) -> Tensor:
        return self.unobserved_weight * (vectors.t() @ vectors)

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D): the vectors that explain the histories best, in double precision; zeros for empty ones."""
        history = distinct_history(batch, self.num_items)
        items, spectrum, axes = self._turned()
        groups = group_rows(
            history.values,
            history.offsets,
            count=self.num_items,
            width=self.hidden_size,
            weights=history.weights.double() if self.count_repeats and history.weights is not None else None,
        )
        nothing = items.new_zeros(len(history), self.hidden_size)
        ridge = self._ridge(history.lengths.double(), self.num_items)
        return solve_rows(groups, items, nothing, ridge=ridge, gram=spectrum) @ axes.t()

    def _turned(self) -> tuple[Tensor, Tensor, Tensor]:
        """The item vectors along axes in which their weighted Gram matrix is diagonal, in double precision.

        With a diagonal matrix, a history of few items needs but a small system. Computed anew when the item vectors
        have changed.

        Returns:
            Vectors (N, D), the diagonal (D,), and the axes as the columns of (D, D).
        """
        items = self.get_buffer("items")
        if self._kept is None or self._kept[0] != (items.data_ptr(), items._version):
            doubled = items.double()
            spectrum, axes = torch.linalg.eigh(self._gram(doubled))
            # Rounding can leave an eigenvalue of zero below zero.
            self._kept = (items.data_ptr(), items._version), (doubled @ axes, spectrum.clamp(min=0.0), axes)
        return self._kept[1]

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D) vectors of the given items, or (N, D) of the whole catalogue."""
        vectors = self.get_buffer("items")
        return vectors if items is None else vectors[items]


MODEL = ALS
