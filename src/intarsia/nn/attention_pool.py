"""One vector out of a sequence, weighted by a learned score of each step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from intarsia.nn.component import Component
from intarsia.nn.sequence import length_mask
from intarsia.nn.shapes import ShapeTree, sequence, width


class AttentionPool(Component):
    """Sum of the steps, weighted by the softmax over the steps of w . x.

    A row without steps gives zeros. A bias would cancel in the softmax, so there is none.

    Args:
        dim: Width of a step.
    """

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.out_features = dim
        self.score = nn.Linear(dim, 1, bias=False)
        nn.init.xavier_uniform_(self.score.weight)

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """`dim` from ((B, L, D), (B,))."""
        steps, _, _ = sequence(cls.__name__, inputs, "reads a pair: a sequence (B, L, D) and its lengths (B,)")
        return {"dim": width(cls.__name__, steps, inputs)}

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """((B, L, D), (B,) int64) to (B, D)."""
        steps, lengths = inputs[0], inputs[1]
        mask = length_mask(lengths, steps.shape[1])
        steps = steps.masked_fill(~mask.unsqueeze(-1), 0.0)
        scores = self.score(steps).squeeze(-1)  # (B, L)
        weights = masked_softmax(scores, mask)
        return torch.einsum("bl,bld->bd", weights, steps)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis among the True of the mask; the rest, and rows without any True, are 0."""
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(-1) * mask
