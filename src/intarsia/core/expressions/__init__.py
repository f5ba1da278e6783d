"""Expressions out of a pipeline file, read by a whitelist and never by `eval`.

`syntax` reads Python-like lambdas, `tensors` runs them on tensors, `columns` reads and runs the expressions of
ExprFeature, labels and normalisers on NumPy columns. This package itself imports neither torch nor NumPy.
"""

from intarsia.core.expressions.errors import ExpressionError

__all__ = ["ExpressionError"]
