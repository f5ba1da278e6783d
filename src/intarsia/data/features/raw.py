"""RawFeature and PassThroughFeature: numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.config.schema.features import FeatureConfig
from intarsia.core.expressions.columns import compile_numeric_function
from intarsia.data.columns import Array, Column, DenseColumn, JaggedColumn, offsets_of
from intarsia.data.features.base import Feature
from intarsia.data.features.cells import F64, I64, NESTED, Bool, Cells, numbers_of, segment_pool, split
from intarsia.data.features.context import Context
from intarsia.data.schema import FeatureSpec


class NumberRules:
    """What happens to numbers after they are read: scaling, then `normalizer_fn`, then buckets.

    With max_val above min_val a number x becomes (x - min_val) / (max_val - min_val). Boundaries are compared with
    the result: bucket k holds the numbers with k boundaries at or below them. `num_buckets` cuts [0, 1] into equally
    wide buckets; numbers below and above fall into the first and the last. Departs from EasyRec, which puts an
    additional bucket in front for numbers below min_val.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self._scaled = config.max_val > config.min_val
        self._low, self._range = config.min_val, config.max_val - config.min_val
        self._function = compile_numeric_function(config.normalizer_fn) if config.normalizer_fn else None
        self.boundaries: F64 | None = None
        if config.boundaries:
            self.boundaries = np.asarray(config.boundaries, dtype=np.float64)
        elif config.num_buckets > 1 and self._scaled:
            self.boundaries = np.arange(1, config.num_buckets) / config.num_buckets

    @property
    def num_buckets(self) -> int:
        """Buckets of one number; 0 where numbers stay numbers."""
        return 0 if self.boundaries is None else len(self.boundaries) + 1

    def transform(self, values: F64, offsets: I64 | None, context: Context) -> F64:
        """Scaled and normalised numbers.

        Args:
            values: (S, W) numbers.
            offsets: (N + 1,) where a row has several vectors, for messages.
        """
        out = (values - self._low) / self._range if self._scaled else values
        if self._function is None:
            return out
        inputs = out
        out = self._function(inputs)
        finite = np.isfinite(out)
        if not finite.all():
            positions = np.flatnonzero(~finite.all(axis=1))
            first = positions[0]
            value = inputs[first][~finite[first]][0]
            context.reject(
                positions if offsets is None else np.searchsorted(offsets, positions, side="right") - 1,
                float(value),
                f"normalizer_fn `{self._function.text}` must give a finite number",
                "it then counts as 0",
                "Correct the data or the function",
            )
            out = np.where(finite, out, 0.0)
        return out

    def buckets(self, values: F64) -> Array:
        """Bucket of each number."""
        assert self.boundaries is not None
        return np.searchsorted(self.boundaries, values, side="right").astype(np.int32)


