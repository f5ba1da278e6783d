"""GRU4Rec: a recurrent net over the history."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.sequential import SequentialRetriever
from intarsia.models.sides import Sides
from intarsia.nn.dropout import Dropout
from intarsia.nn.initializers import initialize_
from intarsia.nn.recurrent import RecurrentSteps
from intarsia.objectives.retrieval import Objective


class GRU4Rec(SequentialRetriever):
    """Gated recurrent units whose state after the last step is the user's vector.

    For sessions and short histories, where the order of a few clicks matters more than a long past; its cost grows
    linearly with the history.

        x_t = dropout(item_t)
        h_t = GRU(x_t, h_{t-1}),  h_0 = 0                        see `intarsia.nn.recurrent`
        score(t, i) = <dropout(W h_t), item_i>                   without W where the state is as wide as an item

    Shapes: histories of at most L = max_history steps (S, D), padded inside to (B, L, D); queries (B, D).

    Source: Hidasi et al., Session-based Recommendations with Recurrent Neural Networks (ICLR 2016), equations 1 to 4;
    Hidasi and Karatzoglou, Recurrent Neural Networks with Top-k Gains (CIKM 2018). The default objective is the full
    softmax; their sampled losses are `objective: top1`, `bpr` and the like.

    Departures: items enter as vectors, not as one-hot rows, and the items to predict share these ("constrained
    embeddings" of the 2018 code) unless `separate_output`; no bias of items; whole histories with gradients through all
    of their steps instead of parallel sessions cut into single steps; the reset gate as in cuDNN.
    """

    pads = True

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Annotated[int, Param("D, width of items.", ge=1)] = 64,
        gru_size: Annotated[int, Param("Width of the recurrent state; 0: D.", ge=0)] = 0,
        num_layers: Annotated[int, Param("Recurrent layers.", ge=1)] = 1,
        max_history: Annotated[int, Param("L, latest steps that are read.", ge=1)] = 50,
        dropout: Annotated[float, Param("Dropout of the items that go in.", ge=0, lt=1)] = 0.2,
        hidden_dropout: Annotated[float, Param("Dropout of the outputs of layers.", ge=0, lt=1)] = 0.0,
        separate_output: Annotated[bool, Param("Whether items to predict have vectors of their own.")] = False,
    ) -> None:
        super().__init__(
            schema=schema,
            objective=objective,
            sides=sides,
            hidden_size=hidden_size,
            separate_output=separate_output,
        )
        self.max_history = max_history
        width = gru_size or hidden_size
        self.dropout, self.hidden_dropout = Dropout(dropout), Dropout(hidden_dropout)
        self.gru = RecurrentSteps(hidden_size, width, num_layers=num_layers, dropout=hidden_dropout)
        self.project: nn.Module = nn.Identity()
        if width != hidden_size:
            self.project = nn.Linear(width, hidden_size, bias=False)
            initialize_(self.project.weight, "glorot_uniform")

    def encode_steps(self, steps: Tensor, offsets: Tensor) -> Tensor:
        """(S, D) outputs of all steps (S, D)."""
        states: Tensor = self.gru(self.dropout(steps), offsets)
        out: Tensor = self.hidden_dropout(self.project(states))
        return out


MODEL = GRU4Rec
