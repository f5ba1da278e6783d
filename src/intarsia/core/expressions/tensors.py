"""Lambdas and slices of a pipeline file, run on tensors, lists and tuples of tensors, and whole numbers."""

from __future__ import annotations

from typing import Literal

from intarsia.core.expressions.syntax import Expression, compile_function, compile_index
from intarsia.core.expressions.tensor_functions import TENSORS


def compile_lambda(text: str, num_args: Literal[1, 2] = 1) -> Expression:
    """Compiles `lambda x: ...` (or `lambda x, i: ...`) once, for `input_fn`, `lambda` blocks and activations.

    A bare function name such as `tf.nn.relu` will do for one argument. The result can be called, pickled and printed.
    Departs from EasyRec, which runs the text as Python: only tensor arithmetic, indexing and whitelisted functions.

    Args:
        text: The expression.
        num_args: Arguments that the lambda must take: the value, and for `repeat` the copy's number.

    Raises:
        ExpressionError: The text is not allowed; or, when called, it does not work on the given values.
    """
    return compile_function(text, num_args, TENSORS, (compile_lambda, (text, num_args)))


def compile_slice(text: str, with_number: bool = True) -> Expression:
    """Compiles indexing such as `[0]`, `[:, 1:3]`, `[0][i]`, for `input_slice`.

    The result takes the value and, where the text uses it, the number `i`.

    Args:
        text: The indexing.
        with_number: Whether `i` may be used: the copy's number inside `repeat`.

    Raises:
        ExpressionError: The text is not allowed; or, when called, the index does not exist.
    """
    return compile_index(text, with_number, TENSORS, (compile_slice, (text, with_number)))