class RawFeature(Feature):
    """`raw_input_dim` numbers in each row; as ids of buckets where `boundaries` or `num_buckets` are given.

    A cell can hold several vectors with `seq_multi_sep` between them; they are pooled by `combiner`. An empty cell
    counts as zeros before scaling, or as a missing id where numbers become buckets.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__(config)
        self.inputs = self.inputs[:1]
        self.width = config.raw_input_dim
        self.rules = NumberRules(config)

    def spec(self, table: str = "") -> FeatureSpec:
        """Kind `id` with buckets (`multi` with several numbers), otherwise kind `dense`."""
        if self.rules.num_buckets:
            return self.make_spec(table, kind="id", num_ids=self.rules.num_buckets * self.width, multi=self.width > 1)
        return self.make_spec(table, kind="dense", width=self.width)

    def encode(self, columns: list[pl.Series], context: Context) -> Column:
        """(N, W) numbers, (N,) buckets, or W buckets in each row."""
        values, missing = read_vectors(columns[0], self.config, context)
        values = self.rules.transform(values, None, context)
        if not self.rules.num_buckets:
            return DenseColumn(as_float32(values, None, context))
        ids = self.rules.buckets(values)
        if self.width == 1:
            ids = ids[:, 0]
            ids[missing] = -1
            return DenseColumn(ids)
        # Each of the numbers has rows of its own in the table.
        ids += np.arange(self.width, dtype=np.int32) * self.rules.num_buckets
        return JaggedColumn.from_offsets(ids[~missing].reshape(-1), offsets_of(np.where(missing, 0, self.width)))


class PassThroughFeature(Feature):
    """`raw_input_dim` numbers in each row, handed to components as they are and never embedded."""

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__(config)
        self.inputs = self.inputs[:1]

    def spec(self, table: str = "") -> FeatureSpec:
        """Kind `raw`."""
        return FeatureSpec(self.name, "raw", width=self.config.raw_input_dim)

    def encode(self, columns: list[pl.Series], context: Context) -> DenseColumn:
        """(N, W) numbers."""
        return DenseColumn(as_float32(read_vectors(columns[0], self.config, context)[0], None, context))


def as_float32(values: F64, offsets: I64 | None, context: Context) -> npt.NDArray[np.float32]:
    """The numbers in 32 bits, which models compute with; larger ones break a rule.

    Args:
        values: (S, W) numbers.
        offsets: (N + 1,) where a row has several vectors, for messages.
    """
    with np.errstate(over="ignore"):
        out = values.astype(np.float32)
    fits = np.isfinite(out)
    if not fits.all():
        positions = np.flatnonzero(~fits.all(axis=1))
        first = positions[0]
        context.reject(
            positions if offsets is None else np.searchsorted(offsets, positions, side="right") - 1,
            float(values[first][~fits[first]][0]),
            "a number must fit into 32 bits, which end at 3.4e38",
            "it then counts as 0",
            "Correct the data, or scale them with min_val and max_val or a normalizer_fn",
        )
        out[~fits] = 0.0
    return out


def read_vectors(column: pl.Series, config: FeatureConfig, context: Context) -> tuple[F64, Bool]:
    """(N, W) numbers of each row, several vectors pooled; and which rows are empty."""
    width = config.raw_input_dim
    if width == 1 and not config.seq_multi_sep and not isinstance(column.dtype, NESTED):
        values, missing = numbers_of(Cells(column), context)
        return values[:, None], missing
    several = bool(config.seq_multi_sep)
    if isinstance(column.dtype, NESTED):
        several = several or isinstance(column.dtype.inner, NESTED)
    if not several:
        return split_numbers(split(column, config.separator), width, context)
    vectors = split(column, config.seq_multi_sep)
    offsets = vectors.flat_offsets()
    values, absent = _vectors_in(vectors, config, context)
    if absent.any():
        values, offsets = values[~absent], offsets_of(~absent)[offsets]
    return segment_pool(values, offsets, config.combiner), np.diff(offsets) == 0


def _vectors_in(vectors: Cells, config: FeatureConfig, context: Context) -> tuple[F64, Bool]:
    width = config.raw_input_dim
    if width == 1 and not isinstance(vectors.values.dtype, NESTED):
        numbers, absent = numbers_of(vectors, context)
        return numbers[:, None], absent
    inner = split(vectors.values, config.separator)
    return split_numbers(inner, width, context, vectors)


def split_numbers(parts: Cells, width: int, context: Context, outer: Cells | None = None) -> tuple[F64, Bool]:
    """(N, width) numbers from cells that must have `width` parts or none; and which cells have none.

    Args:
        parts: The parts of each cell.
        width: Numbers that a cell must have.
        outer: Where the cells are themselves parts of rows: those parts, for messages.
    """
    offsets = parts.flat_offsets()
    lengths = np.diff(offsets)
    wrong = np.flatnonzero((lengths != width) & (lengths != 0))
    if len(wrong):
        first = int(wrong[0])
        shown = parts.values[int(offsets[first]) : int(offsets[first + 1])].to_list()
        context.reject(
            wrong if outer is None else outer.rows(wrong),
            shown,
            f"a value must have raw_input_dim = {width} numbers, and this one has {lengths[first]}",
            "it then counts as zeros",
            "Correct the data, the separator or raw_input_dim",
        )
    fits = lengths == width
    located = parts if outer is None else Cells(parts.values, offsets[outer.flat_offsets()])
    numbers, _ = numbers_of(located, context)
    out = np.zeros((len(lengths), width))
    out[fits] = numbers[np.repeat(fits, lengths)].reshape(-1, width)
    return out, ~fits
