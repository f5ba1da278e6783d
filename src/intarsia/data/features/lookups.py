"""LookupFeature: the values that a map in one column has for the key in another."""

from __future__ import annotations

import numpy as np
import polars as pl

from intarsia.config.schema.features import FeatureConfig
from intarsia.data.columns import JaggedColumn, offsets_of
from intarsia.data.features.base import Feature
from intarsia.data.features.cells import Cells, shrink, split, text_of, without
from intarsia.data.features.context import Context
from intarsia.data.features.sources import SourceMaker, VocabularySource
from intarsia.data.features.tags import split_pairs
from intarsia.data.schema import FeatureSpec


class LookupFeature(Feature):
    """Ids of the values whose key equals the row's key, at most `lookup_max_sel_elem_num` of them.

    The first column holds the key, the second a map such as `k1:v1|k2:v2|k1:v3`.
    """

    def __init__(self, config: FeatureConfig, sources: SourceMaker) -> None:
        super().__init__(config)
        self.source = sources.make(config)
        if isinstance(self.source, VocabularySource):
            self.vocabulary_source = self.source

    def spec(self, table: str = "") -> FeatureSpec:
        """Kind `id`, `multi`."""
        return self.make_spec(table, kind="id", num_ids=self.source.num_ids, multi=True)

    def cells(self, columns: list[pl.Series], context: Context) -> Cells:
        """The values of the row's key."""
        config = self.config
        keys, missing = text_of(Cells(columns[0]), config.precision, context)
        entries = split(columns[1], config.separator)
        blank = entries.values.is_null() | (entries.values == "").fill_null(True)
        entries = without(entries, blank.to_numpy())
        found, values = split_pairs(entries, config.kv_separator, "key", "value", context)
        offsets = found.flat_offsets()
        rows = np.repeat(np.arange(len(keys), dtype=np.int64), np.diff(offsets))
        chosen = (found.values == keys.gather(rows)).fill_null(False).to_numpy() & ~missing[rows]
        # The rank of each chosen entry among those of its row.
        before = offsets_of(chosen)
        chosen &= before[:-1] - before[offsets[:-1]][rows] < config.lookup_max_sel_elem_num
        return Cells(values.values.filter(pl.Series(chosen)), shrink(offsets, chosen))

    def encode(self, columns: list[pl.Series], context: Context) -> JaggedColumn:
        """Ids of each row's values."""
        cells = self.cells(columns, context)
        ids = self.source.encode(cells, context)
        kept = ids >= 0
        return JaggedColumn.from_offsets(ids[kept], shrink(cells.flat_offsets(), kept))
