"""One way to read samples, whatever their format."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import polars as pl

from intarsia.config.schema.data import DataConfig, InputType
from intarsia.core.errors import DataError
from intarsia.data.reading.convert import infer, mark_missing
from intarsia.data.reading.delimited import read_delimited
from intarsia.data.reading.fields import declared_fields
from intarsia.data.reading.paths import resolve_paths
from intarsia.data.reading.report import BadRows, Part, ReadResult, finish, logger

CSV_TYPES = (InputType.CSVInput, InputType.CSVInputV2, InputType.CSVInputEx)
PARQUET_TYPES = (InputType.ParquetInput, InputType.ParquetInputV2, InputType.ParquetInputV3)


def read_table(
    paths: str | Path | Sequence[str | Path],
    data_config: DataConfig,
    *,
    columns: Collection[str] | None = None,
    base_dir: str | Path | None = None,
) -> ReadResult:
    """The needed columns of sample files as one typed frame.

    CSV (`CSVInput`, `CSVInputV2`): cells may be quoted as in RFC 4180; `CSVInputEx`: quotes are plain text. Any
    separator, also of several characters; gzip by the ending `.gz` or `data_compression_type`; LF or CRLF; a byte
    order mark is skipped, and so are blank lines. Parquet: lists stay lists.

    An empty cell is null: defaults belong to the features, and a label must not get one. Columns have the types that
    `input_fields` declares. A column that is not declared (a file with a header needs no declarations) is INT64, then
    DOUBLE, if all its values over all files are such numbers in plain spelling; all else is text, so that `007`
    stays `007`.

    Args:
        paths: As `resolve_paths` takes them.
        data_config: Format and columns.
        columns: Names that are needed; only these are converted. Default: the declared ones, or all.
        base_dir: Folder that relative paths start from.

    Raises:
        DataError: A file is missing or is not what `data_config` says, or a row is bad and `on_bad_rows` (or
            `ignore_error`) does not say to skip it.
    """
    from intarsia.data.reading.parquet import read_parquet

    check_format(data_config)
    spec = paths if isinstance(paths, str | Path) else [str(path) for path in paths]
    bad = BadRows(skips_bad_rows(data_config))
    frames: list[pl.DataFrame] = []
    parts: list[Part] = []
    for path in resolve_paths(spec, base_dir):
        if data_config.input_type in PARQUET_TYPES or path.suffix.lower() == ".parquet":
            if data_config.input_type not in PARQUET_TYPES:
                logger.warning(
                    "%s is read as Parquet, for its name says so, though input_type is %s", path, data_config.input_type
                )
            frame, found = read_parquet(path, data_config, columns, bad)
            parts += found
        else:
            frame, part = read_delimited(path, data_config, columns, bad)
            parts.append(part)
        frames.append(frame)
    return finish(settle(join(frames, parts), data_config), parts, bad)


def join(frames: list[pl.DataFrame], parts: list[Part]) -> pl.DataFrame:
    """All rows of the frames.

    Raises:
        DataError: The frames differ in their columns.
    """
    names = frames[0].columns
    for frame in frames[1:]:
        if set(frame.columns) != set(names):
            odd = sorted(set(frame.columns) ^ set(names))
            raise DataError(
                f"All files must have the same columns. Only some of {sorted({p.file for p in parts})} have: {odd}."
            )
    return pl.concat([frame.select(names) for frame in frames], how="vertical_relaxed")


def settle(frame: pl.DataFrame, data_config: DataConfig) -> pl.DataFrame:
    """Infers the types of undeclared columns, and makes `ignore_val` null."""
    fields = {entry.input_name: entry for entry in declared_fields(data_config)}
    columns = []
    for column in frame.get_columns():
        entry = fields.get(column.name)
        if entry is None:
            column = infer(column)
        elif entry.ignore_val is not None:
            column = mark_missing(column, entry.ignore_val)
        columns.append(column)
    return pl.DataFrame(columns)


def skips_bad_rows(data_config: DataConfig) -> bool:
    """Whether rows that cannot be read are left out."""
    return data_config.on_bad_rows == "skip" or (data_config.on_bad_rows is None and data_config.ignore_error)


def check_format(data_config: DataConfig) -> None:
    """Refuses formats that are not read from files.

    Raises:
        DataError: Names the formats that can be used instead.
    """
    kind = data_config.input_type
    if kind in CSV_TYPES or kind in PARQUET_TYPES:
        return
    if kind is InputType.CriteoInput:
        raise DataError("CriteoInput reads binary files: name them in binary_train_input and binary_eval_input.")
    if kind in (InputType.TFRecordInput, InputType.BatchTFRecordInput):
        raise DataError(f"{kind} cannot be read. Write the records to Parquet, and set input_type: ParquetInput.")
    raise DataError(
        f"{kind} is no file format that can be read here. Export the rows to files and set data_config.input_type "
        "to one of CSVInput, CSVInputEx, ParquetInput, CriteoInput."
    )
