"""What columns hold, in numbers: missing values, distinct ids, lengths, ranges, and how two parts of the data overlap.

Plain functions over columns; what the numbers mean for a pipeline is judged elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.data.hashing import hash_text

I64 = npt.NDArray[np.int64]
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class IdProfile:
    """Ids of one column or feature.

    Attributes:
        values: Ids, missing ones not counted.
        distinct: Different ones.
        most_common: The most frequent id.
        most_common_share: Its share of all ids.
    """

    values: int
    distinct: int
    most_common: str | None
    most_common_share: float


@dataclass(frozen=True)
class NumberProfile:
    """Numbers of one column.

    Attributes:
        values: Finite numbers.
        not_finite: NaN and infinite ones.
        minimum: Least finite number; NaN where there is none, as are the others.
        maximum: Greatest.
        mean: Mean.
        stddev: Standard deviation.
        median: Median.
    """

    values: int
    not_finite: int
    minimum: float
    maximum: float
    mean: float
    stddev: float
    median: float


@dataclass(frozen=True)
class LengthProfile:
    """Lengths of lists.

    Attributes:
        quantiles: Least, lower quartile, median, upper quartile, 95 in 100, greatest.
        mean: Mean.
        empty_share: Share of rows without any step.
        cut_share: Share of rows that are longer than the limit.
    """

    quantiles: tuple[float, ...]
    mean: float
    empty_share: float
    cut_share: float


@dataclass(frozen=True)
class UnseenProfile:
    """Ids of a later part that the training part lacks.

    Attributes:
        distinct: Different unseen ids.
        share: Their share of the later part's ids, each counted as often as it occurs.
    """

    distinct: int
    share: float


def missing(column: pl.Series) -> int:
    """Cells without a value: null or empty text; lists without any element."""
    absent = column.is_null()
    if column.dtype == pl.String:
        absent |= (column == "").fill_null(True)
    elif isinstance(column.dtype, pl.List):
        absent |= (column.list.len() == 0).fill_null(True)
    return int(absent.sum())


def ids(values: pl.Series) -> IdProfile:
    """Counts ids.

    Args:
        values: Text or whole numbers; nulls and empty text are missing.
    """
    counts = _present(values).value_counts(sort=True, name="__count")
    if not counts.height:
        return IdProfile(0, 0, None, 0.0)
    total = int(counts["__count"].sum())
    return IdProfile(total, counts.height, str(counts[counts.columns[0]][0]), int(counts["__count"][0]) / total)


def unseen(train: pl.Series, later: pl.Series) -> UnseenProfile:
    """Ids of `later` that do not occur in `train`.

    Args:
        train: Text or whole numbers.
        later: The same of another part.
    """
    known = pl.DataFrame({"id": _present(train).cast(pl.String).unique()})
    asked = pl.DataFrame({"id": _present(later).cast(pl.String)})
    strange = asked.join(known, on="id", how="anti")
    share = strange.height / asked.height if asked.height else 0.0
    return UnseenProfile(strange["id"].n_unique() if strange.height else 0, share)


def expected_collisions(distinct: int, size: int) -> float:
    """Share of `distinct` ids that a hash puts into a row with another one of them.

    1 - (1 - 1 / size) ** (distinct - 1)

    Args:
        distinct: Number of different ids.
        size: Rows of the table.
    """
    if distinct < 2:
        return 0.0
    if size == 1:
        return 1.0
    return float(-np.expm1((distinct - 1) * np.log1p(-1 / size)))


def collisions(values: pl.Series, size: int) -> float:
    """Share of the different ids that share their row of a hashed table of `size` rows with another one.

    Args:
        values: Text, whole numbers, or true and false.
        size: Rows of the table.
    """
    distinct = _present(values).cast(pl.String).unique()
    if not len(distinct):
        return 0.0
    rows = hash_text(distinct) % np.uint64(size)
    _, counts = np.unique(rows, return_counts=True)
    return float(counts[counts > 1].sum() / len(distinct))


def size_for(distinct: int, collisions: float) -> int:
    """The smallest table in which at most the share `collisions` of `distinct` hashed ids meets another one."""
    if distinct < 2:
        return 1
    return int(np.ceil(-1 / np.expm1(np.log1p(-collisions) / (distinct - 1))))


def numbers(values: npt.ArrayLike) -> NumberProfile:
    """Range and moments of the finite numbers.

    Args:
        values: Numbers of any shape.
    """
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    finite = flat[np.isfinite(flat)]
    wrong = len(flat) - len(finite)
    if not len(finite):
        nan = float("nan")
        return NumberProfile(0, wrong, nan, nan, nan, nan, nan)
    return NumberProfile(
        len(finite),
        wrong,
        float(finite.min()),
        float(finite.max()),
        float(finite.mean()),
        float(finite.std()),
        float(np.median(finite)),
    )


def column_numbers(column: pl.Series, separator: str = "") -> NumberProfile:
    """The same of a column, whose text is parsed (what is no number is not counted).

    Args:
        column: Numbers, text, or lists of either.
        separator: What stands between the numbers of a text.
    """
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if column.dtype == pl.String and separator:
        column = column.str.split(separator)
    if isinstance(column.dtype, pl.List):
        column = column.drop_nulls().explode()
    if column.dtype == pl.String:
        column = column.str.strip_chars()
    return numbers(column.cast(pl.Float64, strict=False).drop_nulls().to_numpy())


def list_lengths(column: pl.Series, separator: str = "") -> I64:
    """(N,) number of parts in each cell; 0 where it is empty.

    Args:
        column: Text, or lists.
        separator: What stands between the parts of a text.
    """
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if isinstance(column.dtype, pl.List):
        return column.list.len().fill_null(0).cast(pl.Int64).to_numpy()
    if column.dtype != pl.String:
        return column.is_not_null().cast(pl.Int64).to_numpy()
    parts = column.str.count_matches(separator, literal=True) + 1 if separator else pl.Series([1] * len(column))
    filled = (column != "").fill_null(False)
    return (parts.cast(pl.Int64) * filled.cast(pl.Int64)).fill_null(0).to_numpy()


def lengths(counts: npt.NDArray[np.integer], limit: int = 0) -> LengthProfile:
    """Quantiles of lengths.

    Args:
        counts: (N,) lengths.
        limit: Longest that is kept; 0: no limit.
    """
    if not len(counts):
        return LengthProfile((0.0,) * len(QUANTILES), 0.0, 0.0, 0.0)
    found = np.quantile(counts, QUANTILES, method="inverted_cdf")
    cut = float((counts > limit).mean()) if limit else 0.0
    return LengthProfile(tuple(float(q) for q in found), float(counts.mean()), float((counts == 0).mean()), cut)


def row_hashes(frame: pl.DataFrame) -> pl.Series:
    """(N,) one number a row: equal rows have equal numbers, and others hardly ever."""
    texts = [
        pl.col(name).cast(pl.List(pl.String)).list.join("\x1f")
        if isinstance(dtype, pl.List)
        else pl.col(name).cast(pl.String)
        for name, dtype in frame.schema.items()
    ]
    return frame.select(pl.struct(texts).hash(seed=1)).to_series()


def repeated(hashes: pl.Series) -> int:
    """Rows that equal an earlier row."""
    return len(hashes) - hashes.n_unique()


def shared(train: pl.Series, later: pl.Series) -> int:
    """Rows of a later part that equal some row of the training part.

    Args:
        train: Its `row_hashes`.
        later: Those of the later part, over the same columns.
    """
    return int(later.is_in(train.unique().implode()).sum())


def _present(values: pl.Series) -> pl.Series:
    values = values.drop_nulls()
    return values.filter(values != "") if values.dtype == pl.String else values
