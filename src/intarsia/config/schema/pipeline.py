# ruff: noqa: RUF012 (pydantic copies the defaults of its fields)
"""The whole pipeline file."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from intarsia.config.schema.base import cloud
from intarsia.config.schema.data import DataConfig
from intarsia.config.schema.evaluation import EvalConfig, ExportConfig
from intarsia.config.schema.features import FeatureConfig, FeatureConfigs
from intarsia.config.schema.model import ModelConfig
from intarsia.config.schema.training import TrainConfig
from intarsia.core.params import StrictModel


class BinaryInput(StrictModel):
    """Criteo's binary files."""

    category_path: list[str] = Field(min_length=1)
    """Categorical columns."""
    dense_path: list[str] = Field(min_length=1)
    """Numeric columns."""
    label_path: list[str] = Field(min_length=1)
    """Labels."""


class PipelineConfig(StrictModel):
    """From input files to a trained, evaluated, saved model."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, protected_namespaces=())

    train_input_path: str | None = None
    """Training files: a path, a glob, or several separated by commas."""
    eval_input_path: str | None = None
    """Validation files, evaluated while training; early stop and best checkpoint follow them."""
    test_input_path: str | None = None
    """Test files, evaluated once after training. Not in EasyRec."""
    parquet_train_input: str | None = None
    """Training files in Parquet."""
    parquet_eval_input: str | None = None
    """Validation files in Parquet."""
    binary_train_input: BinaryInput | None = None
    """Criteo's binary training files."""
    binary_eval_input: BinaryInput | None = None
    """Criteo's binary validation files."""
    kafka_train_input: dict[str, Any] | None = cloud("a queue; give files instead")
    kafka_eval_input: dict[str, Any] | None = cloud("a queue; give files instead")
    datahub_train_input: dict[str, Any] | None = cloud("a cloud's queue; give files instead")
    datahub_eval_input: dict[str, Any] | None = cloud("a cloud's queue; give files instead")
    hive_train_input: dict[str, Any] | None = cloud("a warehouse; give files instead")
    hive_eval_input: dict[str, Any] | None = cloud("a warehouse; give files instead")
    model_dir: str | None = None
    """Folder of the run. Default: `runs/` and the file's name."""
    train_config: TrainConfig = Field(default_factory=TrainConfig)
    """Training."""
    eval_config: EvalConfig = Field(default_factory=EvalConfig)
    """Evaluation."""
    data_config: DataConfig = Field(default_factory=DataConfig)
    """Data."""
    feature_config: FeatureConfigs | None = None
    """Features."""
    feature_configs: list[FeatureConfig] = []
    """Features, in the older spelling."""
    model: ModelConfig = Field(alias="model_config")
    """The model."""
    export_config: ExportConfig = Field(default_factory=ExportConfig)
    """What is kept of a run."""
    fg_json_path: str | None = cloud("a closed feature generator")
