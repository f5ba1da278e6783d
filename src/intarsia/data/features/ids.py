"""IdFeature: one value in each row."""

from __future__ import annotations

import polars as pl

from intarsia.config.schema.features import FeatureConfig
from intarsia.data.columns import DenseColumn
from intarsia.data.features.base import Feature
from intarsia.data.features.cells import Cells
from intarsia.data.features.context import Context
from intarsia.data.features.sources import SourceMaker, VocabularySource
from intarsia.data.schema import FeatureSpec


class IdFeature(Feature):
    """One id in each row, -1 where missing."""

    def __init__(self, config: FeatureConfig, sources: SourceMaker) -> None:
        super().__init__(config)
        self.inputs = self.inputs[:1]
        self.source = sources.make(config)
        if isinstance(self.source, VocabularySource):
            self.vocabulary_source = self.source

    def spec(self, table: str = "") -> FeatureSpec:
        """Kind `id`."""
        return self.make_spec(table, kind="id", num_ids=self.source.num_ids)

    def encode(self, columns: list[pl.Series], context: Context) -> DenseColumn:
        """(N,) rows of the table."""
        return DenseColumn(self.source.encode(Cells(columns[0]), context))
