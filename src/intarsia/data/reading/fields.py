"""Which columns of a file are read, where they stand, and of which type they are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from intarsia.config.schema.data import DataConfig, FieldType, InputField
from intarsia.core.errors import DataError
from intarsia.data.reading.paths import shortened

DTYPES: dict[FieldType, pl.DataType] = {
    FieldType.INT32: pl.Int32(),
    FieldType.INT64: pl.Int64(),
    FieldType.STRING: pl.String(),
    FieldType.FLOAT: pl.Float32(),
    FieldType.DOUBLE: pl.Float64(),
    FieldType.BOOL: pl.Boolean(),
}

_RANGE = re.compile(r"^(.*)\[(\d+)-(\d+)\]$")


@dataclass(frozen=True)
class Wanted:
    """A column to read.

    Attributes:
        position: Its place in the line, from 0.
        type: Declared type; None: inferred from the values.
    """

    name: str
    position: int
    type: FieldType | None


@dataclass(frozen=True)
class Layout:
    """The columns to read, and the number of cells in each line."""

    wanted: tuple[Wanted, ...]
    width: int
    named_by: str


def declared_fields(data_config: DataConfig) -> list[InputField]:
    """`input_fields`, with `name[1-3]` written out where `auto_expand_input_fields` is set.

    Raises:
        DataError: A name is declared twice, or a range runs backwards.
    """
    fields: list[InputField] = []
    for entry in data_config.input_fields:
        found = _RANGE.match(entry.input_name) if data_config.auto_expand_input_fields else None
        if found is None:
            fields.append(entry)
            continue
        prefix, low, high = found[1], int(found[2]), int(found[3])
        if low > high:
            raise DataError(f"A range of input_fields must run upwards. Received: `{entry.input_name}`.")
        fields += [entry.model_copy(update={"input_name": f"{prefix}{k}"}) for k in range(low, high + 1)]
    _check_unique([entry.input_name for entry in fields], "data_config.input_fields")
    return fields


def lay_out(
    data_config: DataConfig, columns: Collection[str] | None, header: Sequence[str] | None, first_width: int, file: str
) -> Layout:
    """Where the needed columns of a text file stand.

    Args:
        columns: Names that are needed. Default: all declared ones, or all of the header where none is declared.
        header: Cells of the header, or None where the file has none.
        first_width: Cells of the first row; read only where `selected_cols` gives positions.
        file: Named in messages.

    Raises:
        DataError: Columns have no names, or a needed one is missing.
    """
    fields = declared_fields(data_config)
    selected = [part.strip() for part in data_config.selected_cols.split(",") if part.strip()]
    by_position = bool(selected) and all(part.isdigit() for part in selected)
    if header is not None:
        _check_unique(header, f"the header of {file}")
        names: list[str | None] = list(header)
        named_by = "the header"
    elif not fields:
        raise DataError(
            f"{file}: columns need names. Set data_config.with_header: true if the first line holds them, "
            "or list them in data_config.input_fields."
        )
    elif by_position and len(fields) == len(selected) and first_width != len(fields):
        names = [None] * first_width
        for place, entry in zip(_positions(selected, first_width, file), fields, strict=True):
            names[place] = entry.input_name
        named_by = "the first row"
    else:
        names = [entry.input_name for entry in fields]
        named_by = "data_config.input_fields"
    width = len(names)
    allowed = [name for name in names if name is not None]
    if by_position:
        allowed = [name for place in _positions(selected, width, file) if (name := names[place]) is not None]
    elif selected:
        check_present(selected, allowed, file, "data_config.selected_cols")
        allowed = selected
    types = {entry.input_name: entry.input_type for entry in fields}
    if columns is not None:
        needed = list(dict.fromkeys(columns))
    else:
        needed = [name for name in types if name in allowed or not selected] or allowed
    check_present(needed, allowed, file)
    place_of = {name: place for place, name in enumerate(names) if name is not None}
    return Layout(tuple(Wanted(name, place_of[name], types.get(name)) for name in needed), width, named_by)


def check_present(needed: Collection[str], existing: Sequence[str], file: str, asked_by: str = "") -> None:
    """Refuses columns that do not exist.

    Raises:
        DataError: Names the missing columns, the near ones and those that exist.
    """
    missing = [name for name in needed if name not in set(existing)]
    if not missing:
        return
    near = {name: close[0] for name in missing if (close := difflib.get_close_matches(name, existing, n=1, cutoff=0.6))}
    listed = ", ".join(f"`{name}`" + (f" (near: `{near[name]}`)" if name in near else "") for name in missing[:12])
    who = f" named by {asked_by}" if asked_by else ""
    noun = "column" if len(missing) == 1 else "columns"
    raise DataError(f"{file}: {noun} {listed}{who} must exist. The columns are: {shortened(list(existing), 40)}.")


def _positions(selected: list[str], width: int, file: str) -> list[int]:
    places = [int(part) for part in selected]
    if max(places) >= width:
        raise DataError(
            f"{file}: data_config.selected_cols counts from 0 and must stay below the number of cells, {width}. "
            f"Received: {max(places)}."
        )
    return places


def _check_unique(names: Sequence[str], where: str) -> None:
    seen: set[str] = set()
    double = list(dict.fromkeys(name for name in names if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
    if double:
        raise DataError(f"Column names must differ. {where} has more than one: {', '.join(map(repr, double))}.")
