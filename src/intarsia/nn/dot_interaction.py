"""Dot products of all pairs of fields (DLRM)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from intarsia.core.params import Param
from intarsia.nn.component import Component
from intarsia.nn.fm import field_sizes, stack_fields
from intarsia.nn.shapes import ShapeTree, refuse


class DotInteraction(Component):
    """The dot product of every pair of fields, each a feature of its own.

    Pairs (i, j) with j < i come in the order (1, 0), (2, 0), (2, 1), (3, 0)...; with `self_interaction` also j = i.

    Args:
        num_fields: Number of fields F.

    Source: Naumov et al., Deep Learning Recommendation Model (2019), section 2.1.
    """

    pairs: Tensor

    def __init__(
        self,
        *,
        num_fields: int,
        self_interaction: Annotated[bool, Param("Whether fields are also multiplied by themselves.")] = False,
        skip_gather: Annotated[
            bool, Param("Whether the output is all F * F products, zero for the pairs that do not count.")
        ] = False,
    ) -> None:
        super().__init__()
        self.num_fields = num_fields
        self.diagonal = 0 if self_interaction else -1
        self.skip_gather = skip_gather
        row, column = torch.tril_indices(num_fields, num_fields, self.diagonal)
        self.register_buffer("pairs", row * num_fields + column, persistent=False)
        self.out_features = num_fields**2 if skip_gather else len(self.pairs)

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """`num_fields` from a list of (B, D), or (B, F, D)."""
        count, _ = field_sizes(cls.__name__, inputs)
        if count is None:
            refuse(cls.__name__, "needs a known number of fields", inputs)
        if count < 2:
            refuse(cls.__name__, "needs two or more fields", inputs)
        return {"num_fields": count}

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        """A list of (B, D), or (B, F, D), to (B, number of pairs), or (B, F * F) with `skip_gather`."""
        fields = stack_fields(inputs)
        products = fields @ fields.transpose(1, 2)  # (B, F, F)
        if self.skip_gather:
            return products.tril(self.diagonal).flatten(1)
        return products.flatten(1)[:, self.pairs]
