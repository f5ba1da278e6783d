"""ComiRec-DR: several interests by dynamic routing."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from intarsia.core.batch import Batch
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.next_item import NextItemRetriever
from intarsia.models.retriever import Spec, history_of
from intarsia.models.sides import Sides
from intarsia.nn.capsules import PositionVotes, dynamic_routing
from intarsia.nn.sequence import length_mask, to_padded
from intarsia.objectives.retrieval import Objective


class ComiRecDR(NextItemRetriever):
    """K interests, each a capsule to which dynamic routing sends the steps that belong together.

    For people who want several unrelated things at once. The routing groups each history anew, so interests need not
    be of kinds that are the same for all.

        vote_ki = W_ki item_i                      a matrix for each position i and interest k
        b = 0; r times:  w_ki = softmax_k(b_ki);  v_k = squash(sum_i w_ki vote_ki);  b_ki += <v_k, vote_ki>
        score(u, i) = max_k <v_k, item_i>;  the loss sees the interest whose product with the target is largest

    Shapes: histories of at most L = max_history steps, padded inside to (B, L, D) and masked; queries (B, K, D).

    Source: Cen et al., Controllable Multi-Interest Framework for Recommendation (KDD 2020), equations 1 to 7 and
    algorithm 1. From the authors' code: routing logits start at 0 (the matrices of the interests differ, which is
    enough to tell them apart), padding is masked after the softmax, and gradients pass through the last round alone.

    Departures: none in the equations. Positions count from the oldest step that is read.
    """

    pads = True
    default_objective: ClassVar[Spec] = {"sampled_softmax": {"shared": True}}

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Annotated[int, Param("D, width of items and interests.", ge=1)] = 64,
        num_interests: Annotated[int, Param("K, interests of a user.", ge=1)] = 4,
        max_history: Annotated[
            int, Param("L, latest steps that are read; each position has K * D * D weights.", ge=1)
        ] = 20,
        routing_iterations: Annotated[int, Param("r, rounds of the routing.", ge=1)] = 3,
    ) -> None:
        std = hidden_size**-0.5
        super().__init__(schema=schema, objective=objective, sides=sides, hidden_size=hidden_size, item_std=std)
        self.max_history = max_history
        self.num_interests = num_interests
        self.routing_iterations = routing_iterations
        self.votes = PositionVotes(hidden_size, num_interests, max_history)

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, K, D); zeros for an empty history."""
        steps, lengths = to_padded(self.step_vectors(batch), history_of(batch).offsets)
        logits = torch.zeros(1, self.num_interests, steps.shape[1], device=steps.device)
        real = length_mask(lengths, steps.shape[1])
        return dynamic_routing(self.votes(steps), real, logits, iterations=self.routing_iterations)


MODEL = ComiRecDR
