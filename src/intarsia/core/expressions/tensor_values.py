"""How the values of a lambda become the arguments of tensor functions, and how large a result may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from intarsia.core.expressions.functions import Converter
from intarsia.core.expressions.operations import MAX_ITEMS, describe

MAX_ELEMENTS = 2**28

Number = int | float
Operand = Tensor | int | float
Axes = list[int] | None
Shape = Sequence[int]


def as_tensor(value: object) -> Tensor:
    """A tensor as it is, a number as a scalar, a list as the stack of its items."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, int | float):
        return torch.as_tensor(value)
    if isinstance(value, list | tuple) and value:
        return torch.stack([as_tensor(item) for item in value])
    raise TypeError(f"a tensor is needed, got {describe(value)}")


def _as_operand(value: object) -> Operand:
    return value if isinstance(value, int | float) else as_tensor(value)


def _as_tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return list(value.unbind(0))
    if not isinstance(value, list | tuple) or not value:
        raise TypeError(f"a list of tensors is needed, got {describe(value)}")
    return [as_tensor(item) for item in value]


def _as_int(value: object) -> int:
    if isinstance(value, int | torch.SymInt) and not isinstance(value, bool):
        return int(value) if isinstance(value, int) else value  # type: ignore[return-value]
    raise TypeError(f"a whole number is needed, got {describe(value)}")


def _as_shape(value: object) -> Shape:
    if isinstance(value, list | tuple):
        return [_as_int(item) for item in value]
    return [_as_int(value)]


def _as_axes(value: object) -> Axes:
    return None if value is None else list(_as_shape(value))


def _as_sizes(value: object) -> int | Shape:
    return _as_shape(value) if isinstance(value, list | tuple) else _as_int(value)


def _as_optional_int(value: object) -> int | None:
    return None if value is None else _as_int(value)


def _as_number(value: object) -> Number:
    if isinstance(value, int | float):
        return value
    raise TypeError(f"a number is needed, got {describe(value)}")


def _as_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError(f"True or False is needed, got {describe(value)}")


def _as_dtype(value: object) -> torch.dtype:
    if isinstance(value, torch.dtype):
        return value
    raise TypeError(f"a number type such as tf.float32 is needed, got {describe(value)}")


def _as_items(value: object) -> list[object]:
    if isinstance(value, Tensor):
        return limited(value.unbind(0))
    if isinstance(value, list | tuple):
        return list(value)
    raise TypeError(f"a list, a tuple or a tensor is needed, got {describe(value)}")


CONVERTERS: dict[object, Converter] = {
    Tensor: as_tensor,
    Operand: _as_operand,
    list[Tensor]: _as_tensors,
    int: _as_int,
    int | None: _as_optional_int,
    Shape: _as_shape,
    Axes: _as_axes,
    int | Shape: _as_sizes,
    Number: _as_number,
    bool: _as_flag,
    torch.dtype: _as_dtype,
    list[object]: _as_items,
}


def limited(parts: Sequence[Tensor]) -> list[object]:
    """The parts as a list, refused where there are more than `MAX_ITEMS`."""
    if len(parts) > MAX_ITEMS:
        raise ValueError(f"a list has at most {MAX_ITEMS} items, got {len(parts)}")
    return list(parts)


def check_size(elements: int, *operands: Tensor) -> None:
    """Refuses a result that is larger than `MAX_ELEMENTS` and than what it is made of."""
    if elements > MAX_ELEMENTS and elements > max(operand.numel() for operand in operands):
        raise ValueError(f"the result would have {elements} elements, more than {MAX_ELEMENTS}")


def check_pair(left: object, right: object) -> None:
    """Refuses an operator whose broadcast result would be too large. Not traced: sizes may be symbols there."""
    if isinstance(left, Tensor) and isinstance(right, Tensor) and not torch.compiler.is_compiling():
        check_size(broadcast_size(left.shape, right.shape), left, right)


def broadcast_size(left: Sequence[int], right: Sequence[int]) -> int:
    """Elements of two shapes' common shape; where they do not fit, the operator itself says so."""
    return math.prod(map(max, zip_longest(reversed(left), reversed(right), fillvalue=1)))
