"""What a pipeline says of its data: features, labels, columns that metrics need."""

from __future__ import annotations

from intarsia.config.schema import DataConfig, FeatureConfig, InputType, LogConfig, PipelineConfig
from intarsia.config.schema.features import FeatureType
from intarsia.core.errors import ConfigError
from intarsia.data.log import LABEL


def feature_configs(config: PipelineConfig) -> list[FeatureConfig]:
    """The features of a pipeline.

    Raises:
        ConfigError: There are none.
    """
    features = config.feature_config.features if config.feature_config is not None else config.feature_configs
    if not features:
        raise ConfigError("a pipeline needs `feature_config.features`. Received: none.")
    return list(features)


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


def data_options(config: PipelineConfig) -> DataConfig:
    """The `data_config` with what other parts of the pipeline say of it: labels of a log, the format of Parquet
    paths."""
    data = config.data_config.model_copy(update={"label_fields": label_fields_of(config.data_config)})
    if config.parquet_train_input and data.input_type not in (InputType.ParquetInputV2, InputType.ParquetInputV3):
        data = data.model_copy(update={"input_type": InputType.ParquetInput})
    return data


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
    labels = label_fields_of(config.data_config)
    if config.model.label_name:
        return config.model.label_name
    if not labels:
        raise ConfigError("a pipeline needs `data_config.label_fields`. Received: none.")
    return labels[0]


def label_fields_of(data: DataConfig) -> list[str]:
    """Columns that hold labels; a log makes its own."""
    if data.label_fields or (data.dataset is None and data.log is None):
        return list(data.label_fields)
    return [LABEL]


def label_dim(data: DataConfig, label: str) -> int:
    """Number of values in one label."""
    position = data.label_fields.index(label) if label in data.label_fields else -1
    return data.label_dim[position] if 0 <= position < len(data.label_dim) else 1
