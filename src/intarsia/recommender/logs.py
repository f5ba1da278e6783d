"""Opens the interaction log of a pipeline as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intarsia.config.schema import LogConfig, PipelineConfig
from intarsia.core.errors import ConfigError
from intarsia.data.catalogue import RawLog, resolve_dataset
from intarsia.data.interactions.build import build_interactions
from intarsia.data.interactions.formats import frame_of, read_raw_log, with_files
from intarsia.data.interactions.interactions import Interactions


def log_roles(config: PipelineConfig) -> LogConfig:
    """Column roles of the pipeline's log: its own, or those of its catalogued data set where it names none."""
    data = config.data_config
    if data.log is not None or data.dataset is None:
        return data.log or LogConfig()
    defaults: Any = resolve_dataset(data.dataset)[0].defaults
    return LogConfig.model_validate(defaults.get("data_config", {}).get("log", {}))


def open_interactions(config: PipelineConfig, base_dir: Path | None = None, frame: Any = None) -> Interactions:
    """The interaction log of a pipeline: a data frame, a catalogued data set, or the training files.

    Args:
        config: The pipeline. `eval_input_path` and `test_input_path` are ready-made parts of `train_input_path`.
        base_dir: Folder that relative paths start from.
        frame: The interactions (or a `RawLog`), where they are in memory.

    Raises:
        ConfigError: The pipeline names no data.
        DataError: The data are missing or break a rule.
    """
    data = config.data_config
    roles = log_roles(config)
    return build_interactions(_raw(config, roles, base_dir, frame), roles, data.filter)


def _raw(config: PipelineConfig, roles: LogConfig, base_dir: Path | None, frame: Any) -> RawLog:
    data = config.data_config
    if isinstance(frame, RawLog):
        return frame
    if frame is not None:
        return with_files(RawLog(frame_of(frame, roles)), roles, base_dir)
    if data.dataset is not None:
        entry, folder = resolve_dataset(data.dataset)
        raw = entry.load(folder if folder is None or base_dir is None else base_dir / folder)
        return with_files(raw, roles, base_dir)
    if config.train_input_path is None:
        raise ConfigError("data_config.log needs the log's files in `train_input_path`, or `data_config.dataset`.")
    return read_raw_log(
        config.train_input_path,
        roles,
        valid=config.eval_input_path,
        test=config.test_input_path,
        base_dir=base_dir,
        data=data,
    )
