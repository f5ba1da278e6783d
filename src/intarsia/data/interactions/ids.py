"""Raw ids as numbers. Ids that are whole numbers never become a column of text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.core.errors import DataError
from intarsia.data.interactions.interactions import Ints

Codes = npt.NDArray[np.int32]

_PLAIN = r"^(0|-?[1-9][0-9]*)$"


def plain_integers(text: pl.Series) -> pl.Series | None:
    """Whole numbers that say all that the text says (`007` and `+7` are not `7`), or None where some text is none."""
    numbers = text.cast(pl.Int64, strict=False)
    if numbers.null_count() > text.null_count() or not text.str.contains(_PLAIN).all():
        return None
    return numbers


def as_ids(column: pl.Series, what: str) -> pl.Series:
    """A column of ids as whole numbers or text without empty cells.

    Args:
        column: Text, whole numbers (also as floats), or categories.
        what: Where it stands, such as `the log`.

    Raises:
        DataError: An id is empty, or not of these types.
    """
    dtype = column.dtype
    if dtype == pl.Boolean or isinstance(dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    elif dtype.is_float():
        column = _whole(column, what)
    elif not dtype.is_integer() and dtype not in (pl.String, pl.Null):
        raise DataError(
            f"ids must be text or whole numbers. Received: `{column.name}` of {what} holds {dtype}. Convert the column."
        )
    if column.dtype in (pl.UInt64, pl.Int128):
        narrow = column.cast(pl.Int64, strict=False)
        column = narrow if narrow.null_count() == column.null_count() else column.cast(pl.String)
    empty = column.is_null()
    if column.dtype == pl.String:
        empty = empty | (column == "")
    if empty.any():
        row = int(empty.arg_max() or 0)
        raise DataError(
            f"ids must not be empty. Received: no `{column.name}` in row {row + 1} of {what} ({int(empty.sum())} such "
            "rows). Remove such rows."
        )
    return column


def _whole(column: pl.Series, what: str) -> pl.Series:
    column = column.fill_nan(None)
    numbers = column.cast(pl.Int64, strict=False)
    wrong = column.is_not_null() & (numbers.is_null() | (numbers.cast(pl.Float64) != column.cast(pl.Float64)))
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise DataError(
            f"ids must be text or whole numbers. Received: {column[row]!r} as `{column.name}` in row {row + 1} of "
            f"{what}. Name another column, or write the ids as text."
        )
    return numbers


def joined(columns: list[pl.Series]) -> pl.Series:
    """Columns of ids one after the other: text as soon as one of them is text."""
    if any(column.dtype == pl.String for column in columns):
        columns = [column.cast(pl.String) for column in columns]
    elif len({column.dtype for column in columns}) > 1:
        columns = [column.cast(pl.Int64) for column in columns]
    return columns[0] if len(columns) == 1 else pl.concat(columns)


def numbered(column: pl.Series) -> tuple[pl.Series, Codes]:
    """Unique ids as text, and the number of each row's id.

    Ids are sorted by their value where all are whole numbers, else as text.

    Args:
        column: (S,) ids as `as_ids` gives them.

    Returns:
        (N,) unique ids; (S,) numbers 0..N-1.
    """
    if column.dtype != pl.String:
        return _numbered_integers(column)
    unique = ordered(column.unique())
    codes = column.cast(pl.Enum(unique)).to_physical().to_numpy()
    return unique, codes.astype(np.int32)


def ordered(unique: pl.Series) -> pl.Series:
    """Unique ids as sorted text: by value where all are whole numbers."""
    if unique.dtype != pl.String:
        return unique.sort().cast(pl.String)
    numbers = plain_integers(unique)
    return unique.sort() if numbers is None else unique.gather(numbers.arg_sort())


def _numbered_integers(column: pl.Series) -> tuple[pl.Series, Codes]:
    low, high = int(column.min()), int(column.max())  # type: ignore[arg-type]
    if high - low < 4 * len(column) + (1 << 20) and max(abs(low), abs(high)) < 1 << 62:
        # Nearly all numbers in between occur: a table of them is quicker than a search.
        unique, codes = _tabled(column.get_chunks(), low, high)
    else:
        unique = column.unique().sort()
        codes = np.searchsorted(unique.to_numpy(), column.to_numpy()).astype(np.int32)
    return unique.cast(pl.String).alias(column.name), codes


def _tabled(chunks: list[pl.Series], low: int, high: int) -> tuple[pl.Series, Codes]:
    """Unique whole numbers from `low` to `high`, and the number of each, without a copy of all of them."""
    base = 0 if 0 <= low < 1 << 20 else low
    present = np.zeros(high - base + 1, dtype=bool)
    for chunk in chunks:
        present[_above(chunk, base)] = True
    numbers = np.cumsum(present, dtype=np.int32) - 1
    codes: Codes = np.empty(sum(map(len, chunks)), dtype=np.int32)
    begin = 0
    for chunk in chunks:
        codes[begin : begin + len(chunk)] = numbers[_above(chunk, base)]
        begin += len(chunk)
    return pl.Series(np.flatnonzero(present) + base), codes


def _above(chunk: pl.Series, base: int) -> npt.NDArray[np.integer[Any]]:
    values = chunk.to_numpy()
    return values - values.dtype.type(base) if base else values


def looked_up(ids: pl.Series, raw: pl.Series) -> Ints:
    """(R,) numbers of raw ids in `ids`; -1 for those that are not there."""
    known = pl.DataFrame({"id": ids, "number": np.arange(len(ids), dtype=np.int64)})
    asked = pl.DataFrame({"id": raw.cast(pl.String)})
    found = asked.join(known, on="id", how="left", maintain_order="left")["number"]
    return found.fill_null(-1).to_numpy()


def renumbered(ids: pl.Series, codes: Codes) -> tuple[pl.Series, Codes]:
    """The ids that still occur, and the codes among them."""
    present = np.zeros(len(ids), dtype=bool)
    present[codes] = True
    if present.all():
        return ids, codes
    table: npt.NDArray[Any] = np.cumsum(present, dtype=np.int32) - 1
    return ids.filter(pl.Series(present)), table[codes]
