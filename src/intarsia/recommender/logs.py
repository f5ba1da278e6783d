"""Opens the interaction log of a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intarsia.config.schema import LogConfig, PipelineConfig
from intarsia.data.catalogue import resolve_dataset
from intarsia.data.catalogue.entry import RawLog
from intarsia.data.interactions.build import build_interactions
from intarsia.data.interactions.interactions import Interactions
from intarsia.data.reading.frames import _as_polars
from intarsia.data.reading import read_table, resolve_paths


def log_roles(config: PipelineConfig) -> LogConfig:
    """Column roles of the pipeline's log."""
    return config.data_config.log or LogConfig()


def open_interactions(config: PipelineConfig, base_dir: Path | None = None, frame: Any = None) -> Interactions:
    """quick"""
    roles = log_roles(config)
    if frame is not None:
        return build_interactions(RawLog(_as_polars(frame)), roles)
    if config.data_config.dataset:
        entry, folder = resolve_dataset(config.data_config.dataset)
        return build_interactions(entry.load(folder), roles)
    raise SystemExit("files later")
