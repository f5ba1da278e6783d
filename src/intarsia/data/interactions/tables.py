"""Tables of a log: CSV, TSV, `::`, Parquet, of any number of rows.

A text file is read in blocks of whole lines. Of each block Polars parses the wanted columns, ids as whole numbers where
they are such, and what comes out takes a few bytes a row. Whatever is not plain (quotes, a line with too few cells) is
left to the careful reader of samples, which knows the line of everything that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from intarsia.config.schema import DataConfig, LogConfig
from intarsia.config.schema.data import InputField, InputType
from intarsia.core.errors import DataError
from intarsia.data.interactions.blocks import check_utf8, ending, first_lines, text_blocks
from intarsia.data.interactions.build import check_roles
from intarsia.data.interactions.counted import CountedCells
from intarsia.data.interactions.ids import plain_integers
from intarsia.data.interactions.times import seconds
from intarsia.data.reading.convert import infer
from intarsia.data.reading.delimited import read_delimited
from intarsia.data.reading.report import BadRows, logger
from intarsia.data.reading.table import skips_bad_rows

Kind = Literal["id", "number", "time", "text", "any"]
"""What a column holds: ids; ratings; times; text as it is; numbers or text."""

Choice = Callable[[list[str]], Mapping[str, Kind]]
"""From the columns of a file to the wanted ones."""

PARQUET = (".parquet", ".pq")
_SEPARATORS = ("\t", "::", ",", ";", "|", " ")
_BATCH = 1 << 17
"""Rows of a Parquet file that are decoded at a time."""
_STAND_IN = "\x1f"
_DTYPES: dict[Kind, pl.DataType] = {"id": pl.Int64(), "number": pl.Float32(), "time": pl.Int64()}


@dataclass(frozen=True)
class Shape:
    """How the text of a table is written.

    Attributes:
        separator: Between two cells. Default: told by the first lines.
        columns: Names where there is no header.
        encoding: Of the text.
        time_format: How times are written, as in strptime.
        quoting: Whether double quotes enclose cells. Default: unless the separator is `::`.
        typed: Whether the header says `name:type`.
        skip_bad: Whether rows that cannot be read are left out.
        asked_by: The option that names the columns, for messages.
    """

    separator: str | None = None
    columns: tuple[str, ...] = ()
    encoding: str = "utf-8"
    time_format: str | None = None
    quoting: bool | None = None
    typed: bool = False
    skip_bad: bool = False
    asked_by: str = "log.columns"


def log_shape(log: LogConfig, data: DataConfig | None = None) -> Shape:
    """How the log's own files are written: as `log` says, else as `data_config` says."""
    separator, columns, quoting, skip = log.separator, tuple(log.columns), None, False
    if data is not None:
        # A comma is the default, which a resolved pipeline writes out; it is guessed where it is one.
        if separator is None and data.separator != ",":
            separator = data.separator
        if not columns and not data.with_header:
            columns = tuple(entry.input_name for entry in data.input_fields)
        quoting = False if data.input_type is InputType.CSVInputEx else None
        skip = skips_bad_rows(data)
    return Shape(separator, columns, log.encoding, log.time_format, quoting, skip_bad=skip)


def log_columns(log: LogConfig, what: str, *, warn: bool = True) -> Choice:
    """The columns that the roles of a log name."""

    def choose(names: list[str]) -> dict[str, Kind]:
        check_roles(names, log, what, warn=warn)
        kinds: dict[str, Kind] = dict.fromkeys(log.context_fields, "any")
        if log.rating_field is not None:
            kinds[log.rating_field] = "number"
        if log.time_field is not None:
            kinds[log.time_field] = "time"
        return kinds | {log.user_field: "id", log.item_field: "id"}

    return choose


def all_columns(names: list[str]) -> dict[str, Kind]:
    """Every column, as numbers where all of its values are such."""
    return dict.fromkeys(names, "any")


def read_columns(paths: Sequence[Path], shape: Shape, choose: Choice) -> pl.DataFrame:
    """The wanted columns of some files, one file after the other.

    Ids are whole numbers where all are written as such, else text; a rating or time that cannot be read leaves its
    column text, for whoever knows the row.

    Raises:
        DataError: A file cannot be read, lacks a column, or a line has another number of cells.
    """
    frames = [frame for path in paths for frame in _read_file(path, shape, choose)]
    columns = []
    kinds = choose(frames[0].columns) if frames else {}
    for name in frames[0].columns:
        column = stacked([frame[name] for frame in frames])
        columns.append(infer(column) if kinds[name] == "any" else column)
    return pl.DataFrame(columns)


def stacked(columns: list[pl.Series]) -> pl.Series:
    """Columns one after the other; text as soon as one of them is text."""
    if any(column.dtype == pl.String for column in columns):
        return pl.concat([column.cast(pl.String) for column in columns])
    return pl.concat([column.to_frame() for column in columns], how="vertical_relaxed").to_series()


