"""Reads the files of an interaction log, in whatever of the usual formats they are written.

| format     | a line of the log                        | test file                         | beside it                |
|-----------|-------------------------------------------|-----------------------------------|--------------------------|
| `table`    | CSV, TSV, `::` or a Parquet row          | the same                          |                          |
| `atomic`   | tab-separated, header `name:type`        | `.test.inter`                     | `.user .item .kg .link`  |
| `lines`    | user, then the user's items, oldest first | the same                         |                          |
| `ncf`      | user, item, perhaps rating and time       | `.test.rating`                   | `.test.negative`         |
| `sessions` | items of one session, oldest first        | prefix, tab, the item after it    |                         |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from intarsia.config.schema import DataConfig, LogConfig
from intarsia.core.errors import DataError
from intarsia.data.catalogue.entry import RawLog
from intarsia.data.interactions.atomic import read_atomic_log, read_atomic_table
from intarsia.data.interactions.blocks import ending, first_lines
from intarsia.data.interactions.build import check_roles
from intarsia.data.interactions.lines import read_lines, read_negatives, read_prefixes, read_sessions
from intarsia.data.interactions.tables import (
    PARQUET,
    Shape,
    all_columns,
    guess_separator,
    log_columns,
    log_shape,
    read_columns,
)
from intarsia.data.reading import from_frame, resolve_paths

PathLike = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class _Files:
    """Files of each part of a log."""

    train: list[Path]
    valid: list[Path]
    test: list[Path]


def read_raw_log(
    paths: PathLike,
    log: LogConfig,
    *,
    valid: PathLike | None = None,
    test: PathLike | None = None,
    base_dir: Path | None = None,
    data: DataConfig | None = None,
    knowledge: bool = False,
) -> RawLog:
    """A log with its ready-made parts and its side tables.

    Args:
        paths: Files of the log, or of its training part: a path, folder or glob, or several. A folder may hold the
            files of all parts under their usual names (`train.txt`, `x.train.inter`, `x.train.rating`, ...).
        log: Format, column roles, side tables.
        valid: Files of the validation part, in the same format.
        test: Files of the test part.
        base_dir: Folder that relative paths start from.
        data: Separator, names of columns and what happens to bad rows, where `log` does not say.
        knowledge: Whether triples and links are read as well.

    Raises:
        DataError: A file is missing or cannot be read, a column is missing, or the format cannot be told.
    """
    files = _files(paths, valid, test, base_dir)
    kind = _kind(files, log)
    shape = log_shape(log, data)
    raw = _READERS[kind](files, log, shape)
    return with_files(raw, log, base_dir, knowledge=knowledge)


def log_files(
    paths: PathLike,
    log: LogConfig,
    *,
    valid: PathLike | None = None,
    test: PathLike | None = None,
    base_dir: Path | None = None,
) -> tuple[list[Path], str]:
    """Files of all parts of a log, and their format; see `read_raw_log`.

    Raises:
        DataError: A file is missing, or the format cannot be told.
    """
    files = _files(paths, valid, test, base_dir)
    return [*files.train, *files.valid, *files.test], _kind(files, log)


def _kind(files: _Files, log: LogConfig) -> str:
    return log.format if log.format != "auto" else tell_format(files.train[0], log, files.test[:1])


def with_files(raw: RawLog, log: LogConfig, base_dir: Path | None = None, *, knowledge: bool = False) -> RawLog:
    """A log with the side tables, negatives and triples that its configuration names.

    Args:
        raw: The log; what the configuration names replaces what it has.
        log: Paths.
        base_dir: Folder that relative paths start from.
        knowledge: Whether triples and links are read as well.

    Raises:
        DataError: A file is missing or cannot be read.
    """
    found: dict[str, pl.DataFrame] = {}
    for name, path, columns in (("users", log.user_table, "user_columns"), ("items", log.item_table, "item_columns")):
        if path is not None:
            found[name] = _side_table(resolve_paths(path, base_dir), log, columns)
    if log.negatives_path is not None:
        found["negatives"] = read_negatives(resolve_paths(log.negatives_path, base_dir), log.encoding)
    if knowledge and log.knowledge_path is not None:
        found["knowledge"] = read_triples(resolve_paths(log.knowledge_path, base_dir)[0], log)
    if knowledge and log.links_path is not None:
        found["links"] = read_links(resolve_paths(log.links_path, base_dir)[0], log)
    return replace(raw, **found)


def frame_of(frame: Any, log: LogConfig) -> pl.DataFrame:
    """The columns of a data frame in memory that the roles of a log name.

    Raises:
        DataError: `frame` is no data frame, has no rows, or lacks a column.
    """
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, pl.DataFrame):
        frame = from_frame(frame).frame
    check_roles(frame.columns, log, "the data frame")
    roles = (log.user_field, log.item_field, log.rating_field, log.time_field, *log.context_fields)
    chosen: pl.DataFrame = frame.select(list(dict.fromkeys(name for name in roles if name is not None)))
    return chosen


def tell_format(path: Path, log: LogConfig, test: Sequence[Path] = ()) -> str:
    """The format of a log's file, by its ending or its first lines.

    Args:
        path: The file.
        log: Names of the columns.
        test: The test file, where there is one.

    Raises:
        DataError: Nothing tells it.
    """
    kind = ending(path)
    if kind == ".inter":
        return "atomic"
    if kind == ".rating":
        return "ncf"
    if kind in (*PARQUET, ".csv", ".tsv") or log.columns:
        return "table"
    lines = first_lines(path, log.encoding)
    if test and "\t" in (head := first_lines(test[0], log.encoding, 1)[0]) and head.lower().startswith("prefix"):
        return "sessions"
    roles = [log.user_field, log.item_field]
    cells = [cell.strip().strip('"') for cell in lines[0].split(log.separator or guess_separator(lines, roles))]
    if set(roles) <= set(cells) or (kind == ".dat" and not _all_numbers(lines[0])):
        return "table"
    if len({len(line.split()) for line in lines}) > 1 and all(_all_numbers(line) for line in lines):
        return "lines"
    raise DataError(
        f"{path}: the format of a log is told by its ending, its header or its lines. Received: {lines[0][:200]!r}."
        " Set log.format to table (and name the columns in log.columns where there is no header), lines, sessions, "
        "ncf or atomic."
    )


def _all_numbers(line: str) -> bool:
    return all(word.isdigit() for word in line.replace(",", " ").split())


def _files(paths: PathLike, valid: PathLike | None, test: PathLike | None, base_dir: Path | None) -> _Files:
    def found(spec: PathLike | None) -> list[Path]:
        if spec is None:
            return []
        return resolve_paths(spec if isinstance(spec, str | Path) else [str(path) for path in spec], base_dir)

    train = found(paths)
    files = _Files(train, found(valid), found(test))
    if isinstance(paths, str | Path) and len({path.parent for path in train}) == 1:
        return _usual_names(files, train[0].parent, (Path(base_dir or ".") / paths).is_dir())
    return files


def _usual_names(files: _Files, folder: Path, whole: bool) -> _Files:
    """Parts that lie in one folder under their usual names; those that are named already stay."""
    names = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}

    def named(part: str) -> list[Path]:
        return [path for name, path in names.items() if name.startswith(f"{part}.") or f".{part}." in name]

    if not whole:
        # One file was named: only names that say part and log belong to it.
        first = files.train[0].name
        if len(files.train) != 1 or ".train." not in first:
            return files
        beside = {part: names.get(first.replace(".train.", f".{part}.")) for part in ("valid", "test")}
        return _Files(
            files.train,
            files.valid or [path for path in [beside["valid"]] if path is not None],
            files.test or [path for path in [beside["test"]] if path is not None],
        )
    endings = {".inter", ".rating"}
    logs = [path for path in files.train if ending(path) in endings]
    parts = {part: [p for p in named(part) if not logs or ending(p) in endings] for part in ("train", "valid", "test")}
    if parts["train"]:
        return _Files(parts["train"], files.valid or parts["valid"], files.test or parts["test"])
    return replace(files, train=logs or files.train)


def _parts(files: _Files, read: Callable[[list[Path], str], pl.DataFrame]) -> RawLog:
    return RawLog(
        read(files.train, str(files.train[0])),
        valid=read(files.valid, str(files.valid[0])) if files.valid else None,
        test=read(files.test, str(files.test[0])) if files.test else None,
    )


def _read_tables(files: _Files, log: LogConfig, shape: Shape) -> RawLog:
    return _parts(files, lambda paths, what: read_columns(paths, shape, log_columns(log, what)))


def _read_atomic(files: _Files, log: LogConfig, shape: Shape) -> RawLog:
    raw = _parts(files, lambda paths, what: read_atomic_log(paths, log, shape, what))
    first = files.train[0]
    stem = first.name.lower().removesuffix(".gz").removesuffix(".inter").removesuffix(".train")
    beside = {
        ending(path): path
        for path in first.parent.iterdir()
        if path.name.lower().removesuffix(".gz").startswith(stem + ".")
    }
    found: dict[str, pl.DataFrame] = {}
    for name, what in (("users", ".user"), ("items", ".item")):
        if what in beside:
            found[name] = read_atomic_table(beside[what], shape)
    for name, what, columns in (("knowledge", ".kg", _TRIPLES), ("links", ".link", _LINKS)):
        if what in beside:
            table = read_atomic_table(beside[what], shape, text_only=True)
            found[name] = _renamed(table, columns, beside[what])
    return replace(raw, **found)


def _read_line_files(files: _Files, log: LogConfig, shape: Shape) -> RawLog:
    _refuse_roles(log, "lines")
    return _parts(files, lambda paths, what: read_lines(paths, log.user_field, log.item_field, log.encoding))


def _read_session_files(files: _Files, log: LogConfig, shape: Shape) -> RawLog:
    _refuse_roles(log, "sessions")
    names = (log.user_field, log.item_field, log.encoding)
    train, count = read_sessions(files.train, *names)
    raw, inputs = RawLog(train), []
    for part, paths in (("valid", files.valid), ("test", files.test)):
        if paths:
            given, asked, count = read_prefixes(paths, *names, before=count)
            raw = replace(raw, **{part: asked})
            inputs.append(given)
    return replace(raw, test_inputs=pl.concat(inputs, how="vertical_relaxed")) if inputs else raw


def _read_ncf(files: _Files, log: LogConfig, shape: Shape) -> RawLog:
    names = [log.user_field, log.item_field, log.rating_field or "rating", log.time_field or "timestamp"]

    def read(paths: list[Path], what: str) -> pl.DataFrame:
        line = first_lines(paths[0], log.encoding, 1)
        separator = shape.separator or guess_separator(line)
        width = len(line[0].split(separator))
        written = replace(shape, separator=separator, columns=shape.columns or tuple(names[:width]))
        return read_columns(paths, written, log_columns(log, what, warn=False))

    raw = _parts(files, read)
    if log.negatives_path is None and files.test:
        first = files.test[0]
        stem = first.name.lower().removesuffix(".gz").removesuffix(".rating")
        found = [path for path in first.parent.iterdir() if path.name.lower().removesuffix(".gz") == f"{stem}.negative"]
        if found:
            raw = replace(raw, negatives=read_negatives(found, log.encoding))
    return raw


_READERS: dict[str, Callable[[_Files, LogConfig, Shape], RawLog]] = {
    "table": _read_tables,
    "atomic": _read_atomic,
    "lines": _read_line_files,
    "ncf": _read_ncf,
    "sessions": _read_session_files,
}


def _refuse_roles(log: LogConfig, kind: str) -> None:
    """Lines of items hold nothing but ids."""
    given = [role for role in ("rating_field", "time_field", "context_fields") if getattr(log, role)]
    if given:
        raise DataError(
            f"files of log.format {kind} hold users and items alone, oldest first. Received: "
            f"{', '.join(f'log.{role}' for role in given)}. Remove it, or set log.format."
        )


def _side_table(paths: Sequence[Path], log: LogConfig, columns: str) -> pl.DataFrame:
    names = tuple(getattr(log, columns))
    separator = log.separator if names or not log.columns else None
    shape = Shape(None, names, log.encoding, asked_by=f"log.{columns}")
    if separator is not None and ending(paths[0]) not in PARQUET:
        shape = replace(shape, separator=separator if separator in first_lines(paths[0], log.encoding, 1)[0] else None)
    return read_columns(paths, shape, all_columns)


_TRIPLES = ("head", "relation", "tail")
_LINKS = ("item", "entity")


def read_triples(path: Path, log: LogConfig) -> pl.DataFrame:
    """Triples of a knowledge graph as text: `head`, `relation`, `tail`, from three columns with or without a typed
    header.

    Raises:
        DataError: The file has another number of columns.
    """
    return _text_columns(path, log, _TRIPLES)


def read_links(path: Path, log: LogConfig) -> pl.DataFrame:
    """Which entity an item is, as text: `item`, `entity`.

    Raises:
        DataError: The file has another number of columns.
    """
    return _text_columns(path, log, _LINKS)


def _text_columns(path: Path, log: LogConfig, names: tuple[str, ...]) -> pl.DataFrame:
    shape = Shape(encoding=log.encoding)
    if ":token" in first_lines(path, log.encoding, 1)[0]:
        return _renamed(read_atomic_table(path, shape, text_only=True), names, path)
    separator = guess_separator(first_lines(path, log.encoding))
    shape = replace(shape, separator=separator, columns=names, quoting=False, asked_by="the format of this file")
    return read_columns([path], shape, lambda found: dict.fromkeys(found, "text"))


def _renamed(table: pl.DataFrame, names: tuple[str, ...], path: Path) -> pl.DataFrame:
    if table.width != len(names):
        raise DataError(
            f"{path}: the columns must be {', '.join(names)}. Received: {', '.join(table.columns)}. Drop the others."
        )
    return table.rename(dict(zip(table.columns, names, strict=True)))
