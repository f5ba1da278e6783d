"""Atomic files: tab-separated tables whose header says `name:type`, one ending for each kind of row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from intarsia.config.schema import LogConfig
from intarsia.core.errors import DataError
from intarsia.data.interactions.tables import Kind, Shape, log_columns, read_columns, read_header

TYPES: dict[str, Kind] = {"token": "text", "token_seq": "text", "float": "any", "float_seq": "text"}


def atomic_shape(shape: Shape) -> Shape:
    """How atomic files are written: quotes are plain text, and the header holds types."""
    return replace(shape, separator=shape.separator or "\t", columns=(), quoting=False, typed=True)


def read_atomic_log(paths: Sequence[Path], log: LogConfig, shape: Shape, what: str) -> pl.DataFrame:
    """Interactions of `.inter` files.

    Raises:
        DataError: A column is missing, or a type is unknown.
    """
    for path in paths:
        _types(path, shape)
    return read_columns(paths, atomic_shape(shape), log_columns(log, what))


def read_atomic_table(path: Path, shape: Shape, *, text_only: bool = False) -> pl.DataFrame:
    """All columns of a `.user`, `.item`, `.kg` or `.link` file.

    Tokens stay text. The parts of a `token_seq` stay text with blanks between them; a `float_seq` is a list of numbers.

    Args:
        path: The file.
        shape: How the log is written.
        text_only: Whether numbers stay text as well.

    Raises:
        DataError: A type is unknown, or a value does not fit it.
    """
    types = _types(path, shape)
    frame = read_columns([path], atomic_shape(shape), lambda names: {name: TYPES[types[name]] for name in names})
    if text_only:
        return frame.with_columns(pl.all().cast(pl.String))
    columns = []
    for column in frame.get_columns():
        kind = types[column.name]
        if kind == "float_seq":
            column = column.str.strip_chars().str.split(" ").cast(pl.List(pl.Float64), strict=False)
            bad = column.list.eval(pl.element().is_null()).list.any()
        elif kind == "float" and column.dtype == pl.String:
            text, column = column, column.cast(pl.Float64, strict=False)
            bad = column.is_null() & text.is_not_null()
        else:
            columns.append(column)
            continue
        if bad.any():
            row = int(bad.arg_max() or 0)
            raise DataError(
                f"{path}: `{column.name}:{kind}` must hold numbers. Received: {frame[column.name][row]!r} in row "
                f"{row + 1}. Correct the row, or the type in the header."
            )
        columns.append(column)
    return pl.DataFrame(columns)


def _types(path: Path, shape: Shape) -> dict[str, str]:
    """Types of a file's columns by their names."""
    header = read_header(path, atomic_shape(shape))
    found = {name: cell.partition(":")[2] for name, cell in zip(header.names, header.raw, strict=True)}
    wrong = [f"{name}:{kind}" for name, kind in found.items() if kind not in TYPES]
    if wrong:
        raise DataError(
            f"{path}: the header of an atomic file says `name:type` for each column, with a type of "
            f"{', '.join(TYPES)}. Received: {', '.join(wrong)}. Correct the header, or set log.format: table."
        )
    return found
