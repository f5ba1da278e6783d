"""The tensor functions that a lambda may call, under TensorFlow's and torch's names.

Each is declared once by its signature: the annotations say how arguments are checked. TensorFlow's meaning holds under
`tf.`, torch's under `torch.`, where the two differ (split, transpose, expand_dims and squeeze of several axes).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from intarsia.core.expressions.functions import Function, Namespace, function, under
from intarsia.core.expressions.tensor_values import (
    CONVERTERS,
    Axes,
    Number,
    Operand,
    Shape,
    broadcast_size,
    check_pair,
    check_size,
    limited,
)


def _elementwise(call: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def apply(x: Tensor) -> Tensor:
        return call(x)

    return apply


def _pairwise(call: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def apply(x: Operand, y: Operand) -> Tensor:
        left, right = _pair(x, y)
        check_pair(left, right)
        return call(left, right)

    return apply


def _pair(x: Operand, y: Operand) -> tuple[Tensor, Tensor]:
    """Both as tensors; a number takes the type and place of the other operand, as in `x + 1`."""
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return x, y
    if isinstance(x, Tensor):
        return x, torch.as_tensor(y, dtype=torch.result_type(x, y), device=x.device)
    if isinstance(y, Tensor):
        return torch.as_tensor(x, dtype=torch.result_type(x, y), device=y.device), y
    return torch.as_tensor(x), torch.as_tensor(y)


def _add_n(tensors: list[Tensor]) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        if tensor.shape != total.shape:
            shapes = ", ".join(str(tuple(t.shape)) for t in tensors[:8])
            raise ValueError(f"add_n needs tensors of one shape, got {shapes}; `+` broadcasts")
        total = total + tensor
    return total


def _concat(tensors: list[Tensor], axis: int) -> Tensor:
    return torch.cat(tensors, dim=axis)


def _cat(tensors: list[Tensor], axis: int = 0) -> Tensor:
    return torch.cat(tensors, dim=axis)


def _stack(tensors: list[Tensor], axis: int = 0) -> Tensor:
    return torch.stack(tensors, dim=axis)


def _tf_unstack(x: Tensor, num: int | None = None, axis: int = 0) -> list[object]:
    if num is not None and num != x.shape[axis]:
        raise ValueError(f"unstack along axis {axis} of shape {tuple(x.shape)} gives {x.shape[axis]} parts, not {num}")
    return limited(x.unbind(axis))


def _unbind(x: Tensor, axis: int = 0) -> list[object]:
    return limited(x.unbind(axis))


def _tf_split(x: Tensor, splits: int | Shape, axis: int = 0) -> list[object]:
    size = x.shape[axis]
    if isinstance(splits, Sequence):
        known = sum(part for part in splits if part != -1)
        sizes = [size - known if part == -1 else part for part in splits]
        return list(x.split(sizes, axis))
    if splits < 1 or size % splits:
        raise ValueError(f"axis {axis} of shape {tuple(x.shape)} does not divide into {splits} equal parts")
    return limited(x.split(size // splits, axis))


def _torch_split(x: Tensor, splits: int | Shape, axis: int = 0) -> list[object]:
    sizes = list(splits) if isinstance(splits, Sequence) else splits
    return limited(x.split(sizes, axis))


def _chunk(x: Tensor, chunks: int, axis: int = 0) -> list[object]:
    return limited(x.chunk(chunks, axis))


def _sum(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    return x.sum(dim=axis, keepdim=keepdims)


def _mean(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    real = x if x.is_floating_point() else x.float()
    return real.mean(dim=axis, keepdim=keepdims)


def _max(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    return x.amax(dim=() if axis is None else axis, keepdim=keepdims)


def _min(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    return x.amin(dim=() if axis is None else axis, keepdim=keepdims)


def _prod(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    axes = range(x.dim()) if axis is None else axis
    for one in sorted({a % x.dim() if -x.dim() <= a < x.dim() else a for a in axes}, reverse=True):
        x = x.prod(dim=one, keepdim=keepdims)
    return x


def _argmax(x: Tensor, axis: int = 0) -> Tensor:
    return x.argmax(dim=axis)


def _reshape(x: Tensor, shape: Shape) -> Tensor:
    return x.reshape(tuple(shape))


def _shape(x: Tensor) -> list[int]:
    return list(x.shape)


def _squeeze(x: Tensor, axis: Axes = None) -> Tensor:
    if axis is None:
        return x.squeeze()
    wide = [a for a in axis if x.shape[a] != 1]
    if wide:
        raise ValueError(f"only axes of length 1 can be squeezed; axis {wide[0]} of shape {tuple(x.shape)} is not")
    return x.squeeze(tuple(axis))


def _torch_squeeze(x: Tensor, axis: Axes = None) -> Tensor:
    return x.squeeze() if axis is None else x.squeeze(tuple(axis))


def _expand_dims(x: Tensor, axis: int) -> Tensor:
    return x.unsqueeze(axis)


def _tf_transpose(x: Tensor, perm: Axes = None) -> Tensor:
    return x.permute(tuple(range(x.dim() - 1, -1, -1)) if perm is None else tuple(perm))


def _torch_transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    return x.transpose(dim0, dim1)


def _permute(x: Tensor, perm: Shape) -> Tensor:
    return x.permute(tuple(perm))


def _matmul(x: Tensor, y: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    left, right = x.mT if transpose_a else x, y.mT if transpose_b else y
    if left.dim() > 1 and right.dim() > 1 and not torch.compiler.is_compiling():
        batch = broadcast_size(left.shape[:-2], right.shape[:-2])
        check_size(batch * left.shape[-2] * right.shape[-1], left, right)
    return left @ right


def _clip(x: Tensor, low: Operand, high: Operand) -> Tensor:
    return torch.minimum(*_pair(torch.maximum(*_pair(x, low)), high))


def _tf_gelu(x: Tensor, approximate: bool = False) -> Tensor:
    return F.gelu(x, approximate="tanh" if approximate else "none")


def _leaky_relu(x: Tensor, alpha: Number = 0.2) -> Tensor:
    return F.leaky_relu(x, alpha)


def _torch_leaky_relu(x: Tensor, negative_slope: Number = 0.01) -> Tensor:
    return F.leaky_relu(x, negative_slope)


def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.softmax(dim=axis)


def _log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.log_softmax(dim=axis)


def _l2_normalize(x: Tensor, axis: Axes = None, epsilon: Number = 1e-12) -> Tensor:
    """x / sqrt(max(sum(x^2), epsilon)), TensorFlow's form: epsilon bounds the squared norm."""
    return x * x.square().sum(dim=axis, keepdim=True).clamp(min=epsilon).rsqrt()


