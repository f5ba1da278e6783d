"""DSSM: two towers of dense layers."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional

from intarsia.core.batch import Batch, Dense
from intarsia.core.batch_names import USER
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.next_item import NextItemRetriever
from intarsia.models.retriever import Spec, history_of
from intarsia.models.sides import Sides
from intarsia.nn.id_table import IdTable
from intarsia.nn.segments import segment_mean
from intarsia.nn.towers import tower
from intarsia.objectives.retrieval import Objective


class DSSM(NextItemRetriever):
    """A tower for what is known of the user, one for what is known of the item; scores are cosines of what they give.

    The plain two-tower model: any features on both sides, and item vectors that can be computed and indexed ahead.

        x = [mean of the history's items; features of the user; features of the moment; user vector]
        y = item vector + features of the item
        score(u, i) = cos(tower(x), tower(y)) / tau, or <tower(x), tower(y)> without `cosine`

    Shapes: queries (B, D'), D' = output_size.

    Source: Huang et al., Learning Deep Structured Semantic Models for Web Search using Clickthrough Data (CIKM 2013),
    equations 3 to 6, with users in the place of queries and items in that of documents.

    Departures: ids and features instead of letter trigrams; ReLU in the place of tanh; negatives are those of the
    batch, corrected for popularity, instead of four at random; 1/tau is the smoothing factor gamma. Training
    hides some of the users' vectors, so that the tower learns to answer strangers.
    """

    default_objective: ClassVar[Spec] = "in_batch"

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Annotated[int, Param("D, width of the vectors that go in.", ge=1)] = 64,
        user_units: Annotated[list[PositiveInt], Param("Hidden layers of the user's tower.")] = [128],  # noqa: B006 - read, never changed
        item_units: Annotated[list[PositiveInt], Param("Hidden layers of the item's tower.")] = [128],  # noqa: B006 - read, never changed
        output_size: Annotated[int, Param("D', width of the vectors that come out.", ge=1)] = 64,
        dropout: Annotated[float, Param("Dropout of the hidden layers.", ge=0, lt=1)] = 0.0,
        cosine: Annotated[bool, Param("Whether scores are cosines, else inner products.")] = True,
        temperature: Annotated[float, Param("tau, divisor of the cosines.", gt=0)] = 0.1,
        user_vectors: Annotated[bool, Param("Whether users have vectors of their own.")] = True,
        user_dropout: Annotated[float, Param("Share of the users' vectors that training hides.", ge=0, lt=1)] = 0.3,
        max_history: Annotated[int, Param("Latest steps that are read.", ge=1)] = 50,
    ) -> None:
        super().__init__(
            schema=schema, objective=objective, sides=sides, hidden_size=hidden_size, reads_user=True, moment=True
        )
        self.max_history, self.normed, self.temperature = max_history, cosine, temperature
        self.user_dropout = user_dropout
        self.users = IdTable(schema.num_users, hidden_size, std=self.item_std, sparse=True) if user_vectors else None
        if user_vectors:
            self.reads = frozenset({"user", "history"})
        width = hidden_size * (1 + int(user_vectors) + self.num_side_vectors)
        self.of_user = tower(width, user_units, output_size, dropout=dropout)
        self.of_item = tower(hidden_size, item_units, output_size, dropout=dropout)

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D')."""
        parts = [segment_mean(self.step_vectors(batch), history_of(batch).offsets), *self.side_vectors(batch)]
        if self.users is not None:
            user = batch.features[USER]
            assert isinstance(user, Dense)
            known = user.values
            if self.training and self.user_dropout:
                known = known.masked_fill(torch.rand(known.shape, device=known.device) < self.user_dropout, -1)
            parts.append(self.users(known))
        found: Tensor = self.of_user(torch.cat(parts, dim=1))
        return functional.normalize(found, dim=-1) / self.temperature if self.normed else found

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D')."""
        found: Tensor = self.of_item(self.items(items))
        return functional.normalize(found, dim=-1) if self.normed else found


MODEL = DSSM
