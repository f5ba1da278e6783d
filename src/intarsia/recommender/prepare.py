"""Opens the data of a pipeline: files, data frames or a log become encoded training, validation and test parts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.config.schema import DataConfig, PipelineConfig, SplitConfig
from intarsia.config.schema.pipeline import BinaryInput
from intarsia.core.batch import Batch
from intarsia.core.errors import ConfigError, DataError
from intarsia.data.columns import Column
from intarsia.data.dataset import SampleDataset
from intarsia.data.features import FeatureEncoder
from intarsia.data.labels import check_labels, drop_unlabelled, group_ids
from intarsia.data.loader import Loader
from intarsia.data.log import histories, split_rows
from intarsia.data.memory import available_memory
from intarsia.data.reading import ReadResult, from_frame, read_criteo, read_table, resolve_paths, row_group_index
from intarsia.data.rows import row_columns
from intarsia.data.schema import Schema
from intarsia.recommender.kept import Kept
from intarsia.recommender.known import Known
from intarsia.recommender.options import data_options, encoded_features, label_dim, label_name, metric_columns
from intarsia.recommender.parts import Subset, encode, open_log, random_split, windows

if TYPE_CHECKING:
    from intarsia.data.streaming import StreamingSource
    from intarsia.training.protocols import BatchSource

LOG = logging.getLogger("intarsia")
STREAM_ABOVE_SHARE_OF_MEMORY = 0.25


class EvaluationSource(Protocol):
    """Labelled batches in a fixed order."""

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of a pass."""


@dataclass
class Prepared:
    """Encoded parts of the data.

    Attributes:
        encoder: Fitted on the training part.
        schema: Features, labels, id columns.
        train: Training batches.
        parts: `valid` and `test`, where there are such.
        known: Users and items, where the data were a log.
        rows: Rows of each part, where that is known before they are read.
    """

    encoder: FeatureEncoder
    schema: Schema
    train: BatchSource
    parts: Mapping[str, EvaluationSource] = field(default_factory=dict)
    known: Known | None = None
    rows: dict[str, int] = field(default_factory=dict)


def prepare(
    config: PipelineConfig,
    *,
    base_dir: Path | None = None,
    frames: Mapping[str, Any] | None = None,
    rank: int = 0,
    world_size: int = 1,
    encoder: FeatureEncoder | None = None,
) -> Prepared:
    """Reads and encodes all parts of the data.

    Args:
        config: The pipeline.
        base_dir: Folder that relative paths start from. Default: the working directory.
        frames: Data frames instead of files, by part: `train`, and perhaps `valid` and `test`; only `train`, the whole
            log, where the pipeline has `data_config.log`.
        rank: Number of this process.
        world_size: Number of processes.
        encoder: One that has been fitted before. Default: a new one learns from the training part.

    Raises:
        DataError: Data are missing or break a rule.
        ConfigError: The pipeline names no training data, or features that do not fit.
    """
    opener = _Opener(config, base_dir, rank, world_size, encoder)
    if config.data_config.log is not None or (config.data_config.dataset is not None and frames is None):
        return opener.from_log(frames)
    if frames is not None:
        return opener.from_frames(frames)
    return opener.from_files()


def schema_without_data(config: PipelineConfig, base_dir: Path | None = None) -> Schema | None:
    """The schema where nothing has to be learned from data; otherwise None."""
    opener = _Opener(config, base_dir, 0, 1)
    return opener._schema() if opener.encoder.is_fitted else None


