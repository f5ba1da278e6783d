"""SASRec: self-attention over the history."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.retriever import rows_and_steps
from intarsia.models.sequential import SequentialRetriever, from_the_end
from intarsia.models.sides import Sides
from intarsia.nn.dropout import Dropout
from intarsia.nn.transformer import Packing, TransformerLayer
from intarsia.objectives.retrieval import Objective

# Options that models which build on this one share.
Width = Annotated[int, Param("D, width of items and steps.", ge=1)]
Blocks = Annotated[int, Param("Blocks.", ge=1)]
Heads = Annotated[int, Param("Attention heads of a block.", ge=1)]
Latest = Annotated[int, Param("L, latest steps that are read.", ge=1)]
DropoutRate = Annotated[float, Param("Dropout of inputs and sub-layers.", ge=0, lt=1)]
AttentionDropout = Annotated[float, Param("Dropout of attention weights.", ge=0, lt=1)]
InnerWidth = Annotated[int, Param("Width inside the feed-forward net; 0: D.", ge=0)]
Activation = Annotated[str, Param("Activation of the feed-forward net.")]


class SASRec(SequentialRetriever):
    """Causal transformer whose last output is the user's vector.

    The strong default for next-item retrieval from histories of a few to a few hundred steps.

        h_t = sqrt(D) * item_t + position_t
        each block:  h = h + dropout(attention(norm(h)));  h = h + dropout(feed_forward(norm(h)))
        score(t, i) = <norm(h_t), item_i>

    Shapes: histories of at most L = max_history steps, packed (S, D); queries (B, D).

    Source: Kang and McAuley, Self-Attentive Sequential Recommendation (ICDM 2018), equations 2 to 7. The default
    objective is the full softmax, which Klenitskiy and Vasilev (RecSys 2023) found to be what makes it strong;
    `objective: bce` with one negative is the paper's (eq. 8).

    Departures: an output projection follows the attention, as in Vaswani et al. 2017; keys and values are normed like
    queries, as the paper's text has it (its published code norms queries alone); positions count from the end of the
    history, which is what left padding does.
    """

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Width = 64,
        num_hidden_layers: Blocks = 2,
        num_heads: Heads = 1,
        max_history: Latest = 50,
        dropout: DropoutRate = 0.2,
        attention_dropout: AttentionDropout = 0.0,
        intermediate_size: InnerWidth = 0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__(schema=schema, objective=objective, sides=sides, hidden_size=hidden_size)
        self.max_history = max_history
        self.positions = nn.Embedding(max_history, hidden_size)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerLayer(
                hidden_size=hidden_size,
                num_heads=num_heads,
                intermediate_size=intermediate_size or hidden_size,
                activation=activation,
                dropout=dropout,
                attention_dropout=attention_dropout,
                norm_first=True,
            )
            for _ in range(num_hidden_layers)
        )
        self.norm = nn.LayerNorm(hidden_size, eps=1e-8)

    def encode_steps(self, steps: Tensor, offsets: Tensor) -> Tensor:
        """(S, D) outputs of all steps (S, D)."""
        count, width = steps.shape
        row, step = rows_and_steps(offsets, count)
        hidden = self.dropout(steps * width**0.5 + self.positions(from_the_end(offsets, count)))
        lengths = offsets.diff()
        longest = int(lengths.max()) if len(lengths) else 0
        packing = Packing.of(row, step, lengths, max(longest, 1), causal=True)
        for block in self.blocks:
            hidden = block(hidden, packing)
        out: Tensor = self.norm(hidden)
        return out


MODEL = SASRec
