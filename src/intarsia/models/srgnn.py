"""SR-GNN: a graph of the items of a session."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from intarsia.core.batch import Batch
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.next_item import NextItemRetriever
from intarsia.models.retriever import history_of, rows_and_steps
from intarsia.models.sides import Sides
from intarsia.nn.session_graph import GatedGraph, SessionGraph
from intarsia.objectives.retrieval import Objective


class SRGNN(NextItemRetriever):
    """A session is a graph from each item to the one after it; gated units pass messages along its edges.

    For anonymous sessions in which people go back and forth between items.

        v = gated graph net over the distinct items of the session     see `intarsia.nn.session_graph`
        a_t = q' sigmoid(W1 v_last + W2 v_t + c);   s_g = sum over the steps t of a_t v_t
        s = W3 [v_last; s_g];   score(i) = <s, item_i>

    Shapes: histories of at most L = max_history steps, jagged (S, D), with M distinct items (M, D); queries (B, D).

    Source: Wu et al., Session-based Recommendation with Graph Neural Networks (AAAI 2019), equations 1 to 8. All
    weights start uniform between -1/sqrt(D) and 1/sqrt(D).

    Departures: an edge counts as often as it is walked, as the paper's text has it (its code counts it once); incoming
    edges are divided by those that reach their end, as in its code. The gated unit is cuDNN's: its reset gate comes
    after the product with the state, and its update gate keeps the state (equations 3 to 5 reset before and keep with
    1 - z). No L2 penalty by default: `embedding_l2` reaches tables of sampled objectives alone.
    """

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Annotated[int, Param("D, width of items.", ge=1)] = 100,
        num_steps: Annotated[int, Param("Times that messages are passed.", ge=1)] = 1,
        max_history: Annotated[int, Param("Latest steps that are read.", ge=1)] = 50,
        hybrid: Annotated[bool, Param("Whether the last item stands beside the session (else s = s_g).")] = True,
    ) -> None:
        super().__init__(schema=schema, objective=objective, sides=sides, hidden_size=hidden_size)
        self.max_history = max_history
        self.graph = GatedGraph(hidden_size, num_steps)
        self.of_last = nn.Linear(hidden_size, hidden_size)
        self.of_step = nn.Linear(hidden_size, hidden_size)
        self.attention = nn.Linear(hidden_size, 1, bias=False)
        self.project = nn.Linear(2 * hidden_size, hidden_size) if hybrid else None
        bound = hidden_size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D); zeros for an empty history."""
        history = history_of(batch)
        count = len(history)
        rows, _ = rows_and_steps(history.offsets, len(history.values))
        graph = SessionGraph.of(history.values, history.offsets, self.num_items)
        # What is known of a step's moment belongs to the step, not to the item: a node takes the mean of its steps.
        nodes = graph.mean_of_steps(self.step_vectors(batch))
        steps = self.graph(nodes, graph)[graph.node_of_step]
        last = steps.new_zeros(count, steps.shape[1])
        full = history.lengths > 0
        last[full] = steps[history.offsets[1:][full] - 1]
        weights = self.attention(torch.sigmoid(self.of_last(last)[rows] + self.of_step(steps)))
        session = torch.zeros_like(last).index_add(0, rows, weights * steps)
        if self.project is not None:
            session = self.project(torch.cat([last, session], dim=1))
        return session * full.unsqueeze(1)


MODEL = SRGNN
