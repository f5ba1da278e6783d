"""ExprFeature: a number computed from the numbers of several columns."""

from __future__ import annotations

import numpy as np
import polars as pl

from intarsia.config.schema.features import FeatureConfig
from intarsia.core.expressions.columns import compile_expr
from intarsia.data.columns import DenseColumn
from intarsia.data.features.base import Feature
from intarsia.data.features.cells import Cells, numbers_of
from intarsia.data.features.context import Context
from intarsia.data.schema import FeatureSpec


class ExprFeature(Feature):
    """One number in each row: `expression` over the inputs, in double precision."""

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__(config)
        self._expression = compile_expr(config.expression, self.inputs)

    def spec(self, table: str = "") -> FeatureSpec:
        """Kind `dense`, never embedded."""
        return FeatureSpec(self.name, "dense")

    def encode(self, columns: list[pl.Series], context: Context) -> DenseColumn:
        """(N, 1) numbers."""
        inputs = {
            name: numbers_of(Cells(column), context)[0] for name, column in zip(self.inputs, columns, strict=True)
        }
        values = self._expression(inputs)
        values = np.broadcast_to(values, (len(columns[0]),))
        finite = np.isfinite(values)
        if not finite.all():
            rows = np.flatnonzero(~finite)
            first = int(rows[0])
            context.reject(
                rows,
                {name: float(numbers[first]) for name, numbers in inputs.items()},
                f"the expression `{self.config.expression}` must give a finite number",
                "it then counts as 0",
                "Correct the data or the expression",
            )
            values = np.where(finite, values, 0.0)
        return DenseColumn(values.astype(np.float32)[:, None])
