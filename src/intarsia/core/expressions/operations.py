"""Operators of lambdas on values, with limits: numbers, arrays, lists and tuples."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from intarsia.core.expressions.functions import Namespace

MAX_INT = 2**63 - 1
MAX_ITEMS = 10_000

BINARY: dict[type[ast.operator], tuple[str, Callable[[Any, Any], object]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", operator.pow),
    ast.BitAnd: ("&", operator.and_),
    ast.BitOr: ("|", operator.or_),
}
COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], object]]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
}
UNARY: dict[type[ast.unaryop], tuple[str, Callable[[Any], object]]] = {
    ast.USub: ("-", operator.neg),
    ast.UAdd: ("+", operator.pos),
    ast.Invert: ("~", operator.invert),
}


def apply_operator(
    symbol: str, op: Callable[[Any, Any], object], left: object, right: object, space: Namespace
) -> object:
    """One operator on two values: numbers, arrays, or (`+` only) two lists or two tuples."""
    numbers = int | float
    if isinstance(left, numbers) and isinstance(right, numbers):
        return _number(symbol, op, left, right)
    for kind in (list, tuple):
        if symbol == "+" and isinstance(left, kind) and isinstance(right, kind):
            if len(left) + len(right) > MAX_ITEMS:
                raise ValueError(f"a list has at most {MAX_ITEMS} items, got {len(left) + len(right)}")
            return op(left, right)
    kinds = (int, float, *space.arrays)
    if not (isinstance(left, kinds) and isinstance(right, kinds)):
        raise TypeError(f"`{symbol}` does not work between {describe(left)} and {describe(right)}")
    space.check_pair(left, right)
    return op(left, right)


def _number(symbol: str, op: Callable[[Any, Any], object], left: int | float, right: int | float) -> object:
    too_large = OverflowError("a whole number must fit 64 bits")
    if (
        symbol == "**"
        and isinstance(left, int)
        and isinstance(right, int)
        and (abs(left).bit_length() - 1) * right > 64
    ):
        raise too_large
    result = op(left, right)
    if isinstance(result, int) and abs(result) > MAX_INT:
        raise too_large
    if not isinstance(result, int | float):
        raise ValueError(f"`{symbol}` of {left} and {right} is not a real number")
    return result


def describe(value: object) -> str:
    """A value in a message: number, type and shape of an array, or what a list holds."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return f"{str(dtype).removeprefix('torch.')} {tuple(shape)}"
    if isinstance(value, list | tuple):
        inner = ", ".join(describe(item) for item in value[:4]) + (", ..." if len(value) > 4 else "")
        return f"{type(value).__name__} [{inner}]"
    if value is None or isinstance(value, int | float):
        return repr(value)
    return type(value).__name__
