"""TwoTower: a query tower that reads the history in order, a candidate tower that reads features."""

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
from intarsia.models.sequential import last_steps
from intarsia.models.sides import Sides
from intarsia.nn.recurrent import RecurrentSteps
from intarsia.nn.towers import tower
from intarsia.objectives.retrieval import Objective

# Options that models which build on this one share.
Width = Annotated[int, Param("D, width of items, queries and candidates.", ge=1)]
StateWidth = Annotated[int, Param("Width of the recurrent state; 0: D.", ge=0)]
QueryUnits = Annotated[list[PositiveInt], Param("Hidden layers of the query tower.")]
CandidateUnits = Annotated[list[PositiveInt], Param("Hidden layers of the candidate tower; none: no tower.")]
Dropout = Annotated[float, Param("Dropout of the hidden layers.", ge=0, lt=1)]
Latest = Annotated[int, Param("Latest steps that are read.", ge=1)]


class TwoTower(NextItemRetriever):
    """A recurrent net over the history, and the context, become the query; id and features become the candidate.

    The retrieval stage of large systems: queries are computed when somebody asks, candidates ahead of time.

        q = tower([GRU(history); features of the user; features of the moment])
        c = tower(item vector + features of the item)
        score = <q, c>

    Shapes: queries (B, D).

    Source: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations (RecSys 2019),
    section 3; the query tower is that of TensorFlow Recommenders' tutorials on sequential and context-aware retrieval.
    The default objective is their softmax over the batch, corrected for popularity.

    Departures: a tower without hidden layers is left out, as in the first of these tutorials.
    """

    default_objective: ClassVar[Spec] = "in_batch"
    pads = True

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Width = 64,
        gru_size: StateWidth = 0,
        query_units: QueryUnits = [128],  # noqa: B006 - read, never changed
        candidate_units: CandidateUnits = [],  # noqa: B006 - read, never changed
        dropout: Dropout = 0.0,
        max_history: Latest = 50,
    ) -> None:
        super().__init__(
            schema=schema, objective=objective, sides=sides, hidden_size=hidden_size, reads_user=True, moment=True
        )
        self.max_history = max_history
        width = gru_size or hidden_size
        self.gru = RecurrentSteps(hidden_size, width)
        self.of_query = tower(width + hidden_size * self.num_side_vectors, query_units, hidden_size, dropout=dropout)
        self.of_candidate = None
        if candidate_units:
            self.of_candidate = tower(hidden_size, candidate_units, hidden_size, dropout=dropout)

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D)."""
        history = history_of(batch)
        state = last_steps(self.gru(self.step_vectors(batch), history.offsets), history)
        out: Tensor = self.of_query(torch.cat([state, *self.side_vectors(batch)], dim=1))
        return out

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D)."""
        vectors: Tensor = self.items(items)
        return vectors if self.of_candidate is None else self.of_candidate(vectors)


MODEL = TwoTower
