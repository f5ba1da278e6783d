"""Shapes of tensors and of nested lists of tensors, as components see them when they are built.

A shape is a tuple whose unknown sizes are None; the first of them is the batch. `(None, 16)` is (B, 16) and
`(None, None, 32)` is (B, L, 32). A block may also hand over a list or tuple of tensors, or None where a group has no
features of a kind, so a shape tree is a shape, None, or a list or tuple of shape trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, TypeAlias, TypeGuard

from torch import Tensor

from intarsia.core.errors import BuildError

Shape: TypeAlias = tuple[int | None, ...]
ShapeTree: TypeAlias = "Shape | Sequence[ShapeTree] | None"
TensorTree: TypeAlias = "Tensor | Sequence[TensorTree] | None"


def is_shape(value: ShapeTree) -> TypeGuard[Shape]:
    """Whether this is the shape of one tensor, not a nest of shapes."""
    return isinstance(value, tuple) and len(value) > 0 and all(d is None or isinstance(d, int) for d in value)


def shape_of(value: TensorTree) -> ShapeTree:
    """The shape tree of a tensor or of nested tensors; the first axis is the batch. A scalar has shape ()."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return (None, *value.shape[1:]) if value.dim() else ()
    parts = [shape_of(part) for part in value]
    return tuple(parts) if isinstance(value, tuple) else parts


def describe(shapes: ShapeTree) -> str:
    """Shapes as text: `(B, 16)`, `[(B, 4), (B, 4)]`, `((B, L, 32), (B,), none)`, `scalar`."""
    if shapes is None:
        return "none"
    if isinstance(shapes, tuple) and not shapes:
        return "scalar"
    if is_shape(shapes):
        names = [_dimension(size, axis) for axis, size in enumerate(shapes)]
        return f"({names[0]},)" if len(names) == 1 else f"({', '.join(names)})"
    inner = ", ".join(describe(part) for part in shapes if not isinstance(part, int))
    return f"({inner})" if isinstance(shapes, tuple) else f"[{inner}]"


def refuse(component: str, rule: str, received: ShapeTree, cure: str = "") -> NoReturn:
    """Raises the error of a component whose inputs do not fit."""
    raise BuildError(f"`{component}` {rule}. Received: {describe(received)}.{' ' + cure if cure else ''}")


def one_tensor(component: str, inputs: ShapeTree, ranks: tuple[int, ...] = (2, 3)) -> Shape:
    """The shape of a component's only input, of one of the `ranks`."""
    allowed = " or ".join(str(rank) for rank in ranks)
    if not is_shape(inputs):
        refuse(component, f"reads one tensor of rank {allowed}", inputs, "Concatenate the inputs, or pick one of them.")
    if len(inputs) not in ranks:
        refuse(component, f"reads one tensor of rank {allowed}", inputs)
    return inputs


def tensor_list(component: str, inputs: ShapeTree, at_least: int = 1) -> list[Shape]:
    """The shapes of a component that reads a flat list of tensors."""
    rule = f"reads a list of {at_least} or more tensors"
    if inputs is None or is_shape(inputs) or isinstance(inputs, int):
        refuse(component, rule, inputs, "Set merge_inputs_into_list, or give it a block whose output is a list.")
    shapes: list[Shape] = []
    for part in inputs:
        if isinstance(part, int) or not is_shape(part):
            refuse(component, rule, inputs)
        shapes.append(part)
    if len(shapes) < at_least:
        refuse(component, rule, inputs)
    return shapes


def width(component: str, shape: Shape, received: ShapeTree = None) -> int:
    """The size of a shape's last axis, which has to be known when a component is built."""
    size = shape[-1]
    if size is None:
        refuse(component, "needs an input whose last axis has a known size", shape if received is None else received)
    return size


def sequence(component: str, inputs: ShapeTree, rule: str) -> tuple[Shape, Shape, Shape | None]:
    """The shapes of (sequence (B, L, D), lengths (B,)[, target (B, D')]); the target may be missing or None."""
    if inputs is None or is_shape(inputs) or isinstance(inputs, int) or len(inputs) not in (2, 3):
        refuse(component, rule, inputs, _SEQUENCE_CURE)
    steps, lengths = inputs[0], inputs[1]
    target = inputs[2] if len(inputs) == 3 else None
    if isinstance(steps, int) or not is_shape(steps) or len(steps) != 3:
        refuse(component, rule, inputs, _SEQUENCE_CURE)
    if isinstance(lengths, int) or not is_shape(lengths) or len(lengths) != 1:
        refuse(component, rule, inputs, _SEQUENCE_CURE)
    if target is None:
        return steps, lengths, None
    if isinstance(target, int) or not is_shape(target) or len(target) != 2:
        refuse(component, rule, inputs, _SEQUENCE_CURE)
    return steps, lengths, target


_SEQUENCE_CURE = "Feed it an input_layer with output_seq_and_normal_feature: true."


def _dimension(size: int | None, axis: int) -> str:
    if size is not None:
        return str(size)
    return "B" if axis == 0 else "L" if axis == 1 else "?"
