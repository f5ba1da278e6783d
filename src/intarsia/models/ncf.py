"""What the models of neural collaborative filtering share: two tables, and how the paper trains them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from intarsia.core.batch import Batch, Dense
from intarsia.core.batch_names import USER
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.retriever import Retriever, Spec
from intarsia.nn.id_table import IdTable
from intarsia.objectives.retrieval import Objective

# Options that all of them have.
Penalty = Annotated[float, Param("Strength on the vectors of the pairs: l2 * sum(x^2) / 2 for each pair.", ge=0)]
Latest = Annotated[int, Param("Latest items that describe a user without a vector.", ge=1)]
START_STD = 0.01
"""Standard deviation of the vectors at the start, as in the paper."""


class NCF(Retriever):
    """A row of numbers for each user and each item, trained on pairs with four unseen items each.

    Args:
        schema: Numbers of users and items.
        objective: What is minimised.
        width: W.
        l2: Strength of the penalty on the rows of the training pairs.
        max_history: Latest items that describe a user without a row.
    """

    view = "pairs"
    reads = frozenset({"user", "history"})
    default_objective: ClassVar[Spec] = {"bce": {"num_negatives": 4}}
    default_negatives: ClassVar[Spec] = "unseen"

    def __init__(self, *, schema: Schema, objective: Objective, width: int, l2: float, max_history: int) -> None:
        super().__init__()
        self.objective, self.num_items, self.l2, self.max_history = objective, schema.num_items, l2, max_history
        self.users = IdTable(schema.num_users, width, std=START_STD, sparse=True)
        self.items = IdTable(schema.num_items, width, std=START_STD, sparse=not objective.whole_catalogue)

    def user_vectors(self, batch: Batch) -> Tensor:
        """(B, W): the user's row; zeros for strangers."""
        user = batch.features[USER]
        assert isinstance(user, Dense)
        found: Tensor = self.users(user.values)
        return found

    def losses(self, predictions: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The objective, and the penalty on the rows of the pairs."""
        out = super().losses(predictions, batch)
        if self.l2:
            rows = torch.cat([self.user_vectors(batch), self.items(self.positives(batch).items)])
            out["l2"] = self.l2 * rows.square().sum() / (2 * max(batch.size, 1))
        return out
