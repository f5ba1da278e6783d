"""Element-wise and concatenating merges of a list of tensors, named and behaving as in Keras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from intarsia.core.params import Param
from intarsia.nn.component import Component
from intarsia.nn.shapes import Shape, ShapeTree, refuse, tensor_list


class Merge(Component):
    """Base of the element-wise merges: a list of tensors whose sizes are equal, or 1, axis by axis."""

    operation: ClassVar[Callable[[Tensor, Tensor], Tensor]]

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """Nothing follows from the inputs; they have to fit each other."""
        shapes = tensor_list(cls.__name__, inputs)
        if not _broadcastable(shapes):
            refuse(cls.__name__, "reads tensors of one shape (an axis may also have size 1)", inputs)
        return {}

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """A list of (B, ...) to one tensor of the common shape."""
        return reduce(type(self).operation, inputs)


class Add(Merge):
    """The sum of a list of tensors."""

    operation = torch.add


class Multiply(Merge):
    """The product of a list of tensors, element by element."""

    operation = torch.mul


class Maximum(Merge):
    """The largest of a list of tensors, element by element."""

    operation = torch.maximum


class Minimum(Merge):
    """The smallest of a list of tensors, element by element."""

    operation = torch.minimum


class Average(Merge):
    """The mean of a list of tensors, element by element."""

    operation = torch.add

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """A list of (B, ...) to one tensor of the common shape."""
        return super().forward(inputs) / len(inputs)


class Subtract(Merge):
    """The first of two tensors minus the second."""

    operation = torch.sub

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """Nothing follows from the inputs; there have to be two."""
        if len(tensor_list(cls.__name__, inputs, at_least=2)) != 2:
            refuse(cls.__name__, "reads a list of 2 tensors", inputs)
        return super().input_arguments(inputs)


class Concatenate(Component):
    """Tensors one after another along an axis.

    Args:
        rank: Number of axes of the inputs.
    """

    def __init__(
        self, *, rank: int, axis: Annotated[int, Param("Axis along which the tensors are put together.")] = -1
    ) -> None:
        super().__init__()
        if not -rank < axis < rank or axis == 0:
            refuse("Concatenate", f"cannot join tensors of rank {rank} along axis {axis}, the batch or none", None)
        self.axis = axis

    @classmethod
    def from_inputs(cls, inputs: ShapeTree, **hyperparameters: Any) -> Concatenate:
        """Builds it for a list of shapes that are equal on all axes but one."""
        shapes = tensor_list(cls.__name__, inputs)
        rank, axis = len(shapes[0]), hyperparameters.get("axis", -1)
        if any(len(shape) != rank for shape in shapes):
            refuse(cls.__name__, "reads tensors of one rank", inputs)
        if not -rank < axis < rank or axis == 0:
            refuse(
                cls.__name__, f"cannot join these tensors along axis {axis}", inputs, f"Take 1 to {rank - 1}, or -1."
            )
        rest = [shape[: axis % rank] + shape[axis % rank + 1 :] for shape in shapes]
        if any(not _equal(rest[0], other) for other in rest):
            refuse(cls.__name__, f"reads tensors that are equal on all axes but axis {axis}", inputs)
        return cls(rank=rank, **hyperparameters)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """A list of (B, ..., D_i, ...) to (B, ..., sum of D_i, ...)."""
        return torch.cat(tuple(inputs), dim=self.axis)


def _equal(a: Shape, b: Shape) -> bool:
    return all(x is None or y is None or x == y for x, y in zip(a, b))


def _broadcastable(shapes: Sequence[Shape]) -> bool:
    if len({len(shape) for shape in shapes}) != 1:
        return False
    return all(len({size for size in sizes if size not in (None, 1)}) <= 1 for sizes in zip(*shapes))
