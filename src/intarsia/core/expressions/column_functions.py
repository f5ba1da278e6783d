"""The elementwise functions of column expressions and normalisers, on NumPy arrays in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from intarsia.core.expressions.functions import Function, Namespace, function, under
from intarsia.core.expressions.operations import describe

Array = NDArray[np.float64]
ColumnValue = Array | float


def _as_column(value: object) -> ColumnValue:
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        return np.asarray(value, dtype=np.float64)
    raise TypeError(f"numbers are needed, got {describe(value)}")


def _as_type(value: object) -> np.dtype[np.generic]:
    if isinstance(value, np.dtype):
        return value
    raise TypeError(f"a number type such as tf.float32 is needed, got {describe(value)}")


def _elementwise(call: Callable[..., object]) -> Callable[..., Array]:
    def apply(x: ColumnValue) -> Array:
        return np.asarray(call(x), dtype=np.float64)

    return apply


def _pairwise(call: Callable[..., object]) -> Callable[..., Array]:
    def apply(x: ColumnValue, y: ColumnValue) -> Array:
        return np.asarray(call(x, y), dtype=np.float64)

    return apply


def _sigmoid(x: ColumnValue) -> object:
    # exp of a number above 0 may overflow; that of -|x| cannot.
    small = np.exp(-np.abs(x))
    return np.where(np.asarray(x) >= 0, 1.0, small) / (1.0 + small)


def _clip(x: ColumnValue, low: ColumnValue, high: ColumnValue) -> Array:
    return np.asarray(np.minimum(np.maximum(x, low), high), dtype=np.float64)


def _where(condition: ColumnValue, x: ColumnValue, y: ColumnValue) -> Array:
    return np.asarray(np.where(np.asarray(condition) != 0, x, y), dtype=np.float64)


def _cast(x: ColumnValue, dtype: np.dtype[np.generic]) -> Array:
    values = np.asarray(x, dtype=np.float64)
    if dtype.kind == "b":
        return np.asarray(values != 0, dtype=np.float64)
    if dtype.kind == "i":
        return np.asarray(np.trunc(values), dtype=np.float64)
    return np.asarray(values.astype(dtype), dtype=np.float64)


_COMMON: dict[str, Callable[..., object]] = {
    "abs": _elementwise(np.abs),
    "negative": _elementwise(np.negative),
    "sign": _elementwise(np.sign),
    "square": _elementwise(np.square),
    "sqrt": _elementwise(np.sqrt),
    "exp": _elementwise(np.exp),
    "expm1": _elementwise(np.expm1),
    "log": _elementwise(np.log),
    "log1p": _elementwise(np.log1p),
    "sin": _elementwise(np.sin),
    "cos": _elementwise(np.cos),
    "tanh": _elementwise(np.tanh),
    "floor": _elementwise(np.floor),
    "ceil": _elementwise(np.ceil),
    "round": _elementwise(np.rint),
    "add": _pairwise(np.add),
    "subtract": _pairwise(np.subtract),
    "multiply": _pairwise(np.multiply),
    "divide": _pairwise(np.divide),
    "maximum": _pairwise(np.maximum),
    "minimum": _pairwise(np.minimum),
    "greater": _pairwise(np.greater),
    "greater_equal": _pairwise(np.greater_equal),
    "less": _pairwise(np.less),
    "less_equal": _pairwise(np.less_equal),
    "not_equal": _pairwise(np.not_equal),
    "logical_and": _pairwise(np.logical_and),
    "logical_or": _pairwise(np.logical_or),
    "logical_not": _elementwise(np.logical_not),
    "where": _where,
    "isfinite": _elementwise(np.isfinite),
    "pow": _pairwise(np.power),
    "sigmoid": _elementwise(_sigmoid),
    "relu": _elementwise(lambda x: np.maximum(x, 0.0)),
    "softplus": _elementwise(lambda x: np.logaddexp(x, 0.0)),
    "rsqrt": _elementwise(lambda x: 1.0 / np.sqrt(x)),
}
_TF: dict[str, Callable[..., object]] = {
    **_COMMON,
    "equal": _pairwise(np.equal),
    "clip_by_value": _clip,
    "cast": _cast,
    "identity": _elementwise(np.asarray),
}
_TORCH: dict[str, Callable[..., object]] = {
    **_COMMON,
    "eq": _pairwise(np.equal),
    "clamp": _clip,
    "mul": _pairwise(np.multiply),
    "sub": _pairwise(np.subtract),
    "div": _pairwise(np.divide),
    "neg": _elementwise(np.negative),
}
_NUMPY: dict[str, Callable[..., object]] = {
    **{name: call for name, call in _COMMON.items() if hasattr(np, name)},
    "equal": _pairwise(np.equal),
    "clip": _clip,
    "power": _pairwise(np.power),
}


def _declare(calls: dict[str, Callable[..., object]]) -> dict[str, Function]:
    return {
        name: function(call, {ColumnValue: _as_column, np.dtype[np.generic]: _as_type}) for name, call in calls.items()
    }


_TYPES = {name: np.dtype(name) for name in ("float32", "float64", "int32", "int64", "bool")}

COLUMNS = Namespace(
    functions={
        **under(("tf.", "tf.math.", "tf.nn."), _declare(_TF)),
        **under(("torch.",), _declare(_TORCH)),
        **under(("np.", "numpy."), _declare(_NUMPY)),
        **_declare(_COMMON),
    },
    constants={prefix + name: dtype for prefix in ("", "tf.") for name, dtype in _TYPES.items()},
    arrays=(np.ndarray, np.generic),
    containers=False,
    allowed=(
        "allowed: the names of the inputs, numbers, arithmetic, comparisons, & | ~, parentheses, and elementwise "
        "functions such as tf.math.log1p or tf.maximum"
    ),
)
