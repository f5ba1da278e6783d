"""BERT4Rec: self-attention over the history in both directions, trained by filling gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor, nn

from intarsia.core.batch import Batch, Jagged
from intarsia.core.batch_names import TARGET
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.next_item import NextItemRetriever
from intarsia.models.retriever import history_of, rows_and_steps
from intarsia.models.sequential import from_the_end
from intarsia.models.sides import Sides
from intarsia.nn.activations import activation as activation_named
from intarsia.nn.dropout import Dropout
from intarsia.nn.initializers import truncated_normal_
from intarsia.nn.item_bias import ItemBias
from intarsia.nn.transformer import NORM_EPSILON, Packing, TransformerLayer
from intarsia.objectives.retrieval import Objective

STD = 0.02
"""Standard deviation of all weights at the start."""


class BERT4Rec(NextItemRetriever):
    """Bidirectional transformer; a query is the output at a gap behind the history.

    For histories whose order is loose, and where there is time to train: it needs several times the epochs of `SASRec`.

        x_t = [mask] where step t is hidden, else item_t
        h_t = dropout(norm(x_t + position_t))
        each block:  h = norm(h + dropout(attention(h)));  h = norm(h + dropout(feed_forward(h)))
        q_t = norm(gelu(W h_t + b))
        score(t, i) = <q_t, item_i> + bias_i

    In training each step is hidden with the probability `mask_probability`, at least one of every history, and with
    `last_only_probability` the last step alone; the hidden items are asked for. In evaluation `forward` hides the last
    step. A query is q at a hidden step behind the latest L - 1 steps.

    Shapes: histories of at most L = max_history steps, packed (S, D); M hidden steps; queries (M, D + 1), or (B, D + 1)
    to rank by; the last number stands for the bias.

    Source: Sun et al., BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer
    (CIKM 2019), equations 1 to 8 and section 3.6. The norms of the sums that go in and of the projection are those of
    BERT (Devlin et al. 2019), which the authors' code keeps.

    Departures: masks are drawn anew in every epoch instead of ten times beforehand, and any number of steps may be
    hidden; of histories longer than L the latest steps alone are read; positions count from the end of the history,
    which is what left padding does; what is known of a hidden step's moment is hidden with it. An objective on cosines
    has no biases.
    """

    view = "masked"
    pads = True

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Annotated[int, Param("D, width of items and steps.", ge=1)] = 64,
        num_hidden_layers: Annotated[int, Param("Blocks.", ge=1)] = 2,
        num_heads: Annotated[int, Param("Attention heads of a block.", ge=1)] = 2,
        max_history: Annotated[int, Param("L, latest steps that are read, the gap among them.", ge=2)] = 50,
        mask_probability: Annotated[float, Param("Share of the steps that training hides.", gt=0, le=1)] = 0.2,
        last_only_probability: Annotated[
            float, Param("Share of the histories of which the last step alone is hidden.", ge=0, le=1)
        ] = 0.1,
        dropout: Annotated[float, Param("Dropout of inputs and sub-layers.", ge=0, lt=1)] = 0.1,
        attention_dropout: Annotated[float, Param("Dropout of attention weights.", ge=0, lt=1)] = 0.1,
        intermediate_size: Annotated[int, Param("Width inside the feed-forward net; 0: 4 D.", ge=0)] = 0,
        activation: Annotated[str, Param("Activation of the feed-forward net and of the projection.")] = "gelu",
    ) -> None:
        super().__init__(schema=schema, objective=objective, sides=sides, hidden_size=hidden_size, item_std=STD)
        self.max_history = max_history
        self.mask_probability, self.last_only_probability = mask_probability, last_only_probability
        self.mask = nn.Parameter(truncated_normal_(torch.empty(hidden_size), STD))
        self.positions = nn.Embedding(max_history, hidden_size)
        truncated_normal_(self.positions.weight.data, STD)
        self.norm = nn.LayerNorm(hidden_size, eps=NORM_EPSILON)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerLayer(
                hidden_size=hidden_size,
                num_heads=num_heads,
                intermediate_size=intermediate_size or 4 * hidden_size,
                activation=activation,
                dropout=dropout,
                attention_dropout=attention_dropout,
                initializer_range=STD,
            )
            for _ in range(num_hidden_layers)
        )
        self.project = nn.Linear(hidden_size, hidden_size)
        truncated_normal_(self.project.weight.data, STD)
        nn.init.zeros_(self.project.bias)
        self.activation = activation_named(activation, num_features=hidden_size)
        self.project_norm = nn.LayerNorm(hidden_size, eps=NORM_EPSILON)
        self.bias = None if objective.similarity == "cosine" else ItemBias(schema.num_items)
        self.num_biases = 0 if self.bias is None else 1

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`queries`: (M, D + 1), one for each hidden step; `hidden`: (M,) int64 their numbers among the S steps."""
        history = history_of(batch)
        hidden = self.draw_hidden(history.offsets, len(history.values))
        steps = torch.where(hidden.unsqueeze(1), self.mask, self.step_vectors(batch))
        numbers = hidden.nonzero().squeeze(1)
        outputs = self.encode_steps(steps, history.offsets).index_select(0, numbers)
        return {"queries": self.ask(outputs), "hidden": numbers}

    def losses(self, predictions: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The objective on the hidden items."""
        history, hidden = history_of(batch), predictions["hidden"]
        target = Jagged(history.values[hidden], torch.searchsorted(hidden, history.offsets))
        return super().losses(predictions, replace(batch, features={**batch.features, TARGET: target}))

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D + 1): the outputs at gaps behind the histories."""
        history = history_of(batch)
        kept = from_the_end(history.offsets, len(history.values)) < self.max_history - 1
        lengths = history.lengths.clamp(max=self.max_history - 1) + 1
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        gaps = offsets[1:] - 1
        known = torch.ones(int(offsets[-1]), dtype=torch.bool, device=gaps.device)
        known[gaps] = False
        steps = self.mask.expand(len(known), -1)
        steps = steps.index_copy(0, known.nonzero().squeeze(1), self.step_vectors(batch)[kept])
        return self.ask(self.encode_steps(steps, offsets, gaps))

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D + 1) vectors of items, the bias at the end."""
        vectors = super().encode_items(items)
        if self.bias is None:
            return vectors
        out: Tensor = self.bias(vectors, items)
        return out

    def draw_hidden(self, offsets: Tensor, count: int) -> Tensor:
        """(S,) bool: the steps to hide; in evaluation the last of each history."""
        last = from_the_end(offsets, count) == 0
        if not self.training:
            return last
        row, _ = rows_and_steps(offsets, count)
        rows = len(offsets) - 1
        draw = torch.rand(count, device=offsets.device)
        # Where no step falls below the probability, the lowest one is hidden.
        lowest = draw.new_ones(rows).scatter_reduce(0, row, draw, "amin")
        hidden = draw <= lowest.clamp(min=self.mask_probability)[row]
        alone = torch.rand(rows, device=offsets.device) < self.last_only_probability
        return torch.where(alone[row], last, hidden)

    def encode_steps(self, steps: Tensor, offsets: Tensor, read: Tensor | None = None) -> Tensor:
        """Outputs of the last block.

        Args:
            steps: (S, D) vectors of the steps of all histories.
            offsets: (B + 1,) steps of each history, at most L.
            read: (B,) the only step of each history whose output is wanted.

        Returns:
            (S, D), or (B, D) with `read`.
        """
        count = len(steps)
        row, step = rows_and_steps(offsets, count)
        hidden: Tensor = self.dropout(self.norm(steps + self.positions(from_the_end(offsets, count))))
        lengths = offsets.diff()
        packing = Packing.of(row, step, lengths, max(int(lengths.max()) if len(lengths) else 0, 1))
        for number, block in enumerate(self.blocks, start=1):
            hidden = block(hidden, packing, read if number == len(self.blocks) else None)
        return hidden

    def ask(self, outputs: Tensor) -> Tensor:
        """Outputs (M, D) to queries (M, D + 1)."""
        queries: Tensor = self.project_norm(self.activation(self.project(outputs)))
        return queries if self.bias is None else self.bias.ask(queries)


MODEL = BERT4Rec