class _Opener:
    def __init__(
        self,
        config: PipelineConfig,
        base_dir: Path | None,
        rank: int,
        world_size: int,
        encoder: FeatureEncoder | None = None,
    ) -> None:
        self.config = config
        self.data = data_options(config)
        self.base_dir = base_dir
        self.rank, self.world_size = rank, world_size
        self.label = label_name(config)
        self.encoder = encoder or FeatureEncoder(encoded_features(config), self.data, base_dir=base_dir)
        self.kept = Kept(self.data, self.label, base_dir, enabled=self.data.use_cache and encoder is None)
        self.ids = metric_columns(config)

    # Sources

    def from_files(self) -> Prepared:
        config = self.config
        train = config.train_input_path or config.parquet_train_input
        if config.binary_train_input is not None:
            return self._from_criteo(config.binary_train_input, config.binary_eval_input)
        if train is None:
            raise ConfigError(
                "a pipeline needs training data: `train_input_path`, `parquet_train_input` or `data_config.dataset`."
            )
        paths = resolve_paths(train, self.base_dir)
        others = {"valid": config.eval_input_path or config.parquet_eval_input, "test": config.test_input_path}
        if self._streams(paths):
            return self._stream(paths, others)
        split = None if any(others.values()) else self.data.split
        key = self.kept.key(paths, self.encoder, self.ids, self._split_key(split))
        fitted = self.kept.fitted(key)
        cached = self.kept.rows(key) if fitted is not None else None
        parts: dict[str, SampleDataset] = {}
        if cached is not None and fitted is not None:
            parts["train"], self.encoder = cached, fitted
        else:
            read = self._read(paths)
            self._fit(read.frame, split)
            parts["train"] = self._dataset(read)
            self.kept.keep(key, parts["train"], self.encoder)
        if split is not None:
            return self._finish(self._split(parts["train"], split))
        for part, spec in others.items():
            if spec is not None:
                parts[part] = self._part(resolve_paths(spec, self.base_dir), key)
        return self._finish(parts)

    def _from_criteo(self, train: BinaryInput, valid: BinaryInput | None) -> Prepared:
        """Criteo's binary files, which are mapped into memory as they are."""
        files = {"train": train} if valid is None else {"train": train, "valid": valid}
        columns = self._columns()
        return self._from_reads(
            {name: read_criteo(f, self.data, columns=columns, base_dir=self.base_dir) for name, f in files.items()}
        )

    def from_frames(self, frames: Mapping[str, Any]) -> Prepared:
        unknown = [name for name in frames if name not in ("train", "valid", "test")]
        if unknown or "train" not in frames:
            raise DataError(
                f"frames are named train, valid, test, and train must be there. Received: {', '.join(frames)}"
            )
        columns = self._columns()
        return self._from_reads({n: from_frame(frame, self.data, columns=columns) for n, frame in frames.items()})

    def _from_reads(self, read: Mapping[str, ReadResult]) -> Prepared:
        """Parts in memory; training rows that come alone are split where a split is asked for."""
        split = self.data.split if len(read) == 1 else None
        self._fit(read["train"].frame, split)
        parts = {name: self._dataset(result) for name, result in read.items()}
        return self._finish(parts if split is None else self._split(parts["train"], split))

    def from_log(self, frames: Mapping[str, Any] | None) -> Prepared:
        if frames is not None and list(frames) != ["train"]:
            raise DataError(
                "a log in memory is one data frame, which data_config.split divides. Received: "
                f"{', '.join(frames)}. Give the whole log as `data` alone."
            )
        log = open_log(self.config, self.base_dir, None if frames is None else frames["train"])
        past = histories(log)
        split = split_rows(log, self.data.split or SplitConfig(), self.config.train_config.seed)
        rows = log.rows()
        history = log.config.history_field
        # As lists of one, so that a separator inside of an id stays part of it.
        own = rows.with_columns(pl.concat_list(log.config.item_field).alias(history))
        self.encoder.fit(own[split["train"]])
        names = {config.name: config for config in self.encoder.features}
        reading = [name for name, config in names.items() if history in config.input_names]
        columns: dict[str, Column] = dict(self.encoder.transform(rows, only=[n for n in names if n not in reading]))
        for name in reading:
            steps = pl.DataFrame({history: past.items}).select(pl.concat_list(history))
            flat = self.encoder.transform(steps, only=[name])[name]
            columns[name] = windows(flat, past.starts, past.ends, names[name], len(past.items))
        dataset = SampleDataset(
            self._schema(),
            columns,
            {self.label: rows[self.label].to_numpy().astype(np.float32)},
            None,
            group_ids(rows, self.ids),
            rows.height,
        )
        check_labels(
            dataset.labels[self.label], self.config.model.num_class, self.config.model.loss_type, name=self.label
        )
        prepared = self._finish({part: Subset(dataset, index) for part, index in split.items() if len(index)})
        prepared.known = Known.from_log(log, split["train"])
        return prepared

    # Reading and encoding

    def _columns(self) -> list[str]:
        return row_columns(self.encoder, self.data, self.label, self.ids)

    def _read(self, paths: Sequence[Path]) -> ReadResult:
        result = read_table(paths, self.data, columns=self._columns())
        return drop_unlabelled(result, self.data, [self.label])

    def _dataset(self, read: ReadResult) -> SampleDataset:
        return encode(self.encoder, read, self.data, self._schema(), self.label, self.ids, self.config)

    def _part(self, paths: Sequence[Path], train_key: str) -> SampleDataset:
        key = self.kept.key(paths, self.encoder, self.ids, train_key)
        cached = self.kept.rows(key)
        if cached is not None:
            return cached
        dataset = self._dataset(self._read(paths))
        self.kept.keep(key, dataset)
        return dataset

    def _schema(self) -> Schema:
        return Schema(self.encoder.schema_features, {self.label: label_dim(self.data, self.label)}, tuple(self.ids))

    def _fit(self, frame: pl.DataFrame, split: SplitConfig | None) -> None:
        """Learns vocabularies from the training rows alone."""
        self.encoder.fit(frame if split is None else frame[self._rows(frame.height, split)["train"]])

    def _split(self, dataset: SampleDataset, split: SplitConfig) -> dict[str, Subset]:
        return {name: Subset(dataset, rows) for name, rows in self._rows(len(dataset), split).items()}

    def _rows(self, count: int, split: SplitConfig) -> dict[str, npt.NDArray[np.int64]]:
        if split.by != "random":
            raise ConfigError(
                f"data_config.split by `{split.by}` needs an interaction log (data_config.log). Received: plain rows. "
                "Use `by: random`, or give eval_input_path."
            )
        return random_split(count, split, self.config.train_config.seed)

    def _split_key(self, split: SplitConfig | None) -> str:
        """What the cache has to know of a split: the vocabularies are those of its training rows."""
        return "" if split is None else f"{self.config.train_config.seed} {split.model_dump_json()}"

    def _finish(self, parts: Mapping[str, SampleDataset | Subset]) -> Prepared:
        data = self.data
        train = Loader(
            parts["train"],
            data.batch_size,
            data.shuffle,
            self.config.train_config.seed,
            data.drop_remainder,
            min(data.prefetch_size, 4),
            rank=self.rank,
            world_size=self.world_size,
        )
        rest = {name: Loader(part, data.eval_batch_size) for name, part in parts.items() if name != "train"}
        rows = {name: part.num_rows for name, part in parts.items()}
        return Prepared(self.encoder, self._schema(), train, rest, None, rows)

    # Streaming

    def _streams(self, paths: Sequence[Path]) -> bool:
        parquet = self.data.input_type.value.startswith("Parquet") or all(p.suffix == ".parquet" for p in paths)
        if self.data.streaming is not None:
            if self.data.streaming and not parquet:
                raise ConfigError(
                    "data_config.streaming reads Parquet by row groups. Received: other files. Convert them first."
                )
            return self.data.streaming
        return parquet and self._is_large(paths)

    def _is_large(self, paths: Sequence[Path]) -> bool:
        size = sum(group.nbytes for group in row_group_index(paths, columns=self._columns()))
        return size > STREAM_ABOVE_SHARE_OF_MEMORY * available_memory()

    def _stream(self, paths: Sequence[Path], others: Mapping[str, str | None]) -> Prepared:
        if self.data.split is not None and not any(others.values()):
            raise ConfigError(
                "data_config.split needs all rows in memory. Received: training files that are streamed by row groups. "
                "Give eval_input_path, or set data_config.streaming: false."
            )
        LOG.info("training data are streamed by row groups")
        source = self._open_stream(paths, self.data, self.rank, self.world_size)
        parts: dict[str, EvaluationSource] = {}
        rows = {"train": source.num_rows}
        # Each process evaluates all rows, in stored order.
        as_stored = {"batch_size": self.data.eval_batch_size, "shuffle": False, "drop_remainder": False}
        for name, spec in others.items():
            if spec is None:
                continue
            files = resolve_paths(spec, self.base_dir)
            if all(path.suffix == ".parquet" for path in files) and self._is_large(files):
                stream = self._open_stream(files, self.data.model_copy(update=as_stored))
                parts[name], rows[name] = stream, stream.num_rows
            else:
                part = self._dataset(self._read(files))
                parts[name], rows[name] = Loader(part, self.data.eval_batch_size), len(part)
        known = {name: count for name, count in rows.items() if count is not None}
        return Prepared(self.encoder, self._schema(), source, parts, None, known)

    def _open_stream(
        self, paths: Sequence[Path], data: DataConfig, rank: int = 0, world_size: int = 1
    ) -> StreamingSource:
        from intarsia.data.streaming import open_stream

        return open_stream(
            paths,
            data,
            self.encoder,
            schema=self._schema,
            columns=self._columns(),
            label=self.label,
            ids=self.ids,
            config=self.config,
            rank=rank,
            world_size=world_size,
        )
