"""YouTubeDNN: the mean of what was watched, and dense layers."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from intarsia.core.batch import Batch
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.next_item import NextItemRetriever
from intarsia.models.retriever import Spec, history_of
from intarsia.models.sides import Sides
from intarsia.nn.segments import segment_mean
from intarsia.nn.towers import tower
from intarsia.objectives.retrieval import Objective


class YouTubeDNN(NextItemRetriever):
    """Candidate generation as classification: which of all items comes next, given a bag of earlier ones?

    Fast to train on long logs, and easy to feed with whatever is known of the user and the moment.

        x = [mean of the history's items; features of the user; features of the moment]
        u = relu(W_n ... relu(W_1 x + b_1) + b_n);   P(i | u) = exp(<u, v_i>) / sum_j exp(<u, v_j>)

    Shapes: queries (B, D).

    Source: Covington, Adams and Sargin, Deep Neural Networks for YouTube Recommendations (RecSys 2016), section 3,
    figure 3; negatives by section 3.1.

    Departures: no age of the example; features of the moment take its place. The layers end in D units, whatever
    `hidden_units` says. Items may share the vectors that go in (`separate_output: false`).
    """

    default_objective: ClassVar[Spec] = "sampled_softmax"

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Annotated[int, Param("D, width of items and users.", ge=1)] = 64,
        hidden_units: Annotated[list[PositiveInt], Param("Widths of the layers before the last.")] = [128],  # noqa: B006 - read, never changed
        dropout: Annotated[float, Param("Dropout of the layers before the last.", ge=0, lt=1)] = 0.0,
        separate_output: Annotated[bool, Param("Whether items to predict have vectors of their own.")] = True,
        max_history: Annotated[int, Param("Latest steps that are read.", ge=1)] = 50,
    ) -> None:
        super().__init__(
            schema=schema, objective=objective, sides=sides, hidden_size=hidden_size, reads_user=True, moment=True
        )
        self.max_history = max_history
        self.output_items = self.item_encoder(sides) if separate_output else self.items
        width = hidden_size * (1 + self.num_side_vectors)
        self.layers = tower(width, hidden_units, hidden_size, dropout=dropout)

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D)."""
        watched = segment_mean(self.step_vectors(batch), history_of(batch).offsets)
        out: Tensor = self.layers(torch.cat([watched, *self.side_vectors(batch)], dim=1)).relu()
        return out

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D) output vectors of items."""
        out: Tensor = self.output_items(items)
        return out


MODEL = YouTubeDNN
