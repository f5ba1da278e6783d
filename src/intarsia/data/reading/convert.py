"""Values of one column as the declared type, with the ones that do not fit marked."""

from __future__ import annotations

import numpy as np
import polars as pl

from intarsia.config.schema.data import FieldType
from intarsia.core.errors import DataError
from intarsia.data.reading.fields import DTYPES

RULES: dict[FieldType, str] = {
    FieldType.INT32: "INT32 must be a whole number from -2147483648 to 2147483647",
    FieldType.INT64: "INT64 must be a whole number from -9223372036854775808 to 9223372036854775807",
    FieldType.FLOAT: "FLOAT must be a finite number of 32 bits",
    FieldType.DOUBLE: "DOUBLE must be a finite number",
    FieldType.BOOL: "BOOL must be true, false, 1 or 0",
    FieldType.STRING: "STRING must be text",
}

_LEADING_ZERO = r"^-?0[0-9]"
_WHOLE = r"^-?[0-9]+$"


def convert(column: pl.Series, kind: FieldType) -> tuple[pl.Series, pl.Series | None]:
    """The column as `kind`, lists as lists of it.

    Blanks around a number do not matter, empty text is null, and so is a cell of blanks in a column of numbers.

    Returns:
        The typed column, and a mask of the rows whose value does not fit (their value is null), or None if all do.

    Raises:
        DataError: No value of the stored type can be read as `kind`.
    """
    dtype = column.dtype
    if isinstance(dtype, pl.List | pl.Array):
        return _convert_lists(column, kind)
    if dtype == pl.Null:
        return column.cast(DTYPES[kind]), None
    if dtype == pl.Binary:
        column = _decode(column)
    elif isinstance(dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    elif isinstance(dtype, pl.Decimal):
        column = column.cast(pl.Float64)
    dtype = column.dtype
    if dtype == pl.String:
        return _parse(column, kind)
    if dtype == pl.Boolean or dtype.is_numeric():
        return _from_numbers(column, kind)
    if dtype.is_temporal() and kind is FieldType.STRING:
        return column.cast(pl.String), None
    raise DataError(
        f"Column `{column.name}` is declared {kind} and must hold text, numbers, booleans or lists of them. "
        f"Stored type: {dtype}. Convert it before reading, or declare it STRING if it holds times."
    )


def infer(column: pl.Series) -> pl.Series:
    """The column as the narrowest of INT64, DOUBLE and STRING that loses nothing.

    Text that a number would not give back stays text: `007` and `+5` are ids, not numbers.

    Raises:
        DataError: No value of the stored type can be read.
    """
    if column.dtype == pl.String:
        return _infer_text(column)
    inner = _element_type(column.dtype)
    if inner == pl.Boolean:
        kind = FieldType.BOOL
    elif inner.is_integer():
        kind = FieldType.INT64
    else:
        kind = FieldType.DOUBLE if inner.is_numeric() else FieldType.STRING
    return column if column.dtype == DTYPES[kind] else convert(column, kind)[0]


def _element_type(dtype: pl.DataType) -> pl.DataType:
    while isinstance(dtype, pl.List | pl.Array):
        dtype = pl.Series([], dtype=dtype.inner).dtype
    return dtype


def _infer_text(column: pl.Series) -> pl.Series:
    if column.null_count() == column.len():
        return column
    if column.len() > 2000 and _infer_text(column.drop_nulls().head(1000)).dtype == pl.String:
        return column
    for dtype in (pl.Int64(), pl.Float64()):
        numbers = column.cast(dtype, strict=False)
        if numbers.null_count() == column.null_count() and _is_plain(column, numbers):
            return numbers
    return column


def _is_plain(text: pl.Series, numbers: pl.Series) -> bool:
    """Whether the numbers, none of which is missing, say all that the text says."""
    if text.str.starts_with("+").any():
        return False
    with_zero = text.filter(text.str.starts_with("0") | text.str.starts_with("-0"))
    if numbers.dtype == pl.Int64:
        return not (with_zero != "0").any()
    if with_zero.str.contains(_LEADING_ZERO).any() or not numbers.is_finite().all():
        return False
    # A double holds 15 decimal digits: a longer whole number would come back as another one.
    return not text.filter(text.str.len_bytes() > 15).str.contains(_WHOLE).any()


def mark_missing(column: pl.Series, ignored: str | int | float) -> pl.Series:
    """Nulls instead of the value that means `missing`."""
    if isinstance(column.dtype, pl.List):
        return column
    value: str | int | float = ignored
    try:
        if column.dtype == pl.String:
            value = str(ignored)
        elif column.dtype.is_float():
            value = float(ignored)
        elif column.dtype.is_integer():
            value = int(ignored)
        else:
            return column
    except ValueError as error:
        raise DataError(
            f"ignore_val of column `{column.name}` must be of the column's type, {column.dtype}. Received: {ignored!r}."
        ) from error
    if column.dtype == pl.Float32:
        equal = column == pl.Series([value], dtype=pl.Float32)[0]
    else:
        equal = column == value
    return column.set(equal.fill_null(False), None)


def _parse(column: pl.Series, kind: FieldType) -> tuple[pl.Series, pl.Series | None]:
    if kind is FieldType.STRING:
        return column.set(column == "", None), None
    text = column.str.strip_chars(" \t")
    present = text.is_not_null() & (text != "")
    if kind is FieldType.BOOL:
        lower = text.str.to_lowercase()
        yes, no = lower.is_in(["true", "1"]), lower.is_in(["false", "0"])
        out = yes.set(~(yes | no), None)
        bad = present & out.is_null()
    else:
        out = text.cast(DTYPES[kind], strict=False)
        bad = present & out.is_null()
        if out.dtype.is_float():
            bad = bad | (present & ~out.is_finite().fill_null(False))
    return _marked(out, bad)


def _from_numbers(column: pl.Series, kind: FieldType) -> tuple[pl.Series, pl.Series | None]:
    dtype = column.dtype
    if kind is FieldType.STRING:
        if dtype.is_float():
            raise DataError(
                f"Column `{column.name}` is declared STRING and must hold text or whole numbers, for a float has no "
                f"one spelling. Stored type: {dtype}. Declare it DOUBLE, or convert it before reading."
            )
        return column.cast(pl.String), None
    if kind is FieldType.BOOL:
        out = column if dtype == pl.Boolean else (column == 1)
        bad = None if dtype == pl.Boolean else ~column.is_in([0, 1]) & column.is_not_null()
        return (out, None) if bad is None else _marked(out, bad)
    out = column.cast(DTYPES[kind], strict=False)
    if kind in (FieldType.FLOAT, FieldType.DOUBLE):
        return _marked(out, column.is_not_null() & ~out.is_finite().fill_null(False))
    bad = column.is_not_null() & out.is_null()
    if dtype.is_float():
        bad = bad | (column.is_not_null() & (column != column.floor()).fill_null(False))
    return _marked(out, bad)


def _convert_lists(column: pl.Series, kind: FieldType) -> tuple[pl.Series, pl.Series | None]:
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    import pyarrow as pa

    lists = column.rechunk().to_arrow()
    offsets = lists.offsets.to_numpy()
    elements = pl.Series(column.name, pl.from_arrow(lists.values))
    if isinstance(elements.dtype, pl.List | pl.Array):
        raise DataError(
            f"Column `{column.name}` is declared {kind} and must hold values or lists of them, not lists of lists. "
            f"Stored type: {column.dtype}."
        )
    values, bad = convert(elements, kind)
    made = pa.LargeListArray.from_arrays(pa.array(offsets), values.to_arrow(), mask=lists.is_null())
    out = pl.Series(column.name, pl.from_arrow(made), dtype=pl.List(DTYPES[kind]))
    if bad is None:
        return out, None
    # The elements that fail, counted up to each list's borders: a list fails where the count grows inside it.
    failed = np.concatenate([[0], np.cumsum(bad.to_numpy())])
    mask = pl.Series(failed[offsets[1:]] > failed[offsets[:-1]]) & out.is_not_null()
    return (out, mask) if mask.any() else (out, None)


def _decode(column: pl.Series) -> pl.Series:
    try:
        return column.cast(pl.String)
    except pl.exceptions.ComputeError as error:
        raise DataError(f"Column `{column.name}`: text must be UTF-8. Its bytes are not. ({error})") from error


def _marked(out: pl.Series, bad: pl.Series) -> tuple[pl.Series, pl.Series | None]:
    if not bad.any():
        return out, None
    return out.set(bad, None), bad
