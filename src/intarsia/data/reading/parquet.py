"""Parquet: whole files, or one row group after another in bounded memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from intarsia.config.schema.data import DataConfig, FieldType
from intarsia.core.errors import DataError
from intarsia.data.reading.convert import RULES, convert
from intarsia.data.reading.fields import check_present, declared_fields
from intarsia.data.reading.paths import resolve_paths
from intarsia.data.reading.report import MAX_EXAMPLES, BadRow, BadRows, Part, finish, quote


@dataclass(frozen=True)
class RowGroup:
    """One row group: where it is, and how large."""

    file_index: int
    group_index: int
    file: str
    rows: int
    nbytes: int


def row_group_index(paths: str | Path | Sequence[str | Path], *, base_dir: str | Path | None = None) -> list[RowGroup]:
    """All row groups of the files, in reading order, without reading their data.

    Raises:
        DataError: A file is missing, cut off or no Parquet.
    """
    groups = []
    for file_index, path in enumerate(_resolved(paths, base_dir)):
        meta = _open(path).metadata
        for group in range(meta.num_row_groups):
            found = meta.row_group(group)
            groups.append(RowGroup(file_index, group, str(path), found.num_rows, found.total_byte_size))
    return groups


def iter_row_groups(
    paths: str | Path | Sequence[str | Path],
    data_config: DataConfig,
    *,
    columns: Collection[str] | None = None,
    base_dir: str | Path | None = None,
    groups: Sequence[RowGroup] | None = None,
) -> Iterator[tuple[int, int, pl.DataFrame]]:
    """Row groups one at a time, typed as `read_table` types them; what one took is released before the next.

    Types of undeclared columns are those of the file, so that every group has the same.

    Args:
        columns: Names that are needed. Default: the declared ones, or all.
        groups: Which groups, in which order (from `row_group_index`). Default: all, in file order.

    Yields:
        Number of the file, number of the group in it, frame.

    Raises:
        DataError: A group is damaged (it is named), a column is missing, or a value does not fit its type.
    """
    from intarsia.data.reading.table import settle, skips_bad_rows

    files = _resolved(paths, base_dir)
    chosen = row_group_index(files) if groups is None else groups
    opened: tuple[int, pq.ParquetFile] | None = None
    for entry in chosen:
        if opened is None or opened[0] != entry.file_index:
            opened = entry.file_index, _open(files[entry.file_index])
        reader = opened[1]
        needed = _needed(reader, files[entry.file_index], data_config, columns)
        bad = BadRows(skips_bad_rows(data_config))
        first = sum(reader.metadata.row_group(k).num_rows for k in range(entry.group_index)) + 1
        frame, part = _read_group(reader, files[entry.file_index], entry.group_index, needed, data_config, first, bad)
        if bad.count and frame.height:
            finish(frame, [part], bad)
        yield entry.file_index, entry.group_index, settle(frame, data_config)
        del frame
        pa.default_memory_pool().release_unused()


def read_parquet(
    path: Path, data_config: DataConfig, columns: Collection[str] | None, bad: BadRows
) -> tuple[pl.DataFrame, list[Part]]:
    """The needed columns of one Parquet file, declared ones typed.

    Raises:
        DataError: The file is damaged or no Parquet, a column is missing, or a value does not fit its type.
    """
    reader = _open(path)
    needed = _needed(reader, path, data_config, columns)
    if not reader.metadata.num_rows:
        raise DataError(f"{path}: the file must hold rows. It holds none.")
    frames, parts = [], []
    first = 1
    for group in range(reader.metadata.num_row_groups):
        frame, part = _read_group(reader, path, group, needed, data_config, first, bad)
        first += reader.metadata.row_group(group).num_rows
        frames.append(frame)
        parts.append(part)
    pa.default_memory_pool().release_unused()
    return pl.concat(frames), parts


def typed_frame(
    frame: pl.DataFrame, data_config: DataConfig, file: str, first: int, bad: BadRows
) -> tuple[pl.DataFrame, Part]:
    """A frame with the declared types, without the rows in which a value does not fit.

    Args:
        file: Named in messages; empty for a frame that comes from no file.
        first: 1-based number of the first row.
    """
    types = {entry.input_name: entry.input_type for entry in declared_fields(data_config)}
    columns: list[pl.Series] = []
    failed: list[tuple[pl.Series, FieldType, pl.Series]] = []
    for column in frame.get_columns():
        kind = types.get(column.name)
        try:
            typed, wrong = (column, None) if kind is None else convert(column, kind)
        except DataError as error:
            raise DataError(f"{file}: {error}" if file else str(error)) from error
        if wrong is not None and kind is not None:
            failed.append((column, kind, wrong))
        columns.append(typed)
    made = pl.DataFrame(columns)
    if not failed:
        return made, Part(file, made.height, first, None, "row")
    unfit = np.any([wrong.to_numpy() for _, _, wrong in failed], axis=0)
    bad_rows = np.flatnonzero(unfit)
    for row in bad_rows[:MAX_EXAMPLES]:
        column, kind, _ = next(entry for entry in failed if entry[2][int(row)])
        value = column[int(row)]
        value = value.to_list() if isinstance(value, pl.Series) else value
        reason = f"{RULES[kind]}. Received: {quote(value)}."
        bad.add(BadRow(file, first + int(row), column.name, str(value), reason, unit="row"))
    bad.count += max(len(bad_rows) - MAX_EXAMPLES, 0)
    places = np.flatnonzero(~unfit) + first
    return made.filter(pl.Series(~unfit)), Part(file, len(places), first, places, "row")


def _resolved(paths: str | Path | Sequence[str | Path], base_dir: str | Path | None) -> list[Path]:
    return resolve_paths(paths if isinstance(paths, str | Path) else [str(path) for path in paths], base_dir)


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=False, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        size = path.stat().st_size if path.exists() else 0
        if not size:
            raise DataError(f"{path}: the file must be Parquet. It is empty.") from error
        with path.open("rb") as file:
            started = file.read(4) == b"PAR1"
        what = "It is cut off or damaged: its footer cannot be read" if started else "It is not"
        raise DataError(f"{path}: the file must be Parquet. {what} ({_first_line(error)}).") from error


def _needed(reader: pq.ParquetFile, path: Path, data_config: DataConfig, columns: Collection[str] | None) -> list[str]:
    existing = list(reader.schema_arrow.names)
    selected = [part.strip() for part in data_config.selected_cols.split(",") if part.strip()]
    if selected and all(part.isdigit() and part not in existing for part in selected):
        if max(map(int, selected)) >= len(existing):
            raise DataError(
                f"{path}: data_config.selected_cols counts from 0 and must stay below the number of columns, "
                f"{len(existing)}. Received: {max(map(int, selected))}."
            )
        selected = [existing[int(part)] for part in selected]
    check_present(selected, existing, str(path), "data_config.selected_cols")
    allowed = selected or existing
    declared = [entry.input_name for entry in declared_fields(data_config)]
    if columns is not None:
        needed = list(dict.fromkeys(columns))
    else:
        needed = [name for name in declared if not selected or name in allowed] or allowed
    check_present(needed, allowed, str(path))
    if len(set(existing)) != len(existing):
        double = sorted({name for name in existing if existing.count(name) > 1})
        raise DataError(f"Column names must differ. {path} has more than one: {', '.join(map(repr, double))}.")
    return needed


def _read_group(
    reader: pq.ParquetFile,
    path: Path,
    group: int,
    needed: list[str],
    data_config: DataConfig,
    first: int,
    bad: BadRows,
) -> tuple[pl.DataFrame, Part]:
    try:
        table = reader.read_row_group(group, columns=needed)
        frame = pl.from_arrow(table)
    except (pa.ArrowException, OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{path}: row group {group} of {reader.metadata.num_row_groups} must be readable. It is damaged or cut "
            f"off ({_first_line(error)})."
        ) from error
    assert isinstance(frame, pl.DataFrame)
    return typed_frame(frame.select(needed), data_config, str(path), first, bad)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
