"""Opens the interaction log of a pipeline as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intarsia.config.schema import LogConfig, PipelineConfig
from intarsia.core.errors import ConfigError, DataError
from intarsia.data.catalogue import RawLog, resolve_dataset
from intarsia.data.catalogue.entry import dataset_names
from intarsia.data.interactions.build import build_interactions
from intarsia.data.interactions.cached import cached_interactions
from intarsia.data.interactions.formats import frame_of, read_raw_log, with_files
from intarsia.data.interactions.interactions import Interactions
from intarsia.recommender.pipeline import load_pipeline, pipeline_from

_ANY_MODEL: dict[str, Any] = {"model_config": {"model_class": "Pop"}}
"""A pipeline names a model, which nobody asks for where its log alone is opened."""


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

    def build() -> Interactions:
        return build_interactions(_raw(config, roles, base_dir, frame), roles, data.filter)

    if frame is not None or data.dataset is not None or config.train_input_path is None:
        return build()
    parts = {"valid": config.eval_input_path, "test": config.test_input_path}
    return cached_interactions(build, config.train_input_path, roles, data.filter, data, base_dir=base_dir, **parts)


@dataclass(frozen=True)
class OpenedLog:
    """A log that was found by its name.

    Attributes:
        title: What it is.
        raw: Its tables as they were read.
        roles: Names of its columns.
        log: The same as arrays.
    """

    title: str
    raw: RawLog
    roles: LogConfig
    log: Interactions


def open_named(
    source: str, overrides: Sequence[str] = (), *, valid: str | None = None, test: str | None = None
) -> OpenedLog:
    """A log by its name: a catalogued data set, a pipeline file, or files of a log.

    Of a catalogued data set all ratings count, whatever its defaults call positive.

    Args:
        source: `ml-100k`, `ml-100k:folder`, `pipeline.yaml`, or a file, folder or glob.
        overrides: Values to set, such as `data_config.log.time_field=at`.
        valid: Files of the validation part, where `source` is not a catalogued data set.
        test: Files of the test part.

    Raises:
        ConfigError: A field is unknown or has a wrong value.
        DataError: There is no such log, or it breaks a rule.
    """
    title = Path(source).name
    if source.partition(":")[0] in dataset_names():
        entry, _ = resolve_dataset(source)
        title, known = entry.title, dict(entry.defaults)
        whole = [f"data_config.dataset={source}", "data_config.log.positive_rating=null"]
        config = pipeline_from({**known, **_ANY_MODEL}, [*whole, *overrides], source).config
    elif Path(source).suffix in (".yaml", ".yml"):
        config = load_pipeline(source, overrides).config
    elif Path(source).exists() or any(mark in source for mark in "*?[,"):
        config = pipeline_from({**_ANY_MODEL, "data_config": {"log": {}}, "train_input_path": source}, overrides).config
    else:
        raise DataError(
            f"a log is a catalogued data set, a pipeline file, or a file, folder or glob. Received: {source!r}, which "
            "is none of them. `intarsia data list` tells the names of data sets."
        )
    parts = {name: path for name, path in (("eval_input_path", valid), ("test_input_path", test)) if path is not None}
    config = config.model_copy(update=parts)
    if config.data_config.log is None and config.data_config.dataset is None:
        raise DataError(f"{source}: the pipeline must describe a log. Received: none. Add data_config.log.")
    roles = log_roles(config)
    raw = _raw(config, roles, None, None)
    return OpenedLog(title, raw, roles, build_interactions(raw, roles, config.data_config.filter))


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