def narrow(column: pl.Series) -> pl.Series:
    """Whole numbers in 32 bits where they fit."""
    if column.dtype != pl.Int64 or column.null_count() == len(column):
        return column
    low, high = column.min(), column.max()
    fits = low >= -(1 << 31) and high < 1 << 31  # type: ignore[operator]
    return column.cast(pl.Int32) if fits else column


def guess_separator(lines: Sequence[str], wanted: Sequence[str] = ()) -> str:
    """What separates the cells of some lines: the first that stands equally often in all, or that the header fits."""
    for candidate in _SEPARATORS:
        if wanted and set(wanted) <= {_bare(cell) for cell in lines[0].split(candidate)}:
            return candidate
    for candidate in _SEPARATORS:
        counts = {line.count(candidate) for line in lines}
        if len(counts) == 1 and counts != {0}:
            return candidate
    return max(_SEPARATORS, key=lambda s: lines[0].count(s)) if lines else ","


def _bare(cell: str) -> str:
    return cell.strip().strip('"')


class _NotPlain(Exception):
    """Text that the fast way cannot vouch for."""


@dataclass
class _Header:
    """The columns of one file.

    Attributes:
        raw: Names as the file writes them.
        names: Names as they are used.
        present: Whether the first line holds them.
        rows: Cells of the first lines.
        as_text: Columns that held text so far.
    """

    raw: list[str]
    names: list[str]
    present: bool
    separator: str
    rows: list[list[str]]
    as_text: set[str] = field(default_factory=set)


def _read_file(path: Path, shape: Shape, choose: Choice) -> Iterator[pl.DataFrame]:
    if ending(path) in PARQUET:
        yield from _read_parquet(path, shape, choose)
        return
    header = read_header(path, shape)
    kinds = choose(header.names)
    try:
        yield from list(_read_plain(path, shape, header, kinds))
    except _NotPlain:
        yield _read_carefully(path, shape, header, kinds)


def read_header(path: Path, shape: Shape) -> _Header:
    """Columns and separator of a text file.

    Raises:
        DataError: The first line holds no names and none are given, or the names do not fit it.
    """
    lines = first_lines(path, shape.encoding)
    separator = shape.separator or guess_separator(lines, shape.columns)
    rows = [line.split(separator) for line in lines]
    cells = [_bare(cell) for cell in rows[0]]
    if shape.columns and cells != list(shape.columns):
        if len(cells) != len(shape.columns):
            raise DataError(
                f"{path}: {shape.asked_by} names every cell of a line. Received: {len(shape.columns)} names "
                f"({', '.join(shape.columns)}) for {len(cells)} cells, separated by {separator!r}: {lines[0][:200]!r}. "
                "Name all columns, or set log.separator."
            )
        return _Header(list(shape.columns), list(shape.columns), False, separator, rows)
    numeric = [cell for cell in cells if cell.replace(".", "", 1).lstrip("-").isdigit()]
    if not shape.columns and numeric:
        raise DataError(
            f"{path}: the first line must hold the names of the columns. Received: {lines[0][:200]!r}. Name them in "
            f"{shape.asked_by}, or say how the file is written in log.format."
        )
    if len(set(cells)) < len(cells):
        raise DataError(f"{path}: column names must differ. Received: {', '.join(cells)}. Rename one of these.")
    names = [cell.partition(":")[0] if shape.typed else cell for cell in cells]
    return _Header(cells, names, True, separator, rows[1:])


def _read_plain(path: Path, shape: Shape, header: _Header, kinds: Mapping[str, Kind]) -> Iterator[pl.DataFrame]:
    width, separator = len(header.names), header.separator
    quoting = shape.quoting if shape.quoting is not None else separator != "::"
    begin = header.present
    numbers = {name for name, kind in kinds.items() if kind == "id" or (kind == "time" and shape.time_format is None)}
    cells = CountedCells(header.names, numbers, header.rows)
    for block in text_blocks(path, shape.encoding):
        if begin:
            block = block.lstrip(b"\n").partition(b"\n")[2]
            begin = False
        if not block:
            continue
        if (quoting and b'"' in block) or b"\r" in block or width < 2:
            raise _NotPlain
        byte = separator
        if len(separator.encode()) > 1:
            byte = _STAND_IN
            if _STAND_IN.encode() in block:
                raise _NotPlain
            block = block.replace(separator.encode(), _STAND_IN.encode())
        counted = cells.read(block, byte)
        if counted is not None:
            frame = _wanted(counted, kinds, shape)
            if not any(frame[name].dtype == pl.String for name in kinds if kinds[name] in ("number", "time")):
                yield frame
                continue
        lines = block.count(b"\n")
        if block.count(byte.encode()) != lines * (width - 1):
            raise _NotPlain
        frame = _parsed(block, byte, header, kinds, path, shape)
        if frame.height != lines:
            raise _NotPlain
        yield frame


