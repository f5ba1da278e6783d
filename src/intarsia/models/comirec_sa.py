"""ComiRec-SA: several interests by self-attention over the history."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from intarsia.core.batch import Batch
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.next_item import NextItemRetriever
from intarsia.models.retriever import Spec, history_of, rows_and_steps
from intarsia.models.sides import Sides
from intarsia.nn.segments import segment_softmax, segment_sums
from intarsia.objectives.retrieval import Objective


class ComiRecSA(NextItemRetriever):
    """K interests, each an attention over the history with weights of its own.

    For people who want several unrelated things at once. Every head learns a kind of item to look for, the same for
    all users.

        A = softmax over the steps of (W2' tanh(W1' (H + P)))'        W1: D x 4D, W2: 4D x K, P: positions
        V = A' H                                                     K interests
        score(u, i) = max_k <v_k, item_i>;  the loss sees the interest whose product with the target is largest

    Shapes: histories of at most L = max_history steps, packed (S, D); queries (B, K, D).

    Source: Cen et al., Controllable Multi-Interest Framework for Recommendation (KDD 2020), equations 8 to 11.

    Departures: none in the equations. Positions count from the oldest step that is read. Matrices and item vectors
    start from He's normal distribution.
    """

    default_objective: ClassVar[Spec] = {"sampled_softmax": {"shared": True}}

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Annotated[int, Param("D, width of items and interests.", ge=1)] = 64,
        num_interests: Annotated[int, Param("K, interests of a user.", ge=1)] = 4,
        max_history: Annotated[int, Param("L, latest steps that are read.", ge=1)] = 20,
        attention_size: Annotated[int, Param("Width inside the attention; 0: 4D.", ge=0)] = 0,
    ) -> None:
        std = (2 / hidden_size) ** 0.5
        super().__init__(schema=schema, objective=objective, sides=sides, hidden_size=hidden_size, item_std=std)
        self.max_history = max_history
        self.num_interests = num_interests
        self.positions = nn.Embedding(max_history, hidden_size)
        self.w1 = nn.Linear(hidden_size, attention_size or 4 * hidden_size, bias=False)
        self.w2 = nn.Linear(attention_size or 4 * hidden_size, num_interests, bias=False)
        for module in (self.positions, self.w1, self.w2):
            nn.init.kaiming_normal_(module.weight)

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, K, D); zeros for an empty history."""
        steps, offsets = self.step_vectors(batch), history_of(batch).offsets
        row, step = rows_and_steps(offsets, len(steps))
        hidden = torch.tanh(self.w1(steps + self.positions(step)))  # (S, 4D)
        attention = segment_softmax(self.w2(hidden), row, batch.size)  # (S, K)
        return segment_sums(attention, steps, row, batch.size)


MODEL = ComiRecSA
