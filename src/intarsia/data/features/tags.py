"""TagFeature: several values in each row, with or without weights."""

from __future__ import annotations

import numpy as np
import polars as pl

from intarsia.config.schema.features import FeatureConfig
from intarsia.data.columns import JaggedColumn
from intarsia.data.features.base import Feature
from intarsia.data.features.cells import Cells, numbers_of, shrink, split, without
from intarsia.data.features.context import Context
from intarsia.data.features.sources import SourceMaker, VocabularySource
from intarsia.data.schema import FeatureSpec


class TagFeature(Feature):
    """The parts of a cell as ids; empty parts are left out.

    Weights stand behind each tag (`kv_separator`) or in a second column with equally many parts.
    """

    def __init__(self, config: FeatureConfig, sources: SourceMaker) -> None:
        super().__init__(config)
        self.inputs = self.inputs[:2]
        self.weighted = bool(config.kv_separator) or len(self.inputs) == 2
        self.source = sources.make(config)
        if isinstance(self.source, VocabularySource):
            self.vocabulary_source = self.source

    def spec(self, table: str = "") -> FeatureSpec:
        """Kind `id`, `multi`."""
        return self.make_spec(table, kind="id", num_ids=self.source.num_ids, multi=True, weighted=self.weighted)

    def cells(self, columns: list[pl.Series], context: Context) -> Cells:
        """The tags, without weights."""
        return self._tags_and_weights(columns, context)[0]

    def encode(self, columns: list[pl.Series], context: Context) -> JaggedColumn:
        """Ids of each row's tags."""
        tags, weights = self._tags_and_weights(columns, context)
        ids = self.source.encode(tags, context)
        kept = ids >= 0
        offsets = tags.flat_offsets()
        if not kept.all():
            offsets = shrink(offsets, kept)
            ids = ids[kept]
            weights = None if weights is None else weights[kept]
        return JaggedColumn.from_offsets(ids, offsets, weights)

    def _tags_and_weights(
        self, columns: list[pl.Series], context: Context
    ) -> tuple[Cells, np.ndarray[tuple[int], np.dtype[np.float32]] | None]:
        tags = _present(split(columns[0], self.config.separator))
        if not self.weighted:
            return tags, None
        if self.config.kv_separator:
            tags, texts = split_pairs(tags, self.config.kv_separator, "tag", "weight", context)
        else:
            texts = _present(split(columns[1], self.config.separator))
            tags, texts = _check_counts(tags, texts, self.inputs, context)
        return tags, numbers_of(texts, context)[0].astype(np.float32)


def split_pairs(parts: Cells, separator: str, left: str, right: str, context: Context) -> tuple[Cells, Cells]:
    """Both sides of parts such as `tag:weight`; parts without exactly one separator break the rule.

    Args:
        parts: The parts.
        separator: What stands between the sides.
        left: What stands left, for messages.
        right: What stands right, for messages.
    """
    texts = parts.values.cast(pl.String)
    wrong = (texts.str.count_matches(separator, literal=True) != 1).to_numpy()
    if wrong.any():
        positions = np.flatnonzero(wrong)
        context.reject(
            parts.rows(positions),
            texts[int(positions[0])],
            f"a part must be a {left} and a {right} with one kv_separator {separator!r} between them",
            "it is then left out",
            "Correct the data or kv_separator",
        )
        parts = without(parts, wrong)
        texts = parts.values.cast(pl.String)
    sides = texts.str.split_exact(separator, 1).struct
    return Cells(sides.field("field_0"), parts.offsets), Cells(sides.field("field_1"), parts.offsets)


def _present(cells: Cells) -> Cells:
    absent = cells.values.is_null()
    if cells.values.dtype == pl.String:
        absent |= (cells.values == "").fill_null(True)
    return without(cells, absent.to_numpy())


def _check_counts(tags: Cells, weights: Cells, names: tuple[str, ...], context: Context) -> tuple[Cells, Cells]:
    counts, others = np.diff(tags.flat_offsets()), np.diff(weights.flat_offsets())
    wrong = np.flatnonzero(counts != others)
    if len(wrong) == 0:
        return tags, weights
    first = int(wrong[0])
    context.reject(
        wrong,
        f"{counts[first]} tags and {others[first]} weights",
        f"columns `{names[0]}` and `{names[1]}` must have equally many parts",
        "the row then has no tags",
        "Correct the data or the separator",
    )
    equal = counts == others
    return without(tags, ~np.repeat(equal, counts)), without(weights, ~np.repeat(equal, others))
