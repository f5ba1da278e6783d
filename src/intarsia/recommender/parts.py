"""Parts of the data: rows encoded, split, and histories as windows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from intarsia.config.schema import DataConfig, FeatureConfig, LogConfig, PipelineConfig, SplitConfig
from intarsia.config.schema.features import FeatureType
from intarsia.core.batch import Batch
from intarsia.core.errors import ConfigError, DataError
from intarsia.data.catalogue import resolve_dataset
from intarsia.data.columns import Column, JaggedColumn
from intarsia.data.dataset import SampleDataset
from intarsia.data.features import FeatureEncoder
from intarsia.data.log import Log, build_log
from intarsia.data.reading import ReadResult, from_frame, read_table, resolve_paths
from intarsia.data.rows import encode_rows
from intarsia.data.schema import Schema

LOG = logging.getLogger("intarsia")


@dataclass(frozen=True)
class Subset:
    """Some rows of a data set."""

    dataset: SampleDataset
    index: npt.NDArray[np.int64]

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.index)

    def take(self, rows: npt.NDArray[np.integer[Any]] | slice) -> Batch:
        """The given rows of the subset."""
        return self.dataset.take(self.index[rows])


def random_split(count: int, config: SplitConfig, seed: int) -> dict[str, npt.NDArray[np.int64]]:
    """Row numbers of the parts `train`, `valid` and `test` of `count` rows, drawn at random; empty parts are left out.

    Raises:
        DataError: The shares leave no rows for training.
    """
    test, valid = round(count * config.test), round(count * config.valid)
    if test + valid >= count:
        raise DataError(
            f"the shares of valid and test must leave rows for training. Received: {config.valid} + {config.test} of "
            f"{count} rows."
        )
    order = np.random.default_rng([seed, 0x5917]).permutation(count)
    parts = {"train": order[test + valid :], "valid": order[test : test + valid], "test": order[:test]}
    return {name: np.sort(rows) for name, rows in parts.items() if len(rows)}


def windows(
    column: Column, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], config: FeatureConfig, count: int
) -> JaggedColumn:
    """A column of single values as windows into it."""
    if not isinstance(column, JaggedColumn) or len(column.values) != count:
        raise ConfigError(
            f"`{config.name}` reads histories, so it must be a SequenceFeature or TagFeature of ids. "
            f"Received: {config.feature_type}"
        )
    if config.feature_type is not FeatureType.SequenceFeature:
        return replace(column, starts=starts, ends=ends)
    if config.max_seq_len and config.keep == "last":
        starts = np.maximum(starts, ends - config.max_seq_len)
    elif config.max_seq_len:
        ends = np.minimum(ends, starts + config.max_seq_len)
    return replace(column, starts=starts, ends=ends)


def encode(
    encoder: FeatureEncoder,
    read: ReadResult,
    data: DataConfig,
    schema: Schema,
    label: str,
    ids: Sequence[str],
    config: PipelineConfig,
) -> SampleDataset:
    """Rows that were read, encoded, with checked labels, weights and id codes; replaced values are reported."""
    replaced = encoder.skipped.copy()
    dataset = encode_rows(encoder, read, data, schema, label, ids, config.model)
    for rule, count in (encoder.skipped - replaced).items():
        LOG.warning("%d values of %d rows: %s", count, read.frame.height, rule)
    return dataset


def open_log(config: PipelineConfig, base_dir: Path | None = None, frame: Any = None) -> Log:
    """The interaction log of a pipeline: a data frame, a catalogued data set, or the training files.

    Args:
        config: The pipeline.
        base_dir: Folder that relative paths start from.
        frame: The interactions, where they are in memory.

    Raises:
        DataError: The data are missing or break a rule.
    """
    data = config.data_config
    roles = data.log or LogConfig()
    if frame is not None:
        return build_log(from_frame(frame, data.model_copy(update={"label_fields": []})).frame, roles)
    if data.dataset is None:
        if config.train_input_path is None:
            raise ConfigError("data_config.log needs the log's files in `train_input_path`, or `data_config.dataset`.")
        fields = data.model_copy(update={"label_fields": []})
        return build_log(read_table(resolve_paths(config.train_input_path, base_dir), fields).frame, roles)
    entry, folder = resolve_dataset(data.dataset)
    raw = entry.load(folder if folder is None or base_dir is None else base_dir / folder)
    return build_log(raw.interactions, roles, raw.users, raw.items)