def _normalize(x: Tensor, p: Number = 2.0, axis: int = 1, epsilon: Number = 1e-12) -> Tensor:
    return F.normalize(x, p=p, dim=axis, eps=epsilon)


def _tile(x: Tensor, multiples: Shape) -> Tensor:
    factor = math.prod(multiples)
    if not torch.compiler.is_compiling():
        check_size(x.numel() * factor, x)
    return x.tile(tuple(multiples))


def _where(condition: Tensor, x: Operand, y: Operand) -> Tensor:
    left, right = _pair(x, y)
    check_pair(condition, left)
    check_pair(condition, right)
    return torch.where(condition.bool(), left, right)


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype)


def _list(x: list[object]) -> list[object]:
    return x


def _tuple(x: list[object]) -> tuple[object, ...]:
    return tuple(x)


def _len(x: list[object]) -> int:
    return len(x)


_ELEMENTWISE = (
    "abs ceil cos exp expm1 floor isfinite log log1p logical_not ones_like relu round rsqrt "
    "sigmoid sign sin sqrt square tanh zeros_like"
)
_PAIRWISE = (
    "add divide greater greater_equal less less_equal logical_and logical_or maximum minimum "
    "multiply not_equal pow subtract"
)
_SHARED: dict[str, Callable[..., object]] = {
    **{name: _elementwise(getattr(torch, name)) for name in _ELEMENTWISE.split()},
    **{name: _pairwise(getattr(torch, name)) for name in _PAIRWISE.split()},
    "negative": _elementwise(torch.neg),
    "stack": _stack,
    "reshape": _reshape,
    "where": _where,
    "tile": _tile,
    "matmul": _matmul,
}
_TF: dict[str, Callable[..., object]] = {
    "add_n": _add_n,
    "concat": _concat,
    "reduce_sum": _sum,
    "reduce_mean": _mean,
    "reduce_max": _max,
    "reduce_min": _min,
    "reduce_prod": _prod,
    "argmax": _argmax,
    "unstack": _tf_unstack,
    "split": _tf_split,
    "squeeze": _squeeze,
    "expand_dims": _expand_dims,
    "transpose": _tf_transpose,
    "shape": _shape,
    "equal": _pairwise(torch.eq),
    "clip_by_value": _clip,
    "gelu": _tf_gelu,
    "silu": _elementwise(F.silu),
    "swish": _elementwise(F.silu),
    "elu": _elementwise(F.elu),
    "selu": _elementwise(F.selu),
    "leaky_relu": _leaky_relu,
    "softplus": _elementwise(F.softplus),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "l2_normalize": _l2_normalize,
    "cast": _cast,
    "stop_gradient": _elementwise(Tensor.detach),
    "identity": _elementwise(lambda x: x),
}
_TORCH: dict[str, Callable[..., object]] = {
    "cat": _cat,
    "concat": _cat,
    "sum": _sum,
    "mean": _mean,
    "amax": _max,
    "amin": _min,
    "prod": _prod,
    "argmax": _argmax,
    "unbind": _unbind,
    "split": _torch_split,
    "chunk": _chunk,
    "squeeze": _torch_squeeze,
    "unsqueeze": _expand_dims,
    "transpose": _torch_transpose,
    "permute": _permute,
    "mul": _pairwise(torch.mul),
    "sub": _pairwise(torch.sub),
    "div": _pairwise(torch.div),
    "neg": _elementwise(torch.neg),
    "eq": _pairwise(torch.eq),
    "clamp": _clip,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "selu": _elementwise(F.selu),
    "detach": _elementwise(Tensor.detach),
}
_FUNCTIONAL: dict[str, Callable[..., object]] = {
    "relu": _elementwise(F.relu),
    "sigmoid": _elementwise(torch.sigmoid),
    "tanh": _elementwise(torch.tanh),
    "gelu": _tf_gelu,
    "silu": _elementwise(F.silu),
    "elu": _elementwise(F.elu),
    "selu": _elementwise(F.selu),
    "leaky_relu": _torch_leaky_relu,
    "softplus": _elementwise(F.softplus),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "normalize": _normalize,
}
_BUILT_IN: dict[str, Callable[..., object]] = {
    "list": _list,
    "tuple": _tuple,
    "len": _len,
    "abs": _elementwise(torch.abs),
}


def _declare(calls: dict[str, Callable[..., object]]) -> dict[str, Function]:
    return {name: function(call, CONVERTERS) for name, call in calls.items()}


_DTYPES = {
    name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16", "int32", "int64", "bool")
}

TENSORS = Namespace(
    functions={
        **under(("tf.", "tf.math.", "tf.nn.", "tf.linalg."), _declare({**_SHARED, **_TF})),
        **under(("torch.",), _declare({**_SHARED, **_TORCH})),
        **under(("torch.nn.functional.",), _declare(_FUNCTIONAL)),
        **_declare(_BUILT_IN),
    },
    constants={prefix + name: dtype for prefix in ("", "tf.", "torch.") for name, dtype in _DTYPES.items()},
    arrays=(Tensor, torch.SymInt),
    containers=True,
    allowed=(
        "allowed: the lambda's arguments, numbers, lists, tuples, indexing, arithmetic, comparisons, `a if b else c`, "
        "and tensor functions such as tf.concat or torch.stack"
    ),
    check_pair=check_pair,
)
