"""SequenceFeature: ordered values in each row."""

from __future__ import annotations

import numpy as np
import polars as pl

from intarsia.config.schema.features import FeatureConfig, FeatureType
from intarsia.data.columns import Array, JaggedColumn, offsets_of
from intarsia.data.features.base import Feature
from intarsia.data.features.cells import F64, NESTED, Bool, Cells, numbers_of, segment_pool, shrink, split
from intarsia.data.features.context import Context
from intarsia.data.features.raw import NumberRules, as_float32
from intarsia.data.features.sources import SourceMaker, VocabularySource
from intarsia.data.schema import FeatureSpec


class IdSequence(Feature):
    """Steps that are ids, or several ids each where `seq_multi_sep` is set.

    Steps without a value are left out, except where steps hold several values: there they stay, empty.
    """

    def __init__(self, config: FeatureConfig, sources: SourceMaker) -> None:
        super().__init__(config)
        self.inputs = self.inputs[:1]
        self.source = sources.make(config)
        if isinstance(self.source, VocabularySource):
            self.vocabulary_source = self.source

    def spec(self, table: str = "") -> FeatureSpec:
        """Kind `id`, `sequence`."""
        return self.make_spec(
            table,
            kind="id",
            num_ids=self.source.num_ids,
            sequence=True,
            step_multi=bool(self.config.seq_multi_sep),
            max_length=self.config.max_seq_len,
        )

    def cells(self, columns: list[pl.Series], context: Context) -> Cells:
        """All values of all steps."""
        steps = read_steps(columns[0], self.config)
        return _values_in(steps, self.config) if self.config.seq_multi_sep else steps

    def encode(self, columns: list[pl.Series], context: Context) -> JaggedColumn:
        """Ids of each row's steps."""
        steps = read_steps(columns[0], self.config)
        if not self.config.seq_multi_sep:
            ids = self.source.encode(steps, context)
            return _without_missing(ids, ids < 0, steps)
        values = _values_in(steps, self.config)
        located = Cells(values.values, values.flat_offsets()[steps.flat_offsets()])
        ids = self.source.encode(located, context)
        kept = ids >= 0
        inner = values.flat_offsets()
        if not kept.all():
            inner, ids = shrink(inner, kept), ids[kept]
        return JaggedColumn.from_offsets(ids, steps.flat_offsets(), inner_offsets=inner)


class RawSequence(Feature):
    """Steps that are numbers, vectors of `raw_input_dim` numbers, or buckets of numbers.

    Numbers of one step stand between `seq_multi_sep`; where a step has more than `raw_input_dim` of them it is
    several vectors, which are pooled by `combiner`. An empty step counts as zeros; as a bucket it is left out.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__(config)
        self.inputs = self.inputs[:1]
        self.width = config.raw_input_dim
        self.rules = NumberRules(config)
        self.limit = config.max_seq_len
        if not self.limit and not self.rules.num_buckets and config.sequence_length is not None:
            self.limit = config.sequence_length

    def spec(self, table: str = "") -> FeatureSpec:
        """Kind `id` with buckets, otherwise kind `dense`; `sequence`."""
        if self.rules.num_buckets:
            return self.make_spec(
                table, kind="id", num_ids=self.rules.num_buckets, sequence=True, max_length=self.limit
            )
        return self.make_spec(table, kind="dense", width=self.width, sequence=True, max_length=self.limit)

    def encode(self, columns: list[pl.Series], context: Context) -> JaggedColumn:
        """Numbers or buckets of each row's steps."""
        steps = read_steps(columns[0], self.config, self.limit)
        offsets = steps.flat_offsets()
        nested = isinstance(steps.values.dtype, NESTED)
        if self.width == 1 and not self.config.seq_multi_sep and not nested:
            numbers, missing = numbers_of(steps, context)
            values = numbers[:, None]
        else:
            values, missing = self._vectors(steps, context)
        values = self.rules.transform(values, offsets, context)
        if not self.rules.num_buckets:
            return JaggedColumn.from_offsets(as_float32(values, offsets, context), offsets)
        return _without_missing(self.rules.buckets(values[:, 0]), missing, steps)

    def _vectors(self, steps: Cells, context: Context) -> tuple[F64, Bool]:
        parts = split(steps.values, self.config.seq_multi_sep)
        inner = parts.flat_offsets()
        lengths = np.diff(inner)
        wrong = np.flatnonzero(lengths % self.width)
        located = Cells(parts.values, inner[steps.flat_offsets()])
        numbers, _ = numbers_of(located, context)
        if len(wrong):
            first = int(wrong[0])
            context.reject(
                steps.rows(wrong),
                parts.values[int(inner[first]) : int(inner[first + 1])].to_list(),
                f"a step must have raw_input_dim = {self.width} numbers (or a multiple, to be pooled), and this one "
                f"has {lengths[first]}",
                "it then counts as zeros",
                "Correct the data, seq_multi_sep or raw_input_dim",
            )
            bad = lengths % self.width != 0
            numbers = numbers[~np.repeat(bad, lengths)]
            lengths = np.where(bad, 0, lengths)
        vectors = numbers.reshape(-1, self.width)
        pooled = segment_pool(vectors, offsets_of(lengths // self.width), self.config.combiner)
        return pooled, lengths == 0


def make_sequence(config: FeatureConfig, sources: SourceMaker) -> Feature:
    """A sequence of ids or of numbers, by `sub_feature_type`."""
    if config.sub_feature_type is FeatureType.RawFeature:
        return RawSequence(config)
    return IdSequence(config, sources)


def read_steps(column: pl.Series, config: FeatureConfig, limit: int | None = None) -> Cells:
    """The steps of each row that are kept."""
    return split(column, config.separator, config.max_seq_len if limit is None else limit, config.keep)


def _values_in(steps: Cells, config: FeatureConfig) -> Cells:
    return split(steps.values, config.seq_multi_sep)


def _without_missing(ids: Array, missing: Bool, steps: Cells) -> JaggedColumn:
    offsets = steps.flat_offsets()
    if missing.any():
        offsets, ids = shrink(offsets, ~missing), ids[~missing]
    return JaggedColumn.from_offsets(ids, offsets)
