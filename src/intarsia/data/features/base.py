"""What all kinds of feature have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import polars as pl

from intarsia.config.schema.features import FeatureConfig
from intarsia.data.columns import Column
from intarsia.data.features.cells import Cells
from intarsia.data.features.context import Context
from intarsia.data.features.sources import VocabularySource
from intarsia.data.schema import FeatureSpec


class Feature(ABC):
    """One feature: raw columns in, one encoded column out.

    Attributes:
        config: The feature's options.
        name: Name in feature groups.
        inputs: Raw columns that it reads.
        vocabulary_source: Where the feature has a vocabulary, its holder; otherwise None.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self.config = config
        self.name = config.name
        self.inputs: tuple[str, ...] = tuple(config.input_names)
        self.vocabulary_source: VocabularySource | None = None

    @abstractmethod
    def spec(self, table: str = "") -> FeatureSpec:
        """What a model needs to know of the feature.

        Args:
            table: Name of the table that it shares with other features.
        """

    @abstractmethod
    def encode(self, columns: list[pl.Series], context: Context) -> Column:
        """The encoded column.

        Args:
            columns: The raw columns of `inputs`, empty cells filled.
            context: Place and policy of errors.
        """

    def cells(self, columns: list[pl.Series], context: Context) -> Cells:
        """The values that become ids, for learning a vocabulary."""
        return Cells(columns[0])

    def learnable(self, columns: list[pl.Series], context: Context) -> pl.Series:
        """The values that a vocabulary is learned from: text, null where missing."""
        assert self.vocabulary_source is not None
        return self.vocabulary_source.texts(self.cells(columns, context), context)

    def make_spec(self, table: str, **fields: Any) -> FeatureSpec:
        """A spec with the options that all embedded features share."""
        config = self.config
        return FeatureSpec(
            name=self.name,
            combiner=config.combiner,
            embedding_dim=config.embedding_dim,
            table=table,
            initializer=_plain(config.initializer),
            sequence_combiner=_plain(config.sequence_combiner),
            **fields,
        )


def _plain(message: Any) -> dict[str, Any] | None:
    return None if message is None else message.model_dump(exclude_none=True)
