"""Blocks of text parsed as whole numbers at once, and a count of bytes that vouches for what came out."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

_WHOLE = re.compile(r"0|-?[1-9][0-9]*")


class CountedCells:
    """Parses blocks of lines without looking at their bytes first.

    Whatever a parser reads as the number 7 and is not written `7` (`007`, `+7`, ` 7`) takes more bytes than it; so do
    a further cell, a blank line, a carriage return. Only a missing cell takes fewer. Where none is missing, and the
    shortest ways to write all numbers, the text, the separators and the line ends add up to the block, every cell was
    written just as it was read.

    Args:
        names: Columns of the text.
        numbers: Columns that are tried as whole numbers, where the first lines hold such; the others stay text.
        rows: Cells of the first lines. Where one begins or ends with a blank, nothing is vouched for.
    """

    def __init__(self, names: Sequence[str], numbers: Collection[str], rows: Sequence[Sequence[str]]) -> None:
        columns = {name: [row[k] for row in rows if k < len(row)] for k, name in enumerate(names)}
        self._types: dict[str, pl.DataType] | None = None
        if all(cell == cell.strip() for cells in columns.values() for cell in cells):
            self._types = {name: _kind(cells) if name in numbers else pl.String() for name, cells in columns.items()}

    def read(self, block: bytes, separator: str) -> pl.DataFrame | None:
        """All columns of a block; None where nothing can be vouched for, in this block and all after it."""
        found = None
        while found is None and self._types is not None:
            try:
                found = pl.read_csv(block, has_header=False, schema=self._types, separator=separator, quote_char=None)
            except pl.exceptions.PolarsError:
                self._types = _wider(self._types)
        if found is None or any(column.null_count() for column in found):
            self._types = None
            return None
        if found.height * found.width + sum(_length(column) for column in found) != len(block):
            self._types = None
            return None
        return found


def _kind(cells: list[str]) -> pl.DataType:
    if not cells or not all(_WHOLE.fullmatch(cell) for cell in cells):
        return pl.String()
    return pl.Int32() if all(len(cell) < 10 or abs(int(cell)) < 1 << 31 for cell in cells) else pl.Int64()


def _wider(types: dict[str, pl.DataType]) -> dict[str, pl.DataType] | None:
    """Types that hold larger numbers; None where there are none."""
    wide = {name: pl.Int64() if dtype == pl.Int32 else dtype for name, dtype in types.items()}
    return wide if wide != types else None


def _length(column: pl.Series) -> int:
    """Bytes of all cells of a column, whole numbers written as short as can be."""
    return int(column.str.len_bytes().sum()) if column.dtype == pl.String else written_length(column.to_numpy())


def written_length(values: npt.NDArray[np.signedinteger]) -> int:
    """Digits and minus signs of whole numbers, without leading zeros."""
    low, high = int(values.min()), int(values.max())
    total = len(values) + (int(np.count_nonzero(values < 0)) if low < 0 else 0)
    bound = 10
    while bound <= max(high, -low):
        if low >= bound:
            total += len(values)
        else:
            total += int(np.count_nonzero(values >= bound)) if high >= bound else 0
            total += int(np.count_nonzero(values <= -bound)) if low <= -bound else 0
        bound *= 10
    return total
