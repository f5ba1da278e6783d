"""Samples that are in memory already."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from intarsia.config.schema.data import DataConfig
from intarsia.core.errors import DataError
from intarsia.data.reading.fields import check_present, declared_fields
from intarsia.data.reading.parquet import typed_frame
from intarsia.data.reading.report import BadRows, ReadResult, finish
from intarsia.data.reading.table import settle, skips_bad_rows


def from_frame(
    frame: Any, data_config: DataConfig | None = None, *, columns: Collection[str] | None = None
) -> ReadResult:
    """Rows of a data frame, typed and checked as rows of a file are.

    Args:
        frame: Of Polars, pandas (NaN counts as missing, the index is left out), an Arrow table or anything that
            speaks Arrow's C stream protocol, or a mapping of names to equally long arrays or lists.
        data_config: Declared columns. Default: none, so that stored types hold.
        columns: Names that are needed. Default: the declared ones, or all.

    Raises:
        DataError: `frame` is none of these, has no rows, lacks a column, or a value does not fit its type.
    """
    config = DataConfig() if data_config is None else data_config
    made = _as_polars(frame)
    declared = [entry.input_name for entry in declared_fields(config)]
    needed = list(dict.fromkeys(columns)) if columns is not None else declared or made.columns
    check_present(needed, made.columns, "the data frame")
    if not made.height:
        raise DataError("The data frame must hold rows. It holds none.")
    bad = BadRows(skips_bad_rows(config))
    typed, part = typed_frame(made.select(needed), config, "", 1, bad)
    return finish(settle(typed, config), [part], bad)


def _as_polars(frame: Any) -> pl.DataFrame:
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    try:
        if isinstance(frame, Mapping):
            return pl.DataFrame(dict(frame))
        if type(frame).__module__.partition(".")[0] == "pandas":
            return pl.from_pandas(frame, nan_to_null=True)
        if hasattr(frame, "__arrow_c_stream__"):
            return pl.DataFrame(frame)
    except (pl.exceptions.PolarsError, TypeError, ValueError, ImportError) as error:
        raise DataError(f"The data frame must have named columns of equal length and plain types. ({error})") from error
    raise DataError(
        "Rows in memory must be a data frame of Polars or pandas, an Arrow table, or a mapping of column names to "
        f"values. Received: {type(frame).__name__}."
    )
