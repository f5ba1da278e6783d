"""Opens the data of a retriever: a log is read, divided, and its side features are encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from intarsia.config.schema import PipelineConfig, SplitConfig
from intarsia.core.batch import Feature
from intarsia.core.errors import ConfigError, DataError
from intarsia.data.columns import Column, JaggedColumn
from intarsia.data.features import FeatureEncoder
from intarsia.data.interactions.interactions import Interactions
from intarsia.data.interactions.splits import Division, split_interactions
from intarsia.data.interactions.views import SideColumns, window_index
from intarsia.data.schema import Schema
from intarsia.models.sides import names_by_group
from intarsia.recommender.logs import open_interactions
from intarsia.recommender.options import feature_configs


@dataclass
class SideEncoders:
    """What encodes the features of users, of items, and of interactions.

    Attributes:
        by_group: Fitted encoders by the name of the group: `user`, `item`, `context`.
    """

    by_group: dict[str, FeatureEncoder] = field(default_factory=dict)

    def columns(self, group: str, frame: pl.DataFrame | None) -> dict[str, Column]:
        """Encoded features of a group; of nobody where there is no table.

        Raises:
            DataError: The table lacks a column that a feature reads.
        """
        encoder = self.by_group.get(group)
        if encoder is None:
            return {}
        if frame is None:
            what = {"user": "log.user_table", "item": "log.item_table", "context": "log.context_fields"}[group]
            raise DataError(
                f"features of the group `{group}` read columns of {what}, which the pipeline does not name. Received: "
                f"{', '.join(encoder.input_columns)}. Name the table, or remove the group."
            )
        missing = [name for name in encoder.input_columns if name not in frame.columns]
        if missing:
            raise DataError(
                f"features of the group `{group}` read columns that its table must have. Missing: {', '.join(missing)}."
                f" Columns: {', '.join(frame.columns)}. Correct input_names."
            )
        return encoder.transform(frame)

    def save(self, folder: Path) -> None:
        """Writes one folder a group."""
        for group, encoder in self.by_group.items():
            encoder.save(folder / group)

    @classmethod
    def load(cls, folder: Path) -> SideEncoders:
        """The inverse of `save`."""
        groups = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        return cls({name: FeatureEncoder.load(folder / name) for name in groups})


@dataclass
class LogData:
    """A divided log with everything encoded.

    Attributes:
        division: The parts.
        encoders: Of side features.
        schema: Sizes.
        side: Encoded features of users and interactions.
        of_items: Encoded features of all items.
    """

    division: Division
    encoders: SideEncoders
    schema: Schema
    side: SideColumns
    of_items: dict[str, Feature]


def open_log_data(
    config: PipelineConfig,
    *,
    base_dir: Path | None = None,
    frame: Any = None,
    encoders: SideEncoders | None = None,
    log: Interactions | None = None,
) -> LogData:
    """Reads, divides and encodes a log.

    Args:
        config: The pipeline.
        base_dir: Folder that relative paths start from.
        frame: The log as a data frame, where it is in memory.
        encoders: Fitted before. Default: they learn from the training part.
        log: A log that is open already.

    Raises:
        DataError: The data are missing or break a rule.
        ConfigError: Features that do not fit.
    """
    log = open_interactions(config, base_dir, frame) if log is None else log
    division = split_interactions(log, config.data_config.split or SplitConfig(), config.train_config.seed)
    return encode_log(config, division, base_dir, encoders)


def encode_log(
    config: PipelineConfig, division: Division, base_dir: Path | None = None, encoders: SideEncoders | None = None
) -> LogData:
    """Encodes the side features of a divided log; see `open_log_data`."""
    log = division.log
    context = pl.DataFrame(dict(log.context)) if log.context else None
    tables = {"user": log.users, "item": log.catalogue, "context": context}
    encoders = encoders or _fitted(config, division, tables, base_dir)
    of_users = encoders.columns("user", log.users)
    of_items = encoders.columns("item", log.catalogue)
    of_events = encoders.columns("context", context)
    features = {name: spec for e in encoders.by_group.values() for name, spec in e.schema_features.items()}
    sizes = {name: len(column.values) for name, column in of_items.items() if isinstance(column, JaggedColumn)}
    schema = Schema(features, num_users=log.num_users, num_items=log.num_items, item_sizes=sizes)
    everything = slice(0, log.num_items)
    items: dict[str, Feature] = {name: column.take(everything) for name, column in of_items.items()}
    return LogData(division, encoders, schema, SideColumns(of_users, of_events), items)


def _fitted(
    config: PipelineConfig, division: Division, tables: Mapping[str, pl.DataFrame | None], base_dir: Path | None
) -> SideEncoders:
    """Encoders that have learned from the training part: its users, its items, its interactions."""
    groups = names_by_group(config.model)
    if not groups:
        return SideEncoders()
    configs = {f.feature_name or f.input_names[0]: f for f in feature_configs(config)}
    index, _ = window_index(division.train_starts, division.train_ends)
    rows = {
        "user": np.flatnonzero(division.train_ends > division.train_starts),
        "item": np.unique(division.log.items[index]).astype(np.int64),
        "context": index,
    }
    out = SideEncoders()
    for group, names in groups.items():
        unknown = [name for name in names if name not in configs]
        if unknown:
            raise ConfigError(
                f"feature group `{group}` names features of feature_config. Received: {', '.join(unknown)}. Features: "
                f"{', '.join(configs)}."
            )
        encoder = FeatureEncoder([configs[name] for name in names], config.data_config, base_dir=base_dir)
        out.by_group[group] = encoder
        table = tables[group]
        if table is None or any(name not in table.columns for name in encoder.input_columns):
            out.columns(group, table)  # tells what is missing
        else:
            encoder.fit(table[rows[group]])
    return out
