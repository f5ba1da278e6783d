"""Seq2SeqRec: a sequence of items in, the sequence of the items that follow out."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

from torch import Tensor, nn

from intarsia.core.batch import Batch
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.retriever import Spec, history_of, rows_and_steps
from intarsia.models.sequential import SequentialRetriever, from_the_end
from intarsia.models.sides import Sides
from intarsia.nn.self_attention import SelfAttention
from intarsia.nn.transformer import Packing
from intarsia.objectives.retrieval import Objective, Positives


class Seq2SeqRec(SequentialRetriever):
    """Two self-attention encoders over the history; each step is told from the other users' at the same place.

    User-to-item retrieval from clicks: negatives cost nothing, since they are the labels of the batch.

        x_t = item_t + position_t
        h = encoder_2(encoder_1(x)),  encoder(x) = norm(x + dropout(attention(x) W + b)), causal and without padding
        logit(t, u, v) = <h_{u,t}, out_{label(v,t)}> - w_{label(v,t)}            for all users v of the batch
        loss = mean over real (u, t) of -logit(t, u, u) + log sum_v exp(logit(t, u, v))

    w is the logarithm of an item's share of the training interactions, negative and largest for the most frequent ones
    (`hot_weight`). Places t are those of histories padded on the left, so that everybody's last step stands in the same
    one. Where a user has no step t, a random item stands for it, without weight. The last step's output is the user's
    vector; items to predict have vectors of their own.

    Shapes: histories of at most L = max_history steps (S, D), padded inside of the attention; queries (B, D).

    Source: the public description "seq2seq retrieval (u2i)" in eight steps, with attention by Vaswani et al.,
    Attention Is All You Need (2017), section 3.2, and the correction of Bengio and Senecal (2008).

    Departures: steps are not padded outside of the attention; an attention weight of a masked step is exactly 0 instead
    of exp(-10000). Positions are places less the number of paddings: 0 for the oldest step that is read.
    """

    default_objective: ClassVar[Spec] = {
        "in_batch": {"same_step": True, "fill_padding": True, "remove_accidental_hits": False}
    }
    pads = True

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Annotated[int, Param("D, width of items and steps.", ge=1)] = 64,
        num_hidden_layers: Annotated[int, Param("Encoders.", ge=1)] = 2,
        num_heads: Annotated[int, Param("Attention heads.", ge=1)] = 2,
        max_history: Annotated[int, Param("L, latest steps that are read.", ge=1)] = 70,
        dropout: Annotated[float, Param("Dropout of the encoders' dense layers.", ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__(schema=schema, objective=objective, sides=sides, hidden_size=hidden_size, separate_output=True)
        self.max_history = max_history
        self.positions = nn.Embedding(max_history, hidden_size)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.encoders = nn.ModuleList(
            SelfAttention(hidden_size=hidden_size, num_heads=num_heads, dropout=dropout)
            for _ in range(num_hidden_layers)
        )

    def encode_steps(self, steps: Tensor, offsets: Tensor) -> Tensor:
        """(S, D) outputs of all steps (S, D)."""
        row, place = rows_and_steps(offsets, len(steps))
        lengths = offsets.diff()
        hidden: Tensor = steps + self.positions(place)
        longest = max(int(lengths.max()) if len(lengths) else 0, 1)
        packing = Packing.of(row, place, lengths, longest, causal=True)
        for encoder in self.encoders:
            hidden = encoder(hidden, packing)
        return hidden

    def positives(self, batch: Batch) -> Positives:
        """The items to find; steps count from the end of the history, which makes places of left padding groups."""
        found = super().positives(batch)
        return replace(found, steps=from_the_end(history_of(batch).offsets, len(found)))


MODEL = Seq2SeqRec
