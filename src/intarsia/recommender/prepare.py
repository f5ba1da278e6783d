"""Opens the data of a pipeline: files, data frames or a log become encoded training, validation and test parts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.config.schema import DataConfig, FeatureConfig, InputType, LogConfig, PipelineConfig, SplitConfig
from intarsia.config.schema.features import FeatureType
from intarsia.core.batch import Batch
from intarsia.core.errors import ConfigError, DataError
from intarsia.data.cache import EncodedCache, cache_key
from intarsia.data.catalogue import resolve_dataset
from intarsia.data.columns import Column, JaggedColumn
from intarsia.data.dataset import SampleDataset
from intarsia.data.features import FeatureEncoder
from intarsia.data.labels import check_labels, drop_unlabelled, group_ids, label_columns, labels_from, weights_from
from intarsia.data.loader import Loader
from intarsia.data.log import LABEL, Log, build_log, histories, split_rows
from intarsia.data.memory import available_memory
from intarsia.data.reading import ReadResult, from_frame, read_table, resolve_paths, row_group_index
from intarsia.data.schema import Schema
from intarsia.evaluation.evaluate import Evaluation, evaluate
from intarsia.evaluation.metrics import build_metrics
from intarsia.recommender.known import Known

if TYPE_CHECKING:
    from intarsia.data.streaming import StreamingSource
    from intarsia.recommender.recommender import Recommender
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


def feature_configs(config: PipelineConfig) -> list[FeatureConfig]:
    """The features of a pipeline.

    Raises:
        ConfigError: There are none.
    """
    features = config.feature_config.features if config.feature_config is not None else config.feature_configs
    if not features:
        raise ConfigError("a pipeline needs `feature_config.features`. Received: none.")
    return list(features)


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


def metric_columns(config: PipelineConfig) -> list[str]:
    """Raw columns that metrics and losses group rows by."""
    names = []
    for metric in config.eval_config.metrics_set:
        names += [metric.gauc.uid_field] if metric.gauc else []
        names += [metric.session_auc.session_id_field] if metric.session_auc else []
    return list(dict.fromkeys(names))


def label_name(config: PipelineConfig) -> str:
    """The label that the model learns.

    Raises:
        ConfigError: The pipeline names none.
    """
    labels = _label_fields(config.data_config)
    if config.model.label_name:
        return config.model.label_name
    if not labels:
        raise ConfigError("a pipeline needs `data_config.label_fields`. Received: none.")
    return labels[0]


def _label_fields(data: DataConfig) -> list[str]:
    if data.label_fields or (data.dataset is None and data.log is None):
        return list(data.label_fields)
    return [LABEL]


def data_options(config: PipelineConfig) -> DataConfig:
    """The `data_config` with what other parts of the pipeline say of it: labels of a log, the format of Parquet "
    "paths."""
    data = config.data_config.model_copy(update={"label_fields": _label_fields(config.data_config)})
    if config.parquet_train_input and data.input_type not in (InputType.ParquetInputV2, InputType.ParquetInputV3):
        data = data.model_copy(update={"input_type": InputType.ParquetInput})
    return data


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
        self.uses_cache = self.data.use_cache and encoder is None
        self.ids = metric_columns(config)

    # Sources

    def from_files(self) -> Prepared:
        config = self.config
        train = config.train_input_path or config.parquet_train_input
        if train is None:
            raise ConfigError(
                "a pipeline needs training data: `train_input_path`, `parquet_train_input` or `data_config.dataset`."
            )
        paths = resolve_paths(train, self.base_dir)
        others = {"valid": config.eval_input_path or config.parquet_eval_input, "test": config.test_input_path}
        if self._streams(paths):
            return self._stream(paths, others)
        split = None if any(others.values()) else self.data.split
        key = self._key(paths, self._split_key(split))
        cached = self._cached(key)
        parts: dict[str, SampleDataset] = {}
        if cached is not None:
            parts["train"] = cached
        else:
            read = self._read(paths)
            self._fit(read.frame, split)
            parts["train"] = self._dataset(read)
            self._keep(key, parts["train"], with_encoder=True)
        if split is not None:
            return self._finish(self._split(parts["train"], split))
        for part, spec in others.items():
            if spec is not None:
                parts[part] = self._part(resolve_paths(spec, self.base_dir), key)
        return self._finish(parts)

    def from_frames(self, frames: Mapping[str, Any]) -> Prepared:
        unknown = [name for name in frames if name not in ("train", "valid", "test")]
        if unknown or "train" not in frames:
            raise DataError(
                f"frames are named train, valid, test, and train must be there. Received: {', '.join(frames)}"
            )
        read = {name: from_frame(frame, self.data, columns=self._columns()) for name, frame in frames.items()}
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
            columns[name] = _windows(flat, past.starts, past.ends, names[name], len(past.items))
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
        labels = label_columns(self.data, [self.label])
        weight = [self.data.sample_weight] if self.data.sample_weight else []
        return list(dict.fromkeys([*self.encoder.input_columns, *labels, *weight, *self.ids]))

    def _read(self, paths: Sequence[Path]) -> ReadResult:
        result = read_table(paths, self.data, columns=self._columns())
        return drop_unlabelled(result, self.data, [self.label])

    def _dataset(self, read: ReadResult) -> SampleDataset:
        return encode(self.encoder, read, self.data, self._schema(), self.label, self.ids, self.config)

    def _part(self, paths: Sequence[Path], train_key: str) -> SampleDataset:
        key = self._key(paths, train_key)
        cached = self._cached(key, with_encoder=False)
        if cached is not None:
            return cached
        dataset = self._dataset(self._read(paths))
        self._keep(key, dataset, with_encoder=False)
        return dataset

    def _schema(self) -> Schema:
        return Schema(self.encoder.schema_features, {self.label: _label_dim(self.data, self.label)}, tuple(self.ids))

    def _fit(self, frame: pl.DataFrame, split: SplitConfig | None) -> None:
        """Learns vocabularies from the training rows alone."""
        self.encoder.fit(frame if split is None else frame[self._rows(frame.height, split)["train"]])

    def _split(self, dataset: SampleDataset, split: SplitConfig) -> dict[str, Subset]:
        return {name: Subset(dataset, rows) for name, rows in self._rows(len(dataset), split).items()}

    def _rows(self, count: int, split: SplitConfig) -> dict[str, npt.NDArray[np.int64]]:
        if split.by != "random":
            raise ConfigError(
                f"data_config.split by `{split.by}` needs an interaction log (data_config.log). Received: plain rows. "
                f"Use "
                "`by: random`, or give eval_input_path."
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

    # Cache

    def _key(self, paths: Sequence[Path], parent: str = "") -> str:
        reading = self.data.model_dump(
            mode="json",
            exclude={
                "batch_size",
                "eval_batch_size",
                "shuffle",
                "shuffle_buffer_size",
                "num_epochs",
                "prefetch_size",
                "split",
            },
        )
        vocabularies = [_stat(f.vocab_file, self.base_dir) for f in self.encoder.features if f.vocab_file]
        features = [f.model_dump(mode="json") for f in self.encoder.features]
        return cache_key(paths, reading, features, self.label, self.ids, vocabularies, parent)

    def _cache(self) -> EncodedCache | None:
        return EncodedCache(self.data.cache_dir) if self.uses_cache else None

    def _cached(self, key: str, with_encoder: bool = True) -> SampleDataset | None:
        cache = self._cache()
        found = None if cache is None else cache.load(key)
        if found is not None and with_encoder and cache is not None:
            folder = cache.directory / f"{key}.features"
            if not folder.is_dir():
                return None
            self.encoder = FeatureEncoder.load(folder)
        return found

    def _keep(self, key: str, dataset: SampleDataset, *, with_encoder: bool) -> None:
        cache = self._cache()
        if cache is None:
            return
        if with_encoder:
            try:
                self.encoder.save(cache.directory / f"{key}.features")
            except OSError as error:
                LOG.warning("vocabularies cannot be cached in %s: %s", cache.directory, error)
                return
        cache.store(key, dataset)


def encode(
    encoder: FeatureEncoder,
    read: ReadResult,
    data: DataConfig,
    schema: Schema,
    label: str,
    ids: Sequence[str],
    config: PipelineConfig,
) -> SampleDataset:
    """Rows that were read, encoded, with checked labels, weights and id codes."""
    labels = labels_from(read.frame, data, [label], origin=read.origin)
    check_labels(labels[label], config.model.num_class, config.model.loss_type, name=label, origin=read.origin)
    replaced = encoder.skipped.copy()
    columns = encoder.transform(read.frame, locate=read.origin)
    for rule, count in (encoder.skipped - replaced).items():
        LOG.warning("%d values of %d rows: %s", count, read.frame.height, rule)
    return SampleDataset(
        schema,
        columns,
        labels,
        weights_from(read.frame, data, origin=read.origin),
        group_ids(read.frame, ids),
        read.frame.height,
    )


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


def open_part(recommender: Recommender, data: Any | None) -> EvaluationSource:
    """Labelled rows for the evaluation of a bundle; see `Recommender.evaluate`."""
    config = recommender.config
    opener_data = data_options(config)
    if data is None:
        spec = config.test_input_path or config.eval_input_path or config.parquet_eval_input
        if spec is None:
            has_data = config.train_input_path or config.parquet_train_input or config.data_config.dataset
            parts = prepare(config, encoder=recommender.encoder).parts if has_data else {}
            part = parts.get("test") or parts.get("valid")
            if part is None:
                raise DataError(
                    "the pipeline names no test or validation data. Give `evaluate` some files or a data frame."
                )
            return part
        data = spec
    label, ids = label_name(config), metric_columns(config)
    weight = [opener_data.sample_weight] if opener_data.sample_weight else []
    columns = [*recommender.encoder.input_columns, *label_columns(opener_data, [label]), *weight, *ids]
    columns = list(dict.fromkeys(columns))
    if isinstance(data, str | Path):
        read = read_table(resolve_paths(str(data)), opener_data, columns=columns)
    else:
        read = from_frame(data, opener_data, columns=columns)
    read = drop_unlabelled(read, opener_data, [label])
    dataset = encode(recommender.encoder, read, opener_data, recommender.schema, label, ids, config)
    return Loader(dataset, config.data_config.eval_batch_size)


def evaluate_on(recommender: Recommender, loader: EvaluationSource) -> Evaluation:
    """The pipeline's metrics of a bundle on labelled batches."""
    config = recommender.config
    metrics = build_metrics(
        config.eval_config.metrics_set, loss_type=config.model.loss_type, num_class=config.model.num_class
    )
    device = next(recommender.model.parameters()).device
    return evaluate(
        recommender.model,
        loader.epoch(0),
        metrics,
        label=label_name(config),
        device=device,
        num_examples=config.eval_config.num_examples,
    )


def _windows(
    column: Column, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], config: FeatureConfig, count: int
) -> JaggedColumn:
    """A column of single values as windows into it."""
    if not isinstance(column, JaggedColumn) or len(column.values) != count:
        raise ConfigError(
            f"`{config.name}` reads histories, so it must be a SequenceFeature or TagFeature of ids. "
            f"Received: {config.feature_type}"
        )
    if config.max_seq_len and config.keep == "last":
        starts = np.maximum(starts, ends - config.max_seq_len)
    elif config.max_seq_len:
        ends = np.minimum(ends, starts + config.max_seq_len)
    return replace(column, starts=starts, ends=ends)


def encoded_features(config: PipelineConfig) -> list[FeatureConfig]:
    """The features; of histories the latest items are kept, at most `max_history`, unless the pipeline says else."""
    features = feature_configs(config)
    if config.data_config.log is None and config.data_config.dataset is None:
        return features
    roles = config.data_config.log or LogConfig()
    out = []
    for feature in features:
        if roles.history_field in feature.input_names and feature.feature_type is FeatureType.SequenceFeature:
            keep = feature.keep if "keep" in feature.model_fields_set else "last"
            length = feature.max_seq_len or roles.max_history
            feature = feature.model_copy(update={"keep": keep, "max_seq_len": length})
        out.append(feature)
    return out


def _label_dim(data: DataConfig, label: str) -> int:
    position = data.label_fields.index(label) if label in data.label_fields else -1
    return data.label_dim[position] if 0 <= position < len(data.label_dim) else 1


def _stat(path: str, base_dir: Path | None) -> list[Any]:
    file = (base_dir or Path()) / path
    stat = file.stat() if file.exists() else None
    return [str(file), stat.st_size if stat else 0, stat.st_mtime_ns if stat else 0]
