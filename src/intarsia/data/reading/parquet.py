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
from intarsia.data.reading.report import MAX_EXAMPLES, BadRow, BadRows, Part, ReadResult, logger, quote


@dataclass(frozen=True)
class RowGroup:
    """One row group: where it is, and how large.

    Attributes:
        file_index: Number of the file.
        group_index: Number of the group in the file.
        file: The file.
        rows: Number of rows.
        nbytes: Bytes of the columns once they are in memory, roughly: a dictionary or runs of equal values make the
            stored size smaller than that.
        first: 1-based number of the first row in the file.
    """

    file_index: int
    group_index: int
    file: str
    rows: int
    nbytes: int
    first: int = 1


_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8}
_WIDTH_OF_TEXT = 16


def row_group_index(
    paths: str | Path | Sequence[str | Path],
    *,
    columns: Collection[str] | None = None,
    base_dir: str | Path | None = None,
) -> list[RowGroup]:
    """All row groups of the files, in reading order, without reading their data.

    Args:
        paths: As `resolve_paths` takes them.
        columns: Columns whose bytes count. Default: all.
        base_dir: Folder that relative paths start from.

    Raises:
        DataError: A file is missing, cut off or no Parquet.
    """
    files = enumerate(_resolved(paths, base_dir))
    return [group for number, path in files for group in _groups_of(_open(path), path, number, columns)]


def _groups_of(
    reader: pq.ParquetFile, path: Path, file_index: int, columns: Collection[str] | None
) -> Iterator[RowGroup]:
    meta = reader.metadata
    leaves = [meta.schema.column(k).path for k in range(meta.num_columns)]
    wanted = [k for k, leaf in enumerate(leaves) if columns is None or _is_among(leaf, columns)]
    first = 1
    for group in range(meta.num_row_groups):
        found = meta.row_group(group)
        nbytes = sum(_nbytes(found.column(k)) for k in wanted)
        yield RowGroup(file_index, group, str(path), found.num_rows, nbytes, first)
        first += found.num_rows


def _is_among(leaf: str, columns: Collection[str]) -> bool:
    """Whether a stored column, such as `tags.list.element`, belongs to one of the columns."""
    parts = leaf.split(".")
    return any(".".join(parts[:k]) in columns for k in range(1, len(parts) + 1))


def _nbytes(chunk: pq.ColumnChunkMetaData) -> int:
    least = chunk.num_values * _WIDTHS.get(chunk.physical_type, _WIDTH_OF_TEXT)
    return int(max(chunk.total_uncompressed_size, least))


class RowGroupReader:
    """Reads row groups of several files one at a time, typed as `read_table` types them.

    Types of undeclared columns are those of the file, so that every group has the same.

    Args:
        paths: As `resolve_paths` takes them.
        data_config: Format and columns.
        columns: Names that are needed. Default: the declared ones, or all.
        base_dir: Folder that relative paths start from.

    Attributes:
        index: All row groups, in reading order.

    Raises:
        DataError: A file is missing, cut off or no Parquet, or lacks a column.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        data_config: DataConfig,
        *,
        columns: Collection[str] | None = None,
        base_dir: str | Path | None = None,
    ) -> None:
        self.data_config = data_config
        self.columns = columns
        self._files = _resolved(paths, base_dir)
        self.index: list[RowGroup] = []
        for number, path in enumerate(self._files):
            reader = _open(path)
            _needed(reader, path, data_config, columns)
            self.index += _groups_of(reader, path, number, columns)
        self._opened: tuple[int, pq.ParquetFile] | None = None

    def read(self, entry: RowGroup) -> ReadResult:
        """One row group. What was left out of it is in the result, and not reported otherwise.

        Raises:
            DataError: The group is damaged (it is named), a column is missing, or a value does not fit its type.
        """
        from intarsia.data.reading.table import settle, skips_bad_rows

        if self._opened is None or self._opened[0] != entry.file_index:
            self._opened = entry.file_index, _open(self._files[entry.file_index])
        reader, path = self._opened[1], self._files[entry.file_index]
        needed = _needed(reader, path, self.data_config, self.columns)
        bad = BadRows(skips_bad_rows(self.data_config))
        frame, part = _read_group(reader, path, entry.group_index, needed, self.data_config, entry.first, bad)
        return ReadResult(settle(frame, self.data_config), bad.count, tuple(bad.examples), (part,))


def iter_row_groups(
    paths: str | Path | Sequence[str | Path],
    data_config: DataConfig,
    *,
    columns: Collection[str] | None = None,
    base_dir: str | Path | None = None,
    groups: Sequence[RowGroup] | None = None,
) -> Iterator[tuple[int, int, pl.DataFrame]]:
    """Row groups one at a time; what one took is released before the next.

    Args:
        paths: As `resolve_paths` takes them.
        data_config: Format and columns.
        columns: Names that are needed. Default: the declared ones, or all.
        base_dir: Folder that relative paths start from.
        groups: Which groups, in which order (from `row_group_index`). Default: all, in file order.

    Yields:
        Number of the file, number of the group in it, frame.

    Raises:
        DataError: A group is damaged (it is named), a column is missing, or a value does not fit its type.
    """
    reader = RowGroupReader(paths, data_config, columns=columns, base_dir=base_dir)
    for entry in reader.index if groups is None else groups:
        result = reader.read(entry)
        if result.skipped:
            logger.warning("%s, row group %d. %s", entry.file, entry.group_index, result.report())
        yield entry.file_index, entry.group_index, result.frame
        del result
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
    except MemoryError:  # Arrow's own is one of its exceptions, too, and says nothing of the file
        raise
    except (pa.ArrowException, OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{path}: row group {group} of {reader.metadata.num_row_groups} must be readable. It is damaged or cut "
            f"off ({_first_line(error)})."
        ) from error
    assert isinstance(frame, pl.DataFrame)
    return typed_frame(frame.select(needed), data_config, str(path), first, bad)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