def _wanted(found: pl.DataFrame, kinds: Mapping[str, Kind], shape: Shape) -> pl.DataFrame:
    return pl.DataFrame({name: converted(found[name], kind, shape.time_format) for name, kind in kinds.items()})


def _parsed(
    block: bytes, separator: str, header: _Header, kinds: Mapping[str, Kind], path: Path, shape: Shape
) -> pl.DataFrame:
    """The wanted columns of a block, whose lines hold as many separators as they should altogether."""
    as_text, ids = set(header.as_text), {name for name, kind in kinds.items() if kind == "id"}
    if not ids <= as_text and not _writes_plainly(block, separator):
        as_text |= ids
    if shape.time_format is not None:
        as_text |= {name for name, kind in kinds.items() if kind == "time"}
    for attempt in (as_text, set(kinds)):
        # Unwanted columns are parsed as well: only then Polars refuses lines that are too long.
        schema: dict[str, pl.DataType] = {
            name: pl.String() if name in attempt else _DTYPES.get(kinds.get(name, "text"), pl.String())
            for name in header.names
        }
        try:
            found = pl.read_csv(block, has_header=False, schema=schema, separator=separator, quote_char=None)
        except pl.exceptions.PolarsError:
            continue
        wanted = _wanted(found, kinds, shape)
        header.as_text |= {column.name for column in wanted if column.dtype == pl.String} & attempt
        return wanted
    check_utf8(block, path)
    raise _NotPlain


def _writes_plainly(block: bytes, separator: str) -> bool:
    """Whether no cell begins with a plus sign, or with a zero before another digit, which numbers would lose."""
    if b"+" in block or b"-0" in block:
        return False
    if separator.encode() + b"0" not in block and b"\n0" not in block and block[:1] != b"0":
        return True
    data = np.frombuffer(block, dtype=np.uint8)
    begins = (data[:-2] == ord(separator)) | (data[:-2] == ord("\n"))
    zero = begins & (data[1:-1] == ord("0")) & ((data[2:] - np.uint8(ord("0"))) < 10)
    leading = block[:1] == b"0" and block[1:2].isdigit()
    return not (leading or zero.any())


def converted(column: pl.Series, kind: Kind, time_format: str | None) -> pl.Series:
    """A column as its kind, or as text where a value does not fit."""
    if kind == "id":
        if isinstance(column.dtype, pl.Categorical | pl.Enum):
            column = column.cast(pl.String)
        if column.dtype == pl.String:
            text = column.str.strip_chars(" ")
            text = text.set(text == "", None)
            numbers = plain_integers(text)
            column = text if numbers is None else numbers
        return narrow(column)
    if kind == "number" and column.dtype != pl.Float32:
        found = column.cast(pl.Float32, strict=False)
        return found if found.null_count() == column.null_count() else column
    if kind == "time" and (time_format is not None or not column.dtype.is_numeric()):
        found = seconds(column, time_format)
        return found if found.null_count() == column.null_count() else column
    return narrow(column) if kind == "time" else column


def _read_carefully(path: Path, shape: Shape, header: _Header, kinds: Mapping[str, Kind]) -> pl.DataFrame:
    if shape.encoding != "utf-8":
        raise DataError(
            f"{path}: with log.encoding {shape.encoding} every line must have {len(header.names)} cells, separated by "
            f"{header.separator!r}, without quotes. One has not. Convert the file to UTF-8 to be told which."
        )
    quoting = shape.quoting if shape.quoting is not None else header.separator != "::"
    config = DataConfig(
        separator=header.separator,
        with_header=header.present,
        input_fields=[] if header.present else [InputField(input_name=name) for name in header.names],
        input_type=InputType.CSVInput if quoting else InputType.CSVInputEx,
        on_bad_rows="skip" if shape.skip_bad else "error",
    )
    raw = dict(zip(header.names, header.raw, strict=True))
    bad = BadRows(shape.skip_bad)
    frame, _ = read_delimited(path, config, [raw[name] for name in kinds], bad)
    if bad.count:
        logger.warning("%s: left out %d rows that cannot be read, such as: %s", path, bad.count, bad.examples[0])
    return pl.DataFrame({name: converted(frame[raw[name]], kind, shape.time_format) for name, kind in kinds.items()})


def _read_parquet(path: Path, shape: Shape, choose: Choice) -> Iterator[pl.DataFrame]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            kinds = choose(file.schema_arrow.names)
            for batch in file.iter_batches(_BATCH, columns=list(kinds)):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield _wanted(frame, kinds, shape)
                del batch, frame
        del file
        pa.default_memory_pool().release_unused()  # Arrow keeps what it has read with for a next time
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: the file must be Parquet. It cannot be read: {error}") from error
