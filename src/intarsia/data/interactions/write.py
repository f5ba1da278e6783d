"""Writes a log as Parquet, CSV, TSV or atomic files, which read back as the same log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from intarsia.config.schema import LogConfig
from intarsia.core.errors import DataError
from intarsia.data.interactions.ids import plain_integers
from intarsia.data.interactions.interactions import PART_NAMES, Interactions

ENDINGS = (".parquet", ".csv", ".tsv", ".inter")
_TIME = "timestamp"


def write_log(
    log: Interactions,
    roles: LogConfig,
    path: str | Path,
    *,
    knowledge: pl.DataFrame | None = None,
    links: pl.DataFrame | None = None,
) -> list[Path]:
    """Writes a log and, beside it, what belongs to it.

    Ready-made parts become files of their own: `x.csv` then stands for `x.train.csv`, `x.valid.csv` and `x.test.csv`
    (and `x.input.csv` for what test users bring along). Beside them lie `x.users.csv` and `x.items.csv`; atomic files
    have `.user`, `.item`, `.kg` and `.link`. Fixed negatives go to `x.negatives.txt`, one user a line.

    Args:
        log: The log.
        roles: Names of its columns.
        path: The file; its ending says the format: .parquet, .csv, .tsv, .inter.
        knowledge: Triples; atomic files only.
        links: Entities of items; atomic files only.

    Returns:
        The files.

    Raises:
        DataError: Another ending, or a file is there already.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise DataError(
            f"a log is written to a file that ends in {', '.join(ENDINGS)}. Received: {path.name}. Rename it."
        )
    tables = {name: table for name, table in _tables(log, roles, path.stem, kind).items() if table is not None}
    if kind == ".inter":
        graph = {f"{path.stem}.kg": knowledge, f"{path.stem}.link": links}
        tables |= {name: table for name, table in graph.items() if table is not None}
    if log.fixed_negatives is not None:
        tables[f"{path.stem}.negatives.txt"] = _negatives(log)
    there = next((name for name in tables if (path.parent / name).exists()), None)
    if there is not None:
        raise DataError(
            f"{path.parent / there} is there already, and no file is replaced. Remove it, or choose another name."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        _write(table, path.parent / name, roles.time_field or _TIME)
    return [path.parent / name for name in tables]


def log_table(log: Interactions, roles: LogConfig) -> pl.DataFrame:
    """(S,) rows: user, item, and rating, time and context where the log has them; whole numbers as such."""
    columns = [
        _plain(log.user_ids.raw(log.user_of)).alias(roles.user_field),
        _plain(log.item_ids.raw(log.items)).alias(roles.item_field),
    ]
    if log.ratings is not None:
        columns.append(pl.Series(roles.rating_field or "rating", log.ratings))
    if log.times is not None:
        whole = bool((log.times == np.floor(log.times)).all())
        columns.append(pl.Series(roles.time_field or _TIME, log.times.astype(np.int64) if whole else log.times))
    return pl.DataFrame([*columns, *(column.alias(name) for name, column in log.context.items())])


def _tables(log: Interactions, roles: LogConfig, stem: str, kind: str) -> dict[str, pl.DataFrame | None]:
    rows = log_table(log, roles)
    found: dict[str, pl.DataFrame | None] = {}
    if log.parts is None:
        found[f"{stem}{kind}"] = rows
    else:
        for number, name in PART_NAMES.items():
            part = rows.filter(pl.Series(log.parts == number))
            found[f"{stem}.{name}{kind}"] = part if part.height else None
    users, items = (".user", ".item") if kind == ".inter" else (f".users{kind}", f".items{kind}")
    return found | {f"{stem}{users}": log.users, f"{stem}{items}": log.catalogue}


def _write(table: pl.DataFrame, path: Path, time: str) -> None:
    kind = path.suffix.lower()
    if kind == ".parquet":
        table.write_parquet(path)
    elif kind in (".csv", ".tsv"):
        _flat(table, "|").write_csv(path, separator="," if kind == ".csv" else "\t")
    elif kind == ".txt":
        table.write_csv(path, include_header=False, quote_style="never")
    else:
        # Atomic files know no quotes, so what separates cells and lines must not occur in them.
        types = {name: f"{name}:{'float' if name == time else _type(dtype)}" for name, dtype in table.schema.items()}
        text = _flat(table, " ").with_columns(pl.col(pl.String).str.replace_all(r"[\t\r\n]", " "))
        text.rename(types).write_csv(path, separator="\t", quote_style="never")


def _negatives(log: Interactions) -> pl.DataFrame:
    """Lines `user item item ...`."""
    assert log.fixed_negatives is not None
    assert log.negative_users is not None
    known = log.fixed_negatives >= 0
    row = np.repeat(np.arange(len(known)), known.sum(axis=1))
    words = pl.DataFrame({"row": row, "item": log.item_ids.raw(log.fixed_negatives[known])})
    lines = words.group_by("row", maintain_order=True).agg(pl.col("item").str.join(" "))
    users = log.user_ids.raw(log.negative_users[lines["row"].to_numpy()])
    return pl.DataFrame({"line": users + " " + lines["item"]})


def _plain(ids: pl.Series) -> pl.Series:
    numbers = plain_integers(ids)
    return ids if numbers is None else numbers


def _flat(table: pl.DataFrame, separator: str) -> pl.DataFrame:
    """Lists as text."""
    lists = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.List | pl.Array)]
    return table.with_columns(pl.col(name).cast(pl.List(pl.String)).list.join(separator) for name in lists)


def _type(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List | pl.Array):
        return "float_seq" if pl.Series([], dtype=dtype.inner).dtype.is_numeric() else "token_seq"
    return "float" if dtype.is_float() else "token"
