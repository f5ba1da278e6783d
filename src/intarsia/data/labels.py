"""Labels, sample weights and grouping ids out of a frame of samples.

A label is never filled in: a row without one is an error that names the file and the row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.config.schema.data import DataConfig
from intarsia.core.errors import DataError
from intarsia.data.reading.fields import check_present
from intarsia.data.reading.report import MAX_EXAMPLES, BadRow, BadRows, ReadResult, finish, quote

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Origin = Callable[[int], str]

_PROBABILITY_LOSSES = {
    "CLASSIFICATION",
    "CROSS_ENTROPY_LOSS",
    "BINARY_CROSS_ENTROPY_LOSS",
    "F1_REWEIGHTED_LOSS",
    "BINARY_FOCAL_LOSS",
    "JRC_LOSS",
    "ORDER_CALIBRATE_LOSS",
    "KL_DIVERGENCE_LOSS",
}
_CLASS_LOSSES = {"CLASSIFICATION", "CROSS_ENTROPY_LOSS", "SOFTMAX_CROSS_ENTROPY"}
_POSITIVE_LOSSES = {"ZILN_LOSS"}


def label_columns(data_config: DataConfig, needed: Collection[str]) -> list[str]:
    """The raw columns that the needed labels are read from, in the order of `label_fields`.

    Raises:
        DataError: A needed label is neither in `label_fields` nor made by an `extra_label_func`.
    """
    made = {entry.label_name: entry.label_func for entry in data_config.extra_label_func}
    check_present(needed, [*data_config.label_fields, *made], "data_config", "the model")
    wanted = {name for name in needed if name not in made}
    for name in _made_labels(data_config, needed):
        wanted |= {used for used in _names_in(made[name], data_config) if used not in made}
    return [name for name in data_config.label_fields if name in wanted]


def labels_from(
    frame: pl.DataFrame,
    data_config: DataConfig,
    needed: Collection[str] | None = None,
    *,
    origin: Origin | None = None,
) -> dict[str, Floats]:
    """Labels by name: (N,) float32, or (N, D) where `label_dim` is D > 1.

    Text is parsed as numbers; several values in one cell are split at `label_sep` (default `,`); lists are taken as
    they are. Then come the labels of `extra_label_func`, in their order, each of which may use the ones before it.

    Args:
        frame: N rows with the label columns.
        needed: Names of the labels. Default: all.
        origin: Where a row came from, for messages (`ReadResult.origin`).

    Raises:
        DataError: A label column does not exist, a row has no label or not as many values as `label_dim` says, or
            a value is no finite number.
    """
    from intarsia.core.expressions.columns import compile_expr

    extra = {entry.label_name: entry.label_func for entry in data_config.extra_label_func}
    names = [*data_config.label_fields, *extra] if needed is None else list(dict.fromkeys(needed))
    place = origin or _row_number
    found: dict[str, Floats] = {}
    for name in label_columns(data_config, names):
        check_present([name], frame.columns, "the data", "data_config.label_fields")
        values, absent, wrong = _parse(frame[name], *_shape_of(name, data_config))
        if absent.any():
            _refuse(name, "every row must have a label. It is empty", absent, None, place)
        if wrong.any():
            rule = _rule(*_shape_of(name, data_config))
            _refuse(name, rule, wrong, frame[name], place)
        found[name] = values
    for name in _made_labels(data_config, names):
        values = compile_expr(extra[name], list(found))(found).astype(np.float32)
        failed = np.asarray(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        if failed.any():
            _refuse(name, f"`{extra[name]}` must give a finite number", failed, pl.Series(values), place)
        found[name] = values
    return {name: found[name] for name in names}


def drop_unlabelled(result: ReadResult, data_config: DataConfig, needed: Collection[str] | None = None) -> ReadResult:
    """Where bad rows are skipped: without the rows that lack a usable label, which is reported.

    Where they are not, the result as it is, for `labels_from` to refuse.

    Raises:
        DataError: No row is left.
    """
    kept = without_unlabelled(result, data_config, needed)
    if kept is not result:
        finish(kept.frame, list(kept.parts), BadRows(True, kept.skipped, list(kept.examples)))
    return kept


def without_unlabelled(
    result: ReadResult, data_config: DataConfig, needed: Collection[str] | None = None
) -> ReadResult:
    """The same, unreported: the rows are counted among the skipped ones, and perhaps none is left."""
    from intarsia.data.reading.table import skips_bad_rows

    if not skips_bad_rows(data_config):
        return result
    extra = [entry.label_name for entry in data_config.extra_label_func]
    names = [*data_config.label_fields, *extra] if needed is None else needed
    bad: Flags = np.zeros(result.frame.height, dtype=np.bool_)
    culprit = np.zeros(result.frame.height, dtype=np.int64)
    columns = label_columns(data_config, names)
    check_present(columns, result.frame.columns, "the data", "data_config.label_fields")
    for which, name in enumerate(columns):
        _, absent, wrong = _parse(result.frame[name], *_shape_of(name, data_config))
        culprit[(absent | wrong) & ~bad] = which
        bad[absent | wrong] = True
    if not bad.any():
        return result
    rows = BadRows(True, result.skipped, list(result.examples))
    for row in np.flatnonzero(bad)[:MAX_EXAMPLES]:
        name = columns[culprit[row]]
        value = _cell(result.frame[name], int(row))
        part, at = result.locate(int(row))
        reason = f"every row must have a label. Received: {quote(value)}."
        rows.add(BadRow(part.file, at, name, None if value is None else str(value), reason, unit=part.unit))
    kept = result.keep(~bad)
    parts = tuple(part for part in kept.parts if part.rows)
    return ReadResult(kept.frame, result.skipped + int(bad.sum()), tuple(rows.examples), parts)


def check_labels(
    values: npt.NDArray[np.floating],
    num_class: int,
    loss_type: str,
    *,
    name: str = "label",
    origin: Origin | None = None,
) -> None:
    """Refuses labels that a loss cannot use.

    | loss                                        | labels                               |
    |---------------------------------------------|--------------------------------------|
    | of classes, `num_class` > 1                 | whole numbers from 0 to num_class - 1 |
    | of probabilities (cross entropy, focal ...) | from 0 to 1                          |
    | ZILN_LOSS                                   | 0 or more                            |
    | others                                      | any finite number                    |

    Args:
        values: (N,) or (N, D) labels.
        num_class: Number of classes; 1: binary or a number.
        loss_type: Name of the loss.
        name: The label's name, for messages.
        origin: Where a row came from, for messages (`ReadResult.origin`).

    Raises:
        DataError: Names the first bad rows and their values, and the allowed range.
    """
    finite = np.isfinite(values)
    if num_class > 1 and loss_type in _CLASS_LOSSES:
        rule = f"{loss_type} with num_class {num_class} needs whole numbers from 0 to {num_class - 1}"
        good = finite & (values >= 0) & (values < num_class) & (values == np.floor(values))
    elif loss_type in _PROBABILITY_LOSSES:
        rule = f"{loss_type} needs labels from 0 to 1"
        good = finite & (values >= 0) & (values <= 1)
    elif loss_type in _POSITIVE_LOSSES:
        rule = f"{loss_type} needs labels of 0 or more"
        good = finite & (values >= 0)
    else:
        rule = f"{loss_type} needs finite labels"
        good = finite
    bad = ~good.reshape(len(values), -1).all(axis=1)
    if bad.any():
        _refuse(name, rule, bad, pl.Series(values), origin or _row_number)


def weights_from(frame: pl.DataFrame, data_config: DataConfig, *, origin: Origin | None = None) -> Floats | None:
    """(N,) sample weights, or None where `sample_weight` names no column.

    Raises:
        DataError: The column does not exist, or a weight is missing, negative or not finite.
    """
    name = data_config.sample_weight
    if name is None:
        return None
    check_present([name], frame.columns, "the data", "data_config.sample_weight")
    values, absent, wrong = _parse(frame[name], 1, ",")
    bad: Flags = absent | wrong | np.less(values, 0)
    if bad.any():
        _refuse(name, "a sample weight must be a finite number of 0 or more", bad, frame[name], origin or _row_number)
    return values


def group_ids(frame: pl.DataFrame, names: Sequence[str]) -> dict[str, npt.NDArray[np.int64]]:
    """(N,) codes by column: the 64-bit hash of each value's text, so that equal text has equal codes.

    Empty cells share the code of empty text.

    Raises:
        DataError: A column does not exist, or holds lists.
    """
    from intarsia.data.hashing import hash_text

    check_present(names, frame.columns, "the data")
    found = {}
    for name in names:
        column = frame[name]
        if column.dtype.is_nested():
            raise DataError(f"Column `{name}` groups rows and must hold one value a row. Stored type: {column.dtype}.")
        if column.dtype.is_float() or column.dtype.is_temporal():
            column = column.cast(pl.String)
        found[name] = hash_text(column).view(np.int64)
    return found


def _made_labels(data_config: DataConfig, needed: Collection[str]) -> list[str]:
    """The computed labels to make, in order: needed ones and those that they use."""
    made = {entry.label_name: entry.label_func for entry in data_config.extra_label_func}
    wanted = set(needed)
    for name in reversed(list(made)):
        if name in wanted:
            wanted |= set(_names_in(made[name], data_config))
    return [name for name in made if name in wanted]


def _names_in(text: str, data_config: DataConfig) -> tuple[str, ...]:
    from intarsia.core.expressions.columns import compile_expr

    known = [*data_config.label_fields, *(entry.label_name for entry in data_config.extra_label_func)]
    return compile_expr(text, known).names


def _shape_of(name: str, data_config: DataConfig) -> tuple[int, str]:
    at = data_config.label_fields.index(name)
    dim = data_config.label_dim[at] if at < len(data_config.label_dim) else 1
    separator = data_config.label_sep[at] if at < len(data_config.label_sep) else ","
    return dim, separator


def _rule(dim: int, separator: str) -> str:
    if dim == 1:
        return "a label must be a finite number"
    return f"a label must be {dim} finite numbers (label_dim) separated by {separator!r} (label_sep)"


def _parse(column: pl.Series, dim: int, separator: str) -> tuple[Floats, Flags, Flags]:
    """(N,) or (N, dim) numbers, which rows are empty, and which are not such numbers."""
    absent = column.is_null()
    if column.dtype == pl.String:
        absent = absent | (column.str.strip_chars(" \t") == "").fill_null(False)
        if dim > 1:
            column = column.str.split(separator)
    missing = absent.to_numpy()
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if not isinstance(column.dtype, pl.List):
        if dim > 1:
            return np.zeros((len(column), dim), np.float32), missing, ~missing
        values = _numbers(column)
        return values, missing, ~np.isfinite(values) & ~missing
    fits = (column.list.len() == dim).fill_null(False).to_numpy()
    values = np.full((len(column), dim), np.nan, dtype=np.float32)
    if fits.any():
        values[fits] = _numbers(column.filter(pl.Series(fits)).explode()).reshape(-1, dim)
    wrong = ~np.isfinite(values).all(axis=1) & ~missing
    return (values[:, 0] if dim == 1 else values), missing, wrong


def _numbers(column: pl.Series) -> Floats:
    """(N,) numbers; NaN where there is none."""
    if column.dtype == pl.String:
        column = column.str.strip_chars(" \t")
    if not (column.dtype == pl.String or column.dtype == pl.Boolean or column.dtype.is_numeric()):
        return np.full(len(column), np.nan, dtype=np.float32)
    numbers = column.cast(pl.Float32, strict=False).fill_null(float("nan"))
    return np.array(numbers.to_numpy(), dtype=np.float32)


def _refuse(name: str, rule: str, bad: Flags, values: pl.Series | None, origin: Origin) -> None:
    rows = np.flatnonzero(bad)
    shown = []
    for row in rows[:MAX_EXAMPLES]:
        value = "" if values is None else f": {quote(_cell(values, int(row)))}"
        shown.append(f"\n  {origin(int(row))}, column `{name}`{value}")
    count = (
        "1 row" if len(rows) == 1 else f"{len(rows)} rows, first" if len(rows) > MAX_EXAMPLES else f"{len(rows)} rows"
    )
    raise DataError(f"Label or weight `{name}`: {rule}. Received in {count}:{''.join(shown)}")


def _cell(values: pl.Series, row: int) -> object:
    value = values[row]
    return value.to_list() if isinstance(value, pl.Series) else value


def _row_number(row: int) -> str:
    return f"row {row + 1}"
