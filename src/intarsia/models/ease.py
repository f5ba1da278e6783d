"""EASE: a linear model from items to items, in closed form."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from intarsia.core.batch import Batch, Jagged
from intarsia.core.errors import BuildError, Problem, TrainingError
from intarsia.core.params import Param
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.rows import co_occurrences, distinct_history, training_matrix
from intarsia.models.solver import Solver
from intarsia.nn.fast_products import fast_products
from intarsia.nn.inverse import LEAF, invert_

DOUBLE = 12_000
"""Items up to which the inverse is computed in double precision where single is not known to be enough."""
WELL_CONDITIONED = 4096.0
"""Condition number up to which single precision is enough: weights are then off by less than 1e-4 of the largest.
Measured on MovieLens-1M: by 3e-5 at a bound of 1,483, and by 2e-4 at 14,822."""


class EASE(Solver):
    """Reconstructs a history from itself by a matrix of item weights whose diagonal is zero.

    One of the strongest models of clicks without times, fitted within seconds, for catalogues up to some ten thousand
    items.

        minimise |X - X W|^2 + l2 |W|^2  subject to  diag(W) = 0
        P = (X'X + l2 I)^-1,   W[j, i] = -P[j, i] / P[i, i] for j != i
        score(h, i) = sum over the distinct items j of h of W[j, i]

    Shapes: X (U, N) of zeros and ones; W (N, N), row j for an item of the history, column i for a scored item.

    Memory: the bundle holds 4 N^2 bytes (1.6 GB for 20,000 items). Fitting takes 4 / 3 N^2 numbers beside, and time
    that grows with N^3. They are in single precision where (largest column sum of X'X) / l2 + 1 is at most 4,096
    (2.1 GB for 20,000 items), or above 12,000 items (where it is larger: 3.2 GB), and in double precision elsewhere.

    Source: Steck, Embarrassingly Shallow Autoencoders for Sparse Data (WWW 2019), equations 2, 3, 7 and 8.
    """

    def __init__(
        self,
        *,
        schema: Schema,
        l2: Annotated[float, Param("Strength of the penalty on the weights, in interactions.", gt=0)] = 250.0,
        max_items: Annotated[int, Param("Largest catalogue that is accepted; see the memory it takes.", ge=2)] = 25_000,
    ) -> None:
        super().__init__()
        if schema.num_items > max_items:
            size = 4 * schema.num_items**2 / 1e9
            text = (
                f"EASE keeps a weight for each pair of items, so catalogues are limited to max_items. Received: "
                f"{schema.num_items} items (a matrix of {size:.1f} GB), max_items {max_items}. Drop rare items by "
                "data_config.filter.min_item_interactions, raise ease.max_items, or use ItemKNN or ALS."
            )
            raise BuildError([Problem("", "model_config.ease.max_items", text)])
        self.num_items, self.l2 = schema.num_items, l2
        self.register_buffer("weights", torch.zeros(schema.num_items, schema.num_items))

    def fit(self, division: Division, seed: int) -> None:
        """Inverts the penalised matrix of co-occurrences.

        Raises:
            TrainingError: l2 is too small for the precision.
        """
        matrix = training_matrix(division)
        # A column's sum bounds the largest eigenvalue, l2 the smallest.
        condition = float((matrix.T @ matrix.sum(axis=1)).max()) / self.l2 + 1
        easy = condition <= WELL_CONDITIONED
        single = easy or self.num_items > DOUBLE
        system = co_occurrences(matrix, torch.float32 if single else torch.float64)
        system.diagonal().add_(self.l2)
        with fast_products(system.device):
            # Where single precision is all there is room for, at least by the most exact way.
            inverted = invert_(system, LEAF if easy or not single else self.num_items)
        if not inverted:
            raise TrainingError(
                f"ease.l2 must be large enough for the co-occurrences to be inverted. Received: {self.l2:g} for "
                f"{self.num_items} items. Raise it."
            )
        system.div_(-system.diagonal().clone())  # column i by the negated P[i, i]
        system.fill_diagonal_(0.0)
        self.get_buffer("weights").copy_(system)

    def queries(self, batch: Batch) -> Jagged:
        """Distinct items of the histories."""
        return distinct_history(batch, self.num_items)

    def score_block(self, queries: Jagged, catalogue: None, start: int, stop: int) -> Tensor:
        """Sums of rows of the weights."""
        columns = self.get_buffer("weights")[:, start:stop]
        return functional.embedding_bag(queries.values, columns, queries.offsets[:-1], mode="sum")


MODEL = EASE
