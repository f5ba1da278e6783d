"""GMF: matrix factorization whose factors have weights, learned from likely and unlikely pairs."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from intarsia.core.batch import Batch, Dense
from intarsia.core.batch_names import USER
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.ncf import NCF, Latest, Penalty
from intarsia.models.retriever import history_of
from intarsia.nn.fold_in import fold_in
from intarsia.nn.initializers import initialize_
from intarsia.objectives.retrieval import Objective


class GMF(NCF):
    """An inner product of users and items in which every factor has a weight: generalized matrix factorization.

    The simplest of the NCF models and the one that an index can search: the weights become part of the user's vector.

        score(u, i) = sum_d h_d p_ud q_id + b

    Shapes: users (B,) to queries (B, D + 1), whose last number is b.

    A user whom training never saw gets the vector that explains the given history best, by ridge regression over the
    item vectors (see `intarsia.nn.fold_in`).

    Source: He et al., Neural Collaborative Filtering (WWW 2017), equations 8 and 9; trained by equation 7 with four
    unseen items for each pair. From the authors' code: vectors start from N(0, 0.01^2), h from LeCun's uniform
    distribution, and there is a bias b.

    Departures: none in the equations; the sigmoid is part of the objective. The authors' penalty is on whole tables, l2
    is on the rows of the pairs of a batch.
    """

    num_biases = 1

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        hidden_size: Annotated[int, Param("D, factors.", ge=1)] = 64,
        l2: Penalty = 0.0,
        max_history: Latest = 1000,
    ) -> None:
        super().__init__(schema=schema, objective=objective, width=hidden_size, l2=l2, max_history=max_history)
        self.output = nn.Linear(hidden_size, 1)
        initialize_(self.output.weight, "lecun_uniform")
        nn.init.zeros_(self.output.bias)

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D + 1): the user's row times h; of strangers what their history says."""
        user = batch.features[USER]
        assert isinstance(user, Dense)
        strangers = user.values < 0
        vectors = self.user_vectors(batch) * self.output.weight[0]
        if not self.training and bool(strangers.any()):
            history = history_of(batch)
            found = fold_in(self.items.weight, history.values, history.offsets)
            vectors = torch.where(strangers.unsqueeze(1), found, vectors)
        return torch.cat([vectors, self.output.bias.expand(len(vectors), 1)], dim=1)

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D + 1), the last number is 1."""
        vectors: Tensor = self.items.weight if items is None else self.items(items)
        return torch.cat([vectors, torch.ones_like(vectors[..., :1])], dim=-1)


MODEL = GMF
