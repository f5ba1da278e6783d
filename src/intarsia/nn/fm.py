"""Second-order interactions of field vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from intarsia.core.params import Param
from intarsia.nn.component import Component
from intarsia.nn.shapes import ShapeTree, is_shape, one_tensor, refuse, tensor_list, width


def field_sizes(component: str, inputs: ShapeTree) -> tuple[int | None, int]:
    """Number of fields (None where unknown) and their width, of a list of (B, D) or of one (B, F, D).

    Raises:
        BuildError: The fields are not vectors of one width.
    """
    rule = "reads fields of one width: a list of (B, D), or one (B, F, D)"
    if is_shape(inputs):
        shape = one_tensor(component, inputs, (3,))
        return shape[1], width(component, shape)
    shapes = tensor_list(component, inputs)
    if any(len(shape) != 2 for shape in shapes) or len({shape[-1] for shape in shapes}) != 1:
        refuse(component, rule, inputs, "Give the features of the group one embedding_dim.")
    return len(shapes), width(component, shapes[0], inputs)


def stack_fields(inputs: Tensor | Sequence[Tensor]) -> Tensor:
    """A list of (B, D), or (B, F, D), as (B, F, D)."""
    return inputs if isinstance(inputs, Tensor) else torch.stack(tuple(inputs), dim=1)


class FM(Component):
    """Factorization machine: the sum of the dot products of all pairs of fields.

    sum over i < j of <v_i, v_j> = sum over D of ((sum_i v_i)^2 - sum_i v_i^2) / 2; with `use_variant` the sum over D is
    left out.

    Args:
        dim: Width of the fields.

    Source: Rendle, Factorization Machines (2010), lemma 3.1; the vector form: He and Chua, Neural Factorization
    Machines (2017), equation 4.
    """

    def __init__(
        self,
        *,
        dim: int,
        use_variant: Annotated[bool, Param("Whether the output is a vector (B, D) instead of a sum (B, 1).")] = False,
    ) -> None:
        super().__init__()
        self.use_variant = use_variant
        self.out_features = dim if use_variant else 1

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """`dim`, the width of the fields."""
        return {"dim": field_sizes(cls.__name__, inputs)[1]}

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        """A list of (B, D), or (B, F, D), to (B, 1), or (B, D) with `use_variant`."""
        fields = stack_fields(inputs)
        out = (fields.sum(dim=1).square() - fields.square().sum(dim=1)) / 2
        return out if self.use_variant else out.sum(dim=-1, keepdim=True)
