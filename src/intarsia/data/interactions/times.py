"""Times as seconds since 1970."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.core.errors import DataError

Times = npt.NDArray[np.float64] | npt.NDArray[np.int32]
_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_ZONE = r"(?:Z|([+-])(\d{2}):?(\d{2}))$"


def seconds(column: pl.Series, time_format: str | None) -> pl.Series:
    """A column of times as numbers; null where a value is no time.

    Numbers stay what they are, whatever they count. Dates and timestamps become seconds since 1970, in universal time
    unless they carry an offset.

    Args:
        column: Numbers, dates, timestamps, or text.
        time_format: How text is written, as in strptime. Default: numbers, or ISO 8601 with `T` or a blank between
            date and time.

    Returns:
        (S,) Float64.
    """
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime):
        return column.dt.epoch("us").cast(pl.Float64) / 1e6
    if dtype == pl.Date:
        return column.dt.epoch("s").cast(pl.Float64)
    if isinstance(dtype, pl.Categorical | pl.Enum) or (time_format is not None and dtype.is_integer()):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        if time_format is not None:
            return _parsed(column, time_format)
        numbers = column.cast(pl.Float64, strict=False)
        return numbers if numbers.null_count() == column.null_count() else numbers.fill_null(_iso(column))
    if dtype.is_numeric():
        return column.cast(pl.Float64)
    return pl.Series(column.name, [None], dtype=pl.Float64).new_from_index(0, len(column))


def times_of(column: pl.Series, time_format: str | None, what: str) -> Times:
    """(S,) times of a log; narrow whole numbers stay what they are.

    Raises:
        DataError: A value is no time; names the row, the value and how times are written.
    """
    if column.dtype == pl.Int32 and time_format is None and not column.null_count():
        return column.to_numpy()
    found = seconds(column, time_format)
    wrong = found.is_null() | ~found.is_finite()
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        rule = (
            "numbers, ISO dates or timestamps such as 2016-05-09T10:51:09Z"
            if time_format is None
            else f"written as log.time_format `{time_format}` says"
        )
        cure = "Set log.time_format" if time_format is None else "Correct log.time_format"
        raise DataError(
            f"`{column.name}` must hold times: {rule}. Received: {column[row]!r} in row {row + 1} of {what} "
            f"({int(wrong.sum())} such rows). {cure}, or correct or remove the rows."
        )
    return found.to_numpy()


def _parsed(text: pl.Series, time_format: str) -> pl.Series:
    # A fraction of a second is `%.f` there, dot included; without the dot `%f` would count nanoseconds.
    spelled = time_format.replace(".%f", "%.f")
    try:
        moments = text.str.to_datetime(spelled, strict=False, time_unit="us")
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"log.time_format must be a pattern of strptime. Received: {time_format!r}, for `{text.name}` with values "
            f"such as {text.drop_nulls().head(1).to_list()}. ({str(error).splitlines()[0]})"
        ) from error
    return moments.dt.epoch("us").cast(pl.Float64) / 1e6


def _iso(text: pl.Series) -> pl.Series:
    """Seconds of ISO dates and timestamps, with or without fraction and offset."""
    text = text.str.strip_chars().str.replace(r"^(\d{4})/(\d{2})/(\d{2})", "${1}-${2}-${3}")
    text = text.str.replace(r"^(\d{4}-\d{2}-\d{2}) +(\d)", "${1}T${2}")
    offset = None
    if text.str.contains(r"T.*(?:Z|[+-]\d{2}:?\d{2})$").any():
        part = text.str.extract_groups(_ZONE).struct.unnest()
        sign = pl.when(pl.col("1") == "-").then(-1).otherwise(1)
        shift = sign * (pl.col("2").cast(pl.Float64) * 3600 + pl.col("3").cast(pl.Float64) * 60)
        timed = text.str.contains("T")
        offset = (
            part.select(shift).to_series().fill_null(0.0).zip_with(timed, pl.Series([0.0]).new_from_index(0, len(text)))
        )
        text = text.str.replace(_ZONE, "").zip_with(timed, text)
    found: pl.Series | None = None
    for pattern in _FORMATS:
        moments = text.str.to_datetime(pattern, strict=False, time_unit="us")
        found = moments if found is None else found.fill_null(moments)
        if found.null_count() == text.null_count():
            break
    assert found is not None
    out = found.dt.epoch("us").cast(pl.Float64) / 1e6
    return out if offset is None else out - offset
