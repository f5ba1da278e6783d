"""Cells of raw columns: their defaults, their parts, and the numbers in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.config.schema.data import DataConfig, InputField
from intarsia.core.errors import ConfigError, Problem
from intarsia.data.columns import offsets_of, ranges
from intarsia.data.features.context import Context
from intarsia.data.hashing import float_text
from intarsia.data.reading.convert import mark_missing
from intarsia.data.reading.fields import declared_fields

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

NESTED = (pl.List, pl.Array)


@dataclass(frozen=True)
class Cells:
    """Values of a column, or the parts of its cells one after another.

    Attributes:
        values: (S,) values.
        offsets: (N + 1,) row n owns `values[offsets[n]:offsets[n + 1]]`; None: every row has exactly one.
    """

    values: pl.Series
    offsets: I64 | None = None

    def rows(self, positions: I64) -> I64:
        """The rows in which the values at these positions stand."""
        if self.offsets is None:
            return positions
        return np.searchsorted(self.offsets, positions, side="right") - 1

    def flat_offsets(self) -> I64:
        """`offsets`, also where every row has one value."""
        return np.arange(len(self.values) + 1, dtype=np.int64) if self.offsets is None else self.offsets


class Defaults:
    """What stands for an empty cell, column by column.

    Empty cells get `default_val`, or 0, 0.0 or false in a column that is declared to hold such values. They stay
    missing in declared text without a default, in columns that are not declared, in lists, and wherever `ignore_val`
    is set: a reader turns that value into an empty cell, and it must not come back as the default.
    """

    def __init__(self, data_config: DataConfig) -> None:
        self._fields = {entry.input_name: entry for entry in declared_fields(data_config)}

    def apply(self, column: pl.Series) -> pl.Series:
        """The column with its empty cells filled."""
        entry = self._fields.get(column.name)
        if column.dtype == pl.Null:
            column = column.cast(pl.String)
        if entry is None or isinstance(column.dtype, NESTED):
            return column
        if entry.ignore_val is not None:
            return mark_missing(column, entry.ignore_val)
        value = _default_of(entry, column.dtype)
        if column.dtype == pl.String:
            if value:
                column = column.set((column == "").fill_null(False), None).fill_null(value)
            return column
        return column.fill_null(value) if column.null_count() else column


def _default_of(entry: InputField, dtype: pl.DataType) -> str | int | float | bool:
    value = entry.default_val
    if dtype == pl.String:
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    try:
        if value is None or value == "":
            return 0
        if dtype == pl.Boolean:
            return {"true": True, "1": True, "false": False, "0": False}[str(value).strip().lower()]
        if dtype.is_integer() and float(value) == int(float(value)):
            return int(float(value))
        if dtype.is_float():
            return float(value)
    except (ValueError, KeyError):
        pass
    raise ConfigError(
        [
            Problem(
                "",
                f"data_config.input_fields `{entry.input_name}`.default_val",
                f"must be a value of the column's type, {dtype}. Received: {value!r}.",
            )
        ]
    )


def split(column: pl.Series, separator: str, limit: int = 0, keep: Literal["first", "last"] = "first") -> Cells:
    """The parts of each cell; an empty or missing cell has none.

    Args:
        column: Text, or lists whose elements are the parts, or single values of another type (each is one part).
        separator: What stands between the parts; empty: a text is one part.
        limit: Parts of a cell that are kept; 0: all.
        keep: Which ones.
    """
    column = column.rename("cell")
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if not isinstance(column.dtype, pl.List):
        present = column.is_not_null()
        if column.dtype == pl.String:
            present &= column != ""
        if column.dtype != pl.String or not separator:
            return Cells(column.filter(present), offsets_of(present.to_numpy()))
        column = column.set(~present, None).str.split(separator)
    if limit:
        column = column.list.head(limit) if keep == "first" else column.list.tail(limit)
    lengths = column.list.len().fill_null(0)
    return Cells(column.filter(lengths > 0).explode(), offsets_of(lengths.to_numpy()))


def without(cells: Cells, dropped: Bool) -> Cells:
    """The parts that are not dropped."""
    if not dropped.any():
        return cells
    kept = ~dropped
    return Cells(cells.values.filter(pl.Series(kept)), shrink(cells.flat_offsets(), kept))


def shrink(offsets: I64, kept: Bool) -> I64:
    """Offsets that count only the kept values."""
    return offsets_of(kept)[offsets]


def text_of(cells: Cells, precision: int, context: Context) -> tuple[pl.Series, Bool]:
    """The values as text, and which are missing: null, empty text, and -1 in a column of whole numbers."""
    values = cells.values
    dtype = values.dtype
    if isinstance(dtype, NESTED):
        raise context.refuse(
            "a cell must hold one value", f"lists ({dtype})", "Use a TagFeature or a SequenceFeature for lists"
        )
    if dtype == pl.String:
        return values, (values.is_null() | (values == "")).fill_null(True).to_numpy()
    if dtype.is_float() and precision < 0:
        raise context.refuse(
            "ids must be text or whole numbers, for a float has no one text",
            dtype,
            "Declare the column INT64 or STRING, or set `precision`, the number of digits after the point",
        )
    missing = values.is_null().to_numpy()
    if dtype.is_float():
        _reject_not_finite(cells, values.to_numpy(), ~missing, context)
        finite = values.is_finite().fill_null(False)
        return float_text(values.set(~finite, None), precision), ~finite.to_numpy()
    if dtype.is_integer():
        missing = missing | (values == -1).fill_null(True).to_numpy()
    return values.cast(pl.String), missing


def numbers_of(cells: Cells, context: Context) -> tuple[F64, Bool]:
    """The values as numbers, and which are missing (null or empty text); those are 0."""
    values = cells.values
    dtype = values.dtype
    if dtype == pl.String:
        missing = values.is_null() | (values == "").fill_null(True)
        parsed = values.cast(pl.Float64, strict=False)
        if parsed.null_count() > int(missing.sum()):
            parsed = values.str.strip_chars().cast(pl.Float64, strict=False)
            _reject_text(cells, parsed.is_null() & ~missing, "a number", context)
    elif dtype == pl.Boolean or dtype.is_numeric():
        missing = values.is_null()
        parsed = values.cast(pl.Float64)
    else:
        raise context.refuse("a value must be a number", dtype, "Read another column, or convert this one")
    absent = missing.to_numpy()
    out = parsed.fill_null(0.0).to_numpy()
    _reject_not_finite(cells, out, ~absent, context)
    finite = np.isfinite(out)
    return (out, absent) if finite.all() else (np.where(finite, out, 0.0), absent)


def integers_of(cells: Cells, context: Context) -> tuple[I64, Bool]:
    """The values as whole numbers, and which are missing (null, empty text or -1); those are -1."""
    values = cells.values
    dtype = values.dtype
    if dtype == pl.String:
        missing = values.is_null() | (values == "").fill_null(True)
        parsed = values.cast(pl.Int64, strict=False)
        if parsed.null_count() > int(missing.sum()):
            parsed = values.str.strip_chars().cast(pl.Int64, strict=False)
            bad = parsed.is_null() & ~missing
            _reject_text(cells, bad, "a whole number, for num_buckets takes the value as the row", context)
            parsed = parsed.set(bad, 0)
    elif dtype.is_integer() or dtype == pl.Boolean:
        parsed = values.cast(pl.Int64)
    elif dtype.is_float():
        parsed = values.cast(pl.Int64, strict=False)
        bad = values.is_not_null() & (parsed.cast(pl.Float64) != values).fill_null(True)
        _reject_text(cells, bad, "a whole number, for num_buckets takes the value as the row", context)
        parsed = parsed.set(bad, 0)
    else:
        raise context.refuse("an id must be text or a whole number", dtype, "Read another column, or convert this one")
    out = parsed.fill_null(-1).to_numpy()
    return out, out == -1


def segment_pool(values: F64, offsets: I64, combiner: str) -> F64:
    """(N, W) from the (S, W) vectors of each row; zeros for a row without any.

    Args:
        combiner: `sum`, `mean`, `sqrtn` (sum divided by the root of the count), `min` or `max`.
    """
    lengths = np.diff(offsets)
    out = np.zeros((len(lengths), values.shape[1]))
    filled = lengths > 0
    if not filled.any():
        return out
    starts = offsets[:-1][filled]
    if combiner in ("min", "max"):
        reduce = np.minimum if combiner == "min" else np.maximum
        out[filled] = reduce.reduceat(values, starts, axis=0)
        return out
    total = np.add.reduceat(values, starts, axis=0)
    if combiner != "sum":
        count = lengths[filled, None].astype(np.float64)
        total = total / (count if combiner == "mean" else np.sqrt(count))
    out[filled] = total
    return out


def cross(parts: list[Cells]) -> tuple[list[I64], I64]:
    """All combinations of one part from each input, row by row; the last input varies fastest.

    Returns:
        For each input the positions of its parts in the combinations, and the (N + 1,) offsets of the rows.
    """
    offsets = parts[0].flat_offsets()
    rows = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
    picked: list[I64] = [np.arange(offsets[-1], dtype=np.int64)]
    for cells in parts[1:]:
        begins = cells.flat_offsets()
        counts = np.diff(begins)[rows]
        again = np.repeat(np.arange(len(rows), dtype=np.int64), counts)
        part = ranges(begins[:-1][rows], offsets_of(counts))
        picked = [*(positions[again] for positions in picked), part]
        rows = rows[again]
    return picked, offsets_of(np.bincount(rows, minlength=len(offsets) - 1))


def _reject_text(cells: Cells, bad: pl.Series, what: str, context: Context) -> None:
    positions = np.flatnonzero(bad.to_numpy())
    if len(positions):
        context.reject(
            cells.rows(positions),
            cells.values[int(positions[0])],
            f"a value must be {what}",
            "it then counts as 0",
            "Correct the data",
        )


def _reject_not_finite(cells: Cells, numbers: F64, present: Bool, context: Context) -> None:
    positions = np.flatnonzero(present & ~np.isfinite(numbers))
    if len(positions):
        context.reject(
            cells.rows(positions),
            cells.values[int(positions[0])],
            "a number must be finite",
            "it then counts as 0",
            "Correct the data",
        )
