"""ComboFeature: combinations of the values of several columns."""

from __future__ import annotations

import numpy as np
import polars as pl

from intarsia.config.schema.features import FeatureConfig
from intarsia.data.columns import Column, DenseColumn, JaggedColumn
from intarsia.data.features.base import Feature
from intarsia.data.features.cells import I64, Bool, Cells, cross, shrink, split, text_of
from intarsia.data.features.context import Context
from intarsia.data.features.sources import HashSource, SourceMaker, VocabularySource
from intarsia.data.hashing import U64, hash_rows, hash_text
from intarsia.data.schema import FeatureSpec


class ComboFeature(Feature):
    """One id for each combination of values.

    Without `combo_join_sep` the id is the hash of the inputs' hashes; with it the texts are joined first, and any
    source of ids will do. Inputs with a separator in `combo_input_seps` may hold several values: then every
    combination has an id. A row in which an input is missing has no combination.
    """

    def __init__(self, config: FeatureConfig, sources: SourceMaker) -> None:
        super().__init__(config)
        given = config.combo_input_seps
        self._separators = [*given, *([""] * (len(self.inputs) - len(given)))][: len(self.inputs)]
        self.multi = any(self._separators)
        self.source = sources.make(config)
        if isinstance(self.source, VocabularySource):
            self.vocabulary_source = self.source

    def spec(self, table: str = "") -> FeatureSpec:
        """Kind `id`; `multi` where an input may hold several values."""
        return self.make_spec(table, kind="id", num_ids=self.source.num_ids, multi=self.multi)

    def cells(self, columns: list[pl.Series], context: Context) -> Cells:
        """The joined texts."""
        texts, offsets = self._texts(columns, context)
        joined, missing = self._joined(texts)
        return Cells(joined.set(pl.Series(missing), None), offsets)

    def encode(self, columns: list[pl.Series], context: Context) -> Column:
        """Ids of each row's combinations."""
        if self.config.combo_join_sep or not isinstance(self.source, HashSource):
            joined = self.cells(columns, context)
            ids = self.source.encode(joined, context)
            offsets = joined.offsets
        else:
            hashes, missing, offsets = self._hashes(columns, context)
            ids = self.source.buckets(hashes, missing)
        if not self.multi:
            return DenseColumn(ids)
        assert offsets is not None
        kept = ids >= 0
        return JaggedColumn.from_offsets(ids[kept], shrink(offsets, kept))

    def _inputs(self, columns: list[pl.Series], context: Context) -> list[tuple[pl.Series, Bool, Cells]]:
        found = []
        for column, separator in zip(columns, self._separators, strict=True):
            several = bool(separator)
            cells = split(column, separator) if several else Cells(column)
            text, missing = text_of(cells, self.config.precision, context)
            found.append((text, missing, cells))
        return found

    def _hashes(self, columns: list[pl.Series], context: Context) -> tuple[U64, Bool, I64 | None]:
        found = self._inputs(columns, context)
        hashes = [hash_text(text) for text, _, _ in found]
        absent = [missing for _, missing, _ in found]
        if not self.multi:
            return hash_rows(np.stack(hashes, axis=1)), np.logical_or.reduce(absent), None
        picked, offsets = cross([cells for _, _, cells in found])
        rows = [values[at] for values, at in zip(hashes, picked, strict=True)]
        gone = [missing[at] for missing, at in zip(absent, picked, strict=True)]
        return hash_rows(np.stack(rows, axis=1)), np.logical_or.reduce(gone), offsets

    def _texts(self, columns: list[pl.Series], context: Context) -> tuple[list[pl.Series], I64 | None]:
        found = self._inputs(columns, context)
        texts = [text.set(pl.Series(missing), None) for text, missing, _ in found]
        if not self.multi:
            return texts, None
        picked, offsets = cross([cells for _, _, cells in found])
        return [text.gather(at) for text, at in zip(texts, picked, strict=True)], offsets

    def _joined(self, texts: list[pl.Series]) -> tuple[pl.Series, Bool]:
        frame = pl.DataFrame([text.rename(str(k)) for k, text in enumerate(texts)])
        joined = frame.select(pl.concat_str(pl.all(), separator=self.config.combo_join_sep))
        column = joined.to_series().rename("combo")
        return column, column.is_null().to_numpy()
