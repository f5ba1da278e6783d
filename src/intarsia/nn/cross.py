"""Feature crosses of rising degree (DCN-v2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from torch import Tensor, nn

from intarsia.core.params import Param
from intarsia.nn.activations import activation as activation_named
from intarsia.nn.component import Component
from intarsia.nn.initializers import initialize_
from intarsia.nn.shapes import ShapeTree, is_shape, one_tensor, refuse, tensor_list, width


class Cross(Component):
    """One cross layer: x0 * (act(W x + b) + diag_scale x) + x. With `projection_dim`, W = V U has that rank.

    x0 is the first layer's input and x the previous layer's output; a single input is both. Stack layers with
    `recurrent` and `fixed_input_index: 0`; each layer raises the degree of the crosses by one.

    Args:
        dim: Width of the inputs.

    Source: Wang et al., DCN V2 (2021), equations 1 and 2.
    """

    def __init__(
        self,
        *,
        dim: int,
        projection_dim: Annotated[
            int | None, Param("Rank of W; a quarter of the width costs little accuracy. None: full.", ge=1)
        ] = None,
        diag_scale: Annotated[float, Param("Added to the diagonal of W, for stability.", ge=0)] = 0.0,
        use_bias: Annotated[bool, Param("Whether a bias is added.")] = True,
        preactivation: Annotated[str | None, Param("Activation of W x + b.")] = None,
        kernel_initializer: Annotated[str, Param("Initial values of W, or of U and V.")] = "truncated_normal",
        bias_initializer: Annotated[str, Param("Initial values of b.")] = "zeros",
    ) -> None:
        super().__init__()
        self.out_features = dim
        self.diag_scale = diag_scale
        self.down = None if projection_dim is None else nn.Linear(dim, projection_dim, bias=False)
        self.up = nn.Linear(projection_dim or dim, dim, bias=use_bias)
        self.preactivation = activation_named(preactivation, num_features=dim)
        for kernel in self.kernels():
            initialize_(kernel, kernel_initializer)
        if use_bias:
            initialize_(self.up.bias, bias_initializer)

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """`dim` from (B, D), or from two of them."""
        if is_shape(inputs):
            return {"dim": width(cls.__name__, one_tensor(cls.__name__, inputs))}
        shapes = tensor_list(cls.__name__, inputs, at_least=2)
        if len(shapes) != 2 or shapes[0] != shapes[1]:
            refuse(cls.__name__, "reads one tensor, or x0 and x of one shape", inputs)
        return {"dim": width(cls.__name__, one_tensor(cls.__name__, shapes[0]), inputs)}

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        """(B, D), or x0 (B, D) and x (B, D), to (B, D)."""
        x0, x = (inputs, inputs) if isinstance(inputs, Tensor) else inputs
        weighted = self.preactivation(self.up(x if self.down is None else self.down(x)))
        if self.diag_scale:
            weighted = weighted + self.diag_scale * x
        out: Tensor = x0 * weighted + x
        return out
