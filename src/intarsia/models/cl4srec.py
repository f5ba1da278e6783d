"""CL4SRec: SASRec with a contrast between two random views of each history."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from intarsia.core.batch import Batch, Jagged
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.base import AUXILIARY
from intarsia.models.retriever import history_of, rows_and_steps
from intarsia.models.sasrec import (
    Activation,
    AttentionDropout,
    Blocks,
    DropoutRate,
    Heads,
    InnerWidth,
    Latest,
    SASRec,
    Width,
)
from intarsia.models.sequential import last_steps
from intarsia.models.sides import Sides
from intarsia.nn.auxiliary_loss import nce_loss
from intarsia.nn.seq_augment import SeqAugment
from intarsia.nn.sequence import to_padded
from intarsia.objectives.retrieval import Objective


class CL4SRec(SASRec):
    """SASRec that also learns to tell two random views of one history from the views of others.

    For histories that are too few or too short for next-item prediction alone.

        two views of each history: a window of it (crop), steps hidden (mask), or a window shuffled (reorder)
        z = SASRec's output at the last step of a view
        loss = next item + lambda * mean over the 2B views of -log(exp(<z, z'> / tau) / sum over other views)

    Each view draws its operation anew. In evaluation it is SASRec.

    Shapes: as in `SASRec`; views (B, D) each.

    Source: Xie et al., Contrastive Learning for Sequential Recommendation (ICDE 2022), sections 3.2 to 3.4, equations
    3 to 10, with gamma (mask), eta (crop) and beta (reorder).

    Departures: a crop leaves at least one step. Views are drawn from the steps that are read in training, without the
    last item to predict, and a mask hides the moment of a step with its item. The default objective is the full
    softmax; the paper's is `objective: bce` with one negative.
    """

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Width = 64,
        num_hidden_layers: Blocks = 2,
        num_heads: Heads = 2,
        max_history: Latest = 50,
        dropout: DropoutRate = 0.2,
        attention_dropout: AttentionDropout = 0.0,
        intermediate_size: InnerWidth = 0,
        activation: Activation = "relu",
        contrast_weight: Annotated[float, Param("lambda, weight of the contrast.", ge=0)] = 0.1,
        temperature: Annotated[float, Param("tau, divisor of the products of views.", gt=0)] = 1.0,
        crop_rate: Annotated[float, Param("eta, share of the steps that a crop keeps; 1: never.", ge=0, le=1)] = 0.6,
        mask_rate: Annotated[float, Param("gamma, share of the steps that are hidden; 0: never.", ge=0, le=1)] = 0.3,
        reorder_rate: Annotated[float, Param("beta, share of the steps shuffled; 0: never.", ge=0, le=1)] = 0.6,
    ) -> None:
        super().__init__(
            schema=schema,
            objective=objective,
            sides=sides,
            hidden_size=hidden_size,
            num_hidden_layers=num_hidden_layers,
            num_heads=num_heads,
            max_history=max_history,
            dropout=dropout,
            attention_dropout=attention_dropout,
            intermediate_size=intermediate_size,
            activation=activation,
        )
        self.contrast_weight, self.temperature = contrast_weight, temperature
        self.augment = SeqAugment(dim=hidden_size, mask_rate=mask_rate, crop_rate=crop_rate, reorder_rate=reorder_rate)
        if self.augment.mask is not None:
            nn.init.normal_(self.augment.mask, std=0.02)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`queries`: (S, D), the output of every step; in training the contrast as an auxiliary loss."""
        steps, offsets = self.step_vectors(batch), history_of(batch).offsets
        out = {"queries": self.encode_steps(steps, offsets)}
        if self.training and self.contrast_weight and len(offsets) > 2:
            one, two = self.view_of(steps, offsets), self.view_of(steps, offsets)
            out[f"{AUXILIARY}contrast"] = self.contrast_weight * nce_loss(one, two, self.temperature)
        return out

    def view_of(self, steps: Tensor, offsets: Tensor) -> Tensor:
        """(B, D): the output of one random view of each history with the steps (S, D)."""
        padded, lengths = to_padded(steps, offsets)
        changed, kept = self.augment((padded, lengths))
        bounds = torch.cat([kept.new_zeros(1), kept.cumsum(0)])
        row, place = rows_and_steps(bounds, int(bounds[-1]))
        packed = changed[row, place]
        return last_steps(self.encode_steps(packed, bounds), Jagged(row, bounds))


MODEL = CL4SRec
