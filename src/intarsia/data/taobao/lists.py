"""Ragged values as one text column."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa


def join_lists(values: pl.Series, length: npt.NDArray[np.int64]) -> pl.Series:
    """Rows of `|`-separated text: row n gets the next length[n] of the values."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(length)]).astype(np.int64))
    lists = pa.LargeListArray.from_arrays(offsets, values.cast(pl.String).to_arrow().cast(pa.large_string()))
    rows = pl.from_arrow(lists)
    assert isinstance(rows, pl.Series)
    return rows.list.join("|")
